# SPDX-License-Identifier: Apache-2.0
"""``hotbank list`` in its own words: columns, JSON by the agreed schema, and verdicts with and without a look."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner

from host import captured_trees as trees
from host.captured_trees import Made, MadeBlock, words, write
from host.test_tree import BOARD
from hotbank import board as boards
from hotbank.cli.listing import ALL_COLUMNS, BANK_COLUMNS, Listing, document, list_, look, tables, usual
from hotbank.host import Host, pages
from hotbank.machine import BankStatus, Block, Machine, Snapshot
from hotbank.memory import BlockState, Power, Range
from hotbank.model import Model

MIB_128 = 128 << 20
BLOCKS = (MadeBlock(8), MadeBlock(9), MadeBlock(10, zones="Movable"), MadeBlock(11, "offline", "Movable Normal"))
RAM = "40000000-5fffffff : System RAM\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = Made(BLOCKS, files={"proc/iomem": RAM, "proc/sys/kernel/arch": "x86_64\n"}).at(tmp_path)
    return write(root, {"etc/hotbank/board.toml": BOARD.replace('arch = "arm64"', 'arch = "any"')})


def run(root: Path, *options: str) -> str:
    done = CliRunner().invoke(list_, ["--sysroot", str(root), *options])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_banks_then_blocks(root: Path) -> None:
    banks = [
        f"machine {root}",
        "BANK  RANGE                  SIZE  KERNEL   POWER    ZONE     VERDICT",
        "low   0x40000000-0x4fffffff  256M  online   on       Normal   NOT_MOVABLE_ZONE",
        "high  0x50000000-0x5fffffff  256M  partial  unknown  Movable  -",
        "away  0x80000000-0x87ffffff  128M  absent   unknown  -        OK",
        "",
        "BLOCK  BANK  RANGE                  SIZE  STATE    ZONES           VERDICT",
    ]
    rest = [
        "   10  high  0x50000000-0x57ffffff  128M  online   Movable         -",
        "   11  high  0x58000000-0x5fffffff  128M  offline  Movable/Normal  OK",
        "total 384M online, 128M offline, 128M out",
        "no page was looked at: explain and list --used do, and may find another reason first",
    ]
    each = [
        "    8  low   0x40000000-0x47ffffff  128M  online   Normal          -",
        "    9  low   0x48000000-0x4fffffff  128M  online   Normal          -",
    ]
    assert run(root, "--all").splitlines() == [*banks, *each, *rest]
    alike = "  8-9  low   0x40000000-0x4fffffff  256M  online   Normal          -"
    assert run(root).splitlines() == [*banks, alike, *rest]


def test_without_a_board_the_blocks_are_listed_once(tmp_path: Path) -> None:
    lines = run(Made(BLOCKS).at(tmp_path), "--all").splitlines()
    assert len(lines) == 1 + 1 + len(BLOCKS) + 1
    assert "BANK" not in lines[1]


def test_who_asks_for_banks_and_no_blocks_gets_their_names(tmp_path: Path) -> None:
    heading, first, *_ = run(Made(BLOCKS).at(tmp_path), "-o", "bank,verdict").splitlines()
    assert heading.split() == ["BANK", "VERDICT"]
    assert first.startswith("memory")


def test_nodes_are_listed_where_there_are_several(root: Path) -> None:
    assert "NODE" not in run(root)
    machine = Host(root).snapshot()
    blocks = tuple(replace(block, node=block.number % 2) for block in machine.blocks)
    assert "NODE" in usual(look(cast(Machine, Still(replace(machine, blocks=blocks))), used=False))


def test_json_by_the_agreed_schema(root: Path) -> None:
    document = json.loads(run(root, "--json"))
    assert list(document) == ["schema", "machine", "banks", "blocks"]
    assert (document["schema"], document["machine"]) == (1, str(root))
    assert document["banks"][1] == {
        "bank": "high",
        "start": 0x50000000,
        "size": 2 * MIB_128,
        "kernel": "partial",
        "power": "unknown",
        "at_boot": True,
        "movable": True,
        "route": "none",
        "domain": "ddr",
        "zone": "Movable",
        "node": 0,
        "used": None,
        "blocks": [10, 11],
        "code": None,
    }
    assert document["blocks"][3] == {
        "block": 11,
        "start": 0x58000000,
        "size": MIB_128,
        "state": "offline",
        "valid_zones": ["Movable", "Normal"],
        "node": 0,
        "bank": "high",
        "used": 0,
    }


def test_used_looks_at_every_page(root: Path) -> None:
    anon, slab, free = pages.LRU | pages.ANON | pages.MMAP, pages.SLAB, pages.BUDDY
    per_block = MIB_128 // 4096
    movable = [anon] * 3000 + [free] * (per_block - 3000)
    mixed = [anon] * 500 + [slab] * 1500 + [free] * (per_block - 2000)
    flags = words([pages.NOPAGE] * 8 * per_block) + words(mixed) + words([free] * per_block) + words(movable)
    write(root, {"proc/kpageflags": flags})
    rows = [line.split() for line in run(root, "--used", "-n", "-o", "block,used,movable,verdict").splitlines()]
    assert rows == [
        ["8", "7.8M", "25%", "UNMOVABLE"],
        ["9", "0B", "-", "PINS_UNKNOWN"],
        ["10", "11.7M", "100%", "NO_CAPACITY"],  # no zone of this tree has room
        ["11", "0B", "-", "OK"],
    ]
    rows = [line.split() for line in run(root, "--used", "-n", "-o", "used,movable,verdict").splitlines()]
    assert rows == [["7.8M", "25%", "UNMOVABLE"], ["11.7M", "100%", "NO_CAPACITY"], ["0B", "-", "OK"]]
    used = {b["block"]: b["used"] for b in json.loads(run(root, "--used", "--json"))["blocks"]}
    assert (used[8], used[9], used[10]) == (2000, 0, 3000)


class Counted(tuple[Any, ...]):
    """A tuple that counts how often somebody goes through all of it."""

    passes = 0

    def __iter__(self) -> Iterator[Any]:
        type(self).passes += 1
        return super().__iter__()

    def __contains__(self, item: object) -> bool:
        type(self).passes += 1
        return super().__contains__(item)


@dataclass(frozen=True)
class Still:
    """A machine that stands as it does."""

    now: Snapshot

    def snapshot(self) -> Snapshot:
        return self.now


def passes(count: int, banked: bool) -> int:
    """How often a list, as text and as JSON, goes through the blocks and banks of a machine with so many."""
    machine = Model.boot(boards.load("arm-2009"), backend="reference").snapshot()
    size = machine.block_size
    blocks = tuple(Block(n, Range.sized(n * size, size), BlockState.ONLINE, ("Movable",), 0) for n in range(count))
    banks = tuple(BankStatus.of(f"memory{b.number}", b.range, (b,), Power.ON, movable=True) for b in blocks)
    if banked:
        banks = tuple(replace(bank, name=f"bank{bank.name}", domain="ddr") for bank in banks)
    now = replace(machine, blocks=Counted(blocks), banks=Counted(banks))
    Counted.passes = 0
    listing = look(cast(Machine, Still(now)), used=False)
    each = tables(listing, ALL_COLUMNS, every_block=True)
    assert len(document(listing)["blocks"]) == each.count("online") // (1 + banked) == count
    return Counted.passes


@pytest.mark.parametrize("banked", [False, True])
def test_a_list_goes_through_the_blocks_a_few_times_however_many_there_are(banked: bool) -> None:
    assert passes(40, banked) == passes(320, banked) < 16


def test_a_scan_for_each_row_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The breach, planted: who looks a bank up by going through all of them."""

    def bank_of(listing: Listing, block: Block) -> str | None:
        return next((b.name for b in listing.snapshot.banks if block.number in b.blocks), None)

    monkeypatch.setattr(Listing, "bank_of", bank_of)
    assert passes(320, banked=True) - passes(40, banked=True) > 280


@pytest.mark.parametrize("column", ALL_COLUMNS)
def test_each_column_alone(root: Path, column: str) -> None:
    text = run(root, "--all", "-o", column.lower())
    table = text.splitlines()
    assert (table[0].strip(), len(table)) == (column, 1 + (3 if column in BANK_COLUMNS else 4))
    assert all(cell.strip() for cell in table)


def test_more_columns_bytes_and_no_headings(root: Path) -> None:
    assert "268435456" in run(root, "-b")
    assert run(root, "-n", "-o", "BANK,ROUTE").splitlines()[2] == "away  kmem"
    assert run(root, "-o", "+route").splitlines()[0].split()[-2:] == ["VERDICT", "ROUTE"]


@pytest.mark.parametrize("options", [["-o", "NOTHING"], ["-P"], ["-r"], ["-S", "none"], ["--summary"]])
def test_usage_errors(root: Path, options: list[str]) -> None:
    done = CliRunner().invoke(list_, ["--sysroot", str(root), *options])
    assert done.exit_code == 2


@pytest.mark.parametrize("dump", trees.DUMPS, ids=lambda path: path.stem)
def test_dumps_say_that_boot_memory_stays(dump: Path, tmp_path: Path) -> None:
    document = json.loads(run(trees.from_dump(dump, tmp_path), "--json"))
    assert {bank["code"] for bank in document["banks"]} == {"BOOT_MEMORY"}
