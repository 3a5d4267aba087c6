# SPDX-License-Identifier: Apache-2.0
"""What the movable tag is for: the same machine, the same work, with the tag and without."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from hotbank import operate
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.errors import Code, KernelError
from hotbank.firmware import atags
from hotbank.machine import Machine
from hotbank.memory import KernelState, Kind, Online, Power
from hotbank.model import Model, capture
from kernel.arm32_guests import booted, complaints, mib
from kernel.kernel_kit import HOLDER, Holder, add, remove
from patience import HANG

pytestmark = pytest.mark.kernel

BOARD = "arm-2009"
INODES = 40_000
FILES = {"opt/holder.py": HOLDER.read_text(encoding="utf-8")}


@pytest.fixture(scope="module")
def tagged() -> Iterator[QemuMachine]:
    """The board of 2009 with its own tags: the upper bank is movable."""
    with booted(BOARD, files=FILES) as machine:
        yield machine
        assert complaints(machine) == []


@pytest.fixture(scope="module")
def untagged() -> Iterator[QemuMachine]:
    """The same memory, with nothing said of its leaving."""
    with booted(BOARD, files=FILES, tags=[atags.mem(mib(0, 256)), atags.mem(mib(256, 256))]) as machine:
        yield machine
        assert complaints(machine) == []


def test_with_the_tag_inodes_keep_out_of_the_bank(tagged: QemuMachine) -> None:
    make_inodes(tagged)
    kinds = operate.explain(tagged, "high").kinds
    assert not kinds.get(Kind.SLAB)
    assert not kinds.get(Kind.RESERVED)
    outcome = remove(tagged)
    assert (outcome.code, outcome.kernel, outcome.power) == (Code.OK, KernelState.ABSENT, Power.OFF)
    assert inodes(tagged) == INODES
    assert add(tagged).exit == 0


def test_without_it_they_hold_the_bank_and_explain_says_so(untagged: QemuMachine) -> None:
    """The verdict of each block is what the kernel then does."""
    make_inodes(untagged)
    verdict = operate.explain(untagged, "high")
    assert verdict.code is Code.UNMOVABLE
    assert verdict.kinds[Kind.SLAB] > 0
    outcome = remove(untagged)
    assert (outcome.code, outcome.kernel, outcome.power) == (Code.UNMOVABLE, KernelState.ONLINE, Power.ON)
    expected = {n: errno.EBUSY if untagged.survey(n).blocked else 0 for n in blocks(untagged)}
    assert expected == {n: refusal(untagged, n) for n in blocks(untagged)}
    assert errno.EBUSY in expected.values()


def test_a_model_of_the_moment_refuses_what_the_kernel_refuses(untagged: QemuMachine) -> None:
    """The kernel's own blocks as well, where every page is known: those of a CPU's lists have no flags."""
    model = Model.restore(capture.take(untagged))
    known = {b.number: not untagged.survey(b.number).kinds.get(Kind.UNKNOWN) for b in untagged.snapshot().blocks}
    numbers = [number for number, whole in known.items() if whole]
    assert len(numbers) >= len(blocks(untagged))
    outcomes = {number: refusal(untagged, number) for number in numbers}
    assert {number: refusal(model, number) for number in numbers} == outcomes
    assert set(outcomes.values()) == {0, errno.EBUSY}


def make_inodes(machine: QemuMachine) -> None:
    """On a machine that is busy, so that the kernel takes them from wherever there is room."""
    machine.runner.run("mount -t tmpfs -o nr_inodes=0 inodes /mnt")
    with Holder(machine, anon=260):
        each = f'python3 -S -c \'for n in range({INODES}): open(f"/mnt/{{n}}", "x").close()\''
        machine.runner.run(each, timeout=HANG)
    assert inodes(machine) == INODES


def inodes(machine: QemuMachine) -> int:
    """Files on /mnt."""
    return int(machine.runner.run("ls /mnt | wc -l", timeout=HANG))


def blocks(machine: QemuMachine) -> range:
    """The blocks of the upper bank."""
    bank = machine.board.bank("high")
    assert bank is not None
    return machine.board.blocks(bank)


def refusal(machine: Machine, block: int) -> int:
    """The errno of an attempt, or 0; what went offline comes back Movable, as the bank driver wants it."""
    try:
        machine.offline(block, machine.clock.now() + 60)
    except KernelError as e:
        return e.errno
    machine.online(block, Online.MOVABLE)
    return 0
