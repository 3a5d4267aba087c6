# SPDX-License-Identifier: Apache-2.0
"""Ways to get a board wrong: each is told with its line and key, and several in one file are all told at once."""

from __future__ import annotations

import tomllib
from itertools import combinations
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hotbank import board, keys, lines
from hotbank.errors import BoardError

GOOD = """\
name = "mine"
arch = "arm64"
page_size = "4K"
block_size = "128M"
describe = "dtb"
cmdline = "quiet"

[bank.low]
start = 0x40000000
size = "1G"
node = 0

[bank.high]
start = 0x80000000
size = "512M"
movable = true
at_boot = false
route = "driver"
domain = "ddr-high"

[bank.top]
start = "0xc0000000"
size = 0x20000000
movable = true
at_boot = false
route = "kmem"
domain = "ddr-top"

[domain.ddr-high]
states = ["on", "self-refresh", "off"]
switch = "command"
interleaved = false
on = ["ddrctl", "on"]
self-refresh = ["ddrctl", "self-refresh"]
off = ["ddrctl", "off"]
status = ["ddrctl", "status"]
timeout = 2.5
part = "LPDDR3"

[domain.ddr-top]
states = ["on", "off"]
switch = "regulator"
regulator = "vdd-ddr"
ranks = 2
temperature = 60
"""

# What is put in place of which line, and the key that is then wrong.
WRONG: dict[str, tuple[str, str, str]] = {
    "name missing": ('name = "mine"', "", "name"),
    "name empty": ('name = "mine"', 'name = ""', "name"),
    "name not printable": ('name = "mine"', 'name = "a\\u0007"', "name"),
    "unknown architecture": ('arch = "arm64"', 'arch = "aarch64"', "arch"),
    "architecture misspelt": ('arch = "arm64"', 'arhc = "arm64"', "arhc"),
    "page too small": ('page_size = "4K"', 'page_size = "1K"', "page_size"),
    "page no power of two": ('page_size = "4K"', 'page_size = "12K"', "page_size"),
    "block size missing": ('block_size = "128M"', "", "block_size"),
    "block size no power of two": ('block_size = "128M"', 'block_size = "96M"', "block_size"),
    "block smaller than a buddy": ('block_size = "128M"', 'block_size = "2M"', "block_size"),
    "unknown description": ('describe = "dtb"', 'describe = "acpi"', "describe"),
    "command line of two lines": ('cmdline = "quiet"', 'cmdline = "a\\nb"', "cmdline"),
    "command line no text": ('cmdline = "quiet"', "cmdline = 4", "cmdline"),
    "unknown key above all": ('describe = "dtb"', 'describe = "dtb"\ncolour = "red"', "colour"),
    "key of a bank above all": ('describe = "dtb"', 'describe = "dtb"\nmovable = true', "movable"),
    "tables misspelt": ('describe = "dtb"', 'describe = "dtb"\nbanks = 4', "banks"),
    "start missing": ("start = 0x40000000", "", "bank.low.start"),
    "start no address": ("start = 0x40000000", 'start = "at the front"', "bank.low.start"),
    "start negative": ("start = 0x40000000", "start = -4", "bank.low.start"),
    "start beyond 64 bits": ("start = 0x80000000", "start = 0x10000000000000000", "bank.high.start"),
    "start within a block": ("start = 0x80000000", "start = 0x81000000", "bank.high.start"),
    "banks that overlap": ("start = 0x80000000", "start = 0x78000000", "bank.high.start"),
    "size missing": ('size = "512M"', "", "bank.high.size"),
    "size of nothing": ('size = "512M"', "size = 0", "bank.high.size"),
    "size a fraction": ('size = "512M"', 'size = "1.5G"', "bank.high.size"),
    "size of part of a block": ('size = "512M"', 'size = "500M"', "bank.high.size"),
    "size of part of a page": ('size = "1G"', "size = 4095", "bank.low.size"),
    "end beyond 64 bits": ("size = 0x20000000", 'size = "0xfffffffff0000000"', "bank.top.size"),
    "node negative": ("node = 0", "node = -1", "bank.low.node"),
    "node too high": ("node = 0", "node = 1024", "bank.low.node"),
    "boolean as text": ('at_boot = false\nroute = "driver"', 'at_boot = "no"\nroute = "driver"', "bank.high.at_boot"),
    "unknown route": ('route = "driver"', 'route = "drvier"', "bank.high.route"),
    "unknown domain": ('domain = "ddr-high"', 'domain = "ddr-hgih"', "bank.high.domain"),
    "domain no text": ('domain = "ddr-top"', "domain = true", "bank.top.domain"),
    "key of a domain in a bank": ('route = "kmem"', 'route = "kmem"\ninterleaved = true', "bank.top.interleaved"),
    "key of the top in a bank": ('route = "kmem"', 'route = "kmem"\narch = "arm"', "bank.top.arch"),
    "bank named like a block": ("[bank.low]", "[bank.memory4]", "bank.memory4"),
    "bank named like a number": ("[bank.low]", "[bank.4]", "bank.4"),
    "bank in capitals": ("[bank.low]", "[bank.LOW]", "bank.LOW"),
    "unknown state": ('states = ["on", "self-refresh", "off"]', 'states = ["on", "dark"]', "domain.ddr-high.states"),
    "states without on": ('states = ["on", "off"]', 'states = ["off"]', "domain.ddr-top.states"),
    "unknown switch": ('switch = "command"', 'switch = "commands"', "domain.ddr-high.switch"),
    "off without a switch": ('switch = "regulator"', 'switch = "none"', "domain.ddr-top.switch"),
    "interleaved as a number": ("interleaved = false", "interleaved = 0", "domain.ddr-high.interleaved"),
    "command as one string": ('on = ["ddrctl", "on"]', 'on = "ddrctl on"', "domain.ddr-high.on"),
    "command missing": ('off = ["ddrctl", "off"]', "", "domain.ddr-high.off"),
    "command by a relative path": ('off = ["ddrctl", "off"]', 'off = ["./ddrctl"]', "domain.ddr-high.off"),
    "status missing": ('status = ["ddrctl", "status"]', "", "domain.ddr-high.status"),
    "status empty": ('status = ["ddrctl", "status"]', "status = []", "domain.ddr-high.status"),
    "timeout endless": ("timeout = 2.5", "timeout = inf", "domain.ddr-high.timeout"),
    "unknown part": ('part = "LPDDR3"', 'part = "LPDDR33"', "domain.ddr-high.part"),
    "regulator missing": ('regulator = "vdd-ddr"', "", "domain.ddr-top.regulator"),
    "no ranks": ("ranks = 2", "ranks = 0", "domain.ddr-top.ranks"),
    "too hot": ("temperature = 60", "temperature = 200", "domain.ddr-top.temperature"),
    "misspelt key of a domain": ("temperature = 60", "temprature = 60", "domain.ddr-top.temprature"),
}


def mistakes(text: str) -> dict[str, BoardError]:
    """What is told of the text, by key."""
    with pytest.raises(BoardError) as caught:
        board.loads(text, "mine.toml")
    return {mistake.key: mistake for mistake in caught.value.mistakes}


def test_the_board_without_a_mistake_is_one() -> None:
    assert [bank.name for bank in board.loads(GOOD).banks] == ["low", "high", "top"]


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_told_with_file_line_and_key(case: str) -> None:
    old, new, key = WRONG[case]
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new)
    mistake = mistakes(text)[key]
    there = text.splitlines()[mistake.line - 1]
    leaf = key.rpartition(".")[2]
    missing = mistake.allowed.startswith("must") and mistake.value is None
    header = f"[{key.rpartition('.')[0]}]" if "." in key else GOOD.splitlines()[0]
    assert there.startswith((leaf, f"[{key}]")) or (missing and (there == header or mistake.line == 1))
    assert str(mistake).startswith(f"mine.toml:{mistake.line}: {key}")
    assert "\n" not in str(mistake)


def test_one_mistake_is_told_once() -> None:
    told = {case: len(mistakes(GOOD.replace(old, new))) for case, (old, new, _) in WRONG.items()}
    with_consequences = {"bank named like a block", "bank named like a number", "bank in capitals"}
    assert {case: count for case, count in told.items() if count > 1 and case not in with_consequences} == {}


def _apart(cases: tuple[str, ...]) -> bool:
    """No two of them change the same line, and none the name of the table in which another is."""
    changed, wrong = [WRONG[case][0] for case in cases], [WRONG[case][2] for case in cases]
    renamed = any(f"[{key.rpartition('.')[0]}]" in changed for key in wrong)
    return not renamed and not any(a in b or b in a for a, b in combinations(changed, 2))


# One of these takes away what another mistake is measured by, or its place.
_MEASURES = (
    "start",
    "size",
    "block",
    "page",
    "bank",
    "banks",
    "end",
    "boolean",
    "unknown",
    "states",
    "off",
    "command",
    "status",
)
_FREE = [case for case in WRONG if case.split()[0] not in _MEASURES]


def _told_with(cases: tuple[str, ...]) -> None:
    text = GOOD
    for case in cases:
        text = text.replace(*WRONG[case][:2])
    assert {WRONG[case][2] for case in cases} <= mistakes(text).keys()


def test_any_three_that_do_not_touch_are_all_told() -> None:
    triples = [cases for cases in combinations(_FREE, 3) if _apart(cases)]
    assert len(triples) > 500
    for cases in Random(3).sample(triples, 200):
        _told_with(cases)


@pytest.mark.parametrize("measure", [case for case in WRONG if case not in _FREE])
def test_what_takes_a_measure_away_hides_no_other_mistake(measure: str) -> None:
    others = [pair for pair in combinations(_FREE, 2) if _apart((measure, *pair))]
    for pair in Random(4).sample(others, 5):
        _told_with((measure, *pair))


def test_what_was_meant_is_said() -> None:
    said = {case: str(next(iter(mistakes(GOOD.replace(*WRONG[case][:2])).values()))) for case in WRONG}
    assert "did you mean driver?" in said["unknown route"]
    assert "did you mean ddr-high?" in said["unknown domain"]
    assert "its name in the kernel is arm64" in said["unknown architecture"]
    assert "did you mean temperature?" in said["misspelt key of a domain"]
    assert "it belongs to domain.ddr-top" in said["key of a domain in a bank"]
    assert "it belongs above the first [table]" in said["key of the top in a bank"]
    assert "it belongs to bank.NAME" in said["key of a bank above all"]


def test_no_toml_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "b.toml"
    file.write_text(GOOD.replace("size = 0x20000000", "size = 512M"))
    with pytest.raises(BoardError, match=rf"^{file}:23: board = 'TOML'"):
        board.load(file)


# What hides a line end from who only looks for one: each is a statement of several lines.
_HIDING = (
    'x = """\n[bank.no]\ny = 1\n"""',
    "x = '''\n# no\n'''",
    'x = [ # [\n  "]",\n  "a # b",\n]',
    'x = "#"',
    "# [no]",
    "",
)


_PIECES = (
    "a = 1\n",
    "[b]\n",
    "[[c]]\n",
    "d = ",
    '"""',
    "'''",
    '"',
    "'",
    "[",
    "]",
    "{",
    "}",
    "#",
    "\n",
    "e.f=2\n",
    ",",
    "\\",
)


@given(st.lists(st.sampled_from(_HIDING)), st.sampled_from(["k", '"a b"', "'c.d'", "e.f"]))
def test_the_line_of_a_key_is_found(above: list[str], key: str) -> None:
    before = "\n".join(f"[t{n}]\n{part}" for n, part in enumerate(above))
    text = f"{before}\n[t.u]\n{key} = {{ a = 1 }} # end\n[[v]]\n[[v]]\n{key} = 2\n"
    at = before.count("\n") + 2
    found, name = lines.of_keys(text), key.strip("\"'")
    assert (found["t.u"], found[f"t.u.{name}"], found["v[1]"], found[f"v[1].{name}"]) == (at, at + 1, at + 3, at + 4)


@given(st.text("a.=1\n[]\"'#{}, \\", max_size=40) | st.lists(st.sampled_from(_PIECES)).map("".join))
@example("a = [ [ 1 ], { b = '[' } ]\nc = 1")
@example('a = """"x""""\nb = 1')
@example("a.'b.c'.d = 1\r\n[x]\r\n")
def test_whatever_is_toml_has_lines(text: str) -> None:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert {name.partition(".")[0].partition("[")[0] for name in lines.of_keys(text)} >= {
        name.partition(".")[0].partition("[")[0] for name in table
    }


def test_a_value_as_deep_as_toml_may_be_hides_no_mistake() -> None:
    told = []
    for depth in range(1, 500):
        with pytest.raises(BoardError) as caught:
            board.loads(f"arch = {'[' * depth}{']' * depth}\n", "mine.toml")
        told.append({mistake.key for mistake in caught.value.mistakes})
    assert "arch" in told[0]
    assert all("arch" in keys or keys == {"board"} for keys in told)


def test_all_tables_know_different_keys() -> None:
    """A key that two kinds of table know could not be said to belong to one."""
    names = [key.name for table in board.TABLES.values() for key in table]
    assert len(names) == len({*names})
    assert all(isinstance(key, keys.Key) for table in board.TABLES.values() for key in table)


def test_an_array_of_tables_where_none_may_be_stands_where_it_begins(tmp_path: Path) -> None:
    file = tmp_path / "array.toml"
    file.write_text('name = "n"\nblock_size = "64M"\n\n[[bank]]\nstart = 0\n\n[[bank]]\nstart = 1\n')
    with pytest.raises(BoardError) as caught:
        board.load(file)
    assert (caught.value.key, caught.value.line) == ("bank", 4)
