# SPDX-License-Identifier: Apache-2.0
"""A page that waits in an idle CPU's LRU batch has a reference too many, and is no pin; and what a look costs there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hotbank.boards_qemu import Wanted
from hotbank.boards_qemu.supervisor import QemuMachine
from kernel.guest_batches import FEW
from kernel.kernel_kit import Holder, add, complaints, guest, lean

pytestmark = pytest.mark.kernel

BOARD = str(Path(__file__).with_name("small.toml"))
TESTS = Path(__file__).parents[2]
PROGRAMS = {
    "opt/batches.py": TESTS / "kernel/guest_batches.py",
    "opt/look.py": TESTS / "kernel/guest_look.py",
    "opt/host/page_by_page.py": TESTS / "host/page_by_page.py",
}
ROUNDS = 3


@pytest.mark.parametrize("series", ["6.12", "6.1"])
def test_pages_in_batches_are_no_pins(series: str) -> None:
    """Both ways of emptying the batches, and pins that stay what they are."""
    programs = {name: path.read_text(encoding="utf-8") for name, path in PROGRAMS.items()}
    wanted = Wanted(BOARD, series=series, files=programs)
    with guest(lean(wanted, cpus=2)) as machine:
        assert add(machine).exit == 0
        for way in ("move_pages", "seal"):
            counts = compared(machine, way)
            assert sum(without for without, _ in counts) >= FEW, counts
            assert [left for _, left in counts] == [0] * ROUNDS, counts
        what_a_look_costs(machine, "without pins")
        with Holder(machine, pinned=1):
            assert sum(machine.survey(block.number).blocked for block in machine.snapshot().blocks) >= 256
            what_a_look_costs(machine, "with pins, and who maps them")
        assert complaints(machine) == []


def compared(machine: QemuMachine, way: str) -> list[list[int]]:
    """Pins without and with emptying the batches, ``ROUNDS`` times."""
    found: list[list[int]] = json.loads(machine.runner.run(f"python3 -S /opt/batches.py {ROUNDS} {way}"))
    print(machine.snapshot().machine, way, found)
    return found


def what_a_look_costs(machine: QemuMachine, where: str) -> None:
    """Print it, survey and plain twin in turn, in seconds of the guest's processor; docs/speed.md has the ratio."""
    print("survey and twin", where, machine.runner.run("python3 -S /opt/look.py 2"))
