# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of room in docs/model.md decides exactly whether blocks can leave."""

from __future__ import annotations

import errno

from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from hotbank import board
from hotbank.errors import KernelError
from hotbank.machine import Snapshot, Survey
from hotbank.memory import Kind, Online
from hotbank.model import Model
from hotbank.room import capacity, leaving_of, must_fit
from model.small_boards import HIGH, LOW, errno_of, small_model

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


def clean_pages(model: Model, block: int) -> int:
    """Clean page cache in a block."""
    start = LOW[0] * 1024
    frames = range(block * 1024 - start, (block + 1) * 1024 - start)
    return sum(1 for h in model.contents.live() if model.tasks.is_clean(h) and model.contents.frame(h) in frames)


def room_outside(snapshot: Snapshot, surveys: list[Survey], clean: dict[int, int]) -> int:
    """Pages above min in each zone, once the clean cache outside the leaving blocks is dropped."""
    room = 0
    for zone in snapshot.zones:
        leaving = {b.number for b in snapshot.blocks if b.number in clean and b.valid_zones[0] == zone.zone}
        free = zone.free - sum(s.kinds.get(Kind.FREE, 0) for s in surveys if s.block in leaving)
        reclaimable = zone.reclaimable - sum(clean[number] for number in leaving)
        room += max(0, free - zone.min + reclaimable)
    return room


@examples(60)
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
    clean = {block: clean_pages(model, block) for block in blocks}
    must_stay = sum(survey.to_move for survey in surveys) - sum(clean.values())
    fits = must_stay <= room_outside(model.snapshot(), surveys, clean)
    seen = {survey.block: survey for survey in surveys}
    now = model.snapshot()
    leaving = leaving_of(now, seen)
    assert (must_fit(now.zones, leaving) <= capacity(now.zones, leaving)) == fits, "the one arithmetic is another one"
    answers = [errno_of(model, block, 2.0) for block in sorted(blocks, key=lambda b: model.survey(b).to_move)]
    assert answers == [0] * len(blocks) if fits else errno.EINTR in answers
    model.validate()


# Several nodes: a block's pages go to the others alone, and nothing is dropped on its own.

TWO_NODES = board.loads("""
name = "nodes"
arch = "arm64"
block_size = "128M"
describe = "dtb"
[bank.low]
start = 0x40000000
size = "256M"
node = 0
[bank.high]
start = 0x50000000
size = "256M"
node = 1
movable = true
at_boot = false
route = "driver"
""")


def two_nodes() -> tuple[Model, list[int]]:
    """A model with memory on two nodes, and the blocks of the second."""
    model = Model.boot(TWO_NODES, backend="compiled")
    model.add("high")
    blocks = [block.number for block in model.snapshot().blocks if block.node == 1]
    for block in blocks:
        model.online(block, Online.MOVABLE)
    return model, blocks


@examples(15)
@given(st.integers(40_000, 56_000), st.integers(0, 12_000), st.integers(0, 50_000), st.booleans())
def test_a_block_leaves_its_node_if_and_only_if_the_others_have_room(
    first: int, cached: int, second: int, late: bool
) -> None:
    model, blocks = two_nodes()
    try:
        model.spawn("first", anon_pages=first)
        model.read_file("cache", cached)
        model.spawn("second", anon_pages=second)
        if late:
            model.write_file("dirty", 5000)
    except KernelError:
        pass  # the machine is fuller than full, which is a case as well
    now, survey = model.snapshot(), model.survey(blocks[0])
    others = [zone for zone in now.zones if zone.node == 0]
    fits = survey.to_move <= sum(max(0, zone.free - zone.min + zone.reclaimable) for zone in others)
    leaving = leaving_of(now, {blocks[0]: survey})
    assert (must_fit(now.zones, leaving) <= capacity(now.zones, leaving)) == fits
    assert errno_of(model, blocks[0], 2.0) == (0 if fits else errno.EINTR)
    model.validate()


def test_room_on_its_own_node_is_none() -> None:
    """A whole node that is empty but for one block does not help that block out."""
    model, blocks = two_nodes()
    model.spawn("filler", anon_pages=model.free() - 45_000)
    now = model.snapshot()
    surveys = {block: model.survey(block) for block in blocks}
    fullest = max(surveys, key=lambda block: surveys[block].to_move)
    leaving = leaving_of(now, {fullest: surveys[fullest]})
    needs, own = must_fit(now.zones, leaving), sum(zone.free for zone in now.zones if zone.node == 1)
    assert capacity(now.zones, leaving) < needs < own
    assert errno_of(model, fullest, 2.0) == errno.EINTR
