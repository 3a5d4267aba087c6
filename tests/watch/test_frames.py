# SPDX-License-Identifier: Apache-2.0
"""Frames, what has changed between them, the record of them, and what events add up to: each against a plain twin."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from documents import wrong
from effort import examples
from hotbank.errors import Code
from hotbank.memory import Range
from hotbank.operate import Event
from hotbank.report.cells import Cell, Map, Strip
from hotbank.testing import ScriptedMachine
from hotbank.watch import Frame, Record, Running, merged
from hotbank.watch.asking import SHARE, Question
from hotbank.watch.running import Progress, after
from watch.frames import made_frames, told


@examples(40)
@given(made_frames())
def test_what_has_changed_makes_one_frame_of_another(frames: list[Frame]) -> None:
    shown = json.loads(json.dumps(frames[0].document()))
    assert wrong(shown) == []
    for before, frame in pairwise(frames):
        shown = merged(shown, json.loads(json.dumps(frame.changes(before))))
        assert shown == json.loads(json.dumps(frame.document()))


@examples(30)
@given(made_frames())
def test_nothing_has_changed_but_what_has(frames: list[Frame]) -> None:
    before, later = frames[0], replace(frames[0], seq=9, at=9999.0)
    assert later.changes(before) == {"seq": 9, "at": 9999.0}
    other = frames[1].changes(before)
    assert all(before.document()["cells"].get(block) != cell for block, cell in other.get("cells", {}).items())


def test_a_frame_that_was_told_is_no_larger_than_before() -> None:
    """A record keeps thousands of them, each of a machine that may have thousands of blocks."""
    blocks = tuple(Cell(number, Range.sized(number << 20, 1 << 20)) for number in range(1000))
    frame = Frame(1, 1.0, ScriptedMachine().snapshot(), Map("m", 4096, 1 << 20, (Strip(None, blocks),)))
    assert len(frame.document()["cells"]) == 1000
    later = replace(frame, seq=2)
    tracemalloc.start()
    try:
        assert later.changes(frame) == {"seq": 2}
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 100 * len(blocks)


@examples(40)
@given(made_frames(), st.integers(1, 4), st.lists(st.floats(990, 1010)))
def test_a_record_says_what_a_list_says(frames: list[Frame], kept: int, moments: list[float]) -> None:
    record = Record(kept)
    assert (record.span, record.at(2000.0), record.since(0)) == (None, None, ())
    for frame in frames:
        record.add(frame)
    there = frames[-kept:]
    assert record.span == (there[0].at, there[-1].at)
    for moment in moments:
        assert record.at(moment) is next((f for f in reversed(there) if f.at <= moment), None)
    for seq in range(len(frames) + 2):
        assert record.since(seq) == tuple(f for f in there if f.seq > seq)


# What events add up to.

STEP = Event(1.0, 1, "step", "offline", 4, total=8, target="memory4")
DONE = Event(2.0, 2, "progress", "offline", 4, moved=8, total=8, target="memory4")


def states(running: Running | None) -> list[tuple[str, str]]:
    assert running is not None
    return [(stage.target, stage.state.value) for stage in running.steps]


def test_a_step_is_done_when_it_is() -> None:
    begun = after(None, told(STEP))
    assert (states(begun), begun and begun.ended, begun and begun.began) == ([("memory4", "doing")], None, 1000.0)
    assert states(after(begun, told(DONE))) == [("memory4", "done")]
    done = after(begun, told(DONE, Event(3.0, 3, "done", moved=8, total=8, code=Code.OK, exit=0, fact="out")))
    assert done is not None
    assert (done.ended, done.exit, done.fact, done.moved) == (1003.0, 0, "out", 8)


def test_a_step_that_is_undone_has_failed() -> None:
    back = Event(2.0, 2, "rollback", "online", 3, target="memory3", code=Code.OK)
    stays = Event(2.0, 3, "rollback", "online", 2, target="memory2", code=Code.KERNEL_REFUSED)
    ended = Event(3.0, 4, "done", code=Code.UNMOVABLE, exit=1)
    found = after(None, told(STEP, back, stays, ended))
    assert states(found) == [("memory4", "failed"), ("memory3", "restored"), ("memory2", "failed")]
    assert states(after(None, told(STEP, ended))) == [("memory4", "failed")]
    assert found is not None
    assert [stage.code for stage in found.steps] == [None, Code.OK, Code.KERNEL_REFUSED]


def test_another_order_is_another() -> None:
    first = after(None, told(STEP, Event(3.0, 3, "done", code=Code.OK, exit=0)))
    second = after(first, told(STEP))
    assert second is not None
    assert (second.ended, len(second.steps)) == (None, 1)
    third = after(second, told(STEP, order="add low"))
    assert (third and third.order, third and len(third.steps)) == ("add low", 1)
    assert {stage.state for stage in (third.steps if third else ())} == {Progress.DOING}


# Questions.


def test_a_question_is_asked_when_it_is_due_and_pays_for_its_answer() -> None:
    now, asked = [0.0], list[float]()

    def ask() -> int:
        asked.append(now[0])
        now[0] += 0.5
        return len(asked)

    question = Question[int](10.0, lambda: now[0])
    assert (question.get(ask), question.get(ask), question.due) == (1, 1, 10.0)
    question.stale()
    assert (question.due, question.get(ask)) == (0.5 + 0.5 * SHARE, 1)
    now[0] = question.due
    assert question.get(ask) == 2
    question.stale(at_once=True)
    assert question.get(ask) == 3
    now[0] = question.due
    assert (question.get(ask), len(asked)) == (4, 4)


def test_what_becomes_stale_while_it_is_answered_is_asked_again() -> None:
    question = Question[int](10.0, lambda: 0.0)

    def ask() -> int:
        question.stale()
        return 1

    assert question.get(ask) == 1
    assert question.get(lambda: 2) == 2
    assert question.get(lambda: 3) == 2
