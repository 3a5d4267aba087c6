# SPDX-License-Identifier: Apache-2.0
"""Who governs a machine that has an owner: one at a time, where it may, paused across restarts, and written down."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from govern.test_runner import model as two_domains
from hotbank import board, serve
from hotbank.calls import Call
from hotbank.errors import Code, MachineError, Refusal
from hotbank.govern.policy import Reserve
from hotbank.govern.settings import Settings
from hotbank.govern.status import Status
from hotbank.machine import Reading
from hotbank.memory import KernelState, Power
from hotbank.model import Model
from hotbank.operate import Event, MemoryJournal, Outcome
from hotbank.remote import Remote
from hotbank.serve import workers
from hotbank.serve.client import RemoteOwner
from hotbank.serve.desk import Desk, desk_in
from hotbank.serve.governing import Governing, govern
from hotbank.serve.local import attached, beside
from hotbank.serve.owner import Owner
from hotbank.serve.protocol import Order

SETTINGS = Settings(every=2.0)


@pytest.fixture(autouse=True)
def without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stands ready before it is needed: few of these order anything (test_ready.py is about that)."""
    monkeypatch.setattr(workers, "ROOM", 1 << 60)


class Served:
    """A model with an owner; its clock goes on between looks."""

    def __init__(self, desk: Desk, model: Model | None, journal: MemoryJournal | None, seed: int) -> None:
        self.model = model or Model.boot(board.load("arm-2009"), backend="reference", seed=seed)
        self.journal = journal or MemoryJournal()
        self.owner = Owner(self.model, journal=self.journal, desk=desk)
        self.remote: Remote = attached(self.owner)
        self.lines = [self.remote]

    def look(self, governing: Governing, times: int) -> list[Status]:
        told = []
        for _ in range(times):
            told.append(governing.look())
            self.model.clock.sleep(2.0)
        governing.leave()
        return told

    def again(self) -> Remote:
        """One more line to its owner."""
        self.lines.append(attached(self.owner))
        return self.lines[-1]

    def is_dark(self) -> bool:
        return self.model.power("ddr-high") is Power.OFF


class Serving(Protocol):
    def __call__(
        self, desk: Desk, model: Model | None = None, journal: MemoryJournal | None = None, seed: int = 0
    ) -> Served: ...


@pytest.fixture
def serving() -> Iterator[Serving]:
    made: list[Served] = []

    def serve(desk: Desk, model: Model | None = None, journal: MemoryJournal | None = None, seed: int = 0) -> Served:
        made.append(Served(desk, model, journal, seed))
        return made[-1]

    yield serve
    for line in [line for served in made for line in served.lines]:
        line.close()


def told_by(pid: int, serving: Serving, period: float = 2.0) -> Desk:
    """A desk at which that process has told something last."""
    desk = Desk()
    desk.govern(replace(governing(serving(Desk())).look(), pid=pid, who="another", period=period))
    return desk


def governing(served: Served, *, dry: bool = False, settings: Settings = SETTINGS) -> Governing:
    return Governing(served.remote, None if dry else RemoteOwner(served.remote), settings)


def test_a_governor_acts_through_the_owner_and_the_journal_says_so(serving: Serving, tmp_path: Path) -> None:
    served = serving(desk_in(tmp_path, "model:x"))
    told = served.look(governing(served), 20)
    assert served.is_dark()
    (entry,) = served.journal.entries()
    assert (entry.before.verb, entry.before.cause, entry.code) == ("remove", "governor", Code.OK)
    (deed,) = [deed for status in told for deed in status.deeds]
    assert (deed.group, deed.dark, deed.outcome) == ("ddr-high", True, "done")
    assert told[-1].groups[0].ours
    lines = [json.loads(line) for line in (tmp_path / "model%3Ax.wishes").read_text().splitlines()]
    assert [line["deeds"] for line in lines if line["deeds"]] == [
        [{"group": "ddr-high", "dark": True, "why": deed.why, "outcome": "done"}]
    ]


def test_what_stood_by_goes_dark_once_none_is_to(serving: Serving) -> None:
    """By the policy that brings nothing back before it is needed."""
    served, reserve = serving(Desk(), two_domains()), Settings("reserve", Reserve())
    served.look(governing(served, settings=replace(reserve, standby=2)), 60)
    assert _kernel_and_power(served) == [(KernelState.OFFLINE, Power.ON)] * 2
    assert serve.add(served.remote, "two").exit == 0
    RemoteOwner(served.remote).resume()
    served.look(governing(served, settings=reserve), 60)
    assert _kernel_and_power(served) == [(KernelState.ABSENT, Power.OFF)] * 2


def _kernel_and_power(served: Served) -> list[tuple[KernelState, Power]]:
    return [(bank.kernel, bank.power) for bank in served.model.snapshot().banks if bank.domain is not None]


def test_what_a_person_brings_in_is_not_taken_out_again(serving: Serving) -> None:
    """The journal says that it is nobody's of ours any more; that another hand did it is seen all the same."""
    served = serving(Desk())
    one = governing(served)
    served.look(one, 20)
    assert served.is_dark()
    assert serve.add(served.remote, "high").exit == 0
    assert served.look(one, 60)[-1].state.paused == "ddr-high came in by another hand"
    assert not served.is_dark()


def test_an_idle_governor_looks_once_a_period_and_at_nothing_but_the_reading(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a wake-up a second, and no page walked: what a look asks of the machine and of its owner is counted."""
    served, asked, slept = serving(Desk()), list[str](), list[float]()
    one = governing(served)
    served.look(one, 20)
    assert served.is_dark()
    ask = Remote.ask

    def counted(remote: Remote, call: Call, arguments: Mapping[str, Any], **named: Any) -> Any:
        asked.append(call.name)
        return ask(remote, call, arguments, **named)

    def sleep(seconds: float) -> bool:
        slept.append(seconds)
        served.model.clock.sleep(seconds)
        return len(slept) == 30

    monkeypatch.setattr(Remote, "ask", counted)
    one.run(sleep)
    assert slept == [2.0] * 30
    assert asked == ["owner.look"] * 30 + ["owner.govern"]


def test_what_a_look_came_to_is_told_at_once_and_the_rest_with_the_next(serving: Serving) -> None:
    served = serving(Desk())
    one, owner = governing(served), RemoteOwner(served.remote)
    deeds = 0
    for _ in range(20):
        status, known = one.look(), owner.governed().status
        assert known is not None
        assert known.state.ours == status.state.ours
        assert not status.deeds or known.deeds == status.deeds
        deeds += len(status.deeds)
        served.model.clock.sleep(2.0)
    assert (deeds, served.is_dark()) == (1, True)
    owner.pause("at once")
    assert one.look().groups[0].why == "", "it is out"
    assert one._governor.state.paused == "at once", "heard with the question, before anything is decided"
    one.leave()


@pytest.mark.parametrize("looks", range(4))
def test_nothing_leaves_at_the_look_after_a_pause(serving: Serving, looks: int) -> None:
    """Whenever it was said, also behind a look of which the owner was told at once."""
    served = serving(Desk(), two_domains())
    one = governing(served)
    for _ in range(looks):
        one.look()
        served.model.clock.sleep(2.0)
    one.begin()
    RemoteOwner(served.remote).pause("at once")
    assert not [deed for deed in one.look().deeds if deed.dark]
    one.leave()


def test_who_looks_again_and_again_may_ask_all_else(serving: Serving) -> None:
    """A thread of its own answers the looks of one, the crew those of others and whatever comes between."""
    served = serving(Desk())
    status = governing(served).look()
    one, other = RemoteOwner(served.remote), RemoteOwner(served.again())
    for _ in range(2):
        assert one.look(status).reading.managed == served.remote.reading().managed
        assert one.look(status).orders == other.look(status).orders
        served.remote.cancel()
        assert one.look(status) == replace(other.look(status), reading=served.remote.reading())
        with pytest.raises(Refusal, match="governs this machine"):
            one.look(replace(status, who="somebody else"))
        assert served.remote.snapshot() == served.model.snapshot()
        assert serve.remove(served.remote, "high").exit == 0
        assert one.look(status).orders == other.look(status).orders
        assert serve.add(served.remote, "high").exit == 0
    one.govern(replace(status, period=0.0))


def test_a_pause_survives_owner_and_governor(serving: Serving, tmp_path: Path) -> None:
    served = serving(desk_in(tmp_path, "m"))
    RemoteOwner(served.remote).pause("the board is on my desk")
    after = serving(desk_in(tmp_path, "m"), served.model)
    told = after.look(governing(after), 20)
    assert not after.is_dark()
    assert told[-1].groups[0].why == "paused: the board is on my desk"
    RemoteOwner(after.remote).resume()
    again = serving(desk_in(tmp_path, "m"), served.model)
    again.look(governing(again), 20)
    assert again.is_dark()


def test_what_was_taken_before_a_restart_comes_back_after_it(serving: Serving, tmp_path: Path) -> None:
    served = serving(desk_in(tmp_path, "m"))
    served.look(governing(served), 20)
    assert served.is_dark()
    after = serving(desk_in(tmp_path, "m"), served.model, served.journal)
    model = served.model
    model.tasks.grow(model.tasks.spawn("eater"), model.free() - (8 << 20) // model.board.page_size)
    after.look(governing(after), 2)
    assert not after.is_dark()
    assert not model.tasks.oom_killed


def test_after_a_boot_nothing_is_ours(serving: Serving, tmp_path: Path) -> None:
    served = serving(desk_in(tmp_path, "m"))
    served.look(governing(served), 20)
    after = serving(desk_in(tmp_path, "m"), seed=1)
    (status,) = after.look(governing(after), 1)
    assert status.boot_id != served.model.snapshot().boot_id
    assert not status.groups[0].ours
    assert not status.state.paused


def test_a_second_governor_is_refused_before_it_looks(serving: Serving) -> None:
    served = serving(told_by(os.getppid(), serving))
    with pytest.raises(Refusal, match=rf"pid {os.getppid()} governs this machine by balance") as caught:
        served.look(governing(served), 1)
    assert caught.value.code is Code.BUSY_TRANSACTION
    assert not served.journal.entries()


@pytest.mark.parametrize(("period", "late"), [(0.05, 5.9), (2.0, 5.9), (100.0, 299.0)])
def test_one_that_is_late_still_governs(
    period: float, late: float, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it looks: a busy machine keeps it waiting for seconds."""
    desk = told_by(os.getppid(), serving, period)
    served, told = serving(desk), desk.governed().status
    assert told is not None
    monkeypatch.setattr("time.time", lambda: told.at + late)
    with pytest.raises(Refusal, match="governs this machine") as caught:
        served.look(governing(served), 1)
    assert caught.value.remedy.endswith(f"try again in {max(6, 3 * period):g} s")
    monkeypatch.setattr("time.time", lambda: told.at + late + 2)
    served.look(governing(served), 1)


@pytest.mark.parametrize("inside", [True, False])
def test_who_governed_in_an_owner_that_is_gone_is_not_waited_for(
    inside: bool, serving: Serving, tmp_path: Path
) -> None:
    """It was killed with it, without a word; one in a process of its own may still be there."""
    told = replace(governing(serving(Desk())).look(), who="another", pid=os.getpid() if inside else os.getppid())
    desk_in(tmp_path, "m").govern(told)
    served = serving(desk_in(tmp_path, "m"))
    if inside:
        served.look(governing(served), 1)
        return
    with pytest.raises(Refusal, match="governs this machine"):
        served.look(governing(served), 1)


def test_one_that_is_gone_is_succeeded(serving: Serving) -> None:
    served = serving(told_by(1, serving, period=0.0))
    served.look(governing(served), 1)


def test_a_machine_that_does_not_say_so_is_not_governed_but_for_show(serving: Serving) -> None:
    served = serving(Desk(closed="its board file does not say `auto = true`"))
    with pytest.raises(Refusal, match="does not say `auto = true`") as caught:
        served.look(governing(served), 20)
    assert caught.value.code is Code.NOT_PERMITTED
    assert not served.is_dark()
    told = served.look(governing(served, dry=True), 20)
    assert [deed.group for status in told for deed in status.deeds] == ["ddr-high"]
    assert not served.is_dark()


def test_a_thread_of_the_owner_governs_until_it_is_told_to_end(serving: Serving) -> None:
    served, looks = serving(Desk()), 0

    def stopped(seconds: float) -> bool:
        nonlocal looks
        looks += 1
        served.model.clock.sleep(seconds)
        return looks == 20

    govern(lambda: attached(Owner(served.model, desk=Desk())), SETTINGS, stopped, print)
    assert served.is_dark()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"status": 1, "orders": 2}', "\0"])
def test_who_cant_read_whether_to_pause_pauses(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.auto").write_text(text)
    known = desk_in(tmp_path, "m").governed()
    assert (known.status, known.orders.paused) == (None, "m.auto can't be read, so what it said is not known")


def test_a_state_of_before_goes_on_without_what_it_lacks(serving: Serving, tmp_path: Path) -> None:
    desk = desk_in(tmp_path, "m")
    served = serving(desk)
    govern(lambda: attached(Owner(served.model, desk=desk)), SETTINGS, lambda _: True, print)
    written, status = tmp_path / "m.auto", desk.governed().status
    kept = json.loads(written.read_text())
    del kept["status"]["state"]["kernel"]
    written.write_text(json.dumps(kept))
    found = desk_in(tmp_path, "m").governed().status
    assert status is not None
    assert found is not None
    assert found.state == replace(status.state, kernel=None)


def test_a_full_disk_keeps_nobody_from_governing(
    serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: Callable[..., object] = Path.open

    def full(path: Path, *args: object, **named: object) -> object:
        if path.suffix == ".wishes":
            raise OSError(28, "No space left on device")
        return opened(path, *args, **named)

    monkeypatch.setattr(Path, "open", full)
    served = serving(desk_in(tmp_path, "m"))
    served.look(governing(served), 20)
    assert served.is_dark()


@pytest.mark.parametrize("connected", [attached, beside])
def test_an_owner_that_fails_makes_who_governs_blind(
    connected: Callable[[Owner], Remote], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the owner's process, too, where nothing crosses a wire."""

    def fails(_: Model) -> Reading:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Model, "reading", fails)
    owner = Owner(Model.boot(board.load("arm-2009"), backend="reference"))
    with connected(owner) as machine:
        told = Governing(machine, RemoteOwner(machine), SETTINGS).look()
    assert told.blind == "the machine's owner failed: OSError: [Errno 5] Input/output error"


def test_a_bank_that_left_while_its_line_broke_is_brought_back(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serving(Desk())
    order, broken = RemoteOwner.order, True

    def breaks(owner: RemoteOwner, what: Order, on_event: Callable[[Event], None]) -> Outcome | None:
        outcome = order(owner, what, on_event)
        if broken:
            raise MachineError("the line is gone", remedy="")
        return outcome

    monkeypatch.setattr(RemoteOwner, "order", breaks)
    one = governing(served)
    told = served.look(one, 20)
    assert served.is_dark()
    assert not told[-1].state.paused
    assert told[-1].groups[0].ours
    broken = False
    eat(served.model)
    served.look(one, 2)
    assert not served.is_dark()


def eat(model: Model) -> None:
    """All but a little of what is free."""
    model.tasks.grow(model.tasks.spawn("eater"), model.free() - (8 << 20) // model.board.page_size)


def test_the_journal_says_what_is_ours_when_nothing_else_does(serving: Serving) -> None:
    served = serving(Desk())
    served.look(governing(served), 20)
    after = serving(Desk(), served.model, served.journal)
    eat(served.model)
    after.look(governing(after), 2)
    assert not after.is_dark()


def test_what_a_person_took_is_not_ours(serving: Serving) -> None:
    served = serving(Desk())
    serve.remove(served.remote, "high")
    eat(served.model)
    told = served.look(governing(served), 3)
    assert served.is_dark()
    assert not told[-1].groups[0].ours


def test_a_dry_run_leaves_no_trace(serving: Serving, tmp_path: Path) -> None:
    served = serving(desk_in(tmp_path, "m"))
    served.look(governing(served), 20)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    served.look(governing(served, dry=True), 5)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_who_has_an_order_carried_out_governs_however_long_that_takes(serving: Serving) -> None:
    desk = told_by(1, serving, period=0.0)
    desk.at_work = lambda: True
    with pytest.raises(Refusal, match="governs this machine"):
        desk.govern(governing(serving(Desk())).look())


def test_a_governor_in_the_owner_goes_on_after_any_error_and_says_it(serving: Serving) -> None:
    served, said, tries = serving(Desk()), list[str](), 0

    def connect() -> Remote:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ZeroDivisionError("nothing was divided")
        if tries == 2:
            raise MachineError("nobody answers", remedy="")
        return attached(Owner(served.model, journal=served.journal, desk=Desk()))

    def stopped(seconds: float) -> bool:
        served.model.clock.sleep(seconds)
        return served.is_dark()

    govern(connect, SETTINGS, stopped, said.append)
    assert served.is_dark()
    assert said == ["ZeroDivisionError: nothing was divided", "nobody answers"]


def test_a_reason_is_not_endless(serving: Serving) -> None:
    served = serving(Desk())
    RemoteOwner(served.remote).pause("x" * 100_000)
    assert len(RemoteOwner(served.remote).governed().orders.paused) == 200


def test_another_reason_reaches_who_is_paused_already(serving: Serving) -> None:
    served = serving(Desk())
    one = governing(served)
    for why in ("one", "another"):
        RemoteOwner(served.remote).pause(why)
        served.look(one, 2)
    assert served.look(one, 1)[0].state.paused == "another"
