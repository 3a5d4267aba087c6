# SPDX-License-Identifier: Apache-2.0
"""``hugepages=``, ``hugepagesz=`` and ``default_hugepagesz=``, word by word as the kernel reads them.

Truth: mm/hugetlb.c (hugepages_setup, hugepagesz_setup, default_hugepagesz_setup, hugetlb_init); which sizes there are:
arch/arm64/mm/hugetlbpage.c (arch_hugetlb_valid_size).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from hotbank.firmware.cmdline import CommandLine, Parameter, memparse
from hotbank.firmware.ground import Ground, Refused
from hotbank.memory import Unplaced, format_size
from hotbank.numbers import digits

_COUNT = re.compile(r"\s*\+?([0-9]{1,19})")
_ANY = -1  # pages asked for before any size: of the default one


def taken(line: CommandLine, ground: Ground) -> Iterator[Unplaced | Refused]:
    """What the line's words take on that ground."""
    words = [w for w in line.parameters if w.named("hugepages") or w.named("hugepagesz") or w.named(_DEFAULT)]
    sizes = ground.arch.huge_sizes(ground.page_size)
    if words and not sizes:
        yield Refused(f"{words[0].key}= is read by no kernel of {ground.arch.name} here: it has no huge pages")
        return
    state = _State(sizes)
    for word in words:
        yield from state.obey(word)
    usual = ground.page_size << ground.arch.pageblock_order(ground.page_size)
    for size, pages in sorted(state.pools(usual).items()):
        if pages:
            yield Unplaced(f"hugepages= of {format_size(size)}", size * pages, size)


_DEFAULT = "default_hugepagesz"


@dataclass(slots=True)
class _State:
    """``pools``: pages by size. ``size``: what the next count is of. ``valid``: it follows no wrong size.
    ``counted``: what the last count was of."""

    sizes: tuple[int, ...]
    counts: dict[int, int] = field(default_factory=dict)
    size: int = _ANY
    default: int | None = None
    valid: bool = True
    counted: int | None = None

    def obey(self, word: Parameter) -> Iterator[Refused]:
        """One word. Yields what is wrong with it."""
        if word.named("hugepages"):
            yield from self._count(word.value or "")
            return
        self.valid = False
        size, default = memparse(word.value or "")[0], word.named(_DEFAULT)
        if size not in self.sizes:
            known = ", ".join(map(format_size, self.sizes))
            yield Refused(f"{word.key}= of {format_size(size)}: huge pages have {known} here, so it takes nothing")
        elif default and self.default is not None:
            yield Refused(f"{_DEFAULT}= is given twice: the first counts")
        elif not default and size in self.counts and (size != self.default or self.counts[size]):
            yield Refused(f"hugepagesz= of {format_size(size)} is given twice: what follows it takes nothing")
        else:
            self._begin(size, default)

    def _begin(self, size: int, default: bool) -> None:
        self.valid = True
        if not default or size not in self.counts:
            self.size = size
        self.counts.setdefault(size, 0)
        if default:
            self.default = size
            self.counts[size] = self.counts.pop(_ANY, 0) or self.counts[size]

    def _count(self, value: str) -> Iterator[Refused]:
        if not self.valid:
            self.valid = True
            yield Refused("hugepages= follows a size that does not count, and takes nothing")
        elif self.size == self.counted:
            yield Refused("hugepages= is given twice for one size: the first counts")
        else:
            self.counted = self.size
            self.counts[self.size] = _pages(value)

    def pools(self, usual: int) -> dict[int, int]:
        """Pages by size, those of the default size among them."""
        waiting = self.counts.pop(_ANY, 0)
        default = usual if self.default is None else self.default
        if waiting and not self.counts.get(default):
            self.counts[default] = waiting
        return self.counts


def _pages(value: str) -> int:
    """``4``, or by node ``0:2,1:2``."""
    total = 0
    for part in value.split(","):
        node, colon, count = part.partition(":")
        match = _COUNT.match(count if colon else node)
        if match is None or (not colon and total):
            break
        total += digits(match[1]) or 0
        if not colon:
            break
    return total
