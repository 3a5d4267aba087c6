# SPDX-License-Identifier: Apache-2.0
"""Nodes that ``numa=fake=`` makes of a machine's own, where the kernel has CONFIG_NUMA_EMU.

Truth: mm/numa_emulation.c (``numa_emulation``, ``split_nodes_interleave``, ``split_nodes_size_interleave_uniform``,
``emu_setup_memblk``) and drivers/base/arch_numa.c (``numa_emu_dma_end``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hotbank.firmware.cmdline import memparse, strtoull
from hotbank.memory import GIB, MIB, Range
from hotbank.numbers import U64
from hotbank.zones.memblock import Memblock

MOST = 16  # MAX_NUMNODES: CONFIG_NODES_SHIFT of Debian's arm64 kernels is 4
LEAST = 32 * MIB  # FAKE_NODE_MIN_SIZE

Named = Sequence[tuple[Range, int]]
"""Memory with its nodes (``struct numa_meminfo``)."""

_End = Callable[[int, int, int], int]
"""Where a piece ends that begins there, with the limit of its memory and the number of the piece."""


def emulated(named: Named, memory: Memblock, words: str, page_size: int) -> Named:
    """What ``numa=fake=words`` makes of it; nothing where it fails, and the kernel goes on with ``named``."""
    made = _Split([*named], memory, page_size).nodes(words)
    return made if len(made) <= 2 * MOST else ()


@dataclass(slots=True)
class _Split:
    """Memory that is given away piece by piece: ``left`` is what no fake node has yet."""

    left: list[tuple[Range, int]]
    memory: Memblock
    page_size: int

    def nodes(self, words: str) -> Named:
        """By the letters in the words: pieces of each node, pieces of a size, or pieces of all memory."""
        if "U" in words:
            return self._of_each(strtoull(words)[0])
        if "M" in words or "G" in words:
            return self._of_size(memparse(words)[0])
        return self._of_all(strtoull(words)[0])

    def _of_all(self, asked: int) -> Named:
        """``split_nodes_interleave``: so many, the first ones with what is left over."""
        count = min(_signed(asked), MOST)
        if count <= 0:
            return ()
        share = self._share(self._present(0, self._end), count)
        size, big = share // LEAST * LEAST, share % LEAST * count // LEAST
        if not size:
            return ()

        def end(start: int, limit: int, number: int) -> int:
            return self._filled(start, start + size + (LEAST if number < big else 0), limit, size)

        return [(part, number % count) for number, part in enumerate(self._cut(self._numbers(), end, size))]

    def _of_size(self, asked: int) -> Named:
        """``split_nodes_size_interleave``: as large as asked for, or as many as there may be."""
        if not asked:
            return ()
        least = _at_least_one(self._share(self._present(0, self._end), MOST))
        size = max(asked, least) // LEAST * LEAST

        def end(start: int, limit: int, number: int) -> int:  # noqa: ARG001  # as all that say where a piece ends
            return self._filled(start, start + size, limit, size)

        return [(part, number % MOST) for number, part in enumerate(self._cut(self._numbers(), end, size))]

    def _of_each(self, asked: int) -> Named:
        """``split_nodes_size_interleave_uniform`` of each node: so many, holes and all."""
        count, made = _signed(asked), list[tuple[Range, int]]()
        while self.left and count > 0:
            block, node = self.left[0]
            size = _at_least_one(self._share(block.size, count))
            parts = [*self._cut([node], lambda start, _limit, _number, size=size: start + size)]  # type: ignore[misc]
            if len(parts) < count:
                return ()
            made += [(part, number % MOST) for number, part in enumerate(parts, len(made))]
        return made

    def _cut(self, nodes: Sequence[int], end_of: _End, too_little: int | None = None) -> Iterator[Range]:
        """Pieces of each node in turn, until none has memory left. ``too_little``: what is no piece of its own any
        more."""
        low_end, number = self.memory.start + 4 * GIB, 0
        while any(node in nodes for _, node in self.left):
            for node in nodes:
                at = self._first_of(node)
                if at is None:
                    continue
                start, limit = self.left[at][0].start, self.left[at][0].end
                end = end_of(start, limit, number)
                if end < low_end and self._present(end, low_end) < LEAST:
                    end = low_end
                if too_little is not None and (limit - end - self._holes(end, limit)) % U64 < too_little:
                    end = limit
                yield self._take(at, min(end, limit))
                number += 1

    def _first_of(self, node: int) -> int | None:
        return next((at for at, (_, owner) in enumerate(self.left) if owner == node), None)

    def _take(self, at: int, end: int) -> Range:
        whole, node = self.left[at]
        self.left[at : at + 1] = [(Range(end, whole.end), node)] if end < whole.end else []
        return Range(whole.start, end)

    def _filled(self, start: int, end: int, limit: int, size: int) -> int:
        """Go on by minimal sizes until so much of it is memory, or the limit is reached: over any hole at once."""
        enough = self._enough(start, size)
        if enough is not None and enough <= end:
            return end
        if enough is not None:
            end += -(-(enough - end) // LEAST) * LEAST
        return limit if enough is None else min(end, limit)

    def _enough(self, start: int, size: int) -> int | None:
        """Where so much memory lies behind ``start``; None where there is less."""
        for one in self.memory:
            here = max(0, one.range.end - max(one.range.start, start))
            if here >= size:
                return max(one.range.start, start) + size
            size -= here
        return None

    def _numbers(self) -> list[int]:
        return sorted({node for _, node in self.left})

    @property
    def _end(self) -> int:
        return self.memory.end // self.page_size * self.page_size

    def _share(self, size: int, count: int) -> int:
        return size // self.page_size // count * self.page_size

    def _present(self, start: int, end: int) -> int:
        return end - start - self._holes(start, end)

    def _holes(self, start: int, end: int) -> int:
        """``mem_hole_size``."""
        if start >= end:
            return 0
        inside = (one.range.intersection(Range(start, end)) for one in self.memory)
        return end - start - sum(part.size for part in inside if part)


def _at_least_one(share: int) -> int:
    """Whole minimal sizes, and one at least."""
    return -(-max(share, LEAST) // LEAST) * LEAST


def _signed(count: int) -> int:
    """An int of C."""
    return (count & 0xFFFFFFFF) - (1 << 32 if count & 1 << 31 else 0)
