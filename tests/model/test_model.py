# SPDX-License-Identifier: Apache-2.0
"""The model as a whole: random lives of a machine, planted breaches, determinism, the users of memory."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from effort import examples
from hotbank import board
from hotbank.errors import KernelError
from hotbank.load import Workload
from hotbank.memory import BlockState, Kind, Online, Power, Zone
from hotbank.model import Model, SimClock, WallClock
from hotbank.model.frames import MigrateType
from model.small_boards import FOREVER, HIGH, LOW, small_board, small_model
from patience import HANG

EXPECTED = {errno.EBUSY, errno.EINVAL, errno.EINTR, errno.ENOMEM, errno.EEXIST, errno.ENOENT, errno.ESRCH}


class Life(RuleBasedStateMachine):
    """Anything may happen in any order; refusals are part of life, a broken invariant is not."""

    @initialize(seed=st.integers(0, 1 << 32))
    def boot(self, seed: int) -> None:
        self.model = Model.boot(small_board(), seed=seed)
        self.workload = Workload(self.model, seed, pages=4000)
        self.pins: list[int] = []

    @rule(steps=st.integers(1, 15))
    def live(self, steps: int) -> None:
        for _ in range(steps):
            self.workload.step()

    @rule(block=st.sampled_from([*HIGH, *LOW]), seconds=st.sampled_from([0.0, 0.05, FOREVER]), busy=st.booleans())
    def offline(self, block: int, seconds: float, busy: bool) -> None:
        if busy:
            self.workload.start(0.003)
        deadline = self.model.clock.now() + min(seconds, 5.0 if self.pins else seconds)
        self.attempt(lambda: self.model.offline(block, deadline))
        self.workload.stop()

    @rule(block=st.sampled_from(HIGH), how=st.sampled_from(list(Online)))
    def online(self, block: int, how: Online) -> None:
        self.attempt(lambda: self.model.online(block, how))

    @rule()
    def remove(self) -> None:
        self.attempt(lambda: self.model.remove("high"))

    @rule()
    def off_if_absent(self) -> None:
        if not any(block in self.model.hotplug.blocks for block in HIGH):
            self.model.set_power("dram", Power.OFF)

    @rule()
    def add(self) -> None:
        self.model.set_power("dram", Power.ON)
        self.attempt(lambda: self.model.add("high"))

    @rule(which=st.integers(0, 100))
    def pin(self, which: int) -> None:
        processes = [p for p in self.model.tasks.processes.values() if p.rss]
        if processes and len(self.pins) < 3:
            process = processes[which % len(processes)]
            self.pins.append(self.model.pin(process.pid, which % process.rss))

    @rule()
    def unpin(self) -> None:
        if self.pins:
            self.model.unpin(self.pins.pop())

    @rule(pages=st.integers(1, 3000))
    def press(self, pages: int) -> None:
        self.attempt(lambda: self.model.exit(self.model.spawn("hog", anon_pages=pages)))

    @rule()
    def fork_and_share(self) -> None:
        def act() -> None:
            pid = self.model.spawn("server", anon_pages=20)
            self.model.share(pid, 30)
            self.model.fork(pid)
            self.model.exit(pid)

        self.attempt(act)

    @rule(pages=st.integers(0, 2000))
    def balloon(self, pages: int) -> None:
        self.attempt(lambda: self.model.balloon(pages))

    @rule(length=st.sampled_from([0, 64]))
    def per_cpu_lists(self, length: int) -> None:
        self.model.set_per_cpu_lists(length)

    @rule()
    def drop_caches(self) -> None:
        self.model.drop_caches()

    def attempt(self, act: Callable[[], object]) -> None:
        """No room may mean an endless loop; a deadline of a simulated hour is soon over."""
        try:
            act()
        except KernelError as e:
            if e.errno not in EXPECTED:
                raise

    @invariant()
    def sound(self) -> None:
        self.model.validate()
        assert self.model.check_contents() == ()
        snapshot = self.model.snapshot()
        assert sum(z.free for z in snapshot.zones) == self.model.free()
        for block in snapshot.blocks:
            survey = self.model.survey(block.number)
            assert sum(survey.kinds.values()) == 1024
            in_use = sum(n for kind, n in survey.kinds.items() if kind not in (Kind.FREE, Kind.HOLE))
            assert in_use == block.used


Life.TestCase.settings = examples(25, steps=25)
TestLife = Life.TestCase


@pytest.mark.slow
def test_many_lives() -> None:
    run_state_machine_as_test(Life, settings=examples(200, steps=60))


# Planted breaches


def busy_model() -> Model:
    model = small_model()
    model.spawn("data", anon_pages=3000)
    model.read_file("clean", 300)
    model.write_file("dirty", 300)
    return model


def swap_tokens(model: Model) -> None:
    a, b = model.tasks.processes[100].pages[:2]
    frames = [model.contents.frame(a), model.contents.frame(b)]
    model.frames.own(frames, [a, b], [model.contents.token(b), model.contents.token(a)])


def lose_a_page(model: Model) -> None:
    model.tasks.processes[100].pages.pop()


def double_a_page(model: Model) -> None:
    pages = model.tasks.processes[100].pages
    pages[0] = pages[1]


def free_a_mapped_frame(model: Model) -> None:
    frame = model.contents.frame(model.tasks.processes[100].pages[0])
    model.frames.free([frame])


def share_a_frame(model: Model) -> None:
    a, b = model.tasks.processes[100].pages[:2]
    model.contents._frame[a] = model.contents.frame(b)


def leak_a_frame(model: Model) -> None:
    zone = model.allocator.zone(0, Zone.NORMAL)
    model.frames.alloc(zone.number, 0, MigrateType.MOVABLE, 1, Kind.ANON)


def mistake_a_kind(model: Model) -> None:
    frame = model.contents.frame(model.tasks.processes[100].pages[0])
    model.frames.set_kind(frame, frame + 1, Kind.SLAB)


def forget_that_a_page_is_dirty(model: Model) -> None:
    model.tasks.files["dirty"].dirty.pop()


def swap_zones(model: Model) -> None:
    model.hotplug.blocks[HIGH[0]].zone = model.allocator.zone(0, Zone.NORMAL)


def shrink_a_zone(model: Model) -> None:
    model.allocator.zone(0, Zone.MOVABLE).spanned -= 1024


def miscount_clean_pages(model: Model) -> None:
    model.contents._droppable[model.allocator.zones[0].number] += 1


def forget_that_a_clean_page_moved(model: Model) -> None:
    model.contents._relist = lambda *_: None  # type: ignore[method-assign]
    model.read_file("log", 200)
    for number in HIGH:
        model.offline(number, model.clock.now() + FOREVER)


def misstate_a_block(model: Model) -> None:
    model.hotplug.blocks[HIGH[3]].state = BlockState.OFFLINE


def put_slab_into_movable(model: Model) -> None:
    zone = model.allocator.zone(0, Zone.MOVABLE)
    frames = model.frames.alloc(zone.number, 0, MigrateType.MOVABLE, 1, Kind.SLAB)
    cache = model.tasks.caches["kmalloc"]
    cache.pages += model.contents.create(frames, cache.holder)


def power_off_below_the_interlock(model: Model) -> None:
    model._turn("dram", Power.OFF)


@pytest.mark.parametrize(
    "breach",
    [
        swap_tokens,
        lose_a_page,
        double_a_page,
        free_a_mapped_frame,
        share_a_frame,
        leak_a_frame,
        mistake_a_kind,
        forget_that_a_page_is_dirty,
        swap_zones,
        shrink_a_zone,
        miscount_clean_pages,
        forget_that_a_clean_page_moved,
        misstate_a_block,
        put_slab_into_movable,
        power_off_below_the_interlock,
    ],
)
def test_validate_catches(breach: Callable[[Model], None]) -> None:
    model = busy_model()
    model.validate()
    breach(model)
    with pytest.raises(AssertionError):
        model.validate()


# Readings


def calls_of_a_reading(model: Model) -> int:
    """How many Python functions and methods of built-in types one reading calls."""
    calls = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        model.reading()
    finally:
        sys.setprofile(None)
    return calls


def test_a_reading_walks_no_page() -> None:
    model = small_model()
    model.read_file("first", 1)
    assert model.reading().clean == 1
    few = calls_of_a_reading(model)
    model.spawn("app", anon_pages=3000)
    model.read_file("log", 4000)
    model.write_file("data", 1000)
    assert model.reading().clean == 4001
    assert calls_of_a_reading(model) == few


def test_a_reading_tells_what_moved_and_what_failed_to() -> None:
    model = small_model()
    pid = model.spawn("app", anon_pages=3000)
    before, inside = model.reading().migrated, model.survey(HIGH[0]).to_move
    model.offline(HIGH[0], model.clock.now() + FOREVER)
    after = model.reading().migrated
    assert before is not None
    assert after is not None
    assert (after.success - before.success, after.fail - before.fail) == (inside, 0)
    model.pin(pid, model.place(pid, HIGH[1])[0], seconds=1.0)
    model.offline(HIGH[1], model.clock.now() + FOREVER)
    later = model.reading().migrated
    assert later is not None
    assert later.fail > after.fail, "a pinned page was tried again and again"
    assert model.reading().pressure is None


# Users of memory


def test_unmovable_pages_never_enter_movable() -> None:
    model = small_model()
    free = next(z.free for z in model.snapshot().zones if z.zone == Zone.MOVABLE)
    with pytest.raises(KernelError) as caught:
        model.kernel_alloc("driver", 100_000)
    assert caught.value.errno == errno.ENOMEM
    assert next(z.free for z in model.snapshot().zones if z.zone == Zone.MOVABLE) == free
    model.validate()


def test_movable_pages_prefer_movable_and_fall_back() -> None:
    model = small_model()
    pid = model.spawn("data", anon_pages=4500)
    assert sum(len(model.place(pid, n)) for n in HIGH) > 3900
    assert sum(len(model.place(pid, n)) for n in LOW) > 300
    model.validate()


def test_inodes_keep_their_block() -> None:
    """The point of 2009: without a movable bank the inodes are everywhere, with one they are not."""
    tagged, plain = small_model(), small_model(**{"movable = true": "movable = false"})
    for model in (tagged, plain):
        model.fill_until(2500)
        model.create_inodes(4000)
        model.validate()
    assert all(tagged.survey(n).blocked == 0 for n in HIGH)
    assert sum(plain.survey(n).blocked for n in HIGH) > 0
    owner = next(e.owner for n in HIGH for e in plain.survey(n).blocking if e.kind is Kind.SLAB)
    assert owner is not None
    assert owner.comm in ("inode_cache", "dentry", "kmalloc")


def test_reclaim_comes_before_the_oom_killer() -> None:
    model = small_model()
    model.read_file("cache", 2000)
    model.spawn("big", anon_pages=3000)
    pid = model.spawn("late", anon_pages=model.free() + 500)
    assert model.tasks.oom_killed == []
    assert len(model.tasks.files["cache"].pages) < 2000
    model.grow(pid, 1)
    model.validate()
    model.drop_caches()
    with pytest.raises(KernelError) as caught:
        model.spawn("huge", anon_pages=50_000)
    assert caught.value.errno in (errno.ENOMEM, errno.ESRCH)
    assert model.tasks.oom_killed, "the last resort"
    model.validate()


def test_what_reclaim_dropped_is_counted_when_it_is_read_again() -> None:
    """mm/workingset.c: a shadow is left by reclaim, and by nothing else; a page is missed once."""
    model = small_model()
    model.read_file("cache", 2000)
    pid = model.spawn("late", anon_pages=model.free() + 500)
    dropped = 2000 - model.tasks.cached("cache")
    assert dropped >= 500
    assert model.reading().refaults == 0
    model.exit(pid)
    model.read_file("cache", dropped + 100)
    assert model.reading().refaults == dropped
    model.drop_caches()
    model.read_file("cache", 100)
    assert model.reading().refaults == dropped
    model.validate()


def test_a_reading_tells_slab_and_page_tables() -> None:
    model = small_model()
    before = model.reading().kernel or 0
    model.kernel_alloc("objects", 70, kind=Kind.SLAB)
    model.kernel_alloc("no flag says whose", 9)
    pid = model.spawn("app", anon_pages=700)
    tables = len(model.tasks.process(pid).tables)
    assert model.reading().kernel == before + 70 + tables
    model.exit(pid)
    model.kernel_free("objects", 30)
    assert model.reading().kernel == before + 40
    model.validate()


def test_writes_change_the_content_that_is_read() -> None:
    model = small_model()
    pid = model.spawn("data", anon_pages=10)
    before = [model.read(pid, page) for page in range(10)]
    assert len(set(before)) == 10
    model.write(pid, 3, 2)
    after = [model.read(pid, page) for page in range(10)]
    assert [page for page in range(10) if before[page] != after[page]] == [3, 4]
    with pytest.raises(KernelError, match="EFAULT"):
        model.read(pid, 10)


def test_content_survives_migration_and_shared_pages_stay_shared() -> None:
    model = small_model()
    parent = model.spawn("server", anon_pages=100)
    model.share(parent, 50)
    child = model.fork(parent)
    before = [model.read(parent, page) for page in range(150)]
    for number in HIGH:
        model.offline(number, FOREVER)
    assert [model.read(parent, page) for page in range(150)] == before
    model.write(child, 120)
    assert model.read(parent, 120) == model.read(child, 120) != before[120]
    model.exit(parent)
    model.validate()
    model.exit(child)
    model.validate()


def test_a_fork_that_costs_the_parent_its_life_leaves_nothing() -> None:
    model = small_model()
    parent = model.spawn("server")
    model.share(parent, 300)
    model.grow(parent, model.free() // 2 + 400)
    with pytest.raises(KernelError, match="ESRCH"):
        model.fork(parent)
    assert model.tasks.oom_killed == [parent]
    assert not model.tasks.processes
    model.spawn("other", anon_pages=300)
    model.validate()


def test_a_process_that_is_refused_memory_is_not_there() -> None:
    model = small_model()
    before = dict(model.tasks.processes)
    with pytest.raises(KernelError, match=r"ENOMEM|ESRCH"):
        model.spawn("large", anon_pages=model.free() * 2)
    assert model.tasks.processes == before
    model.validate()


def test_a_pinned_page_outlives_its_process() -> None:
    model = small_model()
    pid = model.spawn("vmsplicer", anon_pages=10)
    handle = model.pin(pid, 0)
    model.exit(pid)
    model.validate()
    assert any(model.survey(n).blocked for n in HIGH)
    model.unpin(handle)
    model.validate()
    assert not any(model.survey(n).blocked for n in HIGH)


def test_page_cache_is_migrated_not_dropped() -> None:
    model = small_model()
    model.read_file("cache", 1000)
    for number in HIGH:
        model.offline(number, FOREVER)
    assert len(model.tasks.files["cache"].pages) == 1000


def test_errors_of_users() -> None:
    model = small_model()
    with pytest.raises(KernelError, match="ESRCH"):
        model.grow(7, 1)
    with pytest.raises(KernelError, match="ESRCH"):
        model.exit(7)
    with pytest.raises(KernelError, match="ENOENT"):
        model.remove_file("none")
    with pytest.raises(KernelError, match="EINVAL"):
        model.unpin(12)


# Determinism


def history(seed: int) -> list[object]:
    model = Model.boot(small_board(), seed=seed)
    workload = Workload(model, seed, pages=3000).fill().start(0.01)
    for number in HIGH:
        model.offline(number, FOREVER)
    workload.stop()
    return [model.snapshot(), model.clock.now(), workload.steps, [model.survey(n) for n in LOW]]


def test_the_same_seed_gives_the_same_history() -> None:
    assert history(5) == history(5)
    assert history(5) != history(6)


def test_boot_ids_can_be_given() -> None:
    assert Model.boot(small_board(), boot_id="b").snapshot().boot_id == "b"
    assert Model.boot(small_board(), seed=1).snapshot().boot_id != Model.boot(small_board(), seed=2).snapshot().boot_id


def test_cycles_under_workload() -> None:
    """Few here; the thousand is run through plan and transaction."""
    arm = board.load("arm-2009")
    model = Model.boot(arm)
    high = model.snapshot().bank("high")
    assert high is not None
    workload = Workload(model, 11).fill().start(0.02)
    for _ in range(25):
        for number in high.blocks:
            model.offline(number, model.clock.now() + 60)
        model.remove("high")
        model.set_power("ddr-high", Power.OFF)
        model.set_power("ddr-high", Power.ON)
        model.add("high")
        for number in high.blocks:
            model.online(number, Online.MOVABLE)
        assert model.check_contents() == ()
    model.validate()
    assert workload.steps > 100
    assert {b.valid_zones for b in model.snapshot().blocks if b.number in high.blocks} == {("Movable",)}


def test_simulated_time_runs_what_is_due_in_order() -> None:
    clock, seen = SimClock(), list[tuple[str, float]]()

    def put_off() -> None:
        clock.call_later(0.5, lambda: seen.append(("a", clock.now())))

    clock.call_later(2.0, lambda: seen.append(("b", clock.now())))
    clock.call_later(1.0, put_off)
    clock.call_later(1.0, lambda: seen.append(("never", 0.0))).cancel()
    clock.sleep(10.0)
    assert seen == [("a", 1.5), ("b", 2.0)]
    assert clock.now() == 10.0


def test_a_workload_on_wall_time() -> None:
    """Steps come from timer threads while another thread takes a block away; nothing breaks, stop stops."""
    model = Model.boot(small_board(), clock=WallClock())
    workload = Workload(model, 4, pages=2000).fill().start(0.001)
    for number in HIGH:
        model.offline(number, model.clock.now() + HANG)
    workload.stop()
    steps = workload.steps
    time.sleep(0.02)
    assert workload.steps == steps > 5
    time.sleep(0.05)  # short pins end
    model.validate()
