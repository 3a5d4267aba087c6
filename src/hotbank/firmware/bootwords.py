# SPDX-License-Identifier: Apache-2.0
"""Words of the command line that take memory at boot, and those that decide about memory and are not followed here.

Truth: kernel/crash_reserve.c (``parse_crashkernel``), kernel/dma/contiguous.c (``early_cma``), mm/memblock.c
(``reserve_mem``), mm/hugetlb.c (``hugepages_setup``), and Documentation/admin-guide/kernel-parameters.txt for the rest.
A word that is written wrongly takes nothing, as in the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hotbank.firmware.cmdline import CommandLine, memparse
from hotbank.kernels import Arch, Kernel
from hotbank.memory import MIB, Range, Reservation, Unplaced, among, format_size
from hotbank.numbers import U64, digits

_CRASH_LOW = 128 * MIB  # DEFAULT_CRASH_KERNEL_LOW_SIZE

UNFOLLOWED: Mapping[str, str] = {
    "acpi": "which of two descriptions of memory and nodes counts",
    "acpi_no_memhotplug": "whether ACPI adds memory and takes it out",
    "cma_pernuma": "a CMA area of each node",
    "numa_cma": "a CMA area of a node",
    "hugetlb_cma": "a CMA area for gigantic pages",
    "rproc_mem": "a CMA area for another processor",
    "coherent_pool": "memory for DMA",
    "swiotlb": "memory for bounce buffers",
    "debug_guardpage_minorder": "pages that are never used",
    "efi": "which of UEFI's memory is RAM",
    "elfcorehdr": "memory that a crashed kernel left",
    "hugetlb_free_vmemmap": "how much memory the memmap of huge pages takes",
    "initrd": "where the initramfs lies",
    "initrdmem": "where the initramfs lies",
    "retain_initrd": "whether the initramfs's memory comes back",
    "kho": "memory for kexec handover",
    "kho_scratch": "memory for kexec handover",
    "kvm-arm.mode": "memory for a protected hypervisor",
    "log_buf_len": "memory for the log",
    "hashdist": "which nodes hash tables lie on",
    "dhash_entries": "memory for hash tables",
    "ihash_entries": "memory for hash tables",
    "mhash_entries": "memory for hash tables",
    "mphash_entries": "memory for hash tables",
    "tcpmhash_entries": "memory for hash tables",
    "thash_entries": "memory for hash tables",
    "uhash_entries": "memory for hash tables",
    "memtest": "bad memory, which is kept out",
    "page_owner": "memory for each page",
    "sysctl.vm.mem_profiling": "memory for each page",
    "rodata": "memory for page tables, by the size of the linear map's leaves",
    "stack_depot_disable": "memory for stack traces",
    "alloc_snapshot": "memory for tracing",
    "trace_buf_size": "memory for tracing",
    "trace_instance": "memory for tracing",
}
"""Word → what it decides, on the architectures whose boot is followed."""

ELSEWHERE: Mapping[str, str] = {
    "accept_memory": "x86",
    "add_efi_memmap": "x86",
    "disable_mtrr_trim": "x86",
    "efi_fake_mem": "x86",
    "forcepae": "x86",
    "gart_fix_e820": "x86",
    "highmem": "x86",
    "memmap": "x86",
    "memory_corruption_check": "x86",
    "memory_corruption_check_size": "x86",
    "reservelow": "x86",
    "reservetop": "x86",
    "xen_512gb_limit": "x86",
    "fadump": "powerpc",
    "fadump_reserve_mem": "powerpc",
    "kvm_cma_resv_ratio": "powerpc",
    "topology_updates": "powerpc",
    "max_addr": "ia64",
    "min_addr": "ia64",
    "memchunk": "sh",
    "vmcp_cma": "s390",
}
"""Word → the architecture that alone obeys it, of those that anybody has."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What the words take: in a place that they say, or in one that the kernel chooses."""

    reserved: tuple[Reservation, ...] = ()
    unplaced: tuple[Unplaced, ...] = ()


def taken(
    line: CommandLine, *, total: int, memory: Sequence[Range], arch: Arch, page_size: int, kernel: Kernel
) -> Taken:
    """What the line's words take of ``total`` bytes of memory; ``memory``: what of it is mapped, merged."""
    found = (*_crash(line, total), *_cma(line), *_named(line, kernel), *_huge_pages(line, arch, page_size))
    return Taken(
        tuple(one for one in found if isinstance(one, Reservation) and not _amiss(one.range, memory)),
        tuple(one for one in found if isinstance(one, Unplaced)),
    )


def misplaced(line: CommandLine, *, total: int, memory: Sequence[Range]) -> Iterator[tuple[Reservation, str]]:
    """What the line asks for in places where the kernel reserves nothing, each with what is wrong about its place."""
    for one in (*_crash(line, total), *_cma(line)):
        if isinstance(one, Reservation) and (why := _amiss(one.range, memory)):
            yield one, why


def _amiss(range_: Range, memory: Sequence[Range]) -> str:
    if range_.end > U64:
        return "ends beyond all addresses"
    there = among(memory, range_)
    if not there:
        return "is no memory that is mapped"
    return "" if there[0].contains(range_) else "is not all memory that is mapped"


def unfollowed(line: CommandLine, kernel: Kernel) -> Iterator[tuple[str, str]]:
    """The words that the kernel obeys and nobody here does, each once, with what it decides."""
    for word, what in UNFOLLOWED.items():
        if line.all(word) and kernel.knows(word):
            yield word, what


def elsewhere(line: CommandLine) -> Iterator[tuple[str, str]]:
    """The words that only another architecture obeys, each once, with that one."""
    for word, arch in ELSEWHERE.items():
        if line.all(word):
            yield word, arch


def cma_place(value: str) -> Range | None:
    """Where ``cma=size@start`` puts the area; None without a start, and with an end, below which it is anywhere."""
    size, at = memparse(value)
    if value[at : at + 1] != "@" or not size:
        return None
    start, at = memparse(value, at + 1)
    return Range.sized(start, size) if start and value[at : at + 1] != "-" else None


def _cma(line: CommandLine) -> Iterator[Reservation | Unplaced]:
    value = line.last("cma")
    size = memparse(value)[0] if value else 0
    if value and size:
        place = cma_place(value)
        yield (
            Reservation(place, "cma=", reusable=True)
            if place
            else Unplaced("cma=", size, within=_below(value), reusable=True)
        )


def _below(value: str) -> tuple[Range, ...]:
    """``cma=size@start-end``: anywhere in between."""
    _, at = memparse(value)
    if value[at : at + 1] != "@":
        return ()
    start, at = memparse(value, at + 1)
    end = memparse(value, at + 1)[0] if value[at : at + 1] == "-" else 0
    return (Range(start, end),) if start < end else ()


def _crash(line: CommandLine, total: int) -> Iterator[Reservation | Unplaced]:
    """The last word of each form counts; one with ``,high`` only where none is plain, and ``,low`` beside it."""
    forms = dict[str, str]()
    for value in line.all("crashkernel"):
        head, _, form = (value or "").rpartition(",")
        plain = form not in ("high", "low", "cma")
        forms["" if plain else form] = (value or "") if plain else head
    if "" in forms:
        size, start = _crash_size(forms[""], total)
        if size and start:
            yield Reservation(Range.sized(start, size), "crashkernel=")
        elif size:
            yield Unplaced("crashkernel=", size)
    elif high := memparse(forms.get("high", ""))[0]:
        yield Unplaced("crashkernel=,high", high)
        low = memparse(forms["low"])[0] if "low" in forms else _CRASH_LOW
        yield from [Unplaced("crashkernel=,low", low)] if low else []


def _crash_size(value: str, total: int) -> tuple[int, int]:
    """``size[@start]`` or ``from-[to]:size,…[@start]``; 0 where the value is none, or no range holds the total."""
    amounts, _, place = value.partition("@")
    start = memparse(place)[0]
    if ":" not in amounts:
        size, end = memparse(amounts)
        return (size, start) if end == len(amounts) else (0, 0)
    for part in amounts.split(","):
        bounds, _, size_text = part.partition(":")
        lower, at = memparse(bounds)
        upper = memparse(bounds, at + 1)[0] or U64
        if bounds[at : at + 1] == "-" and lower <= total < upper:
            return memparse(size_text)[0], start
    return 0, 0


def _named(line: CommandLine, kernel: Kernel) -> Iterator[Unplaced]:
    """``reserve_mem=size:align:name``, of which there may be several."""
    for value in line.all("reserve_mem") if kernel.reserves_by_name else ():
        size_text, _, rest = (value or "").partition(":")
        align, _, name = rest.partition(":")
        size = memparse(size_text)[0]
        if size and name:
            yield Unplaced(f"reserve_mem= {name}", size, memparse(align)[0])


def _huge_pages(line: CommandLine, arch: Arch, page_size: int) -> Iterator[Unplaced]:
    """``hugepages=`` counts pages of the ``hugepagesz=`` before it, else of ``default_hugepagesz=``."""
    if not arch.huge_pages:
        return
    default = memparse(line.last("default_hugepagesz") or "")[0] or page_size << arch.pageblock_order(page_size)
    size, wanted = default, dict[int, int]()
    for word in line.parameters:
        if word.named("hugepagesz"):
            size = memparse(word.value or "")[0]
        elif word.named("hugepages") and size and not size & (size - 1):
            wanted[size] = _pages(word.value or "")
    for size, pages in sorted(wanted.items()):
        if pages:
            yield Unplaced(f"hugepages= of {format_size(size)}", size * pages, size)


def _pages(value: str) -> int:
    """``4``, or by node ``0:2,1:2``."""
    return sum(digits(part.rpartition(":")[2].strip()) or 0 for part in value.split(","))
