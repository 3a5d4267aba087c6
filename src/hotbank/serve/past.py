# SPDX-License-Identifier: Apache-2.0
"""The journal, told by an owner a part at a time, so that its length costs the owner nothing: the newest first."""

from __future__ import annotations

from hotbank.operate import Entry, Journal
from hotbank.serve.protocol import History

MOST, HEAVY = 128, 10_000  # transactions of a part; blocks and acts in them, from which on no further one is added


def part(journal: Journal, before: int | None) -> History:
    """The newest transactions that are older than the one of that id, one at least where there is any."""
    found, weight = list[Entry](), 0
    while len(found) < MOST and weight < HEAVY:
        newest = journal.entries(before, 1)
        if not newest:
            return History(tuple(reversed(found)), False)
        found += newest
        before, weight = newest[0].id, weight + len(newest[0].before.blocks) + len(newest[0].rows)
    return History(tuple(reversed(found)), bool(journal.entries(before, 1)))
