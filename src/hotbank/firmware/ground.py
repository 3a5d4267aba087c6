# SPDX-License-Identifier: Apache-2.0
"""What a kernel knows of memory when it obeys the words of its command line that take some of it."""

from __future__ import annotations

from dataclasses import dataclass

from hotbank.kernels import Arch, Kernel
from hotbank.memory import Range, Reservation, among, format_size, without
from hotbank.numbers import U64


@dataclass(frozen=True, slots=True)
class Ground:
    """``total``: bytes of memory, mapped or not. ``mapped``: what of it the kernel maps, merged. ``taken``: what is
    taken of that already. ``marked``: where memblock allocates nothing, for it may leave. ``dma_end``: how far all DMA
    masters reach (``arm64_dma_phys_limit``, ``arm_dma_limit``). ``low_end``: the end of the linear map. ``end``:
    memblock_end_of_DRAM. Exclusive addresses."""

    total: int
    mapped: tuple[Range, ...]
    taken: tuple[Range, ...]
    marked: tuple[Range, ...]
    dma_end: int
    low_end: int
    end: int
    arch: Arch
    kernel: Kernel
    page_size: int

    @property
    def above(self) -> Range:
        """What not all DMA masters reach."""
        return Range(self.dma_end, max(self.dma_end, self.end))

    def has_room(self, size: int, unit: int, within: Range) -> bool:
        """Whether ``size`` free bytes begin at a multiple of ``unit`` there."""
        free = (part.intersection(within) for part in without(self.mapped, (*self.taken, *self.marked)))
        return any(part and -(-part.start // unit) * unit + size <= part.end for part in free)

    def amiss(self, range_: Range, unit: int) -> str:
        """Why the kernel reserves nothing exactly there; empty where it does."""
        if range_.end > U64:
            return "ends beyond all addresses"
        there = among(self.mapped, range_)
        if not there:
            return "is no memory that is mapped"
        if not there[0].contains(range_):
            return "is not all memory that is mapped"
        if range_.start % unit:
            return f"begins at no multiple of {format_size(unit)}"
        if among(self.taken, range_):
            return "is taken in part already"
        return "movable_node keeps free of it" if among(self.marked, range_) else ""


@dataclass(frozen=True, slots=True)
class Refused:
    """A word that takes nothing, and why, in one line."""

    why: str

    @classmethod
    def of(cls, asked: Reservation, why: str) -> Refused:
        """A place that is no good."""
        return cls(f"{asked.name} asks for {asked.range}, which {why}: nothing is reserved")
