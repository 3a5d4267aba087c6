# SPDX-License-Identifier: Apache-2.0
"""Where frames are: memory blocks packed next to each other, and the way between pfns and frame indices.

Frames are indices from 0 (frames.py); the kernel counts pfns (``address / page size``). Blocks that a machine neither
has nor may get take no frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from hotbank import kernels
from hotbank.kernels import Kernel
from hotbank.memory import BlockNumber, Pfn, Range
from hotbank.model.frames import Frame, Shape


class Geometry:
    """The memory blocks ``numbers`` of ``block_size`` bytes; pages of ``page_size`` bytes."""

    def __init__(self, numbers: tuple[int, ...], *, arch: str, page_size: int, block_size: int, kernel: Kernel) -> None:
        self.numbers = numbers
        self.page_size = page_size
        self.block_size = block_size
        self.pages_per_block = block_size // page_size
        self._slot = {number: slot for slot, number in enumerate(numbers)}
        its = kernels.arch(arch)
        self.shape = Shape(
            len(numbers) * self.pages_per_block,
            its.max_order(page_size),
            its.pageblock_order(page_size),
            kernel.steals_smallest,
        )

    def frames(self, block: int) -> tuple[Frame, Frame]:
        """The block's frames, half-open. Raises KeyError when the machine has no such block."""
        start = self._slot[block] * self.pages_per_block
        return Frame(start), Frame(start + self.pages_per_block)

    def block(self, frame: Frame) -> BlockNumber:
        """The number of the block that the frame is in."""
        return BlockNumber(self.numbers[frame // self.pages_per_block])

    def pfn(self, frame: Frame) -> Pfn:
        """The kernel's number of a frame."""
        slot, offset = divmod(frame, self.pages_per_block)
        return Pfn(self.numbers[slot] * self.pages_per_block + offset)

    def runs(self, memory: Range) -> Iterator[tuple[Frame, Frame]]:
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
                yield Frame(start), Frame(end)
