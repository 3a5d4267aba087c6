# SPDX-License-Identifier: Apache-2.0
"""``hotbank board``: what is listed, drawn and checked."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from hotbank import board
from hotbank.board import Bank, Board, Domain
from hotbank.cli import blueprint
from hotbank.cli.board import board as command
from hotbank.cli.context import Context
from hotbank.cli.current import up
from hotbank.errors import BoardError
from hotbank.memory import MIB, Range

REPO = Path(__file__).parents[2]


def run(*arguments: str, machine: str | None = None, handed: str | None = None) -> Result:
    return CliRunner().invoke(command, arguments, input=handed, standalone_mode=False, obj=Context(machine))


def test_all_shipped_boards_are_listed() -> None:
    shipped = sorted(file.stem for file in (REPO / "boards").glob("*.toml"))
    assert [line.split()[0] for line in run("list").stdout.splitlines()[1:]] == shipped
    assert [each["board"] for each in json.loads(run("list", "--json").stdout)["boards"]] == shipped


def test_a_board_is_drawn_to_scale() -> None:
    head, _, line, domain, *_ = run("show", "virt-arm64").stdout.splitlines()
    assert head == "virt-arm64: arm64, pages of 4K, blocks of 128M, described by dtb"
    picture = line.partition("|")[2].partition("|")[0]
    assert picture.count("a") == pytest.approx(2 * picture.count("B"), abs=2)
    assert line.startswith("0x40000000 |a")
    assert line.endswith("B| 0x9fffffff")
    assert (domain.index("="), domain.count("=")) == (line.index("B"), line.count("B"))
    assert json.loads(run("show", "virt-arm64", "--json").stdout)["board"]["banks"][1]["name"] == "high"


_BLOCKS = st.lists(st.integers(1, 400), min_size=1, max_size=40)


@given(_BLOCKS, st.data(), st.integers(40, 200))
def test_each_bank_is_in_its_place_and_its_domain_below_it(sizes: list[int], data: st.DataObject, width: int) -> None:
    at, banks = 16, []
    for number, size in enumerate(sizes):
        at += data.draw(st.integers(0, 2), label="hole")
        movable = data.draw(st.booleans(), label="movable")
        banks.append(Bank(f"b{number}", Range.sized(at * MIB, size * MIB), movable, domain=f"d{number % 2}"))
        at += size
    domains = (Domain("d0"), Domain("d1", interleaved=True))
    its = Board("x", block_size=MIB, banks=tuple(data.draw(st.permutations(banks))), domains=domains)
    _, _, line, first, second, *_ = [*blueprint.lines(its, width), ""]
    cells = line.partition("|")[2].partition("|")[0]
    runs = [letter for at, letter in enumerate(cells) if letter != "." and cells[at - 1 : at] != letter]
    assert [letter.isupper() for letter in runs] == [bank.movable for bank in banks]
    below = [first.ljust(len(line)), second.ljust(len(line))]
    for at, letter in enumerate(line[line.index("|") + 1 : line.rindex("|")], line.index("|") + 1):
        number = (ord(letter.lower()) - ord("a")) % 2  # 26 letters, so that those after z keep to their domain
        assert letter == "." or (below[0][at], below[1][at]) == (("=", " "), (" ", "~"))[number]
    assert len(line) <= max(width, len(sizes) * 3 + 40)


def test_banks_too_small_for_a_cell_take_it_from_the_large_ones() -> None:
    ends = [16, 17, 18, 70]
    banks = [Bank(f"b{n}", Range(a * MIB, b * MIB)) for n, (a, b) in enumerate(pairwise(ends))]
    for width in range(49, 120):
        line = [*blueprint.lines(Board("x", block_size=MIB, banks=tuple(banks)), width)][2]
        assert len(line) <= width


def test_a_check_tells_all_mistakes_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "b.toml"
    file.write_text('name = "b"\nblock_size = "3M"\nbolck = 1\n[bank.4]\nstart = 0\nsize = 0\n')
    done = run("check", str(file))
    assert done.return_value == 1
    assert [line.split(": ")[:2] for line in done.stdout.splitlines()] == [
        [f"{file}:2", "block_size = '3M'"],
        [f"{file}:3", "bolck = 1"],
        [f"{file}:4", "bank.4 = '4'"],
        [f"{file}:6", "bank.4.size = 0"],
    ]
    told = json.loads(run("check", str(file), "-J").stdout)
    assert [(m["line"], m["key"]) for m in told["mistakes"]] == [
        (2, "block_size"),
        (3, "bolck"),
        (4, "bank.4"),
        (6, "bank.4.size"),
    ]
    with pytest.raises(BoardError) as caught:
        board.load(file)
    assert caught.value.remedy == "hotbank board check FILE tells all 4 mistakes"


def test_a_board_without_a_mistake() -> None:
    done = run("check", "arm-2009")
    assert (done.return_value, done.stdout) == (0, "arm-2009: no mistake; banks: 2 of 512M, power domains: 1\n")


def test_a_board_on_standard_input_is_one_in_a_file() -> None:
    text = (REPO / "boards/arm-2009.toml").read_text()
    assert run("check", "-", handed=text).stdout == "-: no mistake; banks: 2 of 512M, power domains: 1\n"
    assert run("show", "-", handed=text).stdout == run("show", "arm-2009").stdout
    wrong = run("check", "-", handed=text.replace('"64M"', '"63M"'))
    assert (wrong.return_value, wrong.stdout) == (1, "-:6: block_size = '63M': must be a power of two\n")
    assert isinstance(run("check", "-", "--host", handed=text).exception, click.UsageError)


def test_running_commands_needs_a_board_that_has_some() -> None:
    error = CliRunner().invoke(up, ["arm-2009", "--run-commands"], standalone_mode=False, obj=Context(None)).exception
    assert isinstance(error, click.UsageError)
    assert "arm-2009 has none" in error.message


def test_a_file_that_is_no_text_is_said_to_be_none(tmp_path: Path) -> None:
    file = tmp_path / "b.toml"
    file.write_bytes(b'name = "\xff"')
    error = run("check", str(file)).exception
    assert isinstance(error, BoardError)
    assert str(error) == f"board = '{file}': no text: its byte 8 is no UTF-8"


OPTIONS = (
    *("new", "mine", "--arch", "arm", "--block-size", "64M", "--bank", "low,start=0x40000000,size=256M"),
    *("--bank", "high,start=0x50000000,size=256M,movable=true,route=driver,domain=ddr,node=1"),
    *("--domain", "ddr,switch=command,states=on off,on=ddrctl on,off=ddrctl off,status=ddrctl status,timeout=2"),
)


def test_a_board_from_options() -> None:
    its = board.loads(run(*OPTIONS).stdout)
    high, ddr = its.banks[1], its.domains[0]
    assert (its.name, its.arch, its.block_size) == ("mine", "arm", 64 * MIB)
    assert (high.range, high.movable, high.domain, high.node) == (Range.sized(0x50000000, 256 * MIB), True, "ddr", 1)
    assert (ddr.programs, ddr.timeout) == (
        {"on": ("ddrctl", "on"), "off": ("ddrctl", "off"), "status": ("ddrctl", "status")},
        2.0,
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("new",), "on a terminal it asks"),
        (("new", "--bank", "low,start"), "'start' is no KEY=VALUE"),
        (("new", "--bank", "4,start=0,size=1"), "block_size: must be given; bank.4 = '4': would be taken"),
        (("new", "--from-host", "--arch", "arm"), "takes all from the host"),
        (("new", "--sysroot", "/", "--arch", "arm"), "with --from-host only"),
        (("check", "arm-2009", "--sysroot", "/"), "with --host only"),
    ],
)
def test_what_has_no_effect_or_makes_no_board_is_refused(options: tuple[str, ...], said: str) -> None:
    error = run(*options).exception
    assert isinstance(error, click.UsageError)
    assert said in error.message


ANSWERS = """\
mine
vax
arm
64M
atags
low
somewhere
0x40000000
256M
n
memory4
high
0x50000000
256M
y
y
driver
ddr
\nregulator
off
on off
vdd-ddr
n
"""


def test_a_board_from_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong answer is asked for again."""
    monkeypatch.setattr("hotbank.cli.board_new.is_terminal", lambda _: True)
    done = CliRunner().invoke(command, ["new"], input=ANSWERS, standalone_mode=False, obj=Context(None))
    for told in ("must be one of arm, arm64", "'somewhere' is not a size", "would be taken for a memory block"):
        assert told in done.stderr
    its = board.loads(done.stdout)
    assert [(bank.name, bank.movable, bank.domain) for bank in its.banks] == [
        ("low", False, None),
        ("high", True, "ddr"),
    ]
    assert (its.domains[0].switch, its.domains[0].regulator, its.domains[0].interleaved) == (
        "regulator",
        "vdd-ddr",
        False,
    )


def test_answers_that_make_no_board_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotbank.cli.board_new.is_terminal", lambda _: True)
    answers = ANSWERS.replace("0x50000000", "0x40000000")
    done = CliRunner().invoke(command, ["new"], input=answers, standalone_mode=False, obj=Context(None))
    assert "bank.high.start = '0x40000000': overlaps bank.low" in str(done.exception)
    assert done.stdout.startswith('name = "mine"')


def test_no_sentence_of_the_help_is_cut() -> None:
    assert "..." not in run("--help").stdout.partition("Commands:")[2]
