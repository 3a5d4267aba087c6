# SPDX-License-Identifier: Apache-2.0
"""A lowmem bank below highmem: its pages have a linear mapping and count as highmem all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.memory import MIB, Power
from kernel.arm32.test_banks import READER, reading
from kernel.arm32_guests import booted, complaints
from kernel.kernel_kit import HOLDER, Holder, add, guest_memory, intact, remove, span_of

pytestmark = pytest.mark.kernel

BOARD = Path(__file__).with_name("mixed.toml")


@pytest.fixture(scope="module")
def machine() -> Iterator[QemuMachine]:
    """The board, up; in the end the kernel has nothing to say."""
    files = {"opt/holder.py": HOLDER.read_text(encoding="utf-8"), "opt/reader.py": READER.read_text(encoding="utf-8")}
    with booted(str(BOARD), files=files) as guest:
        yield guest
        assert complaints(guest) == []


def test_the_bank_leaves_and_returns_with_its_mapping_and_its_count(machine: QemuMachine) -> None:
    span = span_of(machine)
    before = guest_memory(machine)
    assert before["HighTotal"] == 512 * MIB  # the bank and the highmem above it: from the first on
    with Holder(machine, anon=300, shared=100) as holder, reading(machine) as see:
        assert sum(holder.where(span).values()) > 100 * MIB / 4096
        assert "EFAULT" not in see(span.start).values()
        for _ in range(2):
            assert remove(machine).exit == 0
            assert guest_memory(machine)["HighTotal"] == 256 * MIB
            assert set(see(span.start + MIB).values()) == {"EFAULT"}
            assert machine.power("ddr-high") is Power.OFF
            assert intact(holder.damage())
            assert add(machine).exit == 0
            assert guest_memory(machine)["HighTotal"] == before["HighTotal"]
            assert "EFAULT" not in see(span.start + MIB).values()
            assert intact(holder.damage())
