# SPDX-License-Identifier: Apache-2.0
"""A board that is proposed from a machine's files passes the check, and names the ranges that the machine lists."""

from __future__ import annotations

import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from host import captured_trees as trees
from host.captured_trees import MEMORY, Made, MadeBlock, write
from hotbank import board as boards
from hotbank import draft
from hotbank.board import Board
from hotbank.cli.board import board as command
from hotbank.cli.context import Context
from hotbank.draft import Section
from hotbank.host import Host
from hotbank.host.proposal import propose
from hotbank.host.tree import Tree
from hotbank.memory import MIB, Range, merge

BLOCK = 128 * MIB
# Two nodes and a hole, a dax device that does not begin on a block, a virtio-mem device of which half is plugged, and
# one regulator that programs may switch beside one that they may not.
FILES = {
    f"{MEMORY}/auto_online_blocks": "offline\n",
    "proc/sys/kernel/arch": "x86_64\n",
    "proc/iomem": "00001000-0fffffff : System RAM\n20000000-2fffffff : System RAM\n"
    "40000000-5fffffff : virtio1\n  40000000-4fffffff : System RAM (virtio_mem)\n"
    "64000000-8bffffff : dax0.0\n  68000000-87ffffff : System RAM (kmem)\n",
    "sys/bus/virtio/drivers/virtio_mem/virtio1/x": "",
    "sys/bus/dax/devices/dax0.0/resource": "0x64000000\n",
    "sys/bus/dax/devices/dax0.0/size": f"{0x28000000}\n",
    "sys/bus/dax/devices/dax0.0/target_node": "1\n",
    "sys/class/regulator/regulator.1/name": "VDD DDR1\n",
    "sys/class/regulator/regulator.1/state": "enabled\n",
    "sys/class/regulator/regulator.2/name": "vdd-cpu\n",
    "sys/bus/platform/drivers/reg-userspace-consumer/bank1/name": "VDD DDR1\n",
    "sys/bus/platform/drivers/reg-userspace-consumer/bank1/state": "enabled\n",
    "sys/firmware/acpi/tables/SRAT": "",
}
BLOCKS = (
    *(MadeBlock(n) for n in (0, 1)),
    *(MadeBlock(n, node=1) for n in (4, 5)),
    *(MadeBlock(n, zones="Movable") for n in (8, 9)),
    *(MadeBlock(n, zones="Movable", node=1) for n in (13, 14, 15, 16)),
)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, standalone_mode=False, obj=Context(None))


def proposed(root: Path | str) -> Board:
    return boards.loads(draft.text(propose(Tree(root), "here")))


def test_dax_virtio_mem_nodes_and_a_regulator(tmp_path: Path) -> None:
    root = Made(BLOCKS, files=FILES).at(tmp_path / "tree")
    file = tmp_path / "mine.toml"
    assert run("new", "mine", "--from-host", "--sysroot", str(root), "-o", str(file)).return_value is None
    assert run("check", str(file)).stdout.endswith("banks: 4 of 1536M, power domains: 1\n")
    held = run("check", str(file), "--host", "--sysroot", str(root)).stdout
    assert not {"OTHER_BOARD", "NOT_ALIGNED", "NO_DEVICE", "NO_MEMORY", "OTHER_NODE", "BAD_SWITCH"} & {
        *held.split(": ")
    }
    its = boards.load(file)
    assert (its.arch, its.describe, its.block_size) == ("x86_64", "srat", BLOCK)
    assert {bank.name: (bank.range, bank.route, bank.at_boot, bank.node) for bank in its.banks} == {
        "dram0": (Range.sized(0, 2 * BLOCK), "none", True, 0),
        "dram1": (Range.sized(4 * BLOCK, 2 * BLOCK), "none", True, 1),
        "virtio1": (Range.sized(8 * BLOCK, 4 * BLOCK), "virtio-mem", False, None),
        "dax0-0": (Range.sized(13 * BLOCK, 4 * BLOCK), "kmem", False, 1),
    }
    assert [(domain.name, domain.switch, domain.regulator) for domain in its.domains] == [
        ("vdd-ddr1", "regulator", "VDD DDR1")
    ]
    assert "domain = vdd-ddr1" in file.read_text()


def listed_alike(root: Path) -> None:
    """``list`` shows the same ranges with the proposed board as without one."""
    bare, with_board = Host(root).snapshot(), Host(root, proposed(root)).snapshot()
    assert with_board.blocks == bare.blocks
    assert all(with_board.bank_at(block.number) is not None for block in bare.blocks)
    boot = [bank for bank in with_board.banks if bank.at_boot]
    whole = {number for bank in with_board.banks if not bank.at_boot for number in with_board.blocks_of(bank)}
    assert merge(bank.range for bank in boot) == merge(b.range for b in bare.blocks if b.number not in whole)
    assert all(bank.blocks == tuple(with_board.blocks_of(bank)) for bank in boot)


def test_made_up_machines_are_listed_alike(tmp_path: Path) -> None:
    listed_alike(Made(BLOCKS, files=FILES).at(tmp_path))


@pytest.mark.parametrize("dump", trees.DUMPS, ids=lambda path: path.stem)
def test_captured_kernels_are_listed_alike(dump: Path, tmp_path: Path) -> None:
    listed_alike(trees.from_dump(dump, tmp_path))


@pytest.mark.parametrize("boot", trees.BOOTS, ids=lambda path: "-".join(path.parts[-3:-1]))
def test_captured_boots_are_listed_alike(boot: Path, tmp_path: Path) -> None:
    listed_alike(trees.from_boot(boot, tmp_path))


_DEVICES = st.lists(st.tuples(st.integers(0, 40 * BLOCK), st.integers(0, 12 * BLOCK)), max_size=4)


@given(st.sets(st.integers(0, 40), min_size=1), _DEVICES, st.data())
def test_any_layout_gives_a_board(numbers: set[int], spans: list[tuple[int, int]], data: st.DataObject) -> None:
    blocks = [MadeBlock(n, node=data.draw(st.integers(0, 1), label="node")) for n in sorted(numbers)]
    files = dict(FILES)
    for number, (start, size) in enumerate(spans):
        folder = f"sys/bus/dax/devices/dax{number}.0"
        files |= {f"{folder}/resource": f"{start:#x}\n", f"{folder}/size": f"{size}\n"}
    with TemporaryDirectory() as root:
        listed_alike(Made(tuple(blocks), files=files).at(Path(root)))


def test_banks_of_our_driver_come_with_their_supply(tmp_path: Path) -> None:
    files = {
        "sys/class/hotbank/high/range": "0x0000000040000000-0x000000004fffffff\n",
        "sys/class/hotbank/high/supply": "on\n",
        "sys/class/hotbank/top/range": "0x0000000050000000-0x000000005fffffff\n",
        "sys/class/hotbank/top/supply": "unmanaged\n",
    }
    its = proposed(Made((MadeBlock(0),), files=files).at(tmp_path))
    assert [(bank.name, bank.route, bank.domain) for bank in its.banks[1:]] == [
        ("high", "driver", "high"),
        ("top", "driver", None),
    ]
    assert [(domain.name, domain.switch) for domain in its.domains] == [("high", "machine")]


_ALIKE = st.lists(st.sampled_from(["VDD-A", "vdd-a", "vdd a", "vdd-a-2", "high", "high-rail", "High", "!", "7"]))


@given(_ALIKE.map(dict.fromkeys), st.sampled_from(["high", "dax0-0", "dram0"]))
def test_names_that_are_alike_are_kept_apart(regulators: list[str], bank: str) -> None:
    """Our driver's bank keeps its name, by which the driver knows it; each regulator has a domain of its own."""
    files = {
        f"sys/class/hotbank/{bank}/range": "0x0000000048000000-0x000000004fffffff\n",
        f"sys/class/hotbank/{bank}/supply": "on\n",
        "sys/bus/dax/devices/dax0.0/resource": "0x40000000\n",
        "sys/bus/dax/devices/dax0.0/size": f"{BLOCK}\n",
    }
    for number, name in enumerate(regulators):
        files[f"sys/class/regulator/regulator.{number}/name"] = f"{name}\n"
        files[f"sys/bus/platform/drivers/reg-userspace-consumer/c{number}/name"] = f"{name}\n"
    with TemporaryDirectory() as root:
        its = proposed(Made((MadeBlock(0),), files=files).at(Path(root)))
    assert len({bank.name for bank in its.banks}) == 3
    assert [(own.name, own.domain) for own in its.banks if own.route == "driver"] == [(bank, bank)]
    assert sorted(domain.regulator or "" for domain in its.domains) == sorted(["", *regulators])


def test_nothing_is_written_over(tmp_path: Path) -> None:
    root = Made(BLOCKS, files=FILES).at(tmp_path / "tree")
    write(tmp_path, {"mine.toml": "mine"})
    error = run("new", "--from-host", "--sysroot", str(root), "-o", str(tmp_path / "mine.toml")).exception
    assert "is there already" in str(error)
    assert (tmp_path / "mine.toml").read_text() == "mine"


_WORDS = st.text()
_VALUES = st.one_of(st.booleans(), st.integers(0, 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), _WORDS)


@given(st.dictionaries(st.from_regex(r"[a-z-]+", fullmatch=True), _VALUES | st.lists(_WORDS)), _WORDS)
def test_what_is_drafted_is_what_toml_reads(keys: dict[str, draft.Value], remark: str) -> None:
    written = draft.text([Section("", keys), Section("bank.low", keys, (remark,))])
    assert tomllib.loads(written) == {**keys, "bank": {"low": keys}}
