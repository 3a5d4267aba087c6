# SPDX-License-Identifier: Apache-2.0
"""Trouble on purpose: pages that keep a bank from leaving, put into one that may."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from hotbank.errors import Code, Refusal
from hotbank.model.machine import Model

_PAGES = 512  # of the process or file that is in the way
_FILE = "upload"


def pin(model: Model) -> None:
    """Pin a page for good, as a device that reads from it does: PINNED, and EINTR at the deadline."""
    pid = model.spawn("capture", anon_pages=_PAGES)
    model.pin(pid, _in_the_way(model, pid))


def poison(model: Model) -> None:
    """A memory error hits a page and kills its process: POISONED."""
    pid = model.spawn("victim", anon_pages=_PAGES)
    model.poison(pid, _in_the_way(model, pid))


def stall(model: Model) -> None:
    """Write dirty pages to a device that does not answer: the kernel waits for them, past a signal: CANCEL_PENDING."""
    model.write_file(_FILE, _PAGES)
    model.stall_writeback(_FILE, _PAGES)


FAULTS: Mapping[str, Callable[[Model], None]] = {"pin": pin, "poison": poison, "stall": stall}


def _in_the_way(model: Model, pid: int) -> int:
    """A virtual page of the process that lies in a bank that may leave. Raises Refusal(NO_CAPACITY)."""
    found = next((vpage for block in _movable(model) for vpage in model.place(pid, block)), None)
    if found is None:
        what = f"{model.snapshot().machine}: no page of a process lies in a bank that may leave"
        raise Refusal(Code.NO_CAPACITY, what, remedy="bring a movable bank in first")
    return found


def _movable(model: Model) -> Iterator[int]:
    for bank in model.snapshot().banks:
        if bank.movable:
            yield from bank.blocks
