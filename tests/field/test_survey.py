# SPDX-License-Identifier: Apache-2.0
"""Blocks that people could not take away, or could: captured trees of such machines, and what is said of them."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from field.trees import FREE, OFFLINE, Run, Zoned, machine, zone_lines
from host.captured_trees import MEMORY, link_node, words
from hotbank.errors import Code, KernelError
from hotbank.host import Host, pages
from hotbank.machine import Machine, Survey
from hotbank.memory import MIB, Kind
from hotbank.model import Model, capture
from hotbank.operate import Verdict, explain

BLOCK = 32
ANON = pages.ANON | pages.LRU | pages.UPTODATE | pages.SWAPBACKED | pages.MMAP
OWN = {"6.10": pages.OWNER_PRIVATE | pages.RESERVED, "6.11": pages.OWNER_PRIVATE}
KMEM = "100000000-1ffffffff : dax0.0\n  100000000-1ffffffff : System RAM (kmem)"
VIRTIO_MEM = "100000000-1ffffffff : virtio0\n  100000000-1ffffffff : System RAM (virtio_mem)"
PLAIN = "100000000-1ffffffff : System RAM"


def said(host: Machine, block: int = BLOCK) -> Verdict:
    return explain(host, block)


def tree(root: Path, runs: Sequence[Run], iomem: str = KMEM, zone: str = "Movable", **more: object) -> Host:
    return Host(machine(root, BLOCK, runs, Zoned(zone), iomem=iomem, **more))  # type: ignore[arg-type]


@examples(20)
@given(
    st.sampled_from(["6.10", "6.11"]),
    st.sampled_from(["Movable", "Normal"]),
    st.sampled_from([128, 256, 1024]),
    st.integers(1, 3),
)
def test_its_own_memmap_does_not_hold_a_block(
    tmp_path_factory: pytest.TempPathFactory, kernel: str, zone: str, mib: int, force: int
) -> None:
    whole = mib * 256
    own = whole * 64 // 4096 * force  # memmap_on_memory=force rounds up to whole pageblocks
    runs = [Run(OWN[kernel], own), Run(FREE, whole - own)]
    host = tree(tmp_path_factory.mktemp("t"), runs, zone=zone, block_size=mib * MIB, first=4096 // mib)
    survey = host.survey(4096 // mib)
    assert (survey.blocked, survey.kinds) == (0, {Kind.FREE: whole - own, Kind.RESERVED: own})
    assert said(host, 4096 // mib).code is Code.PINS_UNKNOWN


@pytest.mark.parametrize(
    ("runs", "iomem"),
    [
        ([Run(FREE, 512), Run(OWN["6.10"], 512), Run(FREE, 31744)], KMEM),  # elsewhere it is none
        ([Run(OWN["6.10"], 100), Run(FREE, 32668)], KMEM),  # too few for the block
        ([Run(pages.RESERVED, 512), Run(FREE, 32256)], KMEM),  # reserved by somebody else
        ([Run(OWN["6.10"], 32768)], KMEM),
    ],
)
def test_reserved_pages_that_are_no_memmap_hold_it(tmp_path: Path, runs: list[Run], iomem: str) -> None:
    assert said(tree(tmp_path, runs, iomem)).code is Code.UNMOVABLE


def test_a_capture_knows_the_memmap(tmp_path: Path) -> None:
    host = tree(tmp_path, [Run(OWN["6.11"], 512), Run(FREE, 32256)])
    model = Model.restore(capture.loads(saved(host, tmp_path)))
    assert said(model).code is Code.OK
    model.offline(BLOCK, 10.0)


def saved(host: Host, folder: Path) -> bytes:
    capture.save(capture.take(host), folder / "taken")
    return (folder / "taken").read_bytes()


HOLDERS: Mapping[str, tuple[str, Mapping[str, str], Kind]] = {
    "virtio-mem": (VIRTIO_MEM, {}, Kind.UNPLUGGED),
    "virtio-mem beside an empty balloon": (
        VIRTIO_MEM,
        {
            "sys/bus/virtio/drivers/virtio_balloon/virtio3/x": "",
            "proc/vmstat": "balloon_inflate 7\nballoon_deflate 7\n",
        },
        Kind.UNPLUGGED,
    ),
    "virtio-balloon": (PLAIN, {"sys/bus/virtio/drivers/virtio_balloon/virtio3/x": ""}, Kind.BALLOON),
    "Hyper-V": (PLAIN, {"sys/bus/vmbus/drivers/hv_balloon/1eccfd72/x": ""}, Kind.UNBACKED),
    "Xen": (PLAIN, {"sys/hypervisor/type": "xen\n"}, Kind.UNBACKED),
    "VMware 4.19": (
        PLAIN,
        {"sys/module/vmw_balloon/x": "", "proc/sys/kernel/osrelease": "4.19.0-27-amd64"},
        Kind.UNBACKED,
    ),
    "VMware 6.1": (PLAIN, {"sys/module/vmw_balloon/x": "", "proc/sys/kernel/osrelease": "6.1.0-9-amd64"}, Kind.BALLOON),
}


@examples(20)
@given(
    st.sampled_from(sorted(HOLDERS)),
    st.lists(st.tuples(st.sampled_from([FREE, OFFLINE, ANON]), st.integers(1, 3000)), min_size=1, max_size=9),
)
def test_who_holds_offline_pages_decides(
    tmp_path_factory: pytest.TempPathFactory, who: str, made: list[tuple[int, int]]
) -> None:
    iomem, files, kind = HOLDERS[who]
    runs = [Run(OFFLINE, 1), *(Run(flags, count) for flags, count in made)]
    runs.append(Run(FREE, 32768 - sum(run.pages for run in runs)))
    host = tree(tmp_path_factory.mktemp("t"), runs, iomem, files=files)
    offline, anon = (sum(run.pages for run in runs if run.flags == flags) for flags in (OFFLINE, ANON))
    survey, verdict = host.survey(BLOCK), said(host)
    assert survey.kinds[kind] == offline
    assert survey.to_move == anon + (offline if kind is Kind.BALLOON else 0)
    assert verdict.code is (Code.UNMOVABLE if kind is Kind.UNBACKED else Code.PINS_UNKNOWN)
    assert counted(host, BLOCK) == survey.kinds


def counted(host: Host, block: int) -> Mapping[Kind, int]:
    runs = sorted((kind, count) for kind, count in host.pages(block).runs)
    return {kind: sum(count for _, count in some) for kind, some in groupby(runs, key=lambda run: run[0])}


def test_nobody_known_to_hold_them_is_said(tmp_path: Path) -> None:
    survey: Survey = tree(tmp_path, [Run(OFFLINE, 600), Run(FREE, 32168)], PLAIN).survey(BLOCK)
    assert survey.kinds[Kind.BALLOON] == 600
    assert "balloon" in survey.unknown


@pytest.mark.parametrize(("who", "leaves"), [("virtio-mem", True), ("Hyper-V", False)])
def test_a_capture_knows_who_holds_them(tmp_path: Path, who: str, leaves: bool) -> None:
    iomem, files, _ = HOLDERS[who]
    host = tree(tmp_path, [Run(FREE, 1536), Run(OFFLINE, 31232)], iomem, files=files)
    model = Model.restore(capture.loads(saved(host, tmp_path)))
    assert said(model).code is (Code.OK if leaves else Code.UNMOVABLE)
    if leaves:
        model.offline(BLOCK, 10.0)


def huge(size: int, count: int, users: int = 1) -> list[Run]:
    head, tail = pages.HUGE | pages.COMPOUND_HEAD | pages.MMAP, pages.HUGE | pages.COMPOUND_TAIL | pages.MMAP
    return [Run(head, 1), Run(tail, size - 1)] * count * users


def pool(size_kb: int, free: int, *, reserved: int = 0, nodes: Mapping[int, int] | None = None) -> dict[str, str]:
    folder, name = "sys/kernel/mm/hugepages", f"hugepages-{size_kb}kB"
    files = {f"{folder}/{name}/free_hugepages": f"{free}\n", f"{folder}/{name}/resv_hugepages": f"{reserved}\n"}
    for node, here in (nodes or {}).items():
        files[f"sys/devices/system/node/node{node}/hugepages/{name}/free_hugepages"] = f"{here}\n"
    return files


@examples(25)
@given(st.integers(0, 7), st.sampled_from([0, 1]), st.integers(0, 2), st.booleans())
def test_a_gigantic_page_needs_a_free_one(
    tmp_path_factory: pytest.TempPathFactory, part: int, free: int, reserved: int, small_too: bool
) -> None:
    """A block is an eighth of a page of 1 GiB: its head, or tails of one that began before."""
    gib = 262_144
    runs = huge(gib, 1)
    first, runs = (runs[0], [Run(runs[1].flags, 32767)]) if part == 0 else (None, [Run(runs[1].flags, 32768)])
    files = pool(1 << 20, free, reserved=reserved) | (pool(2048, 9) if small_too else {})
    host = tree(
        tmp_path_factory.mktemp("t"), [*([first] if first else []), *runs], PLAIN, files=files, first=BLOCK + part
    )
    if part != 7:  # the page goes on behind the block
        with Path(host.tree.path("proc/kpageflags")).open("ab") as file:
            file.write(words([runs[-1].flags]))
    (found,) = host.survey(BLOCK + part).huge
    assert (found.pages, found.first, found.inside, found.gigantic) == (gib, (BLOCK * 32768,), 32768, True)
    verdict = said(host, BLOCK + part)
    assert verdict.code is (Code.PINS_UNKNOWN if free > reserved else Code.HUGETLB)
    assert verdict.needs == (0 if free > reserved else 32768)


@pytest.mark.parametrize(
    ("by_node", "node", "leaves"),
    [({0: 1, 1: 0}, 1, True), ({0: 0, 1: 1}, 1, False), ({0: 1}, 0, True)],
)
def test_the_free_one_must_be_on_another_node_where_there_is_one(
    tmp_path: Path, by_node: dict[int, int], node: int, leaves: bool
) -> None:
    files = pool(1 << 20, 1, nodes=by_node)
    tree(tmp_path, [*huge(32768, 1)], PLAIN, files=files, node=node)
    link_node(tmp_path, f"{MEMORY}/memory{BLOCK}", f"node{node}")
    assert said(Host(tmp_path)).code is (Code.PINS_UNKNOWN if leaves else Code.HUGETLB)


@examples(20)
@given(st.integers(1, 4), st.integers(0, 5), st.integers(0, 3))
def test_gigantic_pages_of_arm64(tmp_path_factory: pytest.TempPathFactory, count: int, free: int, before: int) -> None:
    """Four pages of 32 MiB fill a block, which is above what the buddy allocator has."""
    lead = min(before, 4 - count) * 8192
    runs = [Run(FREE, lead), *huge(8192, count), Run(FREE, 32768 - lead - count * 8192)]
    files = pool(32768, free)
    host = tree(tmp_path_factory.mktemp("t"), [r for r in runs if r.pages], KMEM, files=files, arch="aarch64")
    verdict = said(host)
    assert verdict.code is (Code.PINS_UNKNOWN if free >= count else Code.HUGETLB)
    assert verdict.blocked == (0 if free >= count else count * 8192)


@pytest.mark.parametrize("release", ["6.12.95", "7.3.4"])
@pytest.mark.parametrize(
    ("setting", "other", "leaves"),
    [("0", "Movable", False), ("1", "Movable", True), ("0", "Normal", True), (None, "Movable", False)],
)
def test_gigantic_pages_go_to_memory_for_the_kernel_alone(
    tmp_path: Path, release: str, setting: str | None, other: str, leaves: bool
) -> None:
    """Free ones on a node of nothing but Movable are out of reach, unless vm.movable_gigantic_pages (7.0) is set."""
    files = pool(32768, 4, nodes={0: 0, 1: 0, 2: 4}) | {"proc/sys/kernel/osrelease": f"{release}\n"}
    if setting is not None:
        files["proc/sys/vm/movable_gigantic_pages"] = f"{setting}\n"
    runs = [*huge(8192, 1), Run(FREE, 24576)]
    tree(tmp_path, runs, KMEM, files=files, arch="aarch64", node=1)
    link_node(tmp_path, f"{MEMORY}/memory{BLOCK}", "node1")
    with Path(tmp_path / "proc/zoneinfo").open("a") as zoneinfo:
        zoneinfo.write(zone_lines(2, other, 65536, 65536, 60000, 1 << 22))
    assert said(Host(tmp_path)).code is (Code.PINS_UNKNOWN if leaves else Code.HUGETLB)


@examples(5)
@given(st.sampled_from([16, 32]), st.integers(1, 60), st.integers(0, 70), st.integers(0, 70))
def test_small_huge_pages_need_as_much_room_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, size: int, used: int, free: int, pieces: int
) -> None:
    """hugepages-64kB of arm64, in a verdict and in what a capture goes on as."""
    runs, folder = [*huge(size, used), Run(FREE, 32768 - used * size)], tmp_path_factory.mktemp("t")
    zoned, files = Zoned(elsewhere=4200 + pieces * size + size // 2), pool(size * 4, free)
    host = Host(machine(folder, BLOCK, runs, zoned, iomem=KMEM, files=files, arch="aarch64"))
    (found,) = host.survey(BLOCK).huge
    assert (found.pages, len(found.first), found.free, found.gigantic) == (size, used, free, False)
    verdict, fresh = said(host), max(0, used - free)
    assert verdict.needs == fresh * size
    assert verdict.code is (Code.PINS_UNKNOWN if fresh <= pieces else Code.NO_CAPACITY)
    taken = capture.loads(saved(host, folder))
    assert [block.huge for block in taken.blocks] == [(found,)]
    assert Model.restore(taken).survey(BLOCK).kinds == host.survey(BLOCK).kinds


@examples(10)
@given(st.integers(1, 4), st.integers(0, 5))
def test_a_capture_keeps_what_gigantic_pages_have_no_place(
    tmp_path_factory: pytest.TempPathFactory, count: int, free: int
) -> None:
    folder = tmp_path_factory.mktemp("t")
    runs = [*huge(8192, count), Run(FREE, 32768 - count * 8192)]
    host = tree(folder, [r for r in runs if r.pages], KMEM, files=pool(32768, free), arch="aarch64")
    model = Model.restore(capture.loads(saved(host, folder)))
    stays = said(host).code is Code.HUGETLB
    assert stays == (said(model).code is Code.HUGETLB) == (free < count)
    if stays:
        assert said(model).blocked == said(host).blocked
        with pytest.raises(KernelError) as refused:
            model.offline(BLOCK, model.clock.now() + 2.0)
        assert refused.value.errno == errno.EINTR


@examples(20)
@given(st.integers(1, 64), st.integers(0, 70), st.integers(0, 70))
def test_huge_pages_need_a_free_one_or_contiguous_memory(
    tmp_path_factory: pytest.TempPathFactory, used: int, free: int, pieces: int
) -> None:
    runs = [*huge(512, used), Run(FREE, 32768 - used * 512)]
    room = 4200 + pieces * 512 + 300  # above the high watermark of the zone that stays
    folder = tmp_path_factory.mktemp("t")
    host = Host(
        machine(folder, BLOCK, [r for r in runs if r.pages], Zoned(elsewhere=room), iomem=PLAIN, files=pool(2048, free))
    )
    verdict, fresh = said(host), max(0, used - free)
    assert verdict.needs == fresh * 512
    assert verdict.code is (Code.PINS_UNKNOWN if fresh <= pieces else Code.NO_CAPACITY)


@pytest.mark.parametrize("release", ["6.12.95", "6.16.12"])
@pytest.mark.parametrize(("size", "kb"), [(512, 2048), (8192, 32768)])
@pytest.mark.parametrize(("used", "node", "reserved"), [(1, 0, 0), (2, 0, 0), (2, 0, 4), (2, 1, 0)])
def test_old_kernels_move_huge_pages_in_a_circle(
    tmp_path: Path, release: str, size: int, kb: int, used: int, node: int, reserved: int
) -> None:
    """On a machine of one node, where the pool has a free page, each takes the place that the last has just left."""
    runs = [*huge(size, used), Run(FREE, 32768 - used * size)]
    files = pool(kb, 4, reserved=reserved, nodes={0: 4}) | {"proc/sys/kernel/osrelease": f"{release}\n"}
    host = tree(tmp_path, runs, KMEM, files=files, arch="aarch64", node=node)
    link_node(tmp_path, f"{MEMORY}/memory{BLOCK}", f"node{node}")
    circle = release == "6.12.95" and (used, node, reserved) == (2, 0, 0)
    assert host.survey(BLOCK).endless is circle
    assert (said(host).code is Code.HUGETLB) is (circle or (size > 1024 and reserved > 0))
    assert ("until a signal" in said(host).fact) is circle


def test_several_blocks_have_one_pool(tmp_path: Path) -> None:
    runs = [*huge(8192, 2), Run(FREE, 16384)]
    files = pool(32768, 2) | {"etc/hotbank/board.toml": TWO_BLOCKS}
    tree(tmp_path, runs, KMEM, files=files, arch="aarch64", first=BLOCK + 1)
    host = tree(tmp_path, runs, KMEM, files=files, arch="aarch64")
    with Path(host.tree.path("proc/kpageflags")).open("ab") as file:
        file.write(b"".join(words([run.flags]) * run.pages for run in runs))
    assert said(host, BLOCK).code is Code.PINS_UNKNOWN
    assert said(host, BLOCK + 1).code is Code.PINS_UNKNOWN
    verdict = explain(host, "two")
    assert verdict.code is Code.HUGETLB
    assert "4 huge pages of 32M" in verdict.fact
    assert "2 free" in verdict.fact


TWO_BLOCKS = """
name = "two"
arch = "arm64"
page_size = "4K"
block_size = "128M"
describe = "dtb"
[bank.low]
start = 0
size = "1G"
[bank.two]
start = 0x100000000
size = "256M"
movable = true
at_boot = false
route = "driver"
"""


def test_a_pool_that_nobody_shows_is_said(tmp_path: Path) -> None:
    survey = tree(tmp_path, huge(32768, 1), PLAIN).survey(BLOCK)
    assert "huge" in survey.unknown
    assert survey.blocked == 0
