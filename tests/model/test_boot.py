# SPDX-License-Identifier: Apache-2.0
"""Booting from real bytes: every captured boot, compared with what the kernel made of it."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable

import pytest

from counted import lines
from hotbank import board, kernels, zones
from hotbank.board import Board
from hotbank.errors import FormatError, HotbankError, KernelError, Refusal
from hotbank.firmware import describe, memory_map
from hotbank.memory import GIB, Kind, MemoryMap, MemoryRegion, Range, Zone
from hotbank.model import Model
from hotbank.model.alloc import PageAllocator
from hotbank.model.backend import new_frames
from hotbank.model.boot import BootMemory
from hotbank.model.contents import PageContents
from hotbank.model.geometry import Geometry
from hotbank.model.tasks import Tasks
from hotbank.model.zoning import MemoryBlock
from zones import captured_boots as captured

OFFLINE_RESULTS = captured.DATA.parent / "offline"
FOREVER = 3600.0


def boot(name: str) -> Model:
    case = captured.load(name)
    return boot_of(case, case.cmdline or "")


def boot_of(case: captured.Captured, cmdline: str) -> Model:
    """A kernel on that description, with another command line."""
    bare = Board("captured", "arm64", 4096, case.block_size)
    return Model.boot(bare, description=case.dtb, cmdline=cmdline, kernel=case.kernel)


def zoneinfo(name: str) -> dict[tuple[int, str], dict[str, int]]:
    """Node and zone → the numbers that the captured /proc/zoneinfo has for them."""
    text = (captured.DATA / name / "zoneinfo").read_text()
    found = {}
    for part in re.split(r"^(?=Node \d+, zone)", text, flags=re.MULTILINE)[1:]:
        head = re.match(r"Node (\d+), zone\s+(\w+)", part)
        assert head
        pairs = re.findall(r"^\s+(?:pages )?(free|min|managed|present)\s+(\d+)$", part, re.MULTILINE)
        values = {key: int(n) for key, n in reversed(pairs)}
        if values["present"]:
            found[int(head[1]), head[2]] = values
    return found


def refused(model: Model, block: int) -> int:
    try:
        model.offline(block, model.clock.now() + FOREVER)
    except KernelError as e:
        return e.errno
    return 0


@pytest.mark.parametrize("name", captured.cases())
def test_captured_zones_and_blocks(name: str) -> None:
    case, model = captured.load(name), boot(name)
    model.validate()
    snapshot = model.snapshot()
    spans = [(z.node, z.zone, z.start_pfn, z.spanned, z.present) for z in snapshot.zones]
    assert sorted(spans) == sorted((z.node, z.zone, z.start_pfn, z.spanned, z.present) for z in case.zones)
    assert [(b.number, b.valid_zones) for b in snapshot.blocks] == [(b.block, b.valid_zones) for b in case.blocks]


def answers(model: Model, name: str) -> tuple[dict[str, int], dict[str, int]]:
    """The errno of every block: what the model says, and what the kernel said."""
    lines = [line.split(" ") for line in (OFFLINE_RESULTS / name).read_text().splitlines()]
    expected = {block: int(answer or 0) for block, answer in lines}
    return {block: refused(model, int(block.removeprefix("memory"))) for block in expected}, expected


@pytest.mark.parametrize("name", captured.cases())
def test_every_block_refuses_as_it_did_on_the_kernel(name: str) -> None:
    """Errno for errno: unmovable boot pages, CMA, no-map holes, and the veto that comes after them."""
    model = boot(name)
    got, expected = answers(model, name)
    assert len(expected) == len(model.snapshot().blocks)
    assert got == expected
    model.validate()


def a_wrong_errno(model: Model, patch: pytest.MonkeyPatch) -> None:
    model.hotplug.notifiers[:] = [lambda _action, _block: errno.EACCES]


def a_veto_before_isolation(model: Model, patch: pytest.MonkeyPatch) -> None:
    isolate = model.hotplug._isolate

    def after_the_veto(block: MemoryBlock, start: int, end: int, what: str) -> None:
        model.hotplug._notify("going-offline", block.number, what)
        isolate(block, start, end, what)

    patch.setattr(model.hotplug, "_isolate", after_the_veto)


def no_veto(model: Model, patch: pytest.MonkeyPatch) -> None:
    model.hotplug.notifiers.clear()


def blindness_for_holes(model: Model, patch: pytest.MonkeyPatch) -> None:
    for block in model.hotplug.blocks.values():
        block.holes = False


def boot_memory_elsewhere(model: Model, patch: pytest.MonkeyPatch) -> None:
    for block in model.hotplug.blocks.values():
        start, end = model.hotplug._geometry.frames(block.number)
        if Kind.RESERVED in model.survey(block.number).kinds:
            model.frames.set_kind(start, end, Kind.ANON)


@pytest.mark.parametrize(
    "breach", [a_wrong_errno, a_veto_before_isolation, no_veto, blindness_for_holes, boot_memory_elsewhere]
)
def test_the_captured_answers_catch(
    breach: Callable[[Model, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "6.12.95/dt-rsv-nomap-1g"
    model = boot(name)
    breach(model, monkeypatch)
    got, expected = answers(model, name)
    assert got != expected


@pytest.mark.parametrize("name", captured.cases())
def test_watermarks_and_managed_pages_are_close_to_the_kernels(name: str) -> None:
    """Managed pages within 5 % (the image sizes are typical, not exact), min watermarks within 2 %."""
    real = zoneinfo(name)
    for zone in boot(name).snapshot().zones:
        there = real[zone.node, zone.zone]
        assert zone.managed == pytest.approx(there["managed"], rel=0.051)
        assert zone.free == pytest.approx(there["free"], rel=0.07)
        assert zone.min == pytest.approx(there["min"], rel=0.02, abs=1)


@pytest.mark.parametrize("form", ["atags", "dtb", "cmdline"])
def test_the_2009_board_boots_from_every_description(form: str) -> None:
    arm = board.load("arm-2009")
    model = Model.boot(arm, description=describe(arm, form).data, cmdline=_line(form))
    zones = {z.zone: z for z in model.snapshot().zones}
    assert zones.keys() == {Zone.NORMAL, Zone.MOVABLE}
    assert (zones[Zone.MOVABLE].start_pfn, zones[Zone.MOVABLE].managed) == (0x50000, 65536), (
        "nothing of the kernel in it"
    )
    model.validate()


def _line(form: str) -> str | None:
    """The device tree's ``hotpluggable`` counts only with movable_node; the other forms bring it with them."""
    return "movable_node" if form == "dtb" else None


def test_without_the_tag_the_kernel_settles_in_the_bank() -> None:
    arm = board.load("arm-2009")
    plain = describe(arm, "atags").data.replace((0x5441004D).to_bytes(4, "little"), (0x54410002).to_bytes(4, "little"))
    model = Model.boot(arm, description=plain)
    assert [z.zone for z in model.snapshot().zones] == [Zone.NORMAL]
    assert model.survey(23).kinds[Kind.RESERVED] > 0
    assert model.survey(23).blocked > 0


def test_a_hidden_bank_is_absent() -> None:
    model = Model.boot(board.load("virt-arm64"))
    bank = model.snapshot().bank("high")
    assert bank is not None
    assert (bank.kernel, bank.blocks, bank.used) == ("absent", (), 0)


TWO_NODES = """
name = "two-nodes"
arch = "arm64"
block_size = "128M"
describe = "srat"
[bank.first]
start = "1G"
size = "1G"
node = 1
[bank.second]
start = "2G"
size = "1G"
node = 0
[bank.third]
start = "3G"
size = "1G"
node = 1
movable = true
at_boot = false
"""


def test_nodes_of_an_srat_are_numbered_as_the_zones_are() -> None:
    """The first processor's domain is node 0, wherever its memory lies."""
    wanted = board.loads(TWO_NODES)
    layout = zones.predict(
        memory_map(describe(wanted, "srat").data), arch="arm64", page_size=4096, block_size=wanted.block_size
    ).layout
    expected = {(span.node, span.zone, span.start_pfn) for span in layout.zones}
    snapshot = Model.boot(wanted).snapshot()
    assert {(z.node, z.zone, z.start_pfn) for z in snapshot.zones} == expected
    assert {bank.name: bank.node for bank in snapshot.banks} == {"first": 1, "second": 0, "third": 1}


def test_boot_is_quick() -> None:
    """6 GiB are 1.5 million frames; nothing may be done frame by frame."""
    model = boot("6.12.95/plain-6g")
    assert (frames := sum(z.present for z in model.snapshot().zones)) * 4096 == 6 * GIB
    assert lines(lambda: boot("6.12.95/plain-6g")) < frames / 4


@pytest.mark.parametrize("size", range(0, 48, 5))
def test_a_cut_description_is_an_error(size: int) -> None:
    arm = board.load("arm-2009")
    with pytest.raises(HotbankError) as caught:
        Model.boot(arm, description=describe(arm, "atags").data[:size])
    assert isinstance(caught.value, FormatError | Refusal)


def test_a_kernel_that_does_not_fit_is_refused() -> None:
    tiny = board.loads('name="t"\narch="arm"\nblock_size="4M"\ndescribe="atags"\n[bank.a]\nstart=0x40000000\nsize="4M"')
    with pytest.raises(Refusal):
        Model.boot(tiny)


def test_cma_area_from_the_command_line() -> None:
    case = captured.load("6.12.95/plain-1g")
    model = boot_of(case, "cma=32M")
    assert [z.cma_free for z in model.snapshot().zones] == [8192]
    none = boot_of(case, "cma=0")
    assert [z.cma_free for z in none.snapshot().zones] == [0]


@pytest.mark.parametrize(("cmdline", "zone"), [("", "Normal"), ("vmalloc=752M", "HighMem")])
def test_lowmem_ends_where_the_command_line_says(cmdline: str, zone: str) -> None:
    """``vmalloc=`` takes from the linear map; here the rest ends where the movable bank begins."""
    model = Model.boot(board.load("arm-2009"), cmdline=cmdline)
    high = model.snapshot().bank("high")
    assert high is not None
    assert {span.zone for span in model.snapshot().zones} == {"Normal", "Movable"}
    model.offline(high.blocks[0], FOREVER)
    block = model.snapshot().block(high.blocks[0])
    assert block is not None
    assert set(block.valid_zones) == {"Movable", zone}


def test_cma_stays_within_reach_of_every_dma_master() -> None:
    """A Raspberry Pi 4: some masters reach 1 GiB only, and memory goes on beyond."""
    memory = MemoryMap((MemoryRegion(Range(0, 3 * GIB)),), dma_limit=GIB)
    known = zones.predict(memory, arch="arm64", page_size=4096, block_size=128 << 20, kernel="6.12")
    geometry = Geometry(
        tuple(range(24)), arch="arm64", page_size=4096, block_size=128 << 20, kernel=kernels.kernel(kernels.DEFAULT)
    )
    allocator = PageAllocator(new_frames(geometry.shape))
    contents = PageContents(allocator.frames)
    BootMemory(known, geometry).fill(allocator, Tasks(allocator, contents))
    assert {zone.name: zone.cma > 0 for zone in allocator.zones} == {Zone.DMA: True, Zone.DMA32: False}
