# SPDX-License-Identifier: Apache-2.0
"""What pages hold, and who they belong to, wherever they lie.

Models the reverse map (mm/rmap.c) as one number per page: virtual pages, file offsets and kernel users hold a page's
handle, the frame holds the same handle, so a migration changes one entry. Every page has a token that stands for its
content; the frame must always read as that token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import cast

from hotbank.memory import Kind
from hotbank.model.frames import DARK, Frame, Frames
from hotbank.model.lru import Handle, Lru

_NOWHERE = Frame(-1)


@dataclass(slots=True, eq=False)
class Holder:
    """Who a page belongs to: a process's memory, a file, a kernel cache. ``single``: a slab cache whose slabs are a
    page each, so that isolation may pass over them (kernels.py, ``frozen_slab``)."""

    kind: Kind
    comm: str
    pid: int | None = None
    single: bool = False


class PageContents:
    """All pages that are somebody's. Handles are positive; those of ended pages are used again."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._frame: list[Frame] = [_NOWHERE]
        self._token: list[int] = [0]
        self._holder: list[Holder | None] = [None]
        self._spare: list[Handle] = []
        self._next_token = 1
        self.pins: dict[Handle, int] = {}
        self.long_pins: dict[Handle, int] = {}
        self.writeback: set[Handle] = set()
        self.dark: list[tuple[int, int]] = []  # frames without power: what is written there is lost
        self.clean = Lru()  # page cache that need not be written
        self._droppable: Counter[int] = Counter()  # zone → clean pages that no pin keeps

    def __len__(self) -> int:
        return len(self._frame) - 1 - len(self._spare)

    def create(self, frames: Sequence[Frame], holder: Holder) -> list[Handle]:
        """Put new content into allocated frames; one handle each."""
        handles = self._handles(len(frames))
        places, values, holders, tokens = self._frame, self._token, self._holder, self._tokens(len(frames))
        for handle, frame in zip(handles, frames, strict=True):
            places[handle] = frame
        for handle, token in zip(handles, tokens, strict=True):
            values[handle] = token
        for handle in handles:
            holders[handle] = holder
        self._frames.own(frames, handles, tokens)
        self._lose(frames)
        return handles

    def end(self, handles: Sequence[Handle]) -> list[Frame]:
        """Forget pages. Returns their frames, which the caller frees. A pinned page can't end."""
        places, holders = self._frame, self._holder
        frames = [places[handle] for handle in handles]
        assert not self.pins or self.pins.keys().isdisjoint(handles), "a pinned page stays until it is unpinned"
        assert min(frames, default=0) >= 0, "page ended before"
        self._frames.disown(frames)
        for handle in handles:
            assert places[handle] >= 0, "page ended twice"
            places[handle] = _NOWHERE
            holders[handle] = None
        if self.writeback:
            self.writeback.difference_update(handles)
        self._spare += handles
        return frames

    def write(self, handles: Sequence[Handle]) -> None:
        """Change the content, in the frame and in what is expected of it."""
        tokens = self._tokens(len(handles))
        frames = [self._frame[handle] for handle in handles]
        for handle, token in zip(handles, tokens, strict=True):
            self._token[handle] = token
        self._frames.own(frames, handles, tokens)
        self._lose(frames)

    def move(self, handles: Sequence[Handle], targets: Sequence[Frame]) -> list[Frame]:
        """Carry pages to allocated frames. Returns the frames they left, which the caller frees."""
        sources = [self._frame[handle] for handle in handles]
        self._frames.move(sources, targets)
        if self.clean:
            self._relist(handles, targets)
        for handle, target in zip(handles, targets, strict=True):
            self._frame[handle] = target
        self._lose(targets)
        return sources

    def frame(self, handle: Handle) -> Frame:
        """Where the page lies."""
        return self._frame[handle]

    def frames(self, handles: Iterable[Handle]) -> list[Frame]:
        """Where many pages lie."""
        frame = self._frame
        return [frame[handle] for handle in handles]

    def at(self, frames: Sequence[int]) -> list[Handle]:
        """Handles of the pages that lie in the frames, in their order; a frame that is nobody's is left out."""
        return cast("list[Handle]", [owner for owner in self._frames.holds(frames)[1] if owner])

    def token(self, handle: Handle) -> int:
        """What the page's frame should read as."""
        return self._token[handle]

    def holder(self, handle: Handle) -> Holder:
        """Whose page it is."""
        holder = self._holder[handle]
        assert holder is not None, "no such page"
        return holder

    def by_holder(self, handles: Iterable[Handle]) -> Iterator[tuple[Holder, list[Handle]]]:
        """Runs of pages that are of one holder."""
        for holder, run in groupby(handles, self._holder.__getitem__):
            assert holder is not None, "no such page"
            yield holder, list(run)

    def pin(self, handle: Handle, *, long: bool) -> None:
        """Take a reference that keeps the page where it is."""
        if handle in self.clean and handle not in self.pins:
            self._droppable[self.clean.zone(handle)] -= 1
        self.pins[handle] = self.pins.get(handle, 0) + 1
        if long:
            self.long_pins[handle] = self.long_pins.get(handle, 0) + 1

    def unpin(self, handle: Handle, *, long: bool) -> None:
        """Drop such a reference."""
        for table in (self.pins, self.long_pins) if long else (self.pins,):
            table[handle] -= 1
            if not table[handle]:
                del table[handle]
        if handle in self.clean and handle not in self.pins:
            self._droppable[self.clean.zone(handle)] += 1

    # Clean page cache

    def mark_clean(self, handles: Sequence[Handle]) -> None:
        """The pages' content is on a disk: reclaim could drop them, in the order in which they became clean."""
        listed = self.clean.zones()
        fresh = [handle for handle in handles if handle not in listed]
        for zone, group in self._by_zone(fresh, self.frames(fresh)):
            self._list(zone, group)

    def unmark_clean(self, handles: Iterable[Handle]) -> None:
        """The pages end, or are written to."""
        for zone, group in self.clean.discard(handles):
            self._droppable[zone] -= self._unpinned(group)

    def droppable(self) -> dict[int, int]:
        """Zone number → clean pages that reclaim could drop. Counted as they come and go: no page is looked at."""
        return {zone: pages for zone, pages in self._droppable.items() if pages}

    def _relist(self, handles: Sequence[Handle], targets: Sequence[int]) -> None:
        """Clean pages that move to another zone are the newest there."""
        listed = self.clean.zones()
        moved = [(h, to) for h, to in zip(handles, targets, strict=True) if h in listed]
        for zone, group in self._by_zone([h for h, _ in moved], [to for _, to in moved]):
            elsewhere = [handle for handle in group if self.clean.zone(handle) != zone]
            self.unmark_clean(elsewhere)
            self._list(zone, elsewhere)

    def _list(self, zone: int, handles: Sequence[Handle]) -> None:
        self.clean.add(zone, handles)
        self._droppable[zone] += self._unpinned(handles)

    def _unpinned(self, handles: Sequence[Handle]) -> int:
        return sum(handle not in self.pins for handle in handles) if self.pins else len(handles)

    def _by_zone(self, handles: Sequence[Handle], frames: Sequence[int]) -> Iterator[tuple[int, list[Handle]]]:
        """Runs of pages whose frames are in one zone. A pageblock is in one zone, so each is asked for once."""
        shift, place = self._frames.shape.pageblock_order, 0
        pageblocks = [frame >> shift for frame in frames]
        zone_of = {pageblock: self._frames.zone(pageblock << shift) for pageblock in set(pageblocks)}
        if len(zones := set(zone_of.values())) == 1:
            yield zones.pop(), [*handles]
            return
        for zone, run in groupby(map(zone_of.__getitem__, pageblocks)):
            pages = sum(1 for _ in run)
            yield zone, [*handles[place : place + pages]]
            place += pages

    def pinned_for_long(self, start: int, end: int) -> list[Frame]:
        """Those of the frames whose page is pinned for long, ascending."""
        return sorted(frame for frame in self.frames(self.long_pins) if start <= frame < end)

    def is_dark(self, frame: int) -> bool:
        """True if the frame has no power."""
        return any(start <= frame < end for start, end in self.dark)

    def live(self) -> Iterator[Handle]:
        """Handles in use."""
        return cast("Iterator[Handle]", (handle for handle, frame in enumerate(self._frame) if frame >= 0))

    def damaged(self) -> list[Handle]:
        """Handles whose frame does not read as it should, or does not know them."""
        handles = list(self.live())
        _, owners, contents = self._frames.holds(self.frames(handles))
        found = zip(handles, owners, contents, strict=True)
        return [handle for handle, owner, content in found if (owner, content) != (handle, self._token[handle])]

    def _lose(self, written: Sequence[int]) -> None:
        for start, end in self.dark:
            for frame in written:
                if start <= frame < end:
                    self._frames.fill(frame, frame + 1, DARK)

    def _handles(self, count: int) -> list[Handle]:
        keep = max(0, len(self._spare) - count)
        reused = self._spare[keep:]
        reused.reverse()
        del self._spare[keep:]
        fresh = range(len(self._frame), len(self._frame) + count - len(reused))
        self._frame += [_NOWHERE] * len(fresh)
        self._token += [0] * len(fresh)
        self._holder += [None] * len(fresh)
        return [*reused, *cast("Iterable[Handle]", fresh)]

    def _tokens(self, count: int) -> range:
        first = self._next_token
        self._next_token += count
        return range(first, first + count)
