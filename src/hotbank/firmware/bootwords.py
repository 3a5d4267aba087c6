# SPDX-License-Identifier: Apache-2.0
"""Words of the command line that take memory at boot, and those that decide about memory and are not followed here.

Truth: kernel/dma/contiguous.c (``early_cma``, ``dma_contiguous_reserve``), mm/cma.c, mm/memblock.c (``reserve_mem``),
and Documentation/admin-guide/kernel-parameters.txt for the rest; ``crashkernel`` and ``hugepages`` are files beside.
A word that is written wrongly takes nothing, as in the kernel, and is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from hotbank.firmware import crashkernel, hugepages
from hotbank.firmware.cmdline import CommandLine, memparse
from hotbank.firmware.ground import Ground, Refused
from hotbank.kernels import Kernel
from hotbank.memory import Range, Reservation, Unplaced, format_size, merge

_NAME_SIZE, _MOST_NAMED = 16, 8  # RESERVE_MEM_NAME_SIZE, RESERVE_MEM_MAX_ENTRIES

UNFOLLOWED: Mapping[str, str] = {
    "acpi": "which of two descriptions of memory and nodes counts",
    "acpi_no_memhotplug": "whether ACPI adds memory and takes it out",
    "bootconfig": "which other words the initramfs brings",
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
    """What the words take: in a place that they say, or in one that the kernel chooses; and why others take nothing."""

    reserved: tuple[Reservation, ...] = ()
    unplaced: tuple[Unplaced, ...] = ()
    refused: tuple[str, ...] = ()


def taken(line: CommandLine, ground: Ground) -> Taken:
    """What the line's words take on that ground, in the kernel's order: CMA, the crash kernel, then the rest."""
    lent = tuple(_cma(line, ground))
    held = (one.range for one in lent if isinstance(one, Reservation))
    left = replace(ground, taken=merge([*ground.taken, *held]))
    crash = crashkernel.taken(line.all("crashkernel"), left)
    found = (*lent, *crash, *_named(line, ground), *hugepages.taken(line, ground))
    return Taken(
        tuple(one for one in found if isinstance(one, Reservation)),
        tuple(one for one in found if isinstance(one, Unplaced)),
        tuple(one.why for one in found if isinstance(one, Refused)),
    )


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
    area = _Area().after(value)
    fixed = area.size and area.base and area.base + area.size == area.limit
    return Range(area.base, area.limit) if fixed else None


@dataclass(frozen=True, slots=True)
class _Area:
    """early_cma: what stays of all ``cma=`` of a line. A later word without a place keeps the place of an earlier."""

    size: int | None = None
    base: int = 0
    limit: int = 0

    def after(self, value: str) -> _Area:
        size, at = memparse(value)
        if value[at : at + 1] != "@":
            return replace(self, size=size)
        base, at = memparse(value, at + 1)
        bounded = value[at : at + 1] == "-"
        return _Area(size, base, memparse(value, at + 1)[0] if bounded else base + size)


def _cma(line: CommandLine, ground: Ground) -> Iterator[Reservation | Unplaced | Refused]:
    """dma_contiguous_reserve, cma_declare_contiguous_nid."""
    area = reduce(_Area.after, (value for value in line.all("cma") if value is not None), _Area())
    if not area.size:
        return
    unit = ground.page_size << ground.arch.pageblock_order(ground.page_size)
    if area.base and area.base + area.size == area.limit:
        yield _cma_there(Range.sized(area.base, area.size), unit, ground)
        return
    end = min(area.limit or ground.dma_end, ground.dma_end)
    if area.base + area.size > end:
        yield Refused(
            f"cma= asks for {format_size(area.size)} below {end:#x}, which is not so much: nothing is reserved"
        )
    else:
        within = (Range(area.base, end),) if area.limit and area.base < end else ()
        yield Unplaced("cma=", area.size, within=within, reusable=True)


def _cma_there(range_: Range, unit: int, ground: Ground) -> Reservation | Refused:
    asked = Reservation(range_, "cma=", reusable=True)
    whole = Range.sized(range_.start, -(-range_.size // unit) * unit)
    why = replace(ground, marked=()).amiss(range_, unit)  # memblock_reserve asks for no mark
    if not why and whole.end > min(ground.dma_end, ground.end):
        why = f"ends beyond what all DMA masters reach ({ground.dma_end:#x})"
    if not why and whole.start < ground.low_end < whole.end:
        why = f"crosses the end of the linear map ({ground.low_end:#x})"
    return Refused.of(asked, why) if why else replace(asked, range=whole)


def _named(line: CommandLine, ground: Ground) -> Iterator[Unplaced | Refused]:
    """``reserve_mem=size:align:name``, of which there may be several, with names of their own."""
    names = list[str]()
    for value in line.all("reserve_mem") if ground.kernel.reserves_by_name else ():
        size, at = memparse(value or "")
        align, end = memparse(value or "", at + 1)
        name = (value or "")[end + 1 :]
        formed = size and (value or "")[at : at + 1] == ":" == (value or "")[end : end + 1]
        why = _unnamed(name, names) if formed else "is not size:align:name"
        if why:
            yield Refused(f"reserve_mem={value or ''} {why}: nothing is reserved")
        else:
            names.append(name)
            yield Unplaced(f"reserve_mem= {name}", size, align)


def _unnamed(name: str, names: Sequence[str]) -> str:
    if not name.strip() or len(name) >= _NAME_SIZE:
        return f"has no name of 1 to {_NAME_SIZE - 1} characters"
    if name in names:
        return "has the name of an earlier one"
    return f"is more than the {_MOST_NAMED} that there may be" if len(names) >= _MOST_NAMED else ""
