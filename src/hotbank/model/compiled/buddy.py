# SPDX-License-Identifier: Apache-2.0
"""The buddy allocator as loops over arrays, compiled by numba.

Takes the steps of mm/page_alloc.c (6.12) that frames.py pins, in a layout of its own: nine bytes a frame.

* ``state`` has one byte a frame. On the first frame of a block: its kind code, or HEAD with the order when the block
  is free. 0 on its other frames: they are what the nearest frame before them is that says something. So a block of
  any order is allocated, split, merged and freed by its first frames alone.
* ``links`` has two 32-bit words a frame. On the first frame of a free block they are the next and the previous entry
  of its list; on a frame in use, its owner and its content. A block that leaves its list has no owner.
* A block of the largest order, a *top*, has such an entry of its own behind those of the frames. While all of its
  frames are alike, that entry speaks for them (kind, owner, content, or "free") and theirs is not touched, so that
  memory which is wholly free, absent or reserved costs nine bytes per top. MIXED: the frames speak for themselves,
  the first one always. The state bytes of the frames of a top that isn't MIXED are 0.
* Behind the tops come the list heads, one for each zone, migratetype and order. Lists are circular, so that entering
  and leaving need no test for the ends.

Speed hangs on four things (docs/speed.md): no reference counting of the arrays (``_nrt=False``), leaves inlined
by numba itself, unsigned numbers throughout, because a signed index is first tested for being negative, and memory
that is asked for before it is needed (``churn``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from hotbank.memory import CODE, KINDS, Kind
from hotbank.model.frames import FALLBACKS, NO_FRAME, OFFLINE, MigrateType

U = np.uint64
_BYTE = np.uint8
_ZERO, _ONE, _TWO = U(0), U(1), U(2)
_LIST_BITS = U(4)  # orders fit into 4 bits: 0..15
GROUP_BITS = 3  # migratetypes fit into 3
_ZONE = U(GROUP_BITS)

_AHEAD = U(24)  # how many operations ahead memory is fetched; with 12, an order-0 churn took half as long again
NONE = U(NO_FRAME)
HEAD = _BYTE(0x80)
_AT_HEAD, _AT_TAIL = False, True
MIXED = _BYTE(0x7F)
_INSIDE = _BYTE(0)
_ORDER = U(0x0F)
_OFFLINE = _BYTE(15)

_MOVABLE, _RECLAIMABLE = U(MigrateType.MOVABLE), U(MigrateType.RECLAIMABLE)
_CMA, _ISOLATE, _TYPES = U(MigrateType.CMA), U(MigrateType.ISOLATE), U(len(MigrateType))
_TYPE = (_ONE << _ZONE) - _ONE
_FALLBACKS = np.array([FALLBACKS[kind] for kind in sorted(FALLBACKS)], np.uint64)

_IS_MOVABLE = np.array([byte < len(KINDS) and KINDS[byte].movable for byte in range(256)], np.uint8)
assert CODE[Kind.FREE] == _INSIDE  # no code says "free": HEAD does
assert OFFLINE == _OFFLINE  # as a number: what numba keeps of this file must change with it
assert max(*CODE.values(), OFFLINE) < MIXED

Words = npt.NDArray[np.uint32]
Bytes = npt.NDArray[np.uint8]


class Arrays(NamedTuple):
    """All state of the allocator. A *group* is the lists of one zone and migratetype: ``zone * 8 + migratetype``."""

    links: Words  # two words for each frame, top and list head
    state: Bytes  # each frame and top
    group: npt.NDArray[np.uint16]  # each pageblock
    orders: Words  # each group: bit n is set while it has free blocks of order n
    pages: npt.NDArray[np.uint64]  # each group: free pages
    tops: np.uint64  # entry of the first top, which is the number of frames
    lists: np.uint64  # entry of the first list head
    top: np.uint64  # order of the largest buddy
    pageblock: np.uint64  # order of a pageblock
    smallest: np.uint64  # not 0: pages of other types' pageblocks come from the smallest free piece


_njit: Any = numba.njit  # its types know nothing of _nrt
_intrinsic: Any = intrinsic
_leaf = _njit(inline="always", _nrt=False, error_model="numpy")
_kernel = _njit(_nrt=False, error_model="numpy", cache=True, no_cfunc_wrapper=True)
_inner = _njit(_nrt=False, error_model="numpy", cache=True, no_cfunc_wrapper=True, no_cpython_wrapper=True)


@_intrinsic
def _lowest_bit(_: Any, __: Any) -> Any:
    """Position of the lowest set bit of a 64-bit word that is not 0: one instruction."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(types.boolean, True))

    return types.uint64(types.uint64), generate


@_intrinsic
def _prefetch(_: Any, items: Any, __: Any) -> Any:
    """Ask for the cache line of an array's item; a hint, so that any index is allowed."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        line = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [line.type, word, word, word])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [line.type], kind)
        builder.call(prefetch, [line, word(1), word(3), word(1)])  # to write, into all caches, data
        return context.get_dummy_value()

    return types.void(items, types.uint64), generate


# Lists


@_leaf
def _enter(a, entry, order, group, tail):
    """Put a free block at the head of its list, or at its tail."""
    head = a.lists + (group << _LIST_BITS) + order
    before, after = head, U(a.links[head << _ONE])
    if tail:
        before, after = U(a.links[(head << _ONE) + _ONE]), head
    a.links[entry << _ONE] = after
    a.links[(entry << _ONE) + _ONE] = before
    a.links[before << _ONE] = entry
    a.links[(after << _ONE) + _ONE] = entry
    a.state[entry] = HEAD | _BYTE(order)
    a.orders[group] |= np.uint32(_ONE << order)


@_leaf
def _leave(a, entry, order, group):
    """Take a free block out of its list. For a top, the caller says what its frames are now."""
    after, before = U(a.links[entry << _ONE]), U(a.links[(entry << _ONE) + _ONE])
    a.links[before << _ONE] = after
    a.links[(after << _ONE) + _ONE] = before
    a.links[entry << _ONE] = _ZERO
    a.state[entry] = _INSIDE
    if after == before:  # only the list head is left
        a.orders[group] &= np.uint32(~(_ONE << order))


@_leaf
def _entry(a, frame, order):
    """Where a free block's links are."""
    entry = frame
    if order == a.top:
        entry = a.tops + (frame >> a.top)
    return entry


# Frames in use


@_inner
def _mix(a, entry):
    """Let the frames of a top speak for themselves."""
    first, last = (entry - a.tops) << a.top, (entry - a.tops + _ONE) << a.top
    for frame in range(first, last):
        a.links[frame << _ONE] = a.links[entry << _ONE]
        a.links[(frame << _ONE) + _ONE] = a.links[(entry << _ONE) + _ONE]
    a.state[first] = a.state[entry]
    a.state[entry] = MIXED


@_leaf
def _code(a, frame):
    """What the block around a frame says: a kind code, or HEAD and an order."""
    code = a.state[a.tops + (frame >> a.top)]
    if code == MIXED:
        code = a.state[frame]
        order = _ZERO
        while code == _INSIDE:
            order += _ONE
            code = a.state[frame & ~((_ONE << order) - _ONE)]
    return code


@_leaf
def _in_use(code):
    return _BYTE(code - _BYTE(1)) < _OFFLINE - _BYTE(1)  # neither _INSIDE, nor OFFLINE, nor HEAD


@_leaf
def _occupy(a, frame, order, code):
    """Write what a block that just left the free lists holds."""
    entry = _entry(a, frame, order)
    a.state[entry] = code


@_leaf
def _vacate(a, frame, order):
    """Forget what a block in use holds. False, and nothing done, when it is not in use."""
    last = frame + (_ONE << order) - _ONE
    done = last < a.tops
    if done:
        alone = (order == _ZERO) | (a.state[last] == _INSIDE) & (frame & (last - frame) == _ZERO)
        if alone & (a.state[last + _ONE] != _INSIDE) & _in_use(a.state[frame]):
            a.state[frame] = _INSIDE
        else:
            done = _vacate_part(a, frame, order)
    return done


@_inner
def _vacate_part(a, frame, order):
    """The same where the block is part of a larger one, consists of smaller ones, is a top or ends with one."""
    if not _in_use(_code(a, frame)):
        return False
    if order != a.top or a.state[a.tops + (frame >> a.top)] == MIXED:
        _write(a, frame, frame + (_ONE << order), _INSIDE)
    return True


@_inner
def _write(a, start, end, code):
    """Write each state byte of frames of one top; what is left of the block that they end in gets its own bytes, too.

    So only a block that nobody wrote to since it was allocated has a last byte of 0.
    """
    entry = a.tops + (start >> a.top)
    if a.state[entry] != MIXED:
        _mix(a, entry)
    if end & ((_ONE << a.top) - _ONE) != _ZERO:
        rest, behind = _code(a, end), end
        while a.state[behind] == _INSIDE and behind & ((_ONE << a.top) - _ONE) != _ZERO:
            a.state[behind] = rest
            behind += _ONE
    for frame in range(start, end):
        a.state[frame] = code


# Freeing, by __free_one_page


@_leaf
def _mergeable(group, other):
    """May free blocks of at least a pageblock merge: those of one zone and type, or of types that have fallbacks?"""
    alike = other == group
    if not alike and other >> _ZONE == group >> _ZONE:
        alike = (other & _TYPE) <= _RECLAIMABLE and (group & _TYPE) <= _RECLAIMABLE
    return alike


@_inner
def _merge_across(a, frame, order, group):
    """From pageblock order up, where buddies may be of different groups. Returns the order."""
    while a.pageblock <= order and order < a.top:
        buddy = frame ^ (_ONE << order)
        if a.state[buddy] != HEAD | _BYTE(order):
            break
        other = U(a.group[buddy >> a.pageblock])
        if not _mergeable(group, other):
            break
        _leave(a, buddy, order, other)
        _retype(a, buddy, order, other, group)
        frame &= buddy
        order += _ONE
    return order


@_leaf
def _retype(a, frame, order, old, new):
    """Give a free block of at least a pageblock, in no list just now, to another group."""
    a.pages[old] -= _ONE << order
    a.pages[new] += _ONE << order
    for pageblock in range(frame >> a.pageblock, (frame + (_ONE << order)) >> a.pageblock):
        a.group[pageblock] = new


@_leaf
def _free_one(a, frame, order, tail):
    """Merge with the buddy while it is free, then enter the list of the pageblock's type."""
    group = U(a.group[frame >> a.pageblock])
    a.pages[group] += _ONE << order
    while order < a.pageblock:
        buddy = frame ^ (_ONE << order)
        if a.state[buddy] != HEAD | _BYTE(order):
            break
        _leave(a, buddy, order, group)
        frame &= buddy
        order += _ONE
    if order < a.pageblock:
        _enter(a, frame, order, group, tail)
    else:
        _enter_large(a, frame, order, group, tail)


@_inner
def _enter_large(a, frame, order, group, tail):
    order = _merge_across(a, frame, order, group)
    _enter(a, _entry(a, frame & ~((_ONE << order) - _ONE), order), order, group, tail)


@_kernel
def free(a, frames, order):
    """Free blocks one by one. Returns how many, fewer than asked when the next one is not in use."""
    for i in range(U(frames.size)):
        frame = U(frames[i])
        if not _vacate(a, frame, order):
            return i
        _free_one(a, frame, order, _AT_HEAD)
    return U(frames.size)


@_kernel
def release(a, start, end):
    """memblock's way: the largest aligned pieces of reserved frames, ascending, each to the tail of its list."""
    while start < end:
        order = a.top
        while start & ((_ONE << order) - _ONE) or start + (_ONE << order) > end:
            order -= _ONE
        _vacate(a, start, order)
        _free_one(a, start, order, _AT_TAIL)
        start += _ONE << order


# Allocating, by __rmqueue


@_leaf
def _take_smallest(a, group, order):
    """__rmqueue_smallest: the head of the smallest list that serves, split to size."""
    large_enough = U(a.orders[group]) >> order
    frame = NONE
    if large_enough != _ZERO:
        current = order + _lowest_bit(large_enough)
        entry = U(a.links[(a.lists + (group << _LIST_BITS) + current) << _ONE])
        frame = _pop(a, entry, current, group)
        _expand(a, frame, current, order, group)
    return frame


@_leaf
def _pop(a, entry, order, group):
    """Take a block out of its list to split or hand out. Returns its first frame."""
    frame = entry
    _leave(a, entry, order, group)
    if order == a.top:
        a.state[entry] = MIXED
        frame = (entry - a.tops) << a.top
    return frame


@_leaf
def _expand(a, frame, current, order, group):
    """Hand out the front of a block; the rest goes back to the lists."""
    a.pages[group] -= _ONE << order
    while current > order:
        current -= _ONE
        _enter(a, frame + (_ONE << current), current, group, _AT_HEAD)


@_leaf
def _take(a, zone, order, migratetype):
    """One block's first frame, or NONE."""
    if migratetype == _MOVABLE and a.pages[zone + _CMA] != _ZERO:
        frame = _take_beside_cma(a, zone, order)
    else:
        frame = _take_smallest(a, zone + migratetype, order)
        if frame == NONE:
            frame = _take_fallback(a, zone, order, migratetype)
    return frame


@_leaf
def _zone_pages(a, zone):
    """Free pages of a zone, the isolated ones left out. ``zone``: its first group."""
    pages = _ZERO
    for migratetype in range(_TYPES):
        if migratetype != _ISOLATE:
            pages += a.pages[zone + migratetype]
    return pages


@_inner
def _take_beside_cma(a, zone, order):
    """A movable request in a zone that has free CMA pages: those first while they are more than half."""
    frame = NONE
    if a.pages[zone + _CMA] > _zone_pages(a, zone) >> _ONE:
        frame = _take_smallest(a, zone + _CMA, order)
    if frame == NONE:
        frame = _take_smallest(a, zone + _MOVABLE, order)
    if frame == NONE:
        frame = _take_smallest(a, zone + _CMA, order)
    if frame == NONE:
        frame = _take_fallback(a, zone, order, _MOVABLE)
    return frame


@_inner
def _suitable_fallback(a, zone, order, migratetype):
    """find_suitable_fallback: the first fallback group with a free block of this order, or NONE."""
    if migratetype <= _RECLAIMABLE:
        for i in range(_TWO):
            group = zone + _FALLBACKS[migratetype, i]
            if U(a.orders[group]) >> order & _ONE:
                return group
    return NONE


@_inner
def _take_fallback(a, zone, order, migratetype):
    """From another type: __rmqueue_claim, then __rmqueue_steal; before, __rmqueue_fallback."""
    if a.smallest == _ZERO:
        return _fall_back(a, zone, order, migratetype)
    frame = _claim_largest(a, zone, order, migratetype)
    if frame == NONE:
        frame = _steal_smallest(a, zone, order, migratetype)
    return frame


@_inner
def _claim_largest(a, zone, order, migratetype):
    """__rmqueue_claim: from the pageblock of the largest block whose pageblock may change hands."""
    current = a.top + _ONE
    while current > order:
        current -= _ONE
        if migratetype == _MOVABLE and current < a.pageblock >> _ONE:
            return NONE
        group = _suitable_fallback(a, zone, current, migratetype)
        if group != NONE:
            frame = _take_over(a, zone, current, order, group, migratetype)
            if frame != NONE:
                return frame
    return NONE


@_inner
def _steal_smallest(a, zone, order, migratetype):
    """__rmqueue_steal: from the smallest block, whose pageblock stays what it is."""
    for current in range(order, a.top + _ONE):
        group = _suitable_fallback(a, zone, current, migratetype)
        if group != NONE:
            return _take_one(a, current, order, group)
    return NONE


@_inner
def _fall_back(a, zone, order, migratetype):
    """__rmqueue_fallback: the largest block of another type; sometimes, for movable requests, the smallest."""
    current = a.top + _ONE
    while current > order:
        current -= _ONE
        group = _suitable_fallback(a, zone, current, migratetype)
        if group == NONE:
            continue
        if migratetype == _MOVABLE and current < a.pageblock >> _ONE:
            current = order
            group = _suitable_fallback(a, zone, current, migratetype)
            while group == NONE:
                current += _ONE
                group = _suitable_fallback(a, zone, current, migratetype)
        return _steal(a, zone, current, order, group, migratetype)
    return NONE


@_inner
def _steal(a, zone, current, order, group, migratetype):
    """steal_suitable_fallback: take over the pageblock if it suits, else just one block from it."""
    frame = _take_over(a, zone, current, order, group, migratetype)
    if frame == NONE:
        frame = _take_one(a, current, order, group)
    return frame


@_inner
def _take_over(a, zone, current, order, group, migratetype):
    """try_to_claim_block: a block of a pageblock that changes hands, or NONE."""
    entry = U(a.links[(a.lists + (group << _LIST_BITS) + current) << _ONE])
    wanted = zone + migratetype
    if current >= a.pageblock:
        frame = _pop(a, entry, current, group)
        _retype(a, frame, current, group, wanted)
        _expand(a, frame, current, order, wanted)
        return frame
    if (current >= a.pageblock >> _ONE or migratetype != _MOVABLE) and _claim(a, entry, group, migratetype):
        return _take_smallest(a, wanted, order)
    return NONE


@_inner
def _take_one(a, current, order, group):
    entry = U(a.links[(a.lists + (group << _LIST_BITS) + current) << _ONE])
    frame = _pop(a, entry, current, group)
    _expand(a, frame, current, order, group)
    return frame


@_inner
def _claim(a, frame, group, migratetype):
    """Turn a whole pageblock over if at least half of it is free or of a compatible kind."""
    size = _ONE << a.pageblock
    start = frame & ~(size - _ONE)
    free, movable = _ZERO, _ZERO
    code = _code(a, start)
    for each in range(start, start + size):
        if a.state[each] != _INSIDE:
            code = a.state[each]
        free += U(code >= HEAD)
        movable += U(_IS_MOVABLE[code])
    alike = _ZERO
    if migratetype == _MOVABLE:
        alike = movable
    elif group & _TYPE == _MOVABLE:
        alike = size - free - movable
    if free + alike < size >> _ONE:
        return False
    move_free(a, start, start + size, migratetype)
    return True


@_kernel
def alloc(a, zone, order, migratetype, code, frames):
    """Fill ``frames`` with blocks. Returns how many there were."""
    for i in range(U(frames.size)):
        frame = _take(a, zone, order, migratetype)
        if frame == NONE:
            return i
        _occupy(a, frame, order, code)
        frames[i] = frame
    return U(frames.size)


@_kernel
def churn(a, zone, migratetype, code, slots, orders, picks):
    """Allocate into each picked slot that is empty, free each that is not. Returns (picks done, requests failed).

    Stops at a slot whose frame is not in use, or that has no such order. What the picks to come will touch is fetched
    ahead, slots first and then their frames: otherwise most of the time goes into waiting for memory. A slot that is
    picked twice in a row is freed and filled in one go.
    """
    failed, i, end = _ZERO, _ZERO, U(picks.size)
    while i < end:
        if i + _TWO * _AHEAD < end:
            _prefetch(slots, U(picks[i + _TWO * _AHEAD]))
            _prefetch(orders, U(picks[i + _TWO * _AHEAD]))
            ahead = U(slots[picks[i + _AHEAD]])
            if ahead != NONE:
                _prefetch(a.state, ahead)
                _prefetch(a.links, ahead << _ONE)
        slot = U(picks[i])
        order = U(orders[slot])
        frame = U(slots[slot])
        if order > a.top:
            break
        if frame != NONE:
            if not _vacate(a, frame, order):
                break
            _free_one(a, frame, order, _AT_HEAD)
            frame = NONE
            i += _ONE
            if i == end or picks[i] != slot:
                slots[slot] = NONE
                continue
        frame = _take(a, zone, order, migratetype)
        if frame == NONE:
            failed += _ONE
        else:
            _occupy(a, frame, order, code)
        slots[slot] = frame
        i += _ONE
    return i, failed


# Isolation and hotplug


@_leaf
def _next_head(a, frame, end):
    """The first frame, from ``frame`` on, of a free block, or at least ``end``."""
    while frame < end:
        code = a.state[a.tops + (frame >> a.top)]
        if code == MIXED:
            if a.state[frame] >= HEAD:
                break
            frame += _ONE
        else:
            if code >= HEAD and frame & ((_ONE << a.top) - _ONE) == _ZERO:
                break
            frame = ((frame >> a.top) + _ONE) << a.top
    return frame


@_leaf
def _order_at(a, head):
    """The order of the free block that begins here."""
    code = a.state[a.tops + (head >> a.top)]
    if code == MIXED:
        code = a.state[head]
    return U(code) & _ORDER


@_kernel
def move_free(a, start, end, migratetype):
    """__move_freepages_block: free blocks go to the tails of the type's lists, then the pageblocks change."""
    frame = _next_head(a, start, end)
    while frame < end:
        order = _order_at(a, frame)
        old = U(a.group[frame >> a.pageblock])
        new = (old & ~_TYPE) | migratetype
        entry = _entry(a, frame, order)
        _leave(a, entry, order, old)
        _enter(a, entry, order, new, _AT_TAIL)
        a.pages[old] -= _ONE << order
        a.pages[new] += _ONE << order
        frame = _next_head(a, frame + (_ONE << order), end)
    for pageblock in range(start >> a.pageblock, end >> a.pageblock):
        a.group[pageblock] = (U(a.group[pageblock]) & ~_TYPE) | migratetype


@_kernel
def unlist(a, start, end):
    """Take all free blocks of a range out of their lists; nobody has the frames then, and they are OFFLINE."""
    frame = _next_head(a, start, end)
    while frame < end:
        order = _order_at(a, frame)
        group = U(a.group[frame >> a.pageblock])
        _leave(a, _entry(a, frame, order), order, group)
        a.pages[group] -= _ONE << order
        _occupy(a, frame, order, _OFFLINE)
        frame = _next_head(a, frame + (_ONE << order), end)


# What frames hold


@_kernel
def paint(a, start, end, code):
    """Write the kind of frames that are not free."""
    while start < end:
        entry = a.tops + (start >> a.top)
        first, last = start, min(((start >> a.top) + _ONE) << a.top, end)
        if a.state[entry] != MIXED and last - first == _ONE << a.top:
            a.state[entry] = code
        else:
            _write(a, first, last, code)
        start = last


@_kernel
def fill(a, start, end, content):
    """Write the content of all frames that are not free."""
    while start < end:
        entry = a.tops + (start >> a.top)
        first, last = start, min(((start >> a.top) + _ONE) << a.top, end)
        if a.state[entry] < MIXED and last - first == _ONE << a.top:
            a.links[(entry << _ONE) + _ONE] = content
        elif a.state[entry] <= MIXED:
            _own_entry(a, first)
            for frame in range(first, last):
                if a.state[frame] < HEAD:
                    a.links[(frame << _ONE) + _ONE] = content
        start = last


@_leaf
def _own_entry(a, frame):
    """The frame's own entry, made to speak for it."""
    entry = a.tops + (frame >> a.top)
    if a.state[entry] != MIXED:
        _mix(a, entry)
    return frame


@_leaf
def _usable(a, frame):
    used = frame < a.tops
    if used:
        used = _in_use(_code(a, frame))
    return used


@_kernel
def own(a, frames, owners, contents):
    """Write owner and content of frames in use. Returns how many, fewer than asked when the next one is not."""
    for i in range(U(frames.size)):
        if not _usable(a, U(frames[i])):
            return i
        entry = _own_entry(a, U(frames[i]))
        a.links[entry << _ONE] = owners[i]
        a.links[(entry << _ONE) + _ONE] = contents[i]
    return U(frames.size)


@_kernel
def disown(a, frames):
    """Set the owner of frames in use to 0. Returns how many, fewer than asked when the next one is not."""
    for i in range(U(frames.size)):
        if not _usable(a, U(frames[i])):
            return i
        a.links[_own_entry(a, U(frames[i])) << _ONE] = _ZERO
    return U(frames.size)


@_kernel
def move(a, sources, targets, poison):
    """Carry kind, owner and content over. Returns how many, fewer than asked when either frame is not in use."""
    for i in range(U(sources.size)):
        source, target = U(sources[i]), U(targets[i])
        if not _usable(a, source) or not _usable(a, target):
            return i
        _own_entry(a, source)
        _write(a, target, target + _ONE, _code(a, source))
        a.links[target << _ONE] = a.links[source << _ONE]
        a.links[(target << _ONE) + _ONE] = a.links[(source << _ONE) + _ONE]
        a.links[source << _ONE] = _ZERO
        a.links[(source << _ONE) + _ONE] = poison
    return U(sources.size)


@_kernel
def holds_each(a, frames, codes, owners, contents):
    """Write what each frame says: kind code, owner, content. Those of a free one are 0."""
    for i in range(U(frames.size)):
        frame = U(frames[i])
        code, entry = _code(a, frame), a.tops + (frame >> a.top)
        if a.state[entry] == MIXED:
            entry = frame
        free = code >= HEAD
        codes[i] = _ZERO if free else U(code)
        owners[i] = _ZERO if free else U(a.links[entry << _ONE])
        contents[i] = _ZERO if free else U(a.links[(entry << _ONE) + _ONE])


@_kernel
def owned(a):
    """How many frames have an owner. Those inside a free block have none, and neither has an undivided top."""
    found = _ZERO
    for top in range(a.lists - a.tops):
        if a.state[a.tops + top] == MIXED:
            for frame in range(top << a.top, (top + _ONE) << a.top):
                found += U(a.state[frame] < HEAD and a.links[frame << _ONE] != _ZERO)
    return found


@_kernel
def count(a, start, end, counts):
    """Add the frames of each code to ``counts``."""
    while start < end:
        code, mixed = _code(a, start), a.state[a.tops + (start >> a.top)] == MIXED
        last = min(((start >> a.top) + _ONE) << a.top, end)
        if mixed:
            for frame in range(start, last):
                if a.state[frame] != _INSIDE:
                    code = a.state[frame]
                counts[code] += _ONE
        else:
            counts[code] += last - start
        start = last


@_kernel
def find(a, start, end, wanted, found):
    """Write the first frames whose code is ``wanted`` (a table of 256) into ``found``, which they fill."""
    at = _ZERO
    while start < end and at < U(found.size):
        code, mixed = _code(a, start), a.state[a.tops + (start >> a.top)] == MIXED
        last = min(((start >> a.top) + _ONE) << a.top, end)
        if mixed or wanted[code]:
            for frame in range(start, last):
                if mixed and a.state[frame] != _INSIDE:
                    code = a.state[frame]
                if wanted[code] and at < U(found.size):
                    found[at] = frame
                    at += _ONE
        start = last


@_kernel
def free_in(a, size, counts):
    """The free frames of each ``size`` frames, a multiple of a top."""
    tops = size >> a.top
    for i in range(U(counts.size)):
        free = _ZERO
        for top in range(i * tops, (i + _ONE) * tops):
            code = a.state[a.tops + top]
            if code == MIXED:
                free += _free_frames(a.state, top << a.top, (top + _ONE) << a.top)
            elif code >= HEAD:
                free += _ONE << a.top
        counts[i] = free


@_leaf
def _free_frames(state, start, end):
    """How many of a mixed top's frames are free: summed in 16 bits, so that a vector holds many."""
    free = np.uint16(0)
    for frame in range(start, end):
        code = np.uint16(state[frame])
        free += np.uint16(np.uint16(code >> np.uint16(7)) << np.uint16(code & np.uint16(0x0F)))
    return U(free)


# Checks


@_kernel
def list_sizes(a, group, sizes):
    """How many blocks each order's list has; NONE where its links do not lead back to its head."""
    for order in range(U(sizes.size)):
        head = a.lists + (group << _LIST_BITS) + order
        size, before, entry = _ZERO, head, U(a.links[head << _ONE])
        while entry < a.lists and U(a.links[(entry << _ONE) + _ONE]) == before and size <= a.tops:
            size += _ONE
            before, entry = entry, U(a.links[entry << _ONE])
        whole = entry == head and U(a.links[(head << _ONE) + _ONE]) == before
        sizes[order] = size if whole else NONE


@_kernel
def walk(a, group, order, frames):
    """The first frames of a list's blocks, head first."""
    entry = U(a.links[(a.lists + (group << _LIST_BITS) + order) << _ONE])
    for i in range(U(frames.size)):
        frames[i] = entry
        if order == a.top:
            frames[i] = (entry - a.tops) << a.top
        entry = U(a.links[entry << _ONE])


OK, BROKEN, MISPLACED, UNMARKED, USED, FOREIGN, UNMERGED, MISCOUNTED, UNFILLED, STRAY, UNSPOKEN = range(11)


@_kernel
def check(a, groups):
    """Every rule that the arrays obey, lists first. Returns (OK or what is wrong, frame or group)."""
    listed = _ZERO
    for group in range(groups):
        pages, filled = _ZERO, _ZERO
        for order in range(a.top + _ONE):
            head = a.lists + (group << _LIST_BITS) + order
            before, entry = head, U(a.links[head << _ONE])
            while entry < a.lists:
                listed += _ONE
                pages += _ONE << order
                filled |= _ONE << order
                frame = entry
                if order == a.top:
                    frame = (entry - a.tops) << a.top
                if U(a.links[(entry << _ONE) + _ONE]) != before or listed > a.lists:
                    return BROKEN, group
                wrong = _check_block(a, entry, frame, order, group)
                if wrong != OK:
                    return wrong, frame
                before, entry = entry, U(a.links[entry << _ONE])
            if entry != head or U(a.links[(head << _ONE) + _ONE]) != before:
                return BROKEN, group
        if pages != a.pages[group]:
            return MISCOUNTED, group
        if filled != a.orders[group]:
            return UNFILLED, group
    return _check_frames(a, listed)


@_inner
def _check_block(a, entry, frame, order, group):
    if frame & ((_ONE << order) - _ONE) != _ZERO or (entry >= a.tops) != (order == a.top):
        return MISPLACED
    if a.state[entry] != HEAD | _BYTE(order):
        return UNMARKED
    for each in range(frame + U(order < a.top), frame + (_ONE << order)):
        if a.state[each] != _INSIDE:
            return USED
    if a.group[frame >> a.pageblock] != group:
        return FOREIGN
    buddy = frame ^ (_ONE << order)
    free = order < a.top and a.state[buddy] == HEAD | _BYTE(order)
    if free and _mergeable(U(group), U(a.group[buddy >> a.pageblock])):
        return UNMERGED
    return OK


@_inner
def _check_frames(a, listed):
    """Are as many blocks marked as are listed, and does something speak for each frame?"""
    marked = _ZERO
    for entry in range(a.lists):
        marked += U(a.state[entry] >= HEAD)
    if marked != listed:
        return STRAY, marked
    for top in range(a.lists - a.tops):
        first = top << a.top
        if a.state[a.tops + top] == MIXED:
            if a.state[first] == _INSIDE:
                return UNSPOKEN, first
        else:
            for frame in range(first, first + (_ONE << a.top)):
                if a.state[frame] != _INSIDE:
                    return UNSPOKEN, frame
    return OK, _ZERO
