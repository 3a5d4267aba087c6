# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of room in docs/model.md decides exactly whether blocks can leave."""

from __future__ import annotations

import errno

from hypothesis import given, settings
from hypothesis import strategies as st

from hotbank.errors import KernelError
from hotbank.machine import Snapshot, Survey
from hotbank.memory import Kind
from hotbank.model import Model
from model.small_boards import HIGH, errno_of, small_model

USES = st.lists(
    st.tuples(st.sampled_from(["anon", "clean", "dirty", "gone"]), st.integers(1, 1600)), min_size=1, max_size=6
)


def use(model: Model, kind: str, number: int, pages: int) -> None:
    if kind == "clean":
        model.read_file(f"clean{number}", pages)
    elif kind == "dirty":
        model.write_file(f"dirty{number}", pages)
    else:
        pid = model.spawn(kind, anon_pages=pages)
        if kind == "gone":
            model.exit(pid)


def room_for(snapshot: Snapshot, surveys: list[Survey]) -> int:
    """Free pages above min outside the leaving blocks, and every clean page of the cache, wherever it lies."""
    leaving = {survey.block: survey for survey in surveys}
    room = 0
    for zone in snapshot.zones:
        mine = [leaving[b.number] for b in snapshot.blocks if b.number in leaving and b.valid_zones[0] == zone.zone]
        free = zone.free - sum(survey.kinds.get(Kind.FREE, 0) for survey in mine)
        room += max(0, free - zone.min) + zone.reclaimable
    return room


@settings(max_examples=120, deadline=None)
@given(USES, st.integers(250, 5000), st.booleans(), st.sets(st.sampled_from(HIGH), min_size=1))
def test_blocks_leave_if_and_only_if_there_is_room(
    uses: list[tuple[str, int]], left: int, anonymous: bool, blocks: set[int]
) -> None:
    model = small_model()
    try:
        for number, (kind, pages) in enumerate(uses):
            use(model, kind, number, pages)
        if model.free() > left:
            use(model, "anon" if anonymous else "clean", 99, model.free() - left)
    except KernelError:
        pass  # the machine is fuller than full, which is a case as well
    surveys = [model.survey(block) for block in sorted(blocks)]
    fits = sum(survey.to_move for survey in surveys) <= room_for(model.snapshot(), surveys)
    answers = [errno_of(model, block, 2.0) for block in sorted(blocks, key=lambda b: model.survey(b).to_move)]
    assert answers == [0] * len(blocks) if fits else errno.EINTR in answers
    model.validate()
