# SPDX-License-Identifier: Apache-2.0
"""Board files: the shipped ones load; a wrong one is refused with its key, its value and what is allowed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank import board
from hotbank.errors import BoardError, Code
from hotbank.memory import MIB, Power, Range, format_size, merge, parse_size

SHIPPED = sorted((Path(__file__).parents[2] / "boards").glob("*.toml"))
ARM_2009 = (Path(__file__).parents[2] / "boards/arm-2009.toml").read_text()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_board_loads_by_path_and_by_name(path: Path) -> None:
    assert board.load(path) == board.load(path.stem)
    assert board.load(path).name == path.stem


def test_arm_2009_is_the_board_of_the_proposal() -> None:
    b = board.load("arm-2009")
    assert (b.arch, b.page_size, b.block_size, b.describe) == ("arm", 4096, 64 * MIB, "atags")
    assert [(k.range, k.movable, k.at_boot, k.domain) for k in b.banks] == [
        (Range.sized(0x40000000, 256 * MIB), False, True, None),
        (Range.sized(0x50000000, 256 * MIB), True, True, "ddr-high"),
    ]
    assert b.domains[0].states == (Power.ON, Power.SELF_REFRESH, Power.OFF)
    assert b.blocks(b.banks[1]) == range(20, 24)


WRONG = {
    "unknown key": ('arch = "arm"', 'arch = "arm"\ncolour = "red"', "colour", Code.BAD_BOARD),
    "unknown architecture": ('arch = "arm"', 'arch = "vax"', "arch", Code.BAD_BOARD),
    "missing name": ('name = "arm-2009"', "", "name", Code.BAD_BOARD),
    "block size no power of two": ('block_size = "64M"', 'block_size = "60M"', "block_size", Code.BAD_BOARD),
    "block smaller than a buddy": ('block_size = "64M"', 'block_size = "2M"', "block_size", Code.BAD_BOARD),
    "unaligned bank": ("start = 0x50000000", "start = 0x51000000", "bank.high.start", Code.NOT_ALIGNED),
    "unaligned size": ('size = "256M"\nmovable', 'size = "255M"\nmovable', "bank.high.size", Code.NOT_ALIGNED),
    "overlapping banks": ("start = 0x50000000", "start = 0x4c000000", "bank.high.start", Code.OVERLAP),
    "size of nothing": ('size = "256M"\nmovable', "size = 0\nmovable", "bank.high.size", Code.BAD_BOARD),
    "negative size": ('size = "256M"\nmovable', "size = -4\nmovable", "bank.high.size", Code.BAD_BOARD),
    "word for a size": ('size = "256M"\nmovable', 'size = "big"\nmovable', "bank.high.size", Code.BAD_BOARD),
    "boolean as text": ("movable = true", 'movable = "yes"', "bank.high.movable", Code.BAD_BOARD),
    "unknown route": ('route = "driver"', 'route = "magic"', "bank.high.route", Code.BAD_BOARD),
    "unknown domain": ('domain = "ddr-high"', 'domain = "ddr-low"', "bank.high.domain", Code.BAD_BOARD),
    "unknown state": ('"self-refresh", "off"]', '"asleep"]', "domain.ddr-high.states", Code.BAD_BOARD),
    "states without on": ('["on", "self-refresh", "off"]', '["off"]', "domain.ddr-high.states", Code.BAD_BOARD),
    "off without a switch": ('switch = "machine"', 'switch = "none"', "domain.ddr-high.switch", Code.BAD_BOARD),
    "command without argv": (
        'switch = "machine"',
        'switch = "command"',
        "domain.ddr-high.on",
        Code.BAD_BOARD,
    ),
    "bank is no table": ("[bank.high]", "[[bank.high]]", "bank.high", Code.BAD_BOARD),
    "bank named like a block": ("[bank.high]", "[bank.memory17]", "bank.memory17", Code.BAD_BOARD),
    "bank named like a number": ("[bank.high]", "[bank.17]", "bank.17", Code.BAD_BOARD),
    "domain named like a block": ("[domain.ddr-high]", "[domain.memory17]", "domain.memory17", Code.BAD_BOARD),
    "domain named like a number": ("[domain.ddr-high]", "[domain.17]", "domain.17", Code.BAD_BOARD),
    "address beyond 64 bits": ("start = 0x50000000", f"start = {1 << 64}", "bank.high.start", Code.BAD_BOARD),
    "address of 5000 hex digits": ("0x50000000", "0x" + "f" * 5000, "bank.high.start", Code.BAD_BOARD),
    "number of 5000 digits": ("0x50000000", "9" * 5000, "board", Code.BAD_BOARD),
    "text of 5000 digits": ("0x50000000", f'"{"9" * 5000}"', "bank.high.start", Code.BAD_BOARD),
    "end beyond 64 bits": ("start = 0x50000000", f"start = {(1 << 64) - (64 << 20)}", "bank.high.size", Code.BAD_BOARD),
    "huge node": ("movable = true", "movable = true\nnode = 99999999999", "bank.high.node", Code.BAD_BOARD),
    "tiny page": ('page_size = "4K"', "page_size = 1", "page_size", Code.BAD_BOARD),
    "name that is not printable": ('name = "arm-2009"', 'name = "a\\u0000b"', "name", Code.BAD_BOARD),
    "command line of two lines": ('arch = "arm"', 'arch = "arm"\ncmdline = "a\\nb"', "cmdline", Code.BAD_BOARD),
    "endless timeout": (
        'switch = "machine"',
        'switch = "machine"\ntimeout = inf',
        "domain.ddr-high.timeout",
        Code.BAD_BOARD,
    ),
    "timeout that is no number": (
        'switch = "machine"',
        'switch = "machine"\ntimeout = nan',
        "domain.ddr-high.timeout",
        Code.BAD_BOARD,
    ),
    "too deep": ('arch = "arm"', "arch = " + "[" * 5000, "board", Code.BAD_BOARD),
    "no TOML": ("[bank.low]", "[bank.low", "board", Code.BAD_BOARD),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_board_names_key_value_and_what_is_allowed(case: str) -> None:
    old, new, key, code = WRONG[case]
    assert old in ARM_2009
    with pytest.raises(BoardError) as caught:
        board.loads(ARM_2009.replace(old, new))
    assert (key, code) in [(mistake.key, mistake.code) for mistake in caught.value.mistakes]
    assert caught.value.allowed
    assert "\n" not in str(caught.value)


def test_missing_board_lists_the_shipped_ones() -> None:
    with pytest.raises(BoardError, match=r"arm-2009, .*virt-arm64"):
        board.load("no-such-board")


@given(st.text() | st.binary().map(lambda b: b.decode("latin-1")))
def test_any_text_is_a_board_or_a_board_error(text: str) -> None:
    with pytest.raises(BoardError):
        board.loads(text)


@given(st.integers(0, 2**64))
def test_sizes_round_trip(size: int) -> None:
    assert parse_size(format_size(size)) == size == parse_size(hex(size))


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5M", "0x", "64Q", "1 2", True, None, 2.0, -1])
def test_no_size(text: object) -> None:
    with pytest.raises(ValueError, match=r"is not a size|negative"):
        parse_size(text)  # type: ignore[arg-type]


pieces = st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda t: Range.sized(*t))


@given(st.lists(pieces))
def test_merge_keeps_exactly_the_bytes(ranges: list[Range]) -> None:
    merged = merge(ranges)
    assert _bytes(merged) == _bytes(ranges)
    assert all(a.end < b.start for a, b in pairwise(merged))


@given(pieces, pieces)
def test_range_algebra_against_sets(a: Range, b: Range) -> None:
    common = a.intersection(b)
    assert _bytes(a.minus(b)) == _bytes([a]) - _bytes([b])
    assert (_bytes([common]) if common else set()) == _bytes([a]) & _bytes([b])
    assert a.overlaps(b) >= bool(_bytes([a]) & _bytes([b]))


def _bytes(ranges: object) -> set[int]:
    return {byte for r in ranges for byte in range(r.start, r.end)}  # type: ignore[attr-defined]
