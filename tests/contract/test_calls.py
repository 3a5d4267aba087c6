# SPDX-License-Identifier: Apache-2.0
"""The table of calls: made from the protocols, read by both ends, and the one in docs/protocol.md."""

from __future__ import annotations

import errno
import inspect
import re
import socket
import threading
import time
from pathlib import Path
from typing import Any, Protocol

import pytest

from hotbank import board
from hotbank.calls import BY_BLOCK, CLOCK, COUNTING, DOCTOR, GLANCE, MACHINE, PAGES, VACATE, Call, table
from hotbank.errors import Code, HotbankError, KernelError, MachineError, ProtocolError, Refusal, SwitchError
from hotbank.machine import Ability, Machine
from hotbank.memory import Power
from hotbank.model import Model, WallClock
from hotbank.operate import Journal, Limits, Outcome
from hotbank.remote import Remote, SocketStream
from hotbank.serve.client import RemoteOwner, remove
from hotbank.serve.local import attached
from hotbank.serve.owner import Owner
from hotbank.serve.protocol import OWNER, OwnerCalls
from hotbank.serve.worker import RemoteJob, RemoteJournal
from hotbank.testing import Faulty, ScriptedMachine, raising
from hotbank.wire import MAX_ANSWER, VERSION, Lines, encode
from patience import HANG, ended

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
TABLES = (MACHINE, PAGES, GLANCE, COUNTING, BY_BLOCK, VACATE, DOCTOR, CLOCK, OWNER)
CALLS = [call for calls in TABLES for call in calls.values()]
READS = {
    "machine.snapshot", "machine.survey", "machine.pages", "machine.glance", "machine.count", "machine.block",
    "machine.power", "machine.reading",
    "machine.doctor",     "clock.now", "clock.sleep", "owner.history", "owner.events",
    "owner.governed",
}  # fmt: skip


def served(machine: Machine) -> Remote:
    return attached(Owner(machine))


def model() -> Model:
    return Model.boot(board.load("arm-2009"), backend="reference", seed=1)


def test_what_readers_may_call_is_exactly_this() -> None:
    assert {call.name for call in CALLS if not call.changes} == READS


def test_a_method_that_nobody_spoke_about_changes() -> None:
    class More(Protocol):
        def melt(self, bank: str) -> None: ...

    assert table("machine", More)["melt"].changes


def test_only_what_empties_memory_is_waited_for_while_its_line_listens_on() -> None:
    assert [call.name for call in CALLS if call.slow] == ["machine.offline", "machine.vacate"]


@pytest.mark.parametrize(
    ("ours", "protocol"),
    [(Remote, Machine), (RemoteJournal, Journal), (RemoteOwner, OwnerCalls)],
    ids=["machine", "journal", "owner"],
)
def test_who_asks_has_every_method_of_the_protocol(ours: type, protocol: type) -> None:
    for name, method in vars(protocol).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            assert callable(getattr(ours, name)), name
    assert callable(RemoteJob.order)


def test_what_a_machine_says_it_can_it_has_a_method_for() -> None:
    with served(model()) as far:
        for machine in (model(), far, Faulty(model()), ScriptedMachine()):
            assert [able.value for able in machine.can if not callable(getattr(machine, able.value, None))] == []
        assert far.can == model().can == {Ability.INTERRUPT, Ability.PAGES, Ability.VACATE}
    with served(ScriptedMachine()) as far:
        assert far.can == frozenset()
        with pytest.raises(ProtocolError, match=r"no call 'machine\.pages'"):
            far.pages(20)


def test_defaults_of_the_protocol_cross_the_wire() -> None:
    class Sized(Protocol):
        def take(self, block: int, *, spare: int = 7) -> None: ...

    call = table("machine", Sized)["take"]
    assert call.arguments(3) == {"block": 3, "spare": 7}
    assert call.arguments(3, spare=9) == {"block": 3, "spare": 9}
    with pytest.raises(TypeError):
        call.arguments(3, force=True)


ERRORS: list[HotbankError] = [
    KernelError(5, "look at memory4", detail="the controller is gone"),
    SwitchError("ddr-high: the switch answers rubbish", remedy="look at its wire"),
    Refusal(KernelError.code, "no"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_what_a_worker_raises_keeps_its_type_and_all_it_carries(error: HotbankError) -> None:
    machine = Faulty(model())
    with served(machine) as client:
        machine.fail("survey", 0, raising(error))
        with pytest.raises(type(error)) as caught:
            remove(client, "high")
    assert encode(caught.value) == encode(error)


class LateToBegin(Faulty):
    """A machine whose offline is asked for long before it begins."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.asked, self.go = threading.Event(), threading.Event()

    def offline(self, block: int, deadline: float, *, spare: int = 0, fence: tuple[int, ...] = ()) -> None:
        self.asked.set()
        assert self.go.wait(HANG)
        super().offline(block, deadline, spare=spare, fence=fence)


def test_an_order_is_interrupted_also_before_its_offline_begins() -> None:
    real = Model.boot(board.load("arm-2009"), backend="reference", clock=WallClock())
    pid = real.spawn("pinner", anon_pages=64)
    block = next(b.number for b in real.snapshot().blocks if real.place(pid, b.number))
    real.pin(pid, real.place(pid, block)[0])
    machine, outcomes = LateToBegin(real), list[Outcome]()
    with served(machine) as client:

        def order() -> None:
            outcomes.append(remove(client, f"memory{block}", force=True, limits=Limits(20, 20)))

        ordering = threading.Thread(target=order)
        ordering.start()
        assert machine.asked.wait(HANG)
        client.cancel()
        time.sleep(1.5)  # longer than anybody would go on asking
        machine.go.set()
        ended(ordering)
    assert [(o.code, o.exit) for o in outcomes] == [(Code.INTERRUPTED, 130)]


def test_an_order_that_could_not_begin_leaves_the_machine_free(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if "_see_through" in repr(getattr(thread, "_target", None)):
            raise RuntimeError("can't start new thread")
        start(thread)

    with served(model()) as client:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(MachineError, match="can't start new thread"):
            remove(client, "high")
        monkeypatch.undo()
        assert remove(client, "high").code is Code.OK


def test_power_stays_on_under_memory_also_for_who_asks_at_the_wire() -> None:
    machine = model()
    with served(machine) as client:
        for want in (Power.OFF, Power.SELF_REFRESH):
            with pytest.raises(KernelError) as caught:
                client.set_power("ddr-high", want)
            assert caught.value.errno == errno.EBUSY
        assert client.power("ddr-high") is Power.ON
    assert not machine.check_contents()


def test_what_a_reader_may_not_do_costs_no_thread() -> None:
    ours, theirs = socket.socketpair()
    owner = threading.Thread(target=Owner(model()).attend, args=(SocketStream(theirs),), kwargs={"may_change": False})
    owner.start()
    with ours:
        lines, before = Lines(SocketStream(ours), MAX_ANSWER), threading.active_count()
        assert lines.receive(10) is not None
        for n in range(1, 101):
            arguments = {"block": 1, "deadline": 1.0, "spare": 0, "fence": []}
            lines.send({"id": n, "call": "machine.offline", "args": arguments})
        answers = [lines.receive(10) for _ in range(100)]
        assert threading.active_count() <= before  # others may end meanwhile
    owner.join(HANG)
    assert {a["error"]["type"] for a in answers if a is not None} == {"Refusal"}


# The page.


def rows(page: str) -> dict[str, tuple[str, str, str]]:
    """Arguments, result and who may, by the name of the call."""
    cells = [[c.strip().replace("`", "") for c in line.strip("|\n").split("|")] for line in page.splitlines()]
    return {
        c[0]: (c[1], c[2], c[3]) for c in cells if re.fullmatch(r"(machine|clock|owner)\.\w+", c[0]) and len(c) == 4
    }


def expected(call: Call) -> tuple[str, str, str]:
    return ", ".join(call.parameters), shown(call.result), "who may change" if call.changes else "readers"


def shown(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) and "[" not in str(hint) else str(hint)
    text = re.sub(r"[\w.]+\.(\w+)", r"\1", text)
    return {"NoneType": "null", "float": "seconds"}.get(text, text).replace("None", "null").replace(" | ", " or ")


def test_the_page_has_the_table() -> None:
    assert rows(PAGE.read_text()) == {call.name: expected(call) for call in CALLS}
    assert re.findall(r"the protocol, which is (\d+)\.", PAGE.read_text()) == [str(VERSION)]


def test_a_page_without_a_call_is_found() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if not line.startswith("| `machine.pages`")]
    assert rows("\n".join(lines)).keys() != {call.name for call in CALLS}
