# SPDX-License-Identifier: Apache-2.0
"""``crashkernel=``: what a kernel sets aside for the one that writes its dump.

Truth: kernel/crash_reserve.c (parse_crashkernel, get_last_crashkernel, reserve_crashkernel_generic), before 6.9
kernel/crash_core.c and arch/arm64/mm/init.c (reserve_crashkernel); arch/arm/kernel/setup.c for 32-bit arm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hotbank.errors import FormatError
from hotbank.firmware.cmdline import FORM, memparse
from hotbank.firmware.ground import Ground, Refused
from hotbank.memory import MIB, Range, Reservation, Unplaced
from hotbank.numbers import U64

_WORD = "crashkernel="
_LOW = 128 * MIB  # DEFAULT_CRASH_KERNEL_LOW_SIZE
_ROUNDED = 128 * MIB  # parse_crashkernel_mem: firmware may keep some of what is there
_UNIT = 2 * MIB  # CRASH_ALIGN
_ARM_UNIT, _ARM_PLACED = 128 * MIB, MIB  # CRASH_ALIGN of 32-bit arm, and its SECTION_SIZE


def taken(values: Sequence[str | None], ground: Ground) -> Iterator[Reservation | Unplaced | Refused]:
    """What these values, in their order, take on that ground."""
    forms = _last_of_each_form(values, ground)
    try:
        own = [*_own(forms, ground)]
    except FormatError as e:
        own = []
        yield Refused(f"{_WORD}{e.field} {e.problem}: nothing is reserved")
    yield from own
    if "cma" in forms:
        yield _lent(forms["cma"], ground, beside=bool(own))


def _own(forms: Mapping[str, str], ground: Ground) -> Iterator[Reservation | Unplaced | Refused]:
    """What the crash kernel itself has. Raises FormatError."""
    if "" in forms:
        yield from _plain(*_size(forms[""], ground.total), ground)
    elif "high" in forms and ground.arch.lowmem is None:
        yield from _high(forms, ground)


def _lent(value: str, ground: Ground, *, beside: bool) -> Unplaced | Refused:
    """``size,cma``: reserve_crashkernel_cma, in up to four pieces. parse_crashkernel goes no further without a crash
    kernel of its own."""
    word, kernel = f"{_WORD}{value}", ground.kernel
    try:
        size = _suffixed(value)
    except FormatError as e:
        return Refused(f"{_WORD}{e.field} {e.problem}: nothing is reserved")
    if ground.arch.lowmem is not None or not kernel.dumps_in_cma:
        return Refused(f"{word} is not obeyed by kernel {kernel.release} of {ground.arch.name}: no CMA is reserved")
    if not beside or not size:
        return Refused(f"{word} counts beside a crash kernel that is set aside only: no CMA is reserved")
    return Unplaced("crashkernel=,cma", size, reusable=True)


def _last_of_each_form(values: Sequence[str | None], ground: Ground) -> dict[str, str]:
    """The last word of each form counts: ``high``, ``low``, ``cma``, or none of them."""
    known = ("high", "low", "cma") if ground.kernel.knows_dump_in_cma else ("high", "low")
    forms = dict[str, str]()
    for value in (value for value in values if value is not None):  # a bare crashkernel is not looked for
        form = value.rpartition(",")[2]
        forms[form if form in known and "," in value else ""] = value
    return forms


def _size(value: str, total: int) -> tuple[int, int]:
    """Size and place (0 without one) of ``size[@start]`` or ``from-[to]:size,…[@start]``. Raises FormatError."""
    size, start = _by_total(value, total) if ":" in value else _simple(value)
    if size >= total:
        raise FormatError(FORM, 0, value, "asks for all memory or more")
    return size, start


def _simple(value: str) -> tuple[int, int]:
    size, at = _number(value, 0, value)
    if value[at : at + 1] == "@":
        return size, memparse(value, at + 1)[0]
    if at < len(value):
        raise FormatError(FORM, at, value, f"goes on with {value[at:]!r}, which this kernel does not read")
    return size, 0


def _by_total(value: str, total: int) -> tuple[int, int]:
    rounded, at = -(-total // _ROUNDED) * _ROUNDED, 0
    while True:
        lower, at = _number(value, at, value)
        at = _behind("-", value, at)
        upper = U64
        if value[at : at + 1] != ":":
            upper, at = _number(value, at, value)
        if upper <= lower:
            raise FormatError(FORM, at, value, "has a range that ends before it begins")
        size, at = _number(value, _behind(":", value, at), value)
        if size >= rounded:
            raise FormatError(FORM, at, value, "asks for all memory or more")
        if lower <= rounded < upper:
            place = value.find("@", at)
            return size, _number(value, place + 1, value)[0] if place >= 0 and size else 0
        if value[at : at + 1] != ",":
            return 0, 0
        at += 1


def _number(text: str, at: int, value: str) -> tuple[int, int]:
    number, end = memparse(text, at)
    if end == at:
        raise FormatError(FORM, at, value, f"has no number at character {at + 1}")
    return number, end


def _behind(mark: str, value: str, at: int) -> int:
    if value[at : at + 1] != mark:
        raise FormatError(FORM, at, value, f"has no {mark!r} at character {at + 1}")
    return at + 1


def _suffixed(value: str) -> int:
    """``size,high``, ``size,low`` or ``size,cma``, and nothing else. Raises FormatError."""
    size, at = _number(value, 0, value)
    if value[at:] not in (",high", ",low", ",cma"):
        raise FormatError(FORM, at, value, f"goes on with {value[at:]!r}, which the kernel does not read")
    return size


def _plain(size: int, start: int, ground: Ground) -> Iterator[Reservation | Unplaced | Refused]:
    arm = ground.arch.lowmem is not None
    if size and start:
        asked = Reservation(Range.sized(start, size), _WORD)
        why = ground.amiss(asked.range, _ARM_PLACED if arm else _UNIT)
        yield Refused.of(asked, why) if why else asked
    elif size and arm:
        yield Unplaced(_WORD, size, _ARM_UNIT, (Range(_ARM_UNIT, ground.low_end),))
    elif size:
        yield from _anywhere(size, ground)


def _anywhere(size: int, ground: Ground) -> Iterator[Unplaced | Refused]:
    """Below what DMA reaches, or, since 6.2, above it, with a small part below."""
    below = Range(0, ground.dma_end)
    if ground.has_room(size, _UNIT, below):
        yield Unplaced(_WORD, size, _UNIT, (below,))
    elif ground.kernel.dumps_above_dma and ground.has_room(size, _UNIT, ground.above):
        yield from _above(_WORD, size, _LOW, ground)
    else:
        yield Refused(f"{_WORD} finds no {size >> 20} MiB in one piece: nothing is reserved")


def _high(forms: Mapping[str, str], ground: Ground) -> Iterator[Unplaced]:
    size = _suffixed(forms["high"])
    default = _LOW if ground.kernel.dumps_above_dma else 0
    low = _suffixed(forms["low"]) if "low" in forms else default
    if size >= ground.total:
        raise FormatError(FORM, 0, forms["high"], "asks for all memory or more")
    if size and ground.has_room(size, _UNIT, ground.above):
        yield from _above("crashkernel=,high", size, low, ground)
    elif size:
        yield Unplaced("crashkernel=,high", size, _UNIT, (Range(0, ground.dma_end),))


def _above(name: str, size: int, low: int, ground: Ground) -> Iterator[Unplaced]:
    yield Unplaced(name, size, _UNIT, (ground.above,))
    if low:
        yield Unplaced("crashkernel=,low", low, _UNIT, (Range(0, ground.dma_end),))
