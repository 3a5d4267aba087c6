# SPDX-License-Identifier: Apache-2.0
"""A feed against the machine that it follows: block by block, at sixty blocks a second, and through its owner's end."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from documents import wrong
from hotbank import board
from hotbank.errors import Code, HotbankError, KernelError, MachineError, Refusal
from hotbank.load import Workload
from hotbank.machine import Snapshot
from hotbank.memory import BlockState, KernelState, Online
from hotbank.model import Model
from hotbank.operate.look import surveys_of
from hotbank.report.cells import Map
from hotbank.serve import ModelSpec, down, serve_in_background
from hotbank.serve.owner import Owner
from hotbank.serve.state import listen
from hotbank.session import Session, connect, visit
from hotbank.testing import Faulty, raising
from hotbank.watch import Feed, Frame, asking
from hotbank.watch.looker import Looker
from model.small_boards import HIGH, LOW, small_model
from patience import ended, until
from report.test_cells import disagreements
from watch.frames import first, frames


def at_work(seed: int) -> Model:
    """A model with pages of all sorts where they happen to be, and some blocks that are out."""
    dice, model = random.Random(seed), small_model()
    Workload(model, seed, pages=dice.randrange(200, 3000)).fill()
    pid = model.spawn("capture", anon_pages=200)
    homes = {n: pages for n in HIGH if (pages := model.place(pid, n))}
    (model.pin if seed % 2 else model.poison)(pid, homes[dice.choice(sorted(homes))][0])
    for number in dice.sample(HIGH, dice.randrange(3)):
        try:
            model.offline(number, model.clock.now() + 10)
        except KernelError:
            continue
    return model


def test_blocks_that_are_as_they_were_are_kept_once() -> None:
    with connect(small_model(), change=True) as session, Feed(session) as feed:
        before = first(feed, lambda frame: True).snapshot
        feed.change("remove", f"memory{HIGH[0]}")
        later = first(feed, lambda frame: frame.snapshot.blocks != before.blocks).snapshot
        same = [block for block in later.blocks if block == before.block(block.number)]
        assert len(same) > 1
        assert all(block is before.block(block.number) for block in same)


def test_a_look_that_is_wanted_again_before_it_is_over_is_one() -> None:
    asked: list[object] = []

    class Line:
        ask = staticmethod(asked.append)

    looker = Looker(cast("asking.Line", Line()), lambda: None)
    for name in ("high", "low") * 50:
        looker.want(name)
    looker.end()
    looker.run()
    assert len(asked) == 2


@pytest.mark.parametrize("seed", range(20))
def test_cells_are_what_explain_all_says(seed: int) -> None:
    """Of blocks that were looked at all that ``explain`` says; of the others what needs no look."""
    model = at_work(seed)
    with connect(model) as session, Feed(session) as feed:
        start = first(feed, lambda frame: True)
        assert [cell.kinds for cell in start.map.cells if cell.kinds] == []
        for block in start.snapshot.blocks:
            feed.look(block.number)
        online = [b.number for b in start.snapshot.blocks if b.state is not BlockState.OFFLINE]
        seen = first(feed, lambda frame: all((c := frame.map.cell(n)) and c.kinds for n in online))
    assert disagreements(model, seen.map) == []
    assert wrong(seen.document()) == []


def test_sixty_blocks_a_second_are_followed_and_no_page_is_looked_at() -> None:
    machine = Faulty(small_model(**{'"16M"': '"256M"'}))
    with connect(machine, change=True) as session, Feed(session) as feed:
        first(feed, lambda frame: True)
        blocks = [b.number for b in session.list().blocks if b.number not in LOW]
        drawn: list[Frame] = []
        follower = threading.Thread(target=lambda: drawn.extend(until_all_are(feed, blocks, BlockState.ONLINE)))
        switched(session, blocks)
        follower.start()
        ended(follower)
    assert {cell.state for frame in drawn for cell in frame.map.cells} >= {BlockState.OFFLINE, BlockState.ONLINE}
    assert "survey" not in machine.calls
    assert machine.calls.count("snapshot") < len(blocks)
    assert disagreements_of_states(machine, drawn[-1]) == []


def switched(session: Session, blocks: list[int]) -> None:
    """All offline and online again, sixty blocks a second."""
    with session.again() as line:
        for count, block in enumerate(2 * blocks):
            began = time.monotonic()
            if count < len(blocks):
                line.machine.offline(block, line.machine.clock.now() + 60)
            else:
                line.machine.online(block, Online.MOVABLE)
            time.sleep(max(0.0, began + 1 / 60 - time.monotonic()))


def until_all_are(feed: Feed, blocks: list[int], state: BlockState) -> Iterator[Frame]:
    """All frames that are kept, and those that come until that is so."""
    yield from feed.record.since(0)
    for frame in frames(feed):
        yield frame
        if all((cell := frame.map.cell(n)) and cell.state is state for n in blocks):
            return


def disagreements_of_states(machine: Any, frame: Frame) -> list[int]:
    """Blocks that a frame shows otherwise than a map of the machine does."""
    real = Map.of(machine.snapshot())
    return [cell.block for cell in real.cells if frame.map.cell(cell.block) != cell]


# An owner.


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a machine is served, of a user without another one."""
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr("hotbank.serve.local._SERVED", tmp_path / "none")
    return tmp_path / "s"


class Served:
    """A model that is served as long as this lasts."""

    def __init__(self, path: Path, machine: Any = None) -> None:
        self.owner = Owner(machine or Model.boot(board.load("arm-2009"), backend="reference", seed=1))
        self._listener = listen(path)
        self._thread = threading.Thread(target=self.owner.serve, args=(self._listener,))

    def __enter__(self) -> Served:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.owner.stop()
        ended(self._thread)
        self._listener.close()


def high(frame: Frame) -> KernelState:
    bank = frame.snapshot.bank("high")
    assert bank is not None
    return bank.kernel


def has_ended(order: str, frame: Frame) -> bool:
    return frame.running is not None and frame.running.order == order and frame.running.ended is not None


def test_an_order_is_followed_to_its_end_whoever_gave_it(path: Path) -> None:
    with Served(path), visit(f"unix:{path}") as session, Feed(session) as feed:
        first(feed, lambda frame: True)
        plan = feed.plan("remove", "high")
        feed.change("remove", "high", found=plan.found)
        out = first(feed, lambda frame: frame.running and frame.running.ended and high(frame) is KernelState.ABSENT)
        assert out.running is not None
        assert [(s.step, s.target, s.state) for s in out.running.steps] == [
            (step.action, step.target, "done") for step in plan.steps
        ]
        until(lambda: not feed.ordering)
        with session.again() as another:
            another.add("high")
        back = first(feed, lambda frame: high(frame) is KernelState.ONLINE and len(frame.journal) == 2)
        assert [entry.before.verb for entry in back.journal] == ["remove", "add"]
        assert (back.running and back.running.order, back.saved is not None) == ("add high", True)
        assert wrong(back.document()) == []


def test_an_order_that_is_refused_says_why(path: Path) -> None:
    with Served(path), visit(f"unix:{path}") as session, Feed(session) as feed:
        for name, code in (("nowhere", Code.NO_SUCH_BANK), ("low", Code.UNMOVABLE)):
            feed.change("remove", name)
            end = first(feed, partial(has_ended, f"remove {name}"))
            assert end.running is not None
            assert (end.running.exit, end.running.code) == (1, code)
        until(lambda: not feed.ordering)


def test_a_machine_without_an_owner_has_no_governor_and_no_order() -> None:
    with connect(small_model()) as session, Feed(session) as feed:
        frame = first(feed, lambda frame: True)
        assert (frame.governed, frame.running, frame.journal) == (None, None, ())


def test_an_owner_that_is_killed_and_another_that_comes(path: Path) -> None:
    record = serve_in_background(ModelSpec("arm-2009"))
    with visit() as session, Feed(session, every=0.2) as feed:
        first(feed, lambda frame: frame.alive)
        os.kill(record.pid, signal.SIGKILL)
        gone = first(feed, lambda frame: not frame.alive)
        assert (gone.machine, gone.trouble != "", high(gone)) == ("model:arm-2009", True, KernelState.ONLINE)
        down(record)
        record = serve_in_background(ModelSpec("arm-2009"))
        first(feed, lambda frame: frame.alive and frame.seq > gone.seq)
        feed.change("remove", "high")
        first(feed, lambda frame: high(frame) is KernelState.ABSENT and frame.running and frame.running.ended)
        until(lambda: not feed.ordering)
    assert feed.wait(10**9, 0.1) is None
    down(record)


def test_another_machine_in_its_place_is_not_followed(path: Path) -> None:
    with Served(path):
        session = visit(f"unix:{path}")
    session.close()
    with (
        Served(path, small_model()),
        pytest.raises(MachineError, match="small is there in the place of model:arm-2009"),
    ):
        session.again()


@pytest.mark.parametrize("error", [MachineError("gone for now"), ZeroDivisionError("gone for now")])
def test_a_machine_that_fails_now_and_then_is_asked_again(error: Exception) -> None:
    """Also where nobody foresaw what it made of an answer: a picture must not stand still where a machine does not."""
    machine = Faulty(small_model())
    machine.fail("reading", 2, raising(error))
    with connect(machine) as session, Feed(session, every=0.05) as feed:
        lost = first(feed, lambda frame: not frame.alive)
        assert "gone for now" in lost.trouble
        first(feed, lambda frame: frame.alive and frame.seq > lost.seq)


def test_a_look_that_fails_says_why() -> None:
    machine = Faulty(small_model())
    machine.fail("survey", 1, raising(ZeroDivisionError("of its pages")))
    with connect(machine) as session, Feed(session) as feed:
        feed.look("nowhere")
        seen = first(feed, lambda frame: "nowhere" in frame.looks and frame.looks["nowhere"].over)
        assert "nowhere" in seen.looks["nowhere"].error
        feed.look("high")
        first(feed, lambda frame: "high" in frame.looks and "of its pages" in frame.looks["high"].error)
        feed.look("high")
        seen = first(feed, lambda frame: "high" in frame.looks and frame.looks["high"].verdict)
        assert seen.looks["high"].verdict == session.explain("high")


def test_what_was_seen_of_a_block_that_changed_is_forgotten() -> None:
    model = small_model()
    with connect(model, change=True) as session, Feed(session, every=0.1) as feed:
        feed.look("high")
        first(feed, lambda frame: all((c := frame.map.cell(n)) and c.kinds for n in HIGH))
        with session.again() as line:
            line.machine.offline(HIGH[0], line.machine.clock.now() + 60)
        changed = first(feed, lambda frame: (c := frame.map.cell(HIGH[0])) and c.state is BlockState.OFFLINE)
        cells = [changed.map.cell(n) for n in HIGH]
        assert [bool(cell and cell.kinds) for cell in cells] == [False, True, True, True]


def test_a_host_that_nobody_serves_is_watched_and_not_owned(path: Path) -> None:
    with visit("host") as session:
        assert not session.is_ours
        with pytest.raises(Refusal, match="for reading"):
            session.remove("memory0")
    with visit() as unnamed:
        assert unnamed.name == "host"
        with pytest.raises(HotbankError, match="no machine is up"):
            unnamed.again(change=True)


def test_a_host_whose_owner_this_user_may_not_ask_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed() -> None:
        raise MachineError(f"{path}: Permission denied")

    monkeypatch.setattr("hotbank.serve.local.served_host", closed)
    with visit("host") as session:
        assert session.name == "host"


def test_a_host_is_asked_of_its_owner_while_it_has_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And read when that is gone: whoever watches never becomes its owner."""
    monkeypatch.setattr("hotbank.serve.local._SERVED", path)
    monkeypatch.setattr("hotbank.serve.local.host_socket", lambda: path)
    with Served(path, Named("host", small_model())), visit("host") as session:
        assert session.list().bank("high") is not None
        with session.again() as line:
            assert line.list().bank("high") is not None
    session.close()
    path.unlink()
    with session.again() as line:
        assert line.list().bank("high") is None
        assert not line.is_ours


class Named(Faulty):
    """A machine under another name."""

    def __init__(self, name: str, machine: Model) -> None:
        super().__init__(machine)
        self._name = name

    def snapshot(self) -> Snapshot:
        return replace(super().snapshot(), machine=self._name)


def test_the_oracle_sees_a_block_that_was_not_followed() -> None:
    """Planted: a frame from before the change."""
    model = small_model()
    snapshot = model.snapshot()
    frame = Frame(1, 1.0, snapshot, Map.of(snapshot, surveys_of(model, snapshot, HIGH)))
    model.offline(HIGH[1], model.clock.now() + 60)
    assert disagreements_of_states(model, frame) != []
