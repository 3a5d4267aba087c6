# SPDX-License-Identifier: Apache-2.0
"""The machine that runs the tests, read only: its own counters against surveys of all its blocks, and the cost."""

from __future__ import annotations

import mmap
import os
import re
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from counted import BARE, calls, calls_of_a_program
from hotbank.host import Host, owners
from hotbank.host import tree as files
from hotbank.host.ram import Ram
from hotbank.host.survey import survey
from hotbank.host.tree import Tree
from hotbank.host.views import Look
from hotbank.machine import WallClock
from hotbank.memory import BlockState, Kind
from hotbank.sysfs.names import MEMORY


def _sees_pages() -> bool:
    try:
        with open("/proc/kpageflags", "rb", buffering=0) as file:
            return len(file.read(8)) == 8
    except OSError:
        return False


needs_blocks = pytest.mark.skipif(not os.path.isdir(f"/{MEMORY}"), reason="this kernel shows no memory blocks")
needs_pages = pytest.mark.skipif(not _sees_pages(), reason="/proc/kpageflags can't be read here: run as root")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """This host, with every way of writing to it taken away."""

    def refuse(*_: object, **__: object) -> object:
        raise AssertionError("a test tried to write to this host")

    monkeypatch.setattr("hotbank.host.writer.Writers.write", refuse)
    before = states()
    yield Host()
    assert states() == before


def states() -> dict[int, tuple[str | None, str | None]]:
    tree, folder = Tree("/"), f"{MEMORY}/memory"
    return {
        n: (tree.read(f"{folder}{n}/state"), tree.read(f"{folder}{n}/valid_zones")) for n in files.block_numbers(tree)
    }


def counters(page_size: int) -> dict[str, int]:
    """Pages by the kernel's own counts, of three files that know nothing of kpageflags."""
    meminfo = {m[1]: int(m[2]) * 1024 // page_size for m in re.finditer(r"(?m)^(\S+): +(\d+) kB", _proc("meminfo"))}
    orders = [line.split("zone")[1].split()[1:] for line in _proc("buddyinfo").splitlines()]
    return {
        "free, buddyinfo": sum(int(n) << order for row in orders for order, n in enumerate(row)),
        "free, zoneinfo": sum(z.free for z in files.zones(Tree("/"))),
        "anon": meminfo["AnonPages"],
        "cache": meminfo["Cached"] + meminfo["Buffers"] + meminfo.get("SwapCached", 0),
        "slab": meminfo["Slab"],
        "page tables": meminfo["PageTables"] + meminfo.get("SecPageTables", 0),
        "huge": meminfo.get("Hugetlb", 0),
        "all": sum(z.present for z in files.zones(Tree("/"))),
    }


def _proc(name: str) -> str:
    return Path("/proc", name).read_text()


def surveyed(kinds: Counter[Kind]) -> dict[str, tuple[int, int]]:
    """The least and the most that the surveys allow for each counter.

    ``Slab`` counts large kmallocs too (mm/slub.c, ___kmalloc_large_node), whose pages carry no slab flag.
    """
    free, slab = kinds[Kind.FREE], kinds[Kind.SLAB]
    cache, everything = kinds[Kind.SHMEM] + kinds[Kind.FILE], sum(kinds.values()) - kinds[Kind.HOLE]
    return {
        "free, buddyinfo": (free, free),
        "free, zoneinfo": (free, free),
        "anon": (kinds[Kind.ANON],) * 2,
        "cache": (cache, cache),
        "slab": (slab, slab + kinds[Kind.KERNEL]),
        "page tables": (kinds[Kind.PAGE_TABLE],) * 2,
        "huge": (kinds[Kind.HUGETLB],) * 2,
        "all": (everything, everything),
    }


def differences(before: dict[str, int], seen: dict[str, tuple[int, int]], after: dict[str, int]) -> list[str]:
    """What lies more than 1 % outside of the two counts.

    The kernel's counters lag by up to 125 pages for each CPU and zone (mm/vmstat.c, calculate_normal_threshold).
    """
    lag = 125 * (os.cpu_count() or 1)
    found = []
    for name, (least, most) in seen.items():
        low, high = sorted((before[name], after[name]))
        if most < low - max(low // 100, lag) or least > high + max(high // 100, lag):
            found.append(f"{name}: {before[name]} before, {least} to {most} seen, {after[name]} after")
    return found


@needs_blocks
@needs_pages
def test_all_surveys_agree_with_the_kernels_counters(host: Host) -> None:
    """Others use this host meanwhile, so one quiet round is enough."""
    snapshot = host.snapshot()
    for _ in range(60):
        before, kinds = counters(snapshot.page_size), Counter[Kind]()
        for block in snapshot.blocks:
            kinds.update(host.survey(block.number).kinds)
        found = differences(before, surveyed(kinds), counters(snapshot.page_size))
        if not found:
            return
        time.sleep(0.5)
    raise AssertionError(found)


def test_the_comparison_notices_a_wrong_kind() -> None:
    count = {"anon": 100_000, "slab": 50_000}
    assert differences(count, {"anon": (100_900, 100_900), "slab": (40_000, 49_600)}, count) == []
    assert len(differences(count, {"anon": (102_000, 102_000), "slab": (40_000, 48_000)}, count)) == 2


@needs_blocks
@needs_pages
def test_a_survey_is_quick_and_small(host: Host) -> None:
    """No step for each page, and memory that the size of the machine has no part in."""
    blocks = [b for b in host.snapshot().blocks if b.state is BlockState.ONLINE]
    fullest = max(blocks, key=lambda b: host.survey(b.number).to_move)
    pages = fullest.range.size // host.snapshot().page_size
    assert min(calls(lambda: host.survey(fullest.number)) for _ in range(5)) < pages / 2
    tracemalloc.start()
    host.survey(fullest.number)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


@needs_blocks
@needs_pages
def test_a_survey_of_many_blocks_takes_no_more_memory(host: Host) -> None:
    """A range of 16 blocks as one: what a block of 2 GiB would need."""
    first = host.snapshot().blocks[-16]
    size = host.snapshot().block_size
    wide = type(first)(0, type(first.range)(first.range.start, first.range.start + 16 * size), first.state)
    tracemalloc.start()
    with Look(host.tree, os.sysconf("SC_PAGE_SIZE"), Ram.of(host.tree, files.arch(host.tree))) as look:
        survey(look, wide, WallClock())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 << 20


@needs_pages
def test_the_owner_of_a_page_of_our_own() -> None:
    unit = os.sysconf("SC_PAGE_SIZE")
    memory = mmap.mmap(-1, 16 * unit)
    memory[5 * unit] = 1
    pfn = _pfn_of(memory, 5)
    found = owners.mappers(Tree("/"), {pfn}, unit, lambda: False)
    assert found[pfn].pid == os.getpid()
    assert found[pfn].comm == Path("/proc/self/comm").read_text().strip()


def _pfn_of(memory: mmap.mmap, page: int) -> int:
    import ctypes

    unit = os.sysconf("SC_PAGE_SIZE")
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + page * unit
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        pagemap.seek(address // unit * 8)
        return int.from_bytes(pagemap.read(8), sys.byteorder) & ((1 << 55) - 1)


_LIST = """
import re, sys
from hotbank.cli import run
status = run(["-m", "host", "list"])
heavy = sorted({m.split(".")[0] for m in sys.modules} & {"numpy", "numba", "rich", "sqlite3", "asyncio"})
resident = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]
print(status, heavy, resident, sep="|", file=sys.stderr)
"""


def _list() -> tuple[str, str, float]:
    """Exit status, heavy modules and MiB of one ``hotbank list`` without a terminal."""
    done = subprocess.run([sys.executable, "-c", _LIST], capture_output=True, text=True, check=True)
    status, heavy, kib = done.stderr.strip().split("|")
    return status, heavy, int(kib) / 1024


@needs_blocks
def test_list_loads_nothing_heavy() -> None:
    assert _list()[:2] == ("0", "[]")


def test_the_host_itself_needs_no_command_line() -> None:
    program = "import sys, hotbank.host; print('click' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@needs_blocks
def test_list_costs_little() -> None:
    """At most 40 MiB, and at most six times the calls that an interpreter with its command line library makes anyway.
    docs/speed.md has seconds."""
    assert _list()[2] <= 40
    assert calls_of_a_program("from hotbank.cli import run; run(['-m', 'host', 'list'])") <= 6 * calls_of_a_program(
        BARE
    )
