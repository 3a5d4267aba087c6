# SPDX-License-Identifier: Apache-2.0
"""The microscope without a guest: when a walk ends, what it calls wrong, what is planted."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from hotbank.boards_qemu.parts import bank_module
from kernel import guest_walk
from kernel.test_splats import FAULT, MISTAKES
from microscope import guests, walks


class Guest:
    """Answers as one would whose operation asks for so many allocations."""

    def __init__(
        self, allocations: int, wrong: dict[int, str] | None = None, log: str = FAULT, leaks: str = ""
    ) -> None:
        self.allocations, self.wrong, self.log, self.leaks = allocations, wrong or {}, log, leaks
        self.free = [900_000, 899_000]

    def __call__(self, command: str) -> str:
        if "walk.py" in command:
            return "\n".join(self._attempts(*map(int, command.split()[-2:])))
        if "dmesg" in command:
            return self.log
        if "MemFree" in command:
            free, kept = self.free.pop(0), 1000
            return f"MemFree: {free - 4 * kept} kB\n    count: {kept - 10}\n    count: 10\n"
        return self.leaks if command.startswith("cat") else ""

    def _attempts(self, first: int, count: int) -> Sequence[str]:
        last = min(first + count, self.allocations + 2)
        return [json.dumps(self._attempt(number)) for number in range(first, last)]

    def _attempt(self, number: int) -> dict[str, object]:
        hit = number <= self.allocations
        return {"errno": 12 * hit, "hit": hit, "wrong": [self.wrong[number]] if number in self.wrong else []}


@pytest.mark.parametrize("allocations", [0, 1, 24, 25, 26, 130])
def test_a_walk_goes_on_until_nothing_is_denied(allocations: int) -> None:
    done = walks.walk(Guest(allocations), "high", "add")
    assert (done.denied, done.attempts, done.wrong, done.drift) == (allocations, allocations + 1, [], 1000)
    assert done.errors == {0: 1, **({12: allocations} if allocations else {})}


def test_a_walk_can_be_a_part_of_it() -> None:
    done = walks.walk(Guest(130, {60: "lost"}), "high", "add", first=51, most=25)
    assert (done.attempts, done.denied, done.wrong) == (25, 25, ["allocation 60: lost"])


def test_what_is_wrong_is_told_with_its_allocation() -> None:
    done = walks.walk(Guest(30, {27: "resource: left"}), "high", "add")
    assert done.wrong == ["allocation 27: resource: left"]


def test_a_splat_a_leak_and_a_page_that_is_lost_are_wrong() -> None:
    leak = (
        'unreferenced object 0xffff00000412 (size 8):\n  comm "python3"\n  backtrace (crc 0):\n    [<0>] bank_add+0x4\n'
    )
    guest = Guest(1, log=f"{FAULT}[ 1.0] {MISTAKES[0]}\n", leaks=leak)
    guest.free = [900_000, 800_000]
    done = walks.walk(guest, "high", "add")
    assert done.wrong == [
        MISTAKES[0],
        "leaked: 0xffff00000412 (size 8): bank_add+0x4",
        "100000 kB are not free any more",
    ]


@pytest.mark.parametrize("log", ["{fault}{warning}", "{warning}", "{fault}{other}"])
def test_the_kernels_own_word_of_what_it_was_denied_is_no_mistake(log: str) -> None:
    """Only of a function that says so, and only where memory was denied to it."""
    warning = "WARNING: drivers/base/core.c:712 at devlink_remove_symlinks+0x30c/0x37c, CPU#0: python3/194"
    other = warning.replace("devlink_remove_symlinks", "bank_add")
    fault = FAULT.replace("register_memory_resource", "devlink_remove_symlinks")
    told = log.format(fault=fault, warning=f"[ 1.0] {warning}\n", other=f"[ 1.0] {other}\n")
    expected = {"{fault}{warning}": [], "{warning}": [warning], "{fault}{other}": [other]}[log]
    assert walks.walk(Guest(1, log=told), "high", "unload").wrong == expected


def test_the_walk_in_the_guest_has_every_operation() -> None:
    assert tuple(guest_walk.OPERATIONS) == walks.OPERATIONS


def test_every_mistake_can_be_planted() -> None:
    """In the driver as it is now."""
    for breach in guests.BREACHES:
        text = (bank_module.source_folder() / breach.file).read_text(encoding="utf-8")
        assert [text.count(old) for old, _ in breach.edits] == [1] * len(breach.edits), breach.name
        assert breach.operation in walks.OPERATIONS


LOOK = guest_walk.Look("present", "on", ("online", "offline"), 256 << 20, 1_000_000 + (128 << 10))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({}, ""),
        ({"state": "absent"}, "blocks: resource"),
        ({"supply": "off"}, "supply"),
        ({"blocks": ("online",)}, "blocks"),
        ({"resource": 128 << 20}, "resource"),
        ({"total": 1_000_000}, "MemTotal"),
        ({"state": "absent", "blocks": (), "resource": 0, "total": 1_000_000, "supply": "off"}, ""),
    ],
)
def test_a_look_that_can_not_be_is_named(change: dict[str, object], named: str) -> None:
    bank = guest_walk.Bank.__new__(guest_walk.Bank)
    bank.range, bank.block = (0x8000_0000, 0x8FFF_FFFF), 128 << 20
    fields = {name: getattr(LOOK, name) for name in LOOK.__dataclass_fields__} | change
    wrong = guest_walk.impossible(bank, guest_walk.Look(**fields), 1_000_000)
    assert [what.split(":")[0] for what in wrong] == [word for word in named.split(": ") if word]
