# SPDX-License-Identifier: Apache-2.0
"""Whether an edge of a block lies inside a leaf of the kernel's own page tables: then arm64 refuses to take it offline.

Truth: arch/arm64/mm/mmu.c (``can_unmap_without_split``, ``addr_splits_kernel_leaf``, 95a58852b0e5),
arch/arm64/include/asm/pgtable-hwdef.h; kernel/vmcore_info.c and arch/arm64/kernel/vmcore_info.c (where the tables are).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from hotbank.host.kcore import Core, struct_page
from hotbank.host.tree import Tree
from hotbank.memory import KIB, Range

_PRESENT, _TABLE, _CONTIGUOUS = 1 << 0, 1 << 1, 1 << 52
_ADDRESS = (1 << 48) - 1
_USED_BITS = 48  # of a virtual address; more come with entries of another form
_RUNS = {4 * KIB: (16, 16), 16 * KIB: (128, 32), 64 * KIB: (32, 32)}  # contiguous entries of a PTE and a PMD table


@dataclass(frozen=True, slots=True)
class Leaves:
    """The kernel's page tables, read through /proc/kcore.

    ``bits``: of a virtual address, as the kernel was configured; ``used``: as the processor has them. ``top``: physical
    address of ``swapper_pg_dir``. ``vmemmap`` and ``size``: where the ``struct page`` of pfn 0 is or would be, and its
    bytes.
    """

    core: Core
    page_size: int
    bits: int
    used: int
    top: int
    memstart: int
    vmemmap: int
    size: int

    @classmethod
    def open(cls, tree: Tree) -> Self | None:
        """Those of a machine, or None where its kernel does not show them."""
        core = Core.open(tree)
        if core is None:
            return None
        try:
            found = cls._of(core)
        except (KeyError, ValueError, ArithmeticError):
            found = None
        if found is None:
            core.close()
        return found

    @classmethod
    def _of(cls, core: Core) -> Self | None:
        bits, page_size = core.number("VA_BITS"), int(core.note["PAGESIZE"])
        voffset, memstart, unused = (
            core.number("kimage_voffset"),
            core.number("PHYS_OFFSET"),
            core.number("TCR_EL1_T1SZ"),
        )
        if bits is None or voffset is None or memstart is None or page_size not in _RUNS:
            return None
        used = bits if unused is None else 64 - unused
        if used > _USED_BITS or (
            used != bits and page_size != 4 * KIB
        ):  # only there one level is folded and no other moved
            return None
        vmemmap, size, _ = struct_page(core.note)
        top = int(core.note["SYMBOL(swapper_pg_dir)"], 16) - voffset & (1 << 64) - 1
        return cls(core, page_size, bits, used, top, memstart, vmemmap, size)

    def close(self) -> None:
        """Give the file back."""
        self.core.close()

    def cut_by(self, part: Range) -> str | None:
        """The map that has a leaf across an edge of that memory, ``linear map`` or ``memmap``; empty if none has. None
        where the tables can't be read."""
        linear = [at - self.memstart - (1 << self.bits) for at in (part.start, part.end)]
        memmap = [self.vmemmap + at // self.page_size * self.size for at in (part.start, part.end)]
        for name, edges in (("linear map", linear), ("memmap", memmap)):
            cut = [self._cuts(edge & (1 << 64) - 1) for edge in edges]
            if any(cut):
                return name
            if None in cut:
                return None
        return ""

    def _cuts(self, address: int) -> bool | None:
        """``addr_splits_kernel_leaf``: level by level, from the top down to where a leaf would begin at the address."""
        page_shift = self.page_size.bit_length() - 1
        per_table = page_shift - 3
        table, shift = self.top, page_shift + (self.used - page_shift - 1) // per_table * per_table
        while shift >= page_shift:
            run = dict(zip((page_shift, page_shift + per_table), _RUNS[self.page_size], strict=True)).get(shift, 1)
            if address % (run << shift) == 0:
                return False
            index = (address & (1 << self.used) - 1) >> shift & (1 << per_table) - 1
            raw = self.core.read_physical(table + index * 8, 8)
            if raw is None:
                return None
            entry = int.from_bytes(raw, "little")
            if not entry & _PRESENT:
                return False
            if run > 1 and entry & _CONTIGUOUS:
                return True
            if address % (1 << shift) == 0:
                return False
            if shift == page_shift or not entry & _TABLE:
                return True
            table, shift = entry & _ADDRESS & -self.page_size, shift - per_table
        return False
