# SPDX-License-Identifier: Apache-2.0
"""What memory holds as folded stacks, ``bank;zone;kind;owner pages``, which every flame graph reads.

An owner is known of pages that a survey names as standing in the way, the first few of a block; ``-`` are all others.
An offline block holds nothing: all its pages are ``bank;offline;-;-``. Truth: flamegraph.pl.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from hotbank.machine import Block, Evidence, Snapshot, Survey
from hotbank.memory import Kind

NOBODY = "-"
_BREAKS = re.compile(r"[;\s]|[^\x21-\x7e]")  # what ends a frame, or a line

Stack = tuple[str, str, str, str]


def stacks(snapshot: Snapshot, surveys: Mapping[int, Survey], blocks: Iterable[int]) -> Counter[Stack]:
    """Pages by bank, zone, kind and owner; of each block all its pages, once."""
    counts: Counter[Stack] = Counter()
    for block in blocks:
        found = snapshot.block(block)
        if found is not None:
            counts.update(dict(_of_block(snapshot, found, surveys.get(block))))
    return counts


def _of_block(snapshot: Snapshot, block: Block, survey: Survey | None) -> Iterator[tuple[Stack, int]]:
    bank = snapshot.bank_at(block.number)
    name = NOBODY if bank is None else bank.name
    if survey is None:
        yield (name, "offline", NOBODY, NOBODY), snapshot.pages_per_block
        return
    owned = Counter((each.kind, owner_of(each)) for each in survey.blocking)
    zone, kinds = block.zone or NOBODY, survey.kinds or {Kind.UNKNOWN: snapshot.pages_per_block}
    for kind, pages in kinds.items():
        own = {owner: n for (its, owner), n in owned.items() if its is kind and owner != NOBODY}
        yield from (((name, zone, kind, owner), n) for owner, n in own.items())
        yield (name, zone, kind, NOBODY), pages - sum(own.values())


def owner_of(evidence: Evidence) -> str:
    """Who holds a page, by name where there is one."""
    owner = evidence.owner
    if owner is None:
        return NOBODY
    return owner.comm or (f"pid {owner.pid}" if owner.pid is not None else owner.cgroup or NOBODY)


def lines(counts: Mapping[Stack, int]) -> Iterator[str]:
    """A line a stack, sorted; empty ones are left out."""
    for stack, pages in sorted(counts.items()):
        if pages:
            yield f"{';'.join(_BREAKS.sub('_', frame) for frame in stack)} {pages}"
