# SPDX-License-Identifier: Apache-2.0
"""Surveys of made-up pages: a generator that knows what each page is, against a survey that sees only files."""

from __future__ import annotations

import errno
import os
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from host import captured_trees as trees
from host.captured_trees import MEMORY, Made, MadeBlock, words, write
from host.page_by_page import values
from hotbank.errors import Code
from hotbank.host import Host, batches, pages
from hotbank.host.kcore import RefCounts
from hotbank.host.planes import Planes, every
from hotbank.host.tree import Tree
from hotbank.machine import Owner
from hotbank.memory import IMMOVABLE_KINDS, KIB, Kind
from hotbank.operate import explain
from patience import HANG

BLOCK = 1024 * KIB  # 256 pages: the files do not care how large a block is
PAGES = BLOCK // (4 * KIB)
RAM = "00000000-1fffffff : System RAM\n"
LRU_PAGE = pages.LRU | pages.UPTODATE
# What arm64's array of struct pages begins with where the kernel says no more, KASLR off and on.
MEMSTARTS = (None, 0x40000000, -0x311F40000000)
ANON_PAGE = LRU_PAGE | pages.ANON | pages.SWAPBACKED | pages.MMAP


@dataclass
class Folio:
    """Pages that belong together, and the truth about them."""

    kind: Kind
    flags: list[int]
    counts: list[int]
    refs: int
    pinned: bool = False


@dataclass
class Machine:
    """Folios in a row, as the files show them."""

    folios: list[Folio] = field(default_factory=list)
    first: int = PAGES  # the block's first pfn: block 1

    @property
    def pinned(self) -> set[int]:
        at, found = self.first, set[int]()
        for folio in self.folios:
            if folio.pinned:
                found |= set(range(at, at + len(folio.flags)))
            at += len(folio.flags)
        return found

    def files(self) -> dict[str, bytes]:
        flags = [word for folio in self.folios for word in folio.flags]
        counts = [count for folio in self.folios for count in folio.counts]
        refs, at = dict[int, int](), self.first
        for folio in self.folios:
            refs[at] = folio.refs
            at += len(folio.flags)
        pad = [pages.NOPAGE] * self.first
        return {
            "proc/kpageflags": words(pad + flags),
            "proc/kpagecount": words([0] * self.first + counts),
            "proc/kcore": trees.kcore(refs, pages=self.first + PAGES),
        }


def host_of(root: Path, machine: Machine, clock: object = None) -> Host:
    balloon = {"sys/bus/virtio/drivers/virtio_balloon/virtio0/x": ""}
    made = Made((MadeBlock(1),), BLOCK, {**machine.files(), **balloon, "proc/iomem": RAM})
    return Host(made.at(root), clock=clock)  # type: ignore[arg-type]


def single(kind: Kind, flags: int, refs: int = 1, count: int = 0, pinned: bool = False) -> Folio:
    return Folio(kind, [flags], [count], refs, pinned)


@st.composite
def lru_pages(draw: st.DrawFn) -> Folio:
    kind = draw(st.sampled_from([Kind.ANON, Kind.SHMEM, Kind.FILE]))
    flags = {Kind.ANON: ANON_PAGE, Kind.SHMEM: LRU_PAGE | pages.SWAPBACKED, Kind.FILE: LRU_PAGE}[kind]
    mapped, pins = draw(st.integers(0, 3)), draw(st.sampled_from([0, 0, 0, 1, 2, 1024]))
    swapped, private = draw(st.booleans()), draw(st.booleans())
    if kind is Kind.ANON:
        mapped, private, cached = mapped or 1, False, swapped
        flags |= pages.SWAPCACHE * swapped
    else:
        cached = True
        flags |= pages.PRIVATE * private
    return single(kind, flags, mapped + cached + private + pins, mapped, pinned=pins > 0)


@st.composite
def large_folios(draw: st.DrawFn) -> Folio:
    size = 1 << draw(st.integers(3, 5))
    kind = draw(st.sampled_from([Kind.ANON, Kind.SHMEM, Kind.FILE]))
    whole, pins = draw(st.integers(0, 2)), draw(st.sampled_from([0, 0, 1, 3]))
    each = [draw(st.integers(0, 2)) for _ in range(size)]
    cached = 0 if kind is Kind.ANON else size
    flags = {Kind.ANON: ANON_PAGE, Kind.SHMEM: LRU_PAGE | pages.SWAPBACKED, Kind.FILE: LRU_PAGE}[kind] | pages.THP
    tail = pages.COMPOUND_TAIL | (flags if draw(st.booleans()) else pages.THP | (flags & pages.ANON))
    counts = [whole + n for n in each]
    refs = whole + sum(each) + cached + pins
    return Folio(kind, [flags | pages.COMPOUND_HEAD] + [tail] * (size - 1), counts, refs, pins > 0)


OTHERS = st.sampled_from(
    [
        single(Kind.FREE, pages.BUDDY, 0),
        single(Kind.FREE, 0, 0),  # in a per-CPU list
        single(Kind.KERNEL, 0, 1),
        single(Kind.KERNEL, pages.MMAP, 3, 1),  # a driver's page, mapped into a process
        single(Kind.KERNEL, pages.ZERO_PAGE, 7),
        single(Kind.SLAB, pages.SLAB, 1),
        single(Kind.SLAB, pages.SLAB | pages.ANON, 1),
        single(Kind.SLAB, pages.SLAB, 0),  # from 6.14 on
        single(Kind.PAGE_TABLE, pages.PGTABLE | pages.MMAP, 1),
        single(Kind.RESERVED, pages.RESERVED, 1),
        single(Kind.POISONED, pages.HWPOISON | LRU_PAGE, 2),
        single(Kind.BALLOON, pages.OFFLINE, 1),
        single(Kind.HOLE, pages.NOPAGE, 0),
        Folio(Kind.HUGETLB, [pages.HUGE | pages.COMPOUND_HEAD] + [pages.HUGE | pages.COMPOUND_TAIL] * 7, [1] * 8, 9),
        Folio(Kind.KERNEL, [pages.COMPOUND_HEAD] + [pages.COMPOUND_TAIL] * 3, [0] * 4, 1),
        Folio(Kind.SLAB, [pages.SLAB | pages.COMPOUND_HEAD] + [pages.SLAB | pages.COMPOUND_TAIL] * 3, [0] * 4, 1),
        Folio(Kind.SLAB, [pages.SLAB | pages.COMPOUND_HEAD] + [pages.SLAB | pages.COMPOUND_TAIL] * 3, [0] * 4, 0),
    ]
)


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    machine, left = Machine(), PAGES
    for folio in draw(st.lists(lru_pages() | large_folios() | OTHERS, max_size=40)):
        if len(folio.flags) <= left:
            machine.folios.append(folio)
            left -= len(folio.flags)
    machine.folios += [single(Kind.FREE, pages.BUDDY, 0)] * left
    return machine


@examples(150)
@given(machines())
def test_the_survey_finds_what_was_made(tmp_path_factory: pytest.TempPathFactory, machine: Machine) -> None:
    survey = host_of(tmp_path_factory.mktemp("tree"), machine).survey(1)
    truth = Counter[Kind]()
    for folio in machine.folios:
        truth[folio.kind] += len(folio.flags)
    assert survey.kinds == truth
    blocked = [Kind.SLAB, Kind.PAGE_TABLE, Kind.KERNEL, Kind.RESERVED, Kind.POISONED]
    assert survey.blocked == sum(truth[k] for k in blocked) + len(machine.pinned)
    stays = [f for f in machine.folios if f.kind in IMMOVABLE_KINDS]
    assert survey.endless == (bool(stays) and all(f.flags == [pages.SLAB] and not f.refs for f in stays))
    named = [e.pfn for e in survey.blocking if e.why is Code.PINNED]
    assert named == sorted(machine.pinned)[: len(named)]
    assert len(named) == min(16, len(machine.pinned))
    assert survey.unknown == (("owners",) if named else ())
    assert survey.holes is False  # by iomem, which says that all of it is RAM


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ((), True),
        ((single(Kind.SLAB, pages.SLAB, 1),), False),
        ((single(Kind.PAGE_TABLE, pages.PGTABLE, 1),), False),
        ((Folio(Kind.SLAB, [pages.SLAB | pages.COMPOUND_HEAD, pages.SLAB | pages.COMPOUND_TAIL], [0] * 2, 0),), False),
    ],
)
def test_slabs_that_isolation_passes_over_keep_an_offline_going(
    others: tuple[Folio, ...], said: bool, tmp_path: Path
) -> None:
    machine = Machine([single(Kind.SLAB, pages.SLAB, 0), *others, *[single(Kind.FREE, pages.BUDDY, 0)] * 3])
    machine.folios += [single(Kind.FREE, pages.BUDDY, 0)] * (
        PAGES - len(machine.files()["proc/kpagecount"]) // 8 + PAGES
    )
    answer = explain(host_of(tmp_path, machine), 1)
    assert answer.code is Code.UNMOVABLE
    assert answer.impossible  # so nothing is begun without --force
    assert ("would try until a signal" in answer.fact) is said


def test_frames_without_a_flag_where_there_is_no_ram_are_holes(tmp_path: Path) -> None:
    """As 7.3 shows what is left of the last section; before, it was NOPAGE."""
    machine, half = Machine([single(Kind.FREE, 0, 0)] * PAGES), BLOCK // 2
    ram = f"{BLOCK:x}-{BLOCK + half - 1:x} : System RAM\n"
    files: dict[str, str | bytes] = {**machine.files(), "proc/iomem": ram}
    survey = Host(Made((MadeBlock(1),), BLOCK, files).at(tmp_path)).survey(1)
    assert (survey.kinds, survey.holes) == ({Kind.FREE: PAGES // 2, Kind.HOLE: PAGES // 2}, True)


@pytest.mark.parametrize(("zone", "blocked"), [("Normal", 3), ("Movable", 2)])
def test_pages_without_flags_do_not_count_against_zone_movable(zone: str, blocked: int, tmp_path: Path) -> None:
    machine = Machine([single(Kind.KERNEL, 0, 1), single(Kind.RESERVED, pages.RESERVED), single(Kind.SLAB, pages.SLAB)])
    machine.folios += [single(Kind.FREE, pages.BUDDY, 0)] * (PAGES - 3)
    survey = Host(Made((MadeBlock(1, zones=zone),), BLOCK, machine.files()).at(tmp_path)).survey(1)
    assert survey.kinds[Kind.KERNEL] == 1
    assert survey.blocked == blocked


@pytest.mark.parametrize(
    "breach",
    [
        lambda flags: every(flags.count) ^ flags.has(pages.ANON),  # the swap cache's reference forgotten
        lambda flags: every(flags.count) + flags.has(pages.SWAPCACHE),  # one pin forgiven
    ],
)
def test_planted_breaches_are_caught(
    breach: Callable[[Planes], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine([single(Kind.ANON, ANON_PAGE | pages.SWAPCACHE, 2, 1), single(Kind.ANON, ANON_PAGE, 2, 1, True)])
    machine.folios += [single(Kind.FREE, pages.BUDDY, 0)] * (PAGES - 2)

    def named() -> set[int]:
        return {e.pfn for e in host_of(tmp_path / str(os.urandom(4).hex()), machine).survey(1).blocking}

    assert named() == machine.pinned
    monkeypatch.setattr(pages, "_extra", breach)
    assert named() != machine.pinned


class Meddling:
    """A clock that changes the machine whenever somebody waits."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act, self._now = act, 0.0

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds
        self._act()


def test_a_reference_that_goes_away_is_no_pin(tmp_path: Path) -> None:
    fill = [single(Kind.FREE, pages.BUDDY, 0)] * (PAGES - 2)
    short = Machine([single(Kind.ANON, ANON_PAGE, 2, 1, True), single(Kind.ANON, ANON_PAGE, 2, 1, True), *fill])
    later = Machine([single(Kind.ANON, ANON_PAGE, 1, 1), single(Kind.ANON, ANON_PAGE, 2, 1, True), *fill])
    clock = Meddling(lambda: (tmp_path / "proc/kcore").write_bytes(later.files()["proc/kcore"]))
    survey = host_of(tmp_path, short, clock).survey(1)
    assert [e.pfn for e in survey.blocking] == [PAGES + 1]


def settling(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> list[str]:
    """Let the made machine count as the running one, whose batches are emptied by ``act``; each call leaves a word."""
    calls: list[str] = []

    def drain() -> None:
        calls.append("drain")
        act()

    monkeypatch.setattr(Tree, "running", True)
    monkeypatch.setattr("hotbank.host.batches.drain", drain)
    return calls


def test_a_reference_that_a_batch_holds_is_no_pin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill = [single(Kind.FREE, pages.BUDDY, 0)] * (PAGES - 2)
    before = Machine([single(Kind.ANON, ANON_PAGE, 2, 1, True), single(Kind.ANON, ANON_PAGE, 2, 1, True), *fill])
    after = Machine([single(Kind.ANON, ANON_PAGE, 1, 1), single(Kind.ANON, ANON_PAGE, 2, 1, True), *fill])
    host = host_of(tmp_path, before, Meddling(lambda: None))
    assert len(host.survey(1).blocking) == 2  # a tree that was captured can't be asked to do anything
    calls = settling(monkeypatch, lambda: (tmp_path / "proc/kcore").write_bytes(after.files()["proc/kcore"]))
    assert [e.pfn for e in host.survey(1).blocking] == [PAGES + 1]
    assert calls == ["drain"]


def test_batches_are_emptied_before_the_only_look_of_a_capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill = [single(Kind.FREE, pages.BUDDY, 0)] * (PAGES - 1)
    host = host_of(tmp_path, Machine([single(Kind.ANON, ANON_PAGE, 2, 1, True), *fill]))
    after = Machine([single(Kind.ANON, ANON_PAGE, 1, 1), *fill]).files()["proc/kcore"]
    settling(monkeypatch, lambda: (tmp_path / "proc/kcore").write_bytes(after))
    assert host.pages(1).pinned == ()


def test_batches_are_left_alone_where_nothing_looks_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = host_of(tmp_path, Machine([single(Kind.ANON, ANON_PAGE, 1, 1)] * (PAGES - 1) + [single(Kind.KERNEL, 0, 1)]))
    calls = settling(monkeypatch, lambda: None)
    host.survey(1)
    assert calls == []


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM, errno.EMFILE])
def test_batches_that_can_not_be_emptied(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel without NUMA, a filter of system calls: nothing happens, and nothing stays open."""

    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(batches, "_move_pages", lambda: None)
    batches.drain()
    monkeypatch.setattr(os, "splice", refuse)
    batches.drain()
    monkeypatch.setattr(os, "memfd_create", refuse)
    batches.drain()
    assert os.listdir("/proc/self/fd") == before


def test_a_32_bit_process_does_not_use_the_numbers_of_64_bit_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.maxsize", (1 << 31) - 1)
    assert batches._by_move_pages() is False


def test_without_kcore_pins_are_unknown_and_unflagged_pages_stay_so(tmp_path: Path) -> None:
    machine = Machine([single(Kind.ANON, ANON_PAGE, 9, 1, True), *[single(Kind.UNKNOWN, 0, 1)] * (PAGES - 1)])
    host = host_of(tmp_path, machine)
    (tmp_path / "proc/kcore").unlink()
    survey = host.survey(1)
    assert survey.unknown == ("pins",)
    assert survey.blocked == 0
    assert survey.kinds == {Kind.ANON: 1, Kind.UNKNOWN: PAGES - 1}


@pytest.mark.parametrize(("page", "parts"), [((Kind.FREE, pages.BUDDY, 0), {1}), ((Kind.KERNEL, 0, 1), {PAGES})])
def test_references_are_read_where_they_matter(
    page: tuple[Kind, int, int], parts: set[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them tells that they can be seen; of free pages no more is wanted, of one without flags they decide."""
    host = host_of(tmp_path, Machine([single(*page), *[single(Kind.FREE, pages.BUDDY, 0)] * (PAGES - 1)]))
    read, asked = RefCounts.read, set[int]()

    def counting(refs: RefCounts, pfn: int, count: int) -> Planes | None:
        asked.add(count)
        return read(refs, pfn, count)

    monkeypatch.setattr(RefCounts, "read", counting)
    assert host.survey(1).unknown == ()
    assert asked == parts


def test_without_any_view(tmp_path: Path) -> None:
    survey = Host(Made((MadeBlock(1),), BLOCK).at(tmp_path)).survey(1)
    assert survey.kinds == {Kind.UNKNOWN: PAGES}
    assert survey.unknown == ("holes", "kinds", "pins")
    assert survey.boot is None


def test_an_offline_block_holds_nothing(tmp_path: Path) -> None:
    content: dict[str, str | bytes] = {"proc/kpageflags": words([pages.NOPAGE] * 2 * PAGES), "proc/iomem": RAM}
    survey = Host(Made((MadeBlock(1, "offline", "Movable Normal"),), BLOCK, content).at(tmp_path)).survey(1)
    assert (survey.kinds, survey.blocked, survey.holes, survey.to_move) == ({Kind.HOLE: PAGES}, 0, False, 0)


ZONE_WITH_CMA = """Node 0, zone Normal
  pages free 5
        min 1
        low 1
        high 1
        spanned 512
        present 512
        managed 500
        cma 10
  start_pfn: 0
"""
DTS = """/dts-v1/;
/ { #address-cells = <1>; #size-cells = <1>;
    memory@0 { device_type = "memory"; reg = <0 0x200000>; };
    reserved-memory { #address-cells = <1>; #size-cells = <1>; ranges;
        fixed@fc000 { compatible = "shared-dma-pool"; reusable; reg = <0xfc000 PAGES000>; };
        kept@10000 { reg = <0x10000 0x4000>; }; }; };
"""


@pytest.fixture
def lends_to_cma(tmp_path: Path) -> Host:
    """Ten CMA pages somewhere; the areas of the tests are four pages before block 1, and in it."""
    flags = words([pages.BUDDY] * 2 * PAGES)
    content: dict[str, str | bytes] = {"proc/kpageflags": flags, "proc/zoneinfo": ZONE_WITH_CMA}
    return Host(Made((MadeBlock(0), MadeBlock(1)), BLOCK, content).at(tmp_path))


def cma_of(host: Host, block: int) -> tuple[set[int], bool]:
    """pfns that are named as CMA, and whether some could not be located."""
    survey = host.survey(block)
    assert survey.blocked == len(survey.blocking)
    return {e.pfn for e in survey.blocking if e.why is Code.CMA}, "cma" in survey.unknown


def test_cma_areas_that_nothing_locates(lends_to_cma: Host) -> None:
    assert cma_of(lends_to_cma, 1) == (set(), True)


def test_cma_areas_by_debugfs(lends_to_cma: Host, tmp_path: Path) -> None:
    area = "sys/kernel/debug/cma/linux,cma"
    write(tmp_path, {f"{area}/base_pfn": f"{PAGES - 4}\n", f"{area}/count": "10\n"})
    assert cma_of(lends_to_cma, 1) == ({PAGES + n for n in range(6)}, False)
    assert cma_of(lends_to_cma, 0) == ({PAGES - 4 + n for n in range(4)}, False)


@pytest.mark.referee
@pytest.mark.parametrize(("count", "unlocated"), [(10, False), (7, True)])
def test_cma_areas_by_device_tree(lends_to_cma: Host, tmp_path: Path, count: int, unlocated: bool) -> None:
    source = DTS.replace("PAGES", f"0x{count:x}")
    blob = subprocess.run(["dtc", "-q", "-O", "dtb"], input=source.encode(), capture_output=True, check=True).stdout
    write(tmp_path, {"sys/firmware/fdt": blob})
    assert cma_of(lends_to_cma, 1) == ({PAGES + n for n in range(count - 4)}, unlocated)


def test_a_broken_device_tree_locates_nothing(lends_to_cma: Host, tmp_path: Path) -> None:
    write(tmp_path, {"sys/firmware/fdt": b"\xd0\x0d\xfe\xed" + bytes(10)})
    assert cma_of(lends_to_cma, 1) == (set(), True)


@pytest.mark.parametrize("budget", [0.0, HANG])
def test_owners_by_pagemap_and_cgroup(budget: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on a machine so busy that all the time for it has passed before it began."""
    machine = Machine([single(Kind.ANON, ANON_PAGE, 2, 1, True), *[single(Kind.FREE, pages.BUDDY, 0)] * (PAGES - 1)])
    host = host_of(tmp_path, machine)
    group = tmp_path / "sys/fs/cgroup/system.slice/db.service"
    group.mkdir(parents=True)
    present, file_page = 1 << 63, 1 << 61
    content: dict[str, str | bytes] = {
        "sys/fs/cgroup/cgroup.controllers": "memory\n",
        "proc/kpagecgroup": words([0] * PAGES + [group.stat().st_ino] + [0] * (PAGES - 1)),
        "proc/7/statm": "9 9 0 0 0 0 0\n",
        "proc/7/maps": "00002000-00004000 rw-p 00000000 00:00 0 [heap]\n",
        "proc/7/pagemap": words([0, 0, present | file_page | 17, (1 << 62) | PAGES]),  # a swap entry looks alike
        "proc/7/comm": "bystander\n",
        "proc/42/statm": "5 3 0 0 0 0 0\n",
        "proc/42/maps": "00001000-00002000 r--p 00000000 00:00 0\n00003000-00005000 rw-p 00000000 00:00 0\n",
        "proc/42/pagemap": words([0, 0, 0, 0, present | 1 << 55 | 1 << 56 | PAGES]),
        "proc/42/comm": "postgres\n",
    }
    write(tmp_path, content)
    monkeypatch.setattr("hotbank.host.survey.OWNERS_BUDGET", budget)
    survey = host.survey(1)
    assert [e.owner for e in survey.blocking] == [Owner(42, "postgres", "/system.slice/db.service")]
    assert survey.unknown == ()


@examples(60)
@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=PAGES, max_size=PAGES))
def test_any_flags_give_kinds_that_sum_up(tmp_path_factory: pytest.TempPathFactory, flags: list[int]) -> None:
    content = {"proc/kpageflags": words([0] * PAGES + flags)}
    survey = Host(Made((MadeBlock(1),), BLOCK, content).at(tmp_path_factory.mktemp("tree"))).survey(1)
    assert sum(survey.kinds.values()) == PAGES


@examples(200)
@given(
    cut=st.integers(0, 800),
    at=st.integers(0, 600),
    byte=st.integers(0, 255),
    memstart=st.sampled_from(MEMSTARTS),
)
def test_a_broken_kcore_is_no_view_or_an_honest_one(
    tmp_path_factory: pytest.TempPathFactory, cut: int, at: int, byte: int, memstart: int | None
) -> None:
    raw = bytearray(trees.kcore({3: 1}, pages=8, memstart=memstart))
    raw[at] = byte
    root = write(tmp_path_factory.mktemp("tree"), {"proc/kcore": bytes(raw[:cut])})
    refs = RefCounts.open(Tree(root))
    if refs is not None:
        with refs:
            counts = refs.read(0, 8)
            assert counts is None or counts.count == 8


@pytest.mark.parametrize("page_size", [4096, 65536])
@pytest.mark.parametrize("memstart", MEMSTARTS)
@pytest.mark.parametrize(("size", "offset"), [(64, 52), (56, 52), (80, 28), (128, 52)])
def test_reference_counts_by_the_kernels_own_layout(
    size: int, offset: int, memstart: int | None, page_size: int, tmp_path: Path
) -> None:
    truth = {0: 1, 3: 7, 4: 1025, 9: 2}
    made = trees.kcore(truth, pages=10, size=size, offset=offset, memstart=memstart, page_size=page_size)
    root = write(tmp_path, {"proc/kcore": made})
    refs = RefCounts.open(Tree(root))
    assert refs is not None
    with refs:
        assert values(refs.read(0, 10)) == [truth.get(n, 0) for n in range(10)]
        assert values(refs.read(3, 2)) == [7, 1025]
        assert refs.read(5, 6) is None


def test_a_note_that_can_not_be_reckoned_with_is_no_view(tmp_path: Path) -> None:
    made = trees.kcore({}, pages=8, memstart=0x40000000).replace(b"PAGESIZE=4096", b"PAGESIZE=0000")
    assert RefCounts.open(Tree(write(tmp_path, {"proc/kcore": made}))) is None


def test_block_folders_stay_as_they_were(tmp_path: Path) -> None:
    """A survey writes nothing."""
    host = host_of(tmp_path, Machine([single(Kind.FREE, pages.BUDDY, 0)] * PAGES))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    host.snapshot()
    host.survey(1)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert (tmp_path / MEMORY / "memory1/state").read_text() == "online\n"
