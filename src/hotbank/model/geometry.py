# SPDX-License-Identifier: Apache-2.0
"""Where frames are: memory blocks packed next to each other, and the way between pfns and frame indices.

Frames are indices from 0 (frames.py); the kernel counts pfns (``address / page size``). Blocks that a machine neither
has nor may get take no frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from hotbank.memory import Range
from hotbank.model.frames import Shape


class Geometry:
    """The memory blocks ``numbers`` of ``block_size`` bytes; pages of ``page_size`` bytes.

    Orders are those of the kernels the boards run: with transparent or explicit huge pages (arm64) a pageblock is a
    huge page, else (arm) the largest buddy (include/linux/pageblock-flags.h).
    """

    def __init__(self, numbers: tuple[int, ...], *, arch: str, page_size: int, block_size: int) -> None:
        self.numbers = numbers
        self.page_size = page_size
        self.block_size = block_size
        self.pages_per_block = block_size // page_size
        self._slot = {number: slot for slot, number in enumerate(numbers)}
        max_order, pageblock_order = _orders(arch, page_size)
        self.shape = Shape(len(numbers) * self.pages_per_block, max_order, pageblock_order)

    def frames(self, block: int) -> tuple[int, int]:
        """The block's frames, half-open. Raises KeyError when the machine has no such block."""
        start = self._slot[block] * self.pages_per_block
        return start, start + self.pages_per_block

    def block(self, frame: int) -> int:
        """The number of the block that the frame is in."""
        return self.numbers[frame // self.pages_per_block]

    def pfn(self, frame: int) -> int:
        """The kernel's number of a frame."""
        slot, offset = divmod(frame, self.pages_per_block)
        return self.numbers[slot] * self.pages_per_block + offset

    def runs(self, memory: Range) -> Iterator[tuple[int, int]]:
        """The frames of an address range, half-open, a pair for every stretch of adjacent blocks.

        Pages that are only partly inside are left out, and so is what lies in no known block.
        """
        first, last = -(-memory.start // self.page_size), memory.end // self.page_size
        touched = range(first // self.pages_per_block, -(-last // self.pages_per_block))
        slots = [(n, self._slot[n]) for n in touched if n in self._slot] if len(touched) < 1 << 20 else []
        for _, group in groupby(enumerate(slots), key=lambda item: item[1][0] - item[0]):
            stretch = [entry for _, entry in group]
            (number, slot), (end_number, end_slot) = stretch[0], stretch[-1]
            start = slot * self.pages_per_block + max(0, first - number * self.pages_per_block)
            end = end_slot * self.pages_per_block + min(self.pages_per_block, last - end_number * self.pages_per_block)
            if start < end:
                yield start, end


def _orders(arch: str, page_size: int) -> tuple[int, int]:
    """MAX_PAGE_ORDER and pageblock_order."""
    if arch == "arm":
        return 10, 10
    shift = page_size.bit_length() - 1
    huge = shift - 3  # a PMD maps as many pages as one page holds 8-byte entries
    return {12: 10, 14: 11, 16: 13}.get(shift, max(10, huge)), huge
