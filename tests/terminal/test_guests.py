# SPDX-License-Identifier: Apache-2.0
"""What a terminal shows of a real kernel: whole lines in the order of events, each within its columns."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator

import pytest

from terminal import screens

pytestmark = pytest.mark.kernel
COLUMNS = 80


@pytest.fixture
def place() -> Iterator[dict[str, str]]:
    """A runtime folder with a short name, and nothing up in it afterwards."""
    with tempfile.TemporaryDirectory(prefix="hb") as folder:
        changes = {"XDG_RUNTIME_DIR": folder}
        os.chmod(folder, 0o700)
        yield changes
        screens.seen(("down",), COLUMNS, changes)


def shown(words: tuple[str, ...], place: dict[str, str]) -> str:
    """All that stands on the screen, as one line; no line of it is wider than the screen."""
    lines, _ = screens.seen(words, COLUMNS, place)
    assert all(len(line) <= COLUMNS for line in lines)
    return " ".join(" ".join(lines).split())


def test_a_board_comes_up(place: dict[str, str]) -> None:
    text = shown(("up", "virt-arm64", "--qemu"), place)
    assert re.search(r"virt-arm64 is up \(pid \d+\); next: hotbank list, hotbank explain BANK$", text)
    assert "machine virt-arm64 BANK RANGE" in shown(("list",), place)
    assert "power off ddr-high" in shown(("list", "--map"), place) or "out" in shown(("list", "--map"), place)


def test_a_comparison_counts_its_operations_and_says_how_it_ended(place: dict[str, str]) -> None:
    text = shown(("compare", "virt-arm64", "--ops", "4", "--seed", "1"), place)
    assert [int(number) for number in re.findall(r"(\d+)/4 \w", text)] == [1, 2, 3, 4]
    assert re.search(r"machine \S+, seed 1, 1 boot, \d+ s operations 4, \d+ refused by the kernel", text)
    assert text.endswith(" equal")
