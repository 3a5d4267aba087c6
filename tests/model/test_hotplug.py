# SPDX-License-Identifier: Apache-2.0
"""Memory blocks: every refusal's errno and order, zones of every way to come online, passes, deadlines, power."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from functools import partial

import pytest

from hotbank import board
from hotbank.errors import EHWPOISON, CancelPending, Code, KernelError, SwitchError
from hotbank.load import Workload
from hotbank.memory import BlockState, KernelState, Kind, Online, Power, Zone
from hotbank.model import Model, WallClock
from hotbank.model.frames import MigrateType
from hotbank.model.hotplug import ADDING_FIRST, GOING_OFFLINE, GOING_ONLINE, PREPARE_ONLINE, REMOVING_LAST
from model.small_boards import FOREVER, HIGH, LOW, errno_of, small_board, small_model
from patience import HANG, ended, until


def state(model: Model, number: int) -> BlockState:
    block = model.snapshot().block(number)
    assert block is not None
    return block.state


def valid_zones(model: Model, number: int) -> tuple[str, ...]:
    block = model.snapshot().block(number)
    assert block is not None
    return block.valid_zones


def leave(model: Model) -> None:
    """Bank high out of the kernel and dark."""
    for number in HIGH:
        model.offline(number, model.clock.now() + FOREVER)
    model.remove("high")
    model.set_power("dram", Power.OFF)


def come_back(model: Model) -> None:
    model.set_power("dram", Power.ON)
    model.add("high")
    for number in HIGH:
        model.online(number, Online.MOVABLE)


def refusal(call: object, *args: object) -> int:
    with pytest.raises(KernelError) as caught:
        call(*args)  # type: ignore[operator]
    return caught.value.errno


# States and zones


def test_a_bank_leaves_goes_dark_and_returns() -> None:
    model = small_model()
    pid = model.spawn("data", anon_pages=3000)
    model.read_file("file", 500)
    moved_at_least = sum(model.survey(n).to_move for n in HIGH)
    assert moved_at_least > 3000
    leave(model)
    model.validate()
    bank = model.snapshot().bank("high")
    assert bank is not None
    assert (bank.kernel, bank.power, bank.blocks) == (KernelState.ABSENT, Power.OFF, ())
    assert not model.check_contents()
    assert model.hotplug.migration.success >= moved_at_least
    come_back(model)
    model.validate()
    assert [z.zone for z in model.snapshot().zones] == [Zone.NORMAL, Zone.MOVABLE]
    model.grow(pid, 1000)
    model.validate()


def test_free_memory_is_constant_once_the_boot_memmap_is_replaced() -> None:
    """A removal does not give boot's struct pages back, once; from then on every cycle costs nothing."""
    model = small_model()
    before = model.free()
    frees = []
    for _ in range(5):
        leave(model)
        come_back(model)
        frees.append(model.free())
    assert len(set(frees)) == 1
    assert before - frees[0] == 4 * 1024 * 32 // 4096


def test_same_state_writes_are_einval() -> None:
    model = small_model()
    assert refusal(model.online, HIGH[0], Online.MOVABLE) == errno.EINVAL
    assert refusal(model.online, HIGH[0], Online.KERNEL) == errno.EINVAL
    model.offline(HIGH[0], FOREVER)
    assert errno_of(model, HIGH[0]) == errno.EINVAL


def test_zones_of_every_way_to_come_online() -> None:
    model = small_model()
    for number in HIGH:
        assert valid_zones(model, number) == ("Movable",)
        model.offline(number, FOREVER)
    # Movable is empty now, and the port's boot has movable_node on: plain online prefers Movable.
    assert valid_zones(model, HIGH[1]) == ("Movable", "Normal")
    model.online(HIGH[1], Online.KERNEL)
    assert valid_zones(model, HIGH[1]) == ("Normal",)
    # memory264 now lies inside Normal's span, memory267 beyond it.
    assert valid_zones(model, HIGH[0]) == ("Normal", "Movable")
    assert valid_zones(model, HIGH[3]) == ("Movable", "Normal")
    model.online(HIGH[0], Online.ONLINE)
    assert valid_zones(model, HIGH[0]) == ("Normal",)
    model.online(HIGH[3], Online.MOVABLE)
    assert valid_zones(model, HIGH[3]) == ("Movable",)
    model.validate()


def test_zone_spans_grow_and_shrink_at_the_edges_only() -> None:
    model = small_model()

    def span() -> tuple[int, int, int]:
        zone = next(z for z in model.snapshot().zones if z.zone == Zone.MOVABLE)
        return zone.start_pfn, zone.spanned, zone.present

    assert span() == (0x42000, 4096, 4096)
    model.offline(HIGH[1], FOREVER)
    assert span() == (0x42000, 4096, 3072), "a hole in the middle"
    model.offline(HIGH[0], FOREVER)
    assert span() == (0x42800, 2048, 2048), "the edge moves over the hole"
    model.offline(HIGH[3], FOREVER)
    assert span() == (0x42800, 1024, 1024)
    model.online(HIGH[3], Online.MOVABLE)
    model.online(HIGH[0], Online.MOVABLE)
    assert span() == (0x42000, 4096, 3072)
    model.validate()


def test_arm64_zones_of_hot_added_memory() -> None:
    """kernel-abi.md: beyond the end `Normal Movable`, in a hole of DMA `DMA Movable`."""
    text = """
name="holes"
arch="arm64"
block_size="128M"
[bank.a]
start=0x40000000
size="256M"
[bank.hole]
start=0x50000000
size="128M"
at_boot=false
route="kmem"
[bank.b]
start=0x58000000
size="128M"
[bank.end]
start=0x60000000
size="128M"
at_boot=false
route="kmem"
"""
    model = Model.boot(board.loads(text))
    model.add("hole")
    model.add("end")
    assert valid_zones(model, 10) == ("DMA", "Movable")
    assert valid_zones(model, 12) == ("Normal", "Movable")
    model.online(10, Online.ONLINE)
    assert valid_zones(model, 10) == ("DMA",)
    model.online(12, Online.ONLINE)
    assert valid_zones(model, 12) == ("Normal",)
    model.validate()


# Refusals and their order


def test_an_unmovable_page_is_ebusy_and_leaves_no_trace() -> None:
    model = small_model()
    before = model.snapshot()
    assert errno_of(model, LOW[0]) == errno.EBUSY
    assert model.snapshot() == before
    model.validate()


def test_isolation_comes_before_the_notifiers() -> None:
    model = small_model()
    model.hotplug.notifiers.append(lambda action, _block: errno.EPERM if action == GOING_OFFLINE else 0)
    assert errno_of(model, LOW[0]) == errno.EBUSY, "the kernel image is in it"
    assert errno_of(model, HIGH[0]) == errno.EPERM
    assert state(model, HIGH[0]) is BlockState.ONLINE
    model.validate()


@pytest.mark.parametrize("error", [errno.ENOMEM, errno.EPERM, errno.EAGAIN])
def test_a_notifiers_errno_is_the_answer(error: int) -> None:
    model = small_model()
    model.hotplug.notifiers.append(lambda _action, block: error if block == HIGH[0] else 0)
    assert errno_of(model, HIGH[0]) == error
    assert errno_of(model, HIGH[1]) == 0


def test_an_online_veto_leaves_the_block_offline() -> None:
    model = small_model()
    model.offline(HIGH[0], FOREVER)
    model.hotplug.notifiers.append(lambda action, _block: errno.ENOMEM if action == GOING_ONLINE else 0)
    assert refusal(model.online, HIGH[0], Online.MOVABLE) == errno.ENOMEM
    assert state(model, HIGH[0]) is BlockState.OFFLINE
    model.validate()


@pytest.mark.parametrize(
    ("kernel", "calls"),
    [
        ("6.1", ["going-offline", "offline", "going-online", "online"]),
        ("6.12", ["going-offline", "offline", "finish-offline", "prepare-online", "going-online", "online"]),
        (
            "6.17",
            [
                *("removing-last-memory", "going-offline", "offline", "finish-offline"),
                *("prepare-online", "adding-first-memory", "going-online", "online"),
            ],
        ),
        (
            "6.19",
            [
                *("removing-last-memory", "going-offline", "offline"),
                *("adding-first-memory", "going-online", "online"),
            ],
        ),
    ],
)
def test_each_kernel_calls_notifiers_in_its_order(kernel: str, calls: list[str]) -> None:
    """Of a block that is all memory of its node."""
    model, heard = Model.boot(small_board(), kernel=kernel), list[str]()
    model.offline(HIGH[0], FOREVER)
    model.hotplug.blocks[HIGH[0]].node = 1
    model.online(HIGH[0], Online.MOVABLE)

    def hear(action: str, _block: int) -> int:
        heard.append(action)
        return 0

    model.hotplug.notifiers.append(hear)
    model.offline(HIGH[0], model.clock.now() + FOREVER)
    model.online(HIGH[0], Online.MOVABLE)
    assert heard == calls


@pytest.mark.parametrize("action", [ADDING_FIRST, REMOVING_LAST, PREPARE_ONLINE])
def test_whoever_is_asked_before_may_refuse_too(action: str) -> None:
    model = Model.boot(small_board(), kernel="6.17")
    model.offline(HIGH[0], FOREVER)
    model.hotplug.blocks[HIGH[0]].node = 1
    model.hotplug.notifiers.append(lambda asked, _block: errno.EBUSY if asked == action else 0)
    if action == REMOVING_LAST:
        model.online(HIGH[0], Online.MOVABLE)
        assert errno_of(model, HIGH[0]) == errno.EBUSY
        assert state(model, HIGH[0]) is BlockState.ONLINE
    else:
        assert refusal(model.online, HIGH[0], Online.MOVABLE) == errno.EBUSY
        assert state(model, HIGH[0]) is BlockState.OFFLINE
    model.validate()


def test_boot_memory_never_leaves_on_arm64_and_leaves_here() -> None:
    model = Model.boot(board.load("virt-arm64"))
    assert errno_of(model, 10) == errno.EPERM
    assert model.snapshot().boot_memory_leaves is False
    assert model.survey(10).boot is True
    assert errno_of(small_model(), HIGH[0]) == 0


def test_remove_wants_every_block_offline() -> None:
    model = small_model()
    for number in HIGH[:3]:
        model.offline(number, FOREVER)
    assert refusal(model.remove, "high") == errno.EBUSY
    bank = model.snapshot().bank("high")
    assert bank is not None
    assert (bank.kernel, len(bank.blocks)) == (KernelState.PARTIAL, 4)
    model.validate()


def test_kmem_unbinds_all_the_same_and_is_stuck() -> None:
    """As on 6.12: also with every block offline there is nobody left who would remove them."""
    model = small_model(driver="kmem")
    for primitive in (model.remove, model.remove, model.add):
        with pytest.raises(KernelError, match="EBUSY") as caught:
            primitive("high")
        assert caught.value.code is Code.STUCK
    bank = model.snapshot().bank("high")
    assert bank is not None
    assert bank.kernel is KernelState.STUCK
    numbers = set(bank.blocks)
    for number in numbers:
        model.offline(number, model.clock.now() + 60)
    assert refusal(model.remove, "high") == errno.EBUSY
    assert {block.number for block in model.snapshot().blocks} >= numbers


def test_adding_what_is_there_or_has_no_route() -> None:
    model = small_model()
    assert refusal(model.add, "high") == errno.EEXIST
    assert refusal(model.add, "low") == errno.EOPNOTSUPP
    assert refusal(model.remove, "low") == errno.EOPNOTSUPP


def test_adding_needs_memory_for_the_memmap() -> None:
    model = small_model()
    leave(model)
    model.kernel_alloc("driver", model.free() - model.snapshot().zones[0].min)
    model.set_power("dram", Power.ON)
    assert refusal(model.add, "high") == errno.ENOMEM
    bank = model.snapshot().bank("high")
    assert bank is not None
    assert bank.kernel is KernelState.ABSENT
    model.validate()
    model.kernel_free("driver")
    come_back(model)
    model.validate()


def test_auto_online_policy() -> None:
    model = small_model()
    leave(model)
    model.set_power("dram", Power.ON)
    model.set_auto_online("online_movable")
    model.add("high")
    assert valid_zones(model, HIGH[0]) == ("Movable",)
    assert Model.boot(small_board(), kernel="7.3").auto_online == "online"
    assert Model.boot(small_board(), cmdline="memhp_default_state=online_movable").auto_online == "online_movable"


def test_our_driver_keeps_its_banks_out_of_kernel_zones() -> None:
    """Unless a block has been there since boot: a failed removal must be able to give it its zone back."""
    untagged = small_model(**{"movable = true": "movable = false"})
    assert valid_zones(untagged, HIGH[0]) == ("Normal",)
    untagged.offline(HIGH[0], FOREVER)
    untagged.online(HIGH[0], Online.KERNEL)
    model = small_model()
    leave(model)
    model.set_power("dram", Power.ON)
    model.set_auto_online("online_kernel")
    model.add("high")
    assert {state(model, number) for number in HIGH} == {BlockState.OFFLINE}
    assert refusal(model.online, HIGH[0], Online.KERNEL) == errno.EPERM
    model.online(HIGH[0], Online.MOVABLE)
    assert valid_zones(model, HIGH[0]) == ("Movable",)
    model.validate()


def test_a_poisoned_page_lets_go_and_bars_the_way_back() -> None:
    model = small_model()
    pid = model.spawn("victim", anon_pages=100)
    block = next(n for n in HIGH if model.place(pid, n))
    pfn = model.poison(pid, model.place(pid, block)[0])
    model.validate()
    assert pid not in model.tasks.processes, "memory_failure kills whoever maps the page"
    assert [(e.pfn, e.kind) for e in model.survey(block).blocking] == [(pfn, Kind.POISONED)]
    assert errno_of(model, block) == 0
    assert refusal(model.online, block, Online.MOVABLE) == EHWPOISON
    for number in HIGH:
        if number != block:
            model.offline(number, FOREVER)
    model.remove("high")
    model.add("high")
    model.online(block, Online.MOVABLE)
    model.validate()
    assert Kind.POISONED not in model.survey(block).kinds, "forgotten by remove and add, as on the kernel"


# Endless loops, deadlines, signals


def test_a_pin_holds_a_block_until_the_deadline() -> None:
    model = small_model()
    pid = model.spawn("vmsplicer", anon_pages=2000)
    block = next(n for n in HIGH if model.place(pid, n))
    handle = model.pin(pid, model.place(pid, block)[0])
    survey = model.survey(block)
    assert [(e.why, e.owner.pid if e.owner else None) for e in survey.blocking] == [("PINNED", pid)]
    start, fails = model.clock.now(), model.hotplug.migration.fail
    assert errno_of(model, block, 2.0) == errno.EINTR
    assert 2.0 <= model.clock.now() - start < 2.1
    assert model.hotplug.migration.fail > fails + 10, "pgmigrate_fail climbs"
    assert state(model, block) is BlockState.ONLINE
    model.validate()
    model.unpin(handle)
    assert errno_of(model, block) == 0


def test_a_short_pin_only_delays() -> None:
    model = small_model()
    pid = model.spawn("io", anon_pages=2000)
    block = next(n for n in HIGH if model.place(pid, n))
    model.pin(pid, model.place(pid, block)[0], seconds=0.5)
    assert model.survey(block).blocking == ()
    start = model.clock.now()
    assert errno_of(model, block) == 0
    assert model.clock.now() - start > 0.4


def test_long_term_pins_move_out_of_movable_first() -> None:
    """kernel-abi.md: io_uring registered buffers were moved out of Movable when registered."""
    model = small_model()
    pid = model.spawn("io_uring", anon_pages=100)
    before = [model.read(pid, page) for page in range(100)]
    assert sum(len(model.place(pid, n)) for n in HIGH) == 100
    handles = [model.register(pid, page) for page in range(100)]
    assert [model.place(pid, n) for n in HIGH] == [[], [], [], []]
    assert [model.read(pid, page) for page in range(100)] == before
    assert [errno_of(model, n) for n in HIGH] == [0, 0, 0, 0]
    model.validate()
    for handle in handles:
        model.unpin(handle)
    pinned = model.spawn("vmsplicer", anon_pages=1)
    model.online(HIGH[0], Online.MOVABLE)
    other = model.spawn("other", anon_pages=1)
    model.pin(other, 0)
    assert refusal(model.register, other, 0) == errno.EAGAIN
    model.register(pinned, 0)
    model.validate()


def test_pins_can_be_invisible() -> None:
    model = small_model()
    model.view.kcore = False
    pid = model.spawn("vmsplicer", anon_pages=2000)
    block = next(n for n in HIGH if model.place(pid, n))
    model.pin(pid, model.place(pid, block)[0])
    assert (model.survey(block).blocking, model.survey(block).unknown) == ((), ("pins",))


def test_no_room_loops_until_the_deadline() -> None:
    model = small_model()
    model.fill_until(600)
    assert errno_of(model, HIGH[0], 1.0) == errno.EINTR
    model.validate()


def test_the_deadline_may_have_passed_already() -> None:
    model = small_model()
    assert errno_of(model, HIGH[0], 0.0) == errno.EINTR
    assert state(model, HIGH[0]) is BlockState.ONLINE
    model.validate()


def stalled_model() -> tuple[Model, int]:
    model = small_model()
    model.write_file("log", 1000)
    model.stall_writeback("log")
    frame = model.contents.frame(next(iter(model.contents.writeback)))
    return model, LOW[0] + frame // 1024


def test_stalled_writeback_leaves_the_cancel_pending() -> None:
    model, block = stalled_model()
    with pytest.raises(CancelPending):
        model.offline(block, model.clock.now() + 1.0)
    snapshot = model.snapshot()
    assert (snapshot.pending, state(model, block)) == (block, BlockState.GOING_OFFLINE)
    other = next(n for n in HIGH if n != block)
    assert errno_of(model, other, 1.0) == errno.EINTR, "one operation at a time"
    assert refusal(model.add, "high") == errno.EBUSY
    model.validate()
    model.end_writeback("log")
    assert (model.snapshot().pending, state(model, block)) == (None, BlockState.ONLINE)
    model.validate()
    assert errno_of(model, block) == 0


def truncate_among_others(model: Model) -> None:
    with model.quiet():
        model.tasks.resize_file("log", 0)


WAYS_TO_END = {
    "end_writeback": lambda model: model.end_writeback("log"),
    "remove_file": lambda model: model.remove_file("log"),
    "truncate, by who keeps all others out": truncate_among_others,
}


@pytest.mark.parametrize("way", WAYS_TO_END)
def test_however_the_writeback_ends_the_kernel_lets_go(way: str) -> None:
    model, block = stalled_model()
    with pytest.raises(CancelPending):
        model.offline(block, model.clock.now() + 1.0)
    WAYS_TO_END[way](model)
    assert (model.snapshot().pending, state(model, block)) == (None, BlockState.ONLINE)
    model.validate()
    assert errno_of(model, block) == 0


def test_writeback_that_ends_in_time_only_delays() -> None:
    model, block = stalled_model()
    model.clock.call_later(0.5, lambda: model.end_writeback("log"))
    assert errno_of(model, block, 5.0) == 0
    model.validate()


def test_a_hotplug_call_from_inside_another_is_refused() -> None:
    model = small_model()
    model.fill_until(600)
    answers: list[int] = []
    model.clock.call_later(0.1, lambda: answers.append(refusal(model.offline, HIGH[1], model.clock.now() + 9)))
    assert errno_of(model, HIGH[0], 1.0) == errno.EINTR
    assert answers == [errno.EBUSY]
    model.validate()


def test_a_fence_stands_only_while_its_offline_has_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else another offline takes its pageblocks for isolated ones, or loses its own isolation halfway."""
    model, fenced = small_model(), list[bool]()
    first, _ = model.geometry.frames(HIGH[1])
    hotplug = model.hotplug

    def told(do: Callable[..., int | None], *args: object) -> int | None:
        fenced.append(model.frames.migratetype(first) == MigrateType.ISOLATE)
        return do(*args)

    monkeypatch.setattr(hotplug, "_begin", partial(told, hotplug._begin))
    monkeypatch.setattr(hotplug, "_finish", partial(told, hotplug._finish))
    hotplug.notifiers.append(lambda action, _number: (told(int) or 0) if action == GOING_OFFLINE else 0)
    model.offline(HIGH[0], model.clock.now() + FOREVER, fence=(HIGH[1],))
    assert fenced == [False, True, False]


def test_others_can_look_and_interrupt_while_an_offline_loops() -> None:
    model = Model.boot(small_board(), clock=WallClock())
    pid = model.spawn("vmsplicer", anon_pages=2000)
    block = next(n for n in HIGH if model.place(pid, n))
    model.pin(pid, model.place(pid, block)[0])
    answers: list[int] = []
    deadline = model.clock.now() + HANG

    def offline() -> None:
        with pytest.raises(KernelError) as caught:
            model.offline(block, deadline)
        answers.append(caught.value.errno)

    worker = threading.Thread(target=offline)
    worker.start()
    until(lambda: state(model, block) is BlockState.GOING_OFFLINE)
    model.survey(block)
    assert state(model, block) is BlockState.GOING_OFFLINE
    model.interrupt(block, deadline)
    ended(worker)
    assert answers == [errno.EINTR]
    model.validate()


def test_the_workload_goes_on_between_passes() -> None:
    model = small_model()
    workload = Workload(model, 3, pages=4000).fill().start(0.002)
    steps = workload.steps
    for number in HIGH:
        assert errno_of(model, number) == 0
    assert workload.steps > steps + 10
    model.validate()


# Power


@pytest.mark.parametrize("want", [Power.OFF, Power.SELF_REFRESH])
def test_power_stays_while_the_kernel_has_a_block(want: Power) -> None:
    model = small_model()
    model.spawn("data", anon_pages=2000)
    for left in (HIGH, HIGH[-1:]):
        for number in HIGH:
            if number not in left:
                model.offline(number, FOREVER)
                model.hotplug.remove([number])
        assert refusal(model.set_power, "dram", want) == errno.EBUSY
        assert model.power("dram") is Power.ON
    assert model.check_contents() == ()
    model.offline(HIGH[-1], model.clock.now() + FOREVER)
    assert refusal(model.set_power, "dram", want) == errno.EBUSY, "offline, and still there"
    model.remove("high")
    model.set_power("dram", want)
    assert model.power("dram") is want


def test_power_off_under_a_running_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interlock broken: DRAM forgets, and the model tells."""
    monkeypatch.setattr("hotbank.gate.refuse_dark", lambda *_: None)
    model = small_model()
    pid = model.spawn("data", anon_pages=2000)
    model.set_power("dram", Power.OFF)
    assert len(model.check_contents()) == 2000
    with pytest.raises(AssertionError, match="lost their content"):
        model.validate()
    assert refusal(model.read, pid, 0) == errno.EIO
    model.grow(pid, 10)
    assert len(model.check_contents()) == 2010, "what is written to a dark bank is lost"


def test_self_refresh_keeps_the_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotbank.gate.refuse_dark", lambda *_: None)
    model = small_model()
    model.spawn("data", anon_pages=2000)
    model.set_power("dram", Power.SELF_REFRESH)
    assert model.check_contents() == ()
    assert model.power("dram") is Power.SELF_REFRESH


def test_switches_fail_and_lie() -> None:
    model = small_model()
    leave(model)
    model.set_power("dram", Power.ON)
    model.switch_faults["dram"] = "fails"
    with pytest.raises(SwitchError):
        model.set_power("dram", Power.OFF)
    model.switch_faults["dram"] = "lies"
    model.set_power("dram", Power.OFF)
    assert model.power("dram") is Power.ON
