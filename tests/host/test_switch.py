# SPDX-License-Identifier: Apache-2.0
"""Power switches: what the status says counts, and nothing hangs."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from host.captured_trees import Made, MadeBlock, write
from hotbank import board as boards
from hotbank.board import Bank, Domain
from hotbank.errors import Code, KernelError, MachineError, Refusal, SwitchError
from hotbank.host import Host
from hotbank.host.switch import Absent, AlwaysOn, Command, Regulator, Supply, _goes_on, switch_for
from hotbank.host.tree import Tree
from hotbank.memory import MIB, Online, Power, Range
from hotbank.operate.power import darken
from patience import HANG, until

ON, OFF, RESTING = Power.ON, Power.OFF, Power.SELF_REFRESH
BANK = Bank("one", Range.sized(0x4000_0000, 128 * MIB), route="driver", domain="ddr")


@pytest.fixture
def rail(tmp_path: Path) -> Path:
    path = tmp_path / "rail"
    path.write_text("on")
    return path


def domain(rail: Path, **changes: object) -> Domain:
    def put(word: str) -> tuple[str, ...]:
        return ("sh", "-c", f"printf {word} > {rail}")

    made = Domain("ddr", (ON, RESTING, OFF), "command", status=("cat", str(rail)), timeout=5)
    made = replace(made, on=put("on"), off=put("off"), self_refresh=put("self-refresh"))
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_command_switch_goes_everywhere_and_back(rail: Path) -> None:
    switch = Command(domain(rail))
    for want in (OFF, ON, RESTING, OFF, RESTING, ON):
        switch.turn(want)
        assert switch.status() is want


def test_the_status_is_believed_over_the_exit_code(rail: Path) -> None:
    fails_but_works = ("sh", "-c", f"printf off > {rail}; exit 3")
    Command(domain(rail, off=fails_but_works)).turn(OFF)
    rail.write_text("on")
    with pytest.raises(SwitchError, match="exited with 0, and domain ddr is on"):
        Command(domain(rail, off=("true",))).turn(OFF)


def test_what_a_program_complains_of_is_told(rail: Path) -> None:
    complains = ("sh", "-c", "echo trying >&2; echo ddrctl: no such controller >&2; exit 2")
    with pytest.raises(SwitchError, match=r"exited with 2 \('ddrctl: no such controller'\), and domain ddr is on"):
        Command(domain(rail, off=complains)).turn(OFF)
    with pytest.raises(SwitchError, match=r"exited with 2 \('ddrctl: no such controller'\) and said ''"):
        Command(domain(rail, status=complains)).status()


def test_a_program_that_complains_without_end_is_heard_out_and_ended(rail: Path) -> None:
    loud = ("sh", "-c", f"head -c 300000 /dev/zero >&2; printf off > {rail}")
    Command(domain(rail, off=loud)).turn(OFF)
    endless = ("sh", "-c", "yes >&2")
    with pytest.raises(SwitchError, match="did not end within"):
        Command(domain(rail, off=endless, timeout=0.5)).turn(OFF)


def test_who_goes_on_complaining_in_the_background_is_not_waited_for(rail: Path) -> None:
    leaves = ("sh", "-c", f"printf off > {rail}; (sleep 60) >&- & exit 0")
    Command(domain(rail, off=leaves, timeout=30)).turn(OFF)


@pytest.mark.parametrize(
    "status",
    [("echo", "maybe"), ("echo", "unknown"), ("false",), ("sh", "-c", "echo on; exit 1"), ("/nonexistent/ddrctl",)],
)
def test_a_status_that_is_none(rail: Path, status: tuple[str, ...]) -> None:
    with pytest.raises(SwitchError):
        Command(domain(rail, status=status)).status()


def test_whom_the_kernel_holds_after_his_program_was_ended_is_waited_for(
    rail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He may still turn the power. Here he is killed later than the program, as if the kernel held him."""
    late = tmp_path / "late"
    program = ("sh", "-c", f"sleep {HANG} & echo $$ > {late}; wait")
    ended, killpg = list[int](), os.killpg

    def end(group: int) -> None:
        rail.write_text("off")
        ended.append(group)
        killpg(group, signal.SIGKILL)

    def kill(group: int, number: int) -> None:
        until(lambda: late.exists() and late.read_text(), "what it starts")
        os.kill(group, number)
        threading.Timer(0.3, end, [group]).start()

    monkeypatch.setattr(os, "killpg", kill)
    with pytest.raises(SwitchError, match="did not end"):
        Command(domain(rail, off=program, timeout=0.2)).turn(OFF)
    assert ended == [int(late.read_text())]


def test_a_status_that_the_kernel_holds_is_unknown_and_not_asked_twice(
    rail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who only looks does not hang. Here what a status command started outlives its death, as if the kernel held it."""
    begun, enough = tmp_path / "begun", tmp_path / "enough"
    holds = f"(until [ -e {enough} ]; do sleep 0.1; done) & echo $$ >> {begun}; wait"
    switch = Command(domain(rail, status=("sh", "-c", f"[ -e {enough} ] && exec cat {rail}; {holds}"), timeout=0.2))

    def kill(group: int, number: int) -> None:
        until(lambda: begun.exists() and begun.read_text(), "what it starts")
        os.kill(group, number)

    monkeypatch.setattr(os, "killpg", kill)
    with pytest.raises(SwitchError, match=r"did not end within 0\.2 s"):
        switch.status()
    for _ in range(3):
        with pytest.raises(SwitchError, match="was killed and has not ended yet"):
            switch.status()
    assert len(begun.read_text().split()) == 1
    enough.touch()
    switch._domain = replace(switch._domain, timeout=HANG)
    until(lambda: not _goes_on(switch._left), "its end")  # type: ignore[arg-type]
    assert switch.status() is ON


def test_who_may_not_be_killed_is_waited_for(rail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that runs as somebody else by then."""
    refused = list[int]()

    def refuse(group: int, number: int) -> None:  # as killpg(2)
        refused.append(group)
        (tmp_path / "enough").touch()
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "killpg", refuse)
    waits = f"until [ -e {tmp_path}/enough ]; do sleep 0.1; done; echo $$ > {tmp_path}/ended"
    with pytest.raises(SwitchError, match="did not end"):
        Command(domain(rail, off=("sh", "-c", waits), timeout=0.2)).turn(OFF)
    assert refused == [int((tmp_path / "ended").read_text())]


def test_a_hanging_command_is_ended_with_its_children(rail: Path, tmp_path: Path) -> None:
    late = tmp_path / "late"
    hangs = ("sh", "-c", f"(sleep 2; touch {late}) & sleep 3600")
    started = time.monotonic()
    with pytest.raises(SwitchError, match="did not end within"):
        Command(domain(rail, off=hangs, timeout=0.2)).turn(OFF)
    time.sleep(max(0.0, 2.1 - (time.monotonic() - started)))
    assert not late.exists()


@pytest.mark.parametrize("status", [("yes",), ("sh", "-c", "head -c 5000 /dev/zero"), ("a\0b",), ("\ud800",)])
def test_a_command_that_says_too_much_or_is_none(rail: Path, status: tuple[str, ...]) -> None:
    with pytest.raises(SwitchError, match=r"says more than|can't be run"):
        Command(domain(rail, status=status)).status()


def test_a_command_that_closes_its_output_and_stays_is_ended(rail: Path) -> None:
    with pytest.raises(SwitchError, match="did not end"):
        Command(domain(rail, status=("sh", "-c", "exec >&-; sleep 60"), timeout=0.2)).status()


def test_a_domain_without_a_switch() -> None:
    switch = AlwaysOn("ddr")
    switch.turn(ON)
    assert switch.status() is ON
    with pytest.raises(SwitchError, match="can't go off"):
        switch.turn(OFF)


class TestRegulator:
    CLASS, CONSUMER = "sys/class/regulator/regulator.5", "sys/bus/platform/drivers/reg-userspace-consumer/bank1"

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Tree:
        content = {f"{self.CLASS}/name": "vdd-ddr1\n", "sys/class/regulator/regulator.4/name": "other\n"}
        content |= {f"{self.CONSUMER}/name": "vdd-ddr1\n"}
        write(tmp_path, content)
        (tmp_path / self.CLASS / "state").write_text("enabled\n")
        os.symlink(tmp_path / self.CLASS / "state", tmp_path / self.CONSUMER / "state")
        return Tree(tmp_path)

    def test_goes_off_and_on(self, tree: Tree) -> None:
        switch = Regulator(Domain("ddr", regulator="vdd-ddr1"), tree)
        assert switch.status() is ON
        switch.turn(OFF)
        assert switch.status() is OFF
        switch.turn(ON)
        assert switch.status() is ON

    def test_another_consumer_keeps_it_on(self, tree: Tree) -> None:
        os.unlink(tree.path(f"{self.CONSUMER}/state"))
        write(Path(tree.root), {f"{self.CONSUMER}/state": "enabled\n"})
        with pytest.raises(SwitchError, match="was told disabled and is on"):
            Regulator(Domain("ddr", regulator="vdd-ddr1"), tree).turn(OFF)

    def test_unknown_names_and_states(self, tree: Tree) -> None:
        with pytest.raises(SwitchError, match="no regulator vdd-9"):
            Regulator(Domain("ddr", regulator="vdd-9"), tree).status()
        with pytest.raises(SwitchError, match="no reg-userspace-consumer"):
            Regulator(Domain("ddr", regulator="other"), tree).turn(OFF)
        with pytest.raises(SwitchError, match="can't go self-refresh"):
            Regulator(Domain("ddr", regulator="vdd-ddr1"), tree).turn(RESTING)
        write(Path(tree.root), {f"{self.CLASS}/state": "unknown\n"})
        with pytest.raises(SwitchError, match="'unknown'"):
            Regulator(Domain("ddr", regulator="vdd-ddr1"), tree).status()


class Feeder:
    """Our driver's ``supply`` files of two banks, and what writing to them comes to (kernel/bank/power.c)."""

    def __init__(self, root: Path) -> None:
        self.tree, self.told = Tree(root), list[tuple[str, str]]()
        self.becomes = {"on": "on", "off": "off"}
        self.refusal = 0
        for bank in ("one", "two"):
            self.says(bank, "on")

    def says(self, bank: str, word: str) -> None:
        write(Path(self.tree.root), {self.name(bank): f"{word}\n"})

    def name(self, bank: str) -> str:
        return f"sys/class/hotbank/{bank}/supply"

    def write(self, name: str, word: str, what: str) -> None:
        bank = name.split("/")[-2]
        assert name == self.name(bank)
        self.told.append((bank, word))
        if self.refusal:
            raise KernelError(self.refusal, what)
        self.says(bank, self.becomes[word])


class TestSupply:
    @pytest.fixture
    def driver(self, tmp_path: Path) -> Feeder:
        return Feeder(tmp_path)

    @pytest.fixture
    def switch(self, driver: Feeder) -> Supply:
        return Supply("ddr", ["one", "two"], driver.tree, driver.write)

    def test_goes_off_and_on_with_all_its_banks(self, driver: Feeder, switch: Supply) -> None:
        assert switch.status() is ON
        for want in (OFF, ON):
            switch.turn(want)
            assert switch.status() is want
        assert driver.told == [("one", "off"), ("two", "off"), ("one", "on"), ("two", "on")]

    def test_released_is_not_off(self, driver: Feeder, switch: Supply) -> None:
        driver.becomes["off"] = "released"
        with pytest.raises(SwitchError, match="was told off, and bank one is released, bank two is released") as caught:
            switch.turn(OFF)
        assert caught.value.code is Code.POWER_UNKNOWN
        assert switch.status() is Power.UNKNOWN

    def test_half_of_a_domain_is_neither_on_nor_off(self, driver: Feeder, switch: Supply) -> None:
        driver.says("two", "off")
        assert switch.status() is Power.UNKNOWN

    def test_a_driver_that_does_nothing_is_not_believed(self, driver: Feeder, switch: Supply) -> None:
        driver.becomes["off"] = "on"
        with pytest.raises(SwitchError, match="bank one is on") as caught:
            switch.turn(OFF)
        assert caught.value.code is Code.SWITCH_FAILED

    def test_a_refusal_is_a_switch_that_failed(self, driver: Feeder, switch: Supply) -> None:
        driver.refusal = errno.EBUSY
        with pytest.raises(SwitchError, match="EBUSY"):
            switch.turn(OFF)
        assert driver.told == [("one", "off")]

    def test_self_refresh_is_nothing_it_can_do(self, driver: Feeder, switch: Supply) -> None:
        with pytest.raises(SwitchError, match="can't go self-refresh"):
            switch.turn(RESTING)
        assert driver.told == []

    @pytest.mark.parametrize(("word", "wrong"), [("unmanaged", "no switch"), ("dim", "'dim'"), ("", "no power state")])
    def test_no_power_state_is_told_nothing(self, driver: Feeder, switch: Supply, word: str, wrong: str) -> None:
        driver.says("two", word)
        for call in (switch.status, lambda: switch.turn(OFF)):
            with pytest.raises(SwitchError, match=wrong):
                call()
        assert driver.told == []

    def test_a_driver_that_is_not_loaded(self, driver: Feeder, switch: Supply) -> None:
        os.unlink(driver.tree.path(driver.name("two")))
        with pytest.raises(SwitchError, match="load hotbank_bank"):
            switch.status()

    def test_a_host_turns_it_by_writing_to_the_driver(self, driver: Feeder) -> None:
        text = 'name = "b"\nblock_size = "128M"\n[domain.ddr]\nstates = ["on", "off"]\nswitch = "machine"\n'
        for number, bank in enumerate(("one", "two")):
            text += f'[bank.{bank}]\nstart = {0x4000_0000 + number * 0x800_0000}\nsize = "128M"\nmovable = true\n'
            text += 'route = "driver"\ndomain = "ddr"\n'
        tree = Made((MadeBlock(10, zones="Movable"),)).at(Path(driver.tree.root))
        host = Host(tree, boards.loads(text))
        host.set_power("ddr", OFF)
        assert Path(driver.tree.path(driver.name("two"))).read_text() == "off"
        assert host.power("ddr") is OFF


def test_each_kind_of_switch_on_this_host_and_in_a_tree(rail: Path, tmp_path: Path) -> None:
    here, captured, driven = Tree("/"), Tree(tmp_path), [BANK]
    made = {kind: replace(domain(rail), switch=kind) for kind in ("none", "command", "regulator", "machine")}
    kinds = {tree: [type(switch_for(d, driven, tree, no_write)) for d in made.values()] for tree in (here, captured)}
    assert kinds[here] == [AlwaysOn, Command, Regulator, Supply]
    assert kinds[captured] == [AlwaysOn, Absent, Regulator, Supply]
    for banks in ([], [BANK, replace(BANK, route="kmem")]):  # the driver can't switch what it does not feed
        assert isinstance(switch_for(made["machine"], banks, here, no_write), Absent)


def no_write(name: str, word: str, what: str) -> None:
    raise AssertionError(f"{what} was written to {name}")


def test_an_injected_switch_is_asked_and_turned(rail: Path, tmp_path: Path) -> None:
    text = 'name = "b"\nblock_size = "128M"\n[bank.a]\nstart = 0x40000000\nsize = "128M"\nmovable = true\n'
    text += 'domain = "ddr"\n[domain.ddr]\nstates = ["on", "off"]\nswitch = "machine"\n'
    tree = Made((MadeBlock(9, zones="Movable"),)).at(tmp_path / "tree")
    host = Host(tree, boards.loads(text), switches={"ddr": Command(domain(rail))})
    host.set_power("ddr", OFF)
    assert rail.read_text() == "off"
    assert host.power("ddr") is OFF
    status = host.snapshot().bank("a")
    assert status is not None
    assert status.power is OFF


BOOT_ID = "proc/sys/kernel/random/boot_id"


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@dataclass
class Recorder:
    """A switch that is on, and remembers what it was told and how often it was asked."""

    told: list[Power] = field(default_factory=list)
    asked: int = 0

    def status(self) -> Power:
        self.asked += 1
        return ON

    def turn(self, want: Power) -> None:
        self.told.append(want)


TWO = """
name = "b"
block_size = "128M"
[bank.a]
start = 0x40000000
size = "128M"
domain = "ddr"
[bank.b]
start = 0x48000000
size = "192M"
domain = "ddr"
[domain.ddr]
states = ["on", "self-refresh", "off"]
switch = "machine"
"""


@pytest.mark.parametrize("state", ["online", "offline", "going-offline"])
@pytest.mark.parametrize("block", [8, 9, 10])
def test_a_host_darkens_nothing_that_is_in_the_kernel(tmp_path: Path, block: int, state: str) -> None:
    """Any block that touches any bank of the domain, whatever its state, and half of one too (10)."""
    switch = Recorder()
    host = Host(Made((MadeBlock(block, state),)).at(tmp_path), boards.loads(TWO), switches={"ddr": switch})
    for want in (OFF, RESTING):
        with pytest.raises(KernelError, match=f"memory{block} in the kernel") as caught:
            host.set_power("ddr", want)
        assert caught.value.errno == errno.EBUSY
    assert switch.told == []
    assert switch.asked == 0  # a look at the blocks is enough
    host.set_power("ddr", ON)
    assert switch.told == [ON]


def test_a_host_asks_its_board_which_states_there_are(tmp_path: Path) -> None:
    """What is in the kernel is told first, as on every machine."""
    switch, made = Recorder(), Made((MadeBlock(0), MadeBlock(8)))
    host = Host(made.at(tmp_path), boards.loads(TWO.replace(', "off"', "")), switches={"ddr": switch})
    with pytest.raises(KernelError, match="EBUSY"):
        host.set_power("ddr", OFF)
    shutil.rmtree(tmp_path / "sys/devices/system/memory/memory8")
    with pytest.raises(SwitchError, match="has no state off"):
        host.set_power("ddr", OFF)
    assert switch.told == []


def test_the_interlock_looks_anew(tmp_path: Path) -> None:
    switch, made = Recorder(), Made((MadeBlock(12),))
    host = Host(made.at(tmp_path), boards.loads(TWO), switches={"ddr": switch})
    host.set_power("ddr", OFF)
    write(tmp_path, {"sys/devices/system/memory/memory9/state": "offline\n"})
    with pytest.raises(KernelError, match="EBUSY"):
        host.set_power("ddr", OFF)
    assert switch.told == [OFF]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ENOENT])
def test_a_host_that_can_t_see_its_blocks_has_them(tmp_path: Path, monkeypatch: Any, number: int) -> None:
    """No descriptor left, sysfs not mounted any more: nothing is out because nobody could look."""
    switch, made = Recorder(), Made((MadeBlock(8),))
    host = Host(made.at(tmp_path), boards.loads(TWO), switches={"ddr": switch})
    real = os.listdir

    def listdir(path: str) -> list[str]:
        if path.endswith("system/memory"):
            raise OSError(number, os.strerror(number))
        return real(path)

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(MachineError):
        darken(host, "ddr", OFF)
    with pytest.raises(MachineError):
        host.set_power("ddr", OFF)
    assert switch.told == []


def test_a_host_without_a_descriptor_left_does_not_guess(tmp_path: Path) -> None:
    switch, made = Recorder(), Made((MadeBlock(8),), files={BOOT_ID: "one\n"})
    host = Host(made.at(tmp_path), boards.loads(TWO), switches={"ddr": switch})
    with no_descriptor_left():
        for call in (host.snapshot, partial(host.set_power, "ddr", OFF), partial(host._tree.read, BOOT_ID)):
            with pytest.raises(MachineError, match="Too many open files"):
                call()
    assert (switch.told, host.snapshot().boot_id) == ([], "one")


def test_names_that_a_host_has_not(tmp_path: Path) -> None:
    """Banks, blocks and domains, with a board and without: one code, whoever is asked."""
    tree = Made((MadeBlock(8),)).at(tmp_path)
    with_board, without = Host(tree, boards.loads(TWO)), Host(tree)
    now = with_board.clock.now()
    for host in (with_board, without):
        calls: list[Callable[[], object]] = [partial(host.add, "other"), partial(host.remove, "memory9")]
        calls += [partial(host.power, "other"), partial(host.set_power, "other", ON)]
        calls += [partial(host.survey, 7), partial(host.online, 7, Online.MOVABLE), partial(host.offline, 7, now + 1)]
        for call in calls:
            with pytest.raises(Refusal) as caught:
                call()
            assert caught.value.code is Code.NO_SUCH_BANK
            assert caught.value.remedy
