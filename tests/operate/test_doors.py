# SPDX-License-Identifier: Apache-2.0
"""Every door to the power of a domain, in every state of its banks; and nobody builds another door.

``DOORS`` is how a domain goes dark, ``PLACES`` where the package touches a switch and which door that belongs to. Doors
that need a kernel or QEMU: tests/kernel/test_supervisor.py, tests/kernel/arm64/test_supply.py; that of a host with a
switch of its own: tests/host/test_switch.py.
"""

from __future__ import annotations

import ast
import errno
import functools
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotbank import connect, operate
from hotbank.errors import Code, HotbankError, KernelError, Refusal, SwitchError
from hotbank.gate import Gate
from hotbank.machine import Machine
from hotbank.memory import BlockState, Power
from hotbank.model import Model
from hotbank.mount import File, MachineFiles
from hotbank.operate import MemoryJournal
from hotbank.operate.power import darken
from hotbank.remote import Remote, SocketStream
from hotbank.serve.owner import Owner
from hotbank.testing import Faulty, ScriptedMachine, raising, switch_error
from model.small_boards import small_board
from operate.mortal import Mortal, crash
from patience import HANG

SOURCE = Path(__file__).resolve().parents[2] / "src" / "hotbank"
HIGH = range(20, 24)  # the blocks of bank high, in domain ddr with its mate

# Doors


def by_machine(machine: Machine) -> None:
    machine.set_power("ddr", Power.OFF)


def by_operate(machine: Machine) -> None:
    darken(machine, "ddr", Power.OFF)


def by_order(machine: Machine) -> None:
    operate.switch(machine, "ddr", Power.OFF)


def by_wire(machine: Machine) -> None:
    ours, theirs = socket.socketpair()
    owner = threading.Thread(target=Owner(machine).attend, args=(SocketStream(theirs),))
    owner.start()
    try:
        with Remote(SocketStream(ours)) as remote:
            remote.set_power("ddr", Power.OFF)
    finally:
        owner.join(HANG)


def by_session(machine: Machine) -> None:
    with connect(machine, change=True) as session:
        session.power("ddr", Power.OFF)


def by_mount(machine: Machine) -> None:
    supply = MachineFiles(machine, machine).tree().find("sys/class/hotbank/high/supply")
    assert isinstance(supply, File)
    assert supply.store is not None
    supply.store("off")


DOORS: dict[str, Callable[[Machine], None]] = {
    "machine": by_machine,
    "operate": by_operate,
    "order": by_order,
    "wire": by_wire,
    "session": by_session,
    "mount": by_mount,
}

# States: each is the machine's, with bank high and its mate in one domain


def _out(machine: ScriptedMachine, *banks: str) -> None:
    machine.slots = {n: slot for n, slot in machine.slots.items() if slot.bank not in banks}


def absent(machine: ScriptedMachine) -> None:
    _out(machine, "high", "mate")


def offline(machine: ScriptedMachine) -> None:
    _out(machine, "mate")
    for number in HIGH:
        machine.slots[number].state = BlockState.OFFLINE


def online(machine: ScriptedMachine) -> None:
    _out(machine, "mate")


def partial(machine: ScriptedMachine) -> None:
    _out(machine, "mate")
    machine.slots[HIGH[0]].state = BlockState.OFFLINE


def one_block_left(machine: ScriptedMachine) -> None:
    _out(machine, "mate")
    for number in HIGH[1:]:
        del machine.slots[number]


def stuck(machine: ScriptedMachine) -> None:
    _out(machine, "mate")
    machine.stuck = True


def its_mate_in(machine: ScriptedMachine) -> None:
    _out(machine, "high")


IN = (offline, online, partial, one_block_left, stuck, its_mate_in)


def scripted(state: Callable[[ScriptedMachine], None]) -> ScriptedMachine:
    machine = ScriptedMachine(others={"mate": "ddr"}, states=(Power.ON, Power.OFF))
    state(machine)
    return machine


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("state", IN, ids=lambda state: state.__name__)
def test_no_door_darkens_what_is_in(door: str, state: Callable[[ScriptedMachine], None]) -> None:
    machine = scripted(state)
    with pytest.raises(HotbankError):
        DOORS[door](machine)
    assert (machine.level, machine.lost) == (Power.ON, [])


@pytest.mark.parametrize("door", DOORS)
def test_each_door_opens_when_all_is_out(door: str) -> None:
    machine = scripted(absent)
    DOORS[door](machine)
    assert (machine.level, machine.lost) == (Power.OFF, [])


@pytest.mark.parametrize("door", DOORS)
def test_no_door_to_a_state_that_the_board_does_not_list(door: str) -> None:
    machine = scripted(absent)
    machine.states = (Power.ON, Power.SELF_REFRESH)
    with pytest.raises(SwitchError, match="domain ddr has no state off") as caught:
        DOORS[door](machine)
    assert (machine.level, caught.value.remedy) == (Power.ON, "known: on, self-refresh")


@pytest.mark.parametrize("door", DOORS)
def test_a_bank_that_came_in_before_the_switch_keeps_it_on(door: str) -> None:
    """Whoever is outside has looked, and then it comes."""
    machine = scripted(absent)
    faulty = Faulty(machine)
    faulty.fail("set_power", 0, lambda: machine.add("mate"))
    with pytest.raises(HotbankError):
        DOORS[door](faulty)
    assert (machine.level, machine.lost) == (Power.ON, [])


@pytest.mark.parametrize("door", DOORS)
def test_a_bank_that_came_in_during_the_switch_is_lit_at_once_and_reported(door: str) -> None:
    machine = scripted(absent)
    machine.at_switch = lambda: _comes_in_the_dark(machine)
    with pytest.raises(SwitchError, match="memory came in while domain ddr was off: memory24") as caught:
        DOORS[door](machine)
    assert (caught.value.code, machine.level) == (Code.LOST, Power.ON)
    assert caught.value.remedy


ERRORS = (switch_error(), OSError(errno.EIO, "the switch"), KernelError(errno.EIO, "the switch"))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("door", DOORS)
def test_a_switch_that_takes_effect_and_then_raises_leaves_nothing_in_the_dark(door: str, error: Exception) -> None:
    machine = scripted(absent)
    machine.at_switch = lambda: _comes_in_the_dark(machine, raising(error))
    with pytest.raises(SwitchError, match="memory came in while domain ddr was off: memory24") as caught:
        DOORS[door](machine)
    assert (caught.value.code, machine.level) == (Code.LOST, Power.ON)


@pytest.mark.parametrize("error", [*ERRORS, KeyboardInterrupt()], ids=lambda error: type(error).__name__)
def test_what_the_switch_raised_is_told_where_nothing_came_in(error: BaseException) -> None:
    machine = scripted(absent)
    machine.at_switch = raising(error)
    with pytest.raises(type(error)):
        machine.set_power("ddr", Power.OFF)


def test_operate_lights_what_a_machine_without_a_gate_left_in_the_dark() -> None:
    machine = scripted(absent)
    machine.interlock = False
    machine.at_switch = lambda: _comes_in_the_dark(machine, raising(switch_error()))
    with pytest.raises(SwitchError, match="memory came in while domain ddr was off") as caught:
        darken(machine, "ddr", Power.OFF)
    assert (caught.value.code, machine.level) == (Code.LOST, Power.ON)


def _comes_in_the_dark(machine: ScriptedMachine, then: Callable[[], None] = lambda: None) -> None:
    if machine.level is Power.OFF:
        machine.at_switch = lambda: None
        machine.add("mate")
        then()


@pytest.mark.parametrize("then", [lambda: None, raising(switch_error())], ids=["returns", "raises"])
def test_a_removal_that_lost_a_bank_says_so_in_outcome_and_journal(then: Callable[[], None]) -> None:
    machine, journal = scripted(online), MemoryJournal()
    machine.at_switch = lambda: _comes_in_the_dark(machine, then)
    outcome = operate.remove(machine, "high", journal=journal)
    assert (outcome.code, outcome.exit, machine.level) == (Code.LOST, 1, Power.ON)
    assert [entry.code for entry in journal.entries()] == [Code.LOST]


@pytest.mark.parametrize("at", range(12))
@pytest.mark.parametrize("state", IN, ids=lambda state: state.__name__)
def test_recovery_darkens_nothing_that_is_in(
    at: int, state: Callable[[ScriptedMachine], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine became that, after the process died at that write."""
    machine, journal = scripted(online), Mortal(at, after_writing=False)
    crash(monkeypatch, lambda: operate.remove(machine, "high", journal=journal))
    machine = scripted(state)
    operate.recover(machine, journal)
    assert machine.lost == []
    assert machine.level is Power.ON or not machine.snapshot().touching("ddr")


def test_an_addition_waits_for_the_switch_and_comes_after_it() -> None:
    """Two threads: what is brought in under the machine's lock is never brought in between look and switch."""
    gate, turning, go_on, order = Gate(), threading.Event(), threading.Event(), list[str]()
    machine = scripted(absent)

    def switch(want: Power) -> None:
        turning.set()
        assert go_on.wait(HANG)
        order.append(want.value)

    def add() -> None:
        assert turning.wait(HANG)
        go_on.set()
        with gate.lock:
            order.append("add")

    adder = threading.Thread(target=add)
    adder.start()
    gate.turn("ddr", Power.OFF, machine.snapshot, switch)
    adder.join(HANG)
    assert order == ["off", "add"]


def test_a_switch_that_does_not_come_back_on_is_said() -> None:
    machine = scripted(absent)

    def switch(want: Power) -> None:
        if want is Power.ON:
            raise switch_error()
        machine.add("mate")

    with pytest.raises(SwitchError, match="it did not go on again") as caught:
        Gate().turn("ddr", Power.OFF, machine.snapshot, switch)
    assert caught.value.code is Code.LOST


@pytest.mark.parametrize("error", [*ERRORS, KeyboardInterrupt()], ids=lambda error: type(error).__name__)
def test_nobody_knows_what_is_there_so_it_goes_on(error: BaseException) -> None:
    told: list[Power] = []
    faulty = Faulty(scripted(absent))
    faulty.fail("snapshot", 1, raising(error))
    with pytest.raises(type(error)):
        Gate().turn("ddr", Power.OFF, faulty.snapshot, told.append)
    assert told == [Power.OFF, Power.ON]


# Nobody builds another door

SWITCHES = {"set_power", "turn", "switch_on", "switch_off"}
WORDS = {"set_power", "supply"}  # a method looked up by its name; our driver's file

PLACES = {
    "boards_qemu/dram.py BankFile.switch_on": "the supervisor's: a file that gets content",
    "boards_qemu/dram.py BankSwitch.turn": "the supervisor's",
    "boards_qemu/gpio.py GpioSwitch.turn": "the supervisor's, then the guest's host",
    "boards_qemu/supervisor.py QemuMachine.set_power": "a gate",
    "gate.py Beside.turn": "two switches behind the door of one",
    "host/machine.py Host.set_power": "a gate",
    "host/proposal.py _is_fed": "reads only",
    "host/switch.py Supply._tell": "a host's, then the driver's own",
    "host/switch.py Supply._word": "reads only",
    "load/looks.py _look": "memory there, in a record of looks",
    "model/machine.py Model.set_power": "a gate",
    "model/machine.py Model._switch": "a model's real ones, behind its gate",
    "mount/files.py MachineFiles._bank": "mount",
    "operate/power.py _first_that_works": "operate",
    "operate/power.py _turn_back": "operate: on",
    "operate/power.py switch_on": "operate: on",
    "operate/power.py turn": "operate",
    "operate/power.py _confirm_still_out": "operate: on, over what came in",
    "operate/rollback.py _switch_on": "operate: on",
    "operate/switching.py _turn": "operate",
    "operate/steps.py Steps._power_on": "operate: on",
    "remote.py Remote": "wire",
    "sysfs/bank.py ": "the file's form",
    "sysfs/store.py Stores.supply": "mount",
    "testing.py ": "names of calls, for tests",
    "testing.py Faulty.set_power": "passes it on",
    "testing.py ScriptedMachine.set_power": "a gate",
    "testing.py Watched._do": "looks on",
}


def touched(tree: ast.AST, where: str = "") -> Iterator[str]:
    """Functions in which a switch is turned, or named to be."""
    for node in ast.iter_child_nodes(tree):
        inner = where
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{where}.{node.name}".lstrip(".")
        if _names_a_switch(node):
            yield where
        yield from touched(node, inner)


def _names_a_switch(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return any(alias.name == "turn" or (alias.asname and alias.name in SWITCHES) for alias in node.names)
    if isinstance(node, ast.Attribute):
        return node.attr in SWITCHES
    if isinstance(node, ast.Name):
        return node.id in SWITCHES and isinstance(node.ctx, ast.Load)
    return isinstance(node, ast.Constant) and node.value in WORDS


def test_a_switch_is_touched_by_the_doors_only() -> None:
    files = {path.relative_to(SOURCE).as_posix(): path for path in SOURCE.rglob("*.py")}
    found = {f"{name} {place}" for name, path in files.items() for place in touched(ast.parse(path.read_text("utf-8")))}
    assert found == set(PLACES)


@pytest.mark.parametrize(
    "planted",
    [
        "def f(m): m.set_power('ddr', off)",
        "def f(m): partial(m.set_power, 'ddr', off)()",
        "def f(m): getattr(m, 'set_power')('ddr', off)",
        "def f(s): s.turn(off)",
        "def f(s): write(names.bank('high', 'supply'), 'off')",
        "from hotbank.operate.power import turn",
        "from hotbank.operate.power import switch_on as lights",
        "from hotbank.operate import power\ndef f(m): power.turn(m, 'ddr', off)",
    ],
)
def test_another_door_is_noticed(planted: str) -> None:
    assert list(touched(ast.parse(planted)))


@pytest.mark.parametrize("name", ["host/machine.py", "model/machine.py", "boards_qemu/supervisor.py"])
def test_every_machine_has_a_gate_before_its_switch(name: str) -> None:
    """``set_power`` hands its switch to the gate, and calls none."""
    tree = ast.parse((SOURCE / name).read_text("utf-8"))
    (method,) = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "set_power")
    calls = [ast.unparse(n.func) for n in ast.walk(method) if isinstance(n, ast.Call)]
    assert [call for call in calls if call.endswith("turn")] == ["self._gate.turn"]


@pytest.mark.parametrize("seed", range(4))
def test_two_threads_with_one_journal_never_leave_a_bank_in_the_dark(seed: int) -> None:
    """One brings the bank in and takes it out, the other turns its switch; who comes second is refused."""
    model, journal = Model.boot(small_board(), backend="reference", seed=seed), MemoryJournal()
    others = list[BaseException]()
    acts: tuple[list[Callable[[], object]], ...] = (
        [functools.partial(verb, model, "high", journal=journal) for verb in (operate.remove, operate.add)],
        [functools.partial(operate.switch, model, "dram", power, journal=journal) for power in (Power.OFF, Power.ON)],
    )

    def play(turns: list[Callable[[], object]]) -> None:
        for turn in turns * 12:
            try:
                turn()
            except (KernelError, SwitchError, Refusal):
                pass
            except BaseException as e:  # whatever else comes is what this looks for
                others.append(e)

    threads = [threading.Thread(target=play, args=(turns,)) for turns in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    now = model.snapshot()
    domain = now.domain("dram")
    assert domain is not None
    assert not others
    assert not model.check_contents()
    assert journal.unfinished() is None
    assert domain.power is Power.ON or not now.touching("dram")
    assert Code.LOST not in {entry.code for entry in journal.entries()}
