# SPDX-License-Identifier: Apache-2.0
"""The model of a comparison: seeded anew from what the real machine shows, and the same operations done to it.

Before each operation the blocks, zones and policies are those of a fresh snapshot, and the pages of the block that it
is about are those of a fresh look. Of the other blocks the last look counts. What no look can show, a kernel's memory
of poisoned pages in a block that is offline now, is carried along from the look before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hotbank.compare.operations import Operation, Verb
from hotbank.compare.outcome import Outcome, seen
from hotbank.errors import KernelError
from hotbank.machine import Block, Pages, Snapshot
from hotbank.memory import BlockState, Kind
from hotbank.model import Model
from hotbank.model.capture import BlockCapture, Capture
from hotbank.model.hotplug import GOING_OFFLINE, GOING_ONLINE
from hotbank.sysfs.store import Stores


class Looks:
    """What was last seen of the pages of each block. ``with_holes``: blocks in which there is not memory everywhere;
    where firmware keeps some for itself, pages alone don't tell."""

    def __init__(self, with_holes: frozenset[int] = frozenset()) -> None:
        self._with_holes = with_holes
        self._pages: dict[int, Pages] = {}
        self._poisoned: dict[int, int] = {}

    def keep(self, pages: Pages) -> None:
        """A fresh look at a block that is online."""
        self._pages[pages.block] = pages
        self._poisoned[pages.block] = sum(count for kind, count in pages.runs if kind is Kind.POISONED)

    def drop_but(self, now: Snapshot) -> None:
        """Forget pages of blocks that are not online any more, and poison of those that are gone."""
        online = {block.number for block in now.blocks if block.state is not BlockState.OFFLINE}
        self._pages = {number: pages for number, pages in self._pages.items() if number in online}
        there = {block.number for block in now.blocks}
        self._poisoned = {number: pages for number, pages in self._poisoned.items() if number in there}

    def model(self, now: Snapshot) -> Model:
        """A model that stands as the machine does."""
        captured = Capture(now, tuple(self._capture(now, block) for block in now.blocks))
        model = Model.restore(captured, backend="reference")
        for block in now.blocks:
            if block.state is BlockState.OFFLINE:
                model.hotplug.blocks[block.number].poisoned.update(range(self._poisoned.get(block.number, 0)))
        return model

    def _capture(self, now: Snapshot, block: Block) -> BlockCapture:
        count = now.block_size // now.page_size
        online = block.state is not BlockState.OFFLINE
        empty = Pages(block.number, ((Kind.FREE if online else Kind.HOLE, count),))
        pages = self._pages.get(block.number, empty)
        holes = block.number in self._with_holes or (online and any(kind is Kind.HOLE for kind, _ in pages.runs))
        return BlockCapture(pages, holes=holes)


def perform(model: Model, operation: Operation, patience: float) -> Outcome:
    """Do it to the model, with a limit of ``patience`` simulated seconds for an evacuation; how it ended."""
    before, code = model.hotplug.migration.success, 0
    try:
        with _notifier(model, operation.veto):
            _attempt(model, operation, patience)
    except KernelError as e:
        code = e.errno
    moved = model.hotplug.migration.success - before if operation.evacuates else 0
    return seen(model.snapshot(), code, moved)


@contextmanager
def _notifier(model: Model, number: int) -> Iterator[None]:
    """lib/memory-notifier-error-inject.c: the last in the chain."""
    chain = model.hotplug.notifiers
    chain.append(lambda action, _block: number if action in (GOING_ONLINE, GOING_OFFLINE) else 0)
    try:
        yield
    finally:
        chain.pop()


def _attempt(model: Model, operation: Operation, patience: float) -> None:
    block, word = operation.block, operation.word
    if operation.evacuates and block is not None:
        _offline(model, operation, patience)
    elif operation.verb is Verb.STATE and block is not None:
        Stores(model, model).state(block, word)
    elif operation.verb is Verb.SWITCH and block is not None:
        Stores(model, model).online(block, word)
    elif operation.verb is Verb.AUTO_ONLINE:
        Stores(model, model).auto_online(word)
    elif operation.verb is Verb.POLICY:
        model.set_policy(word, model.snapshot().policy.ratio)
    elif operation.verb is Verb.ADD and operation.bank is not None:
        model.add(operation.bank)
    elif operation.verb is Verb.REMOVE and operation.bank is not None:
        model.remove(operation.bank)
    # What a workload does to pages shows in the next look; of blocks and zones it must change nothing.


def _offline(model: Model, operation: Operation, patience: float) -> None:
    """Not as a write: those have no limit."""
    assert operation.block is not None, "only blocks are evacuated"
    block = model.hotplug.block(operation.block)
    if operation.verb is Verb.SWITCH and block.state is BlockState.OFFLINE:
        return
    model.offline(operation.block, model.clock.now() + patience)
