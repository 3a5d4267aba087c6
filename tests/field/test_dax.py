# SPDX-License-Identifier: Apache-2.0
"""Banks that stand on dax devices of any bus: CXL and HMEM bring theirs without an nd region."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from host.captured_trees import MEMORY, Made, MadeBlock, write
from hotbank.errors import Code, KernelError
from hotbank.host.routes import Kmem
from hotbank.host.tree import Tree
from hotbank.memory import MIB, Range

DAX = "sys/bus/dax"
BLOCK = 128 * MIB
BANK = Range.sized(32 * BLOCK, 4 * BLOCK)


@dataclass
class Cxl:
    """Devices by name, with the ranges of each. ``plugged``: those that a ``state`` shows, as from 7.3 on."""

    root: Path
    devices: dict[str, list[Range]]
    new: bool = False
    refused: bool = False
    told: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        numbers = sorted({n for parts in self.devices.values() for part in parts for n in part.blocks(BLOCK)})
        Made((MadeBlock(0), *(MadeBlock(n, "offline", "Normal Movable") for n in numbers))).at(self.root)
        write(self.root, {f"{DAX}/drivers/kmem/unbind": "", f"{DAX}/drivers/device_dax/bind": ""})
        for name, parts in self.devices.items():
            folder = f"{DAX}/devices/{name}"
            write(self.root, {f"{DAX}/drivers/kmem/{name}/x": "", f"{folder}/size": f"{sum(p.size for p in parts)}\n"})
            if len(parts) == 1:
                write(self.root, {f"{folder}/resource": f"{parts[0].start:#x}\n"})
            for number, part in enumerate(parts if len(parts) > 1 else ()):
                ends = {"start": part.start, "end": part.end - 1}
                write(self.root, {f"{folder}/mapping{number}/{end}": f"{at:#x}\n" for end, at in ends.items()})
            if self.new:
                write(self.root, {f"{folder}/state": "online_movable\n"})

    def write(self, name: str, word: str, what: str) -> None:
        self.told.append((name.removeprefix(f"{DAX}/"), word))
        if name.endswith("/state"):
            if self.refused:
                raise KernelError(errno.EBUSY, what)
            write(self.root, {name: "unplugged\n"})
            self._gone(name.split("/")[-2])
        elif name.endswith("kmem/unbind"):
            (self.root / f"{DAX}/drivers/kmem/{word}/x").unlink()
            (self.root / f"{DAX}/drivers/kmem/{word}").rmdir()
            self._gone(word)

    def _gone(self, device: str) -> None:
        for number in [n for part in self.devices[device] for n in part.blocks(BLOCK)]:
            folder = self.root / f"{MEMORY}/memory{number}"
            if folder.exists():
                folder.rename(self.root / f"gone{number}")


def unbound(*names: str) -> list[tuple[str, str]]:
    return [("drivers/kmem/unbind", name) for name in names]


@examples(15)
@given(st.lists(st.integers(1, 3), max_size=3), st.integers(0, 9), st.booleans())
def test_the_devices_in_the_bank_are_unbound_and_no_others(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], first: int, strangers: bool
) -> None:
    edges = [0, *sorted(set(cuts)), 4]
    names = {f"dax{first}.{at}": (a, b) for at, (a, b) in enumerate(pairwise(edges))}
    devices = {name: [Range(BANK.start + a * BLOCK, BANK.start + b * BLOCK)] for name, (a, b) in names.items()}
    if strangers:
        devices |= {"dax77.0": [Range.sized(BANK.end, BLOCK)], "dax78.0": [Range.sized(BANK.start - BLOCK, BLOCK)]}
    cxl = Cxl(tmp_path_factory.mktemp("t"), devices)
    assert not Kmem(Tree(cxl.root), cxl.write).stuck(BANK)
    Kmem(Tree(cxl.root), cxl.write).remove("cxl", BANK)
    assert cxl.told == unbound(*sorted(names))


def test_a_device_of_several_mappings(tmp_path: Path) -> None:
    halves = [Range.sized(BANK.start, 2 * BLOCK), Range.sized(BANK.start + 2 * BLOCK, 2 * BLOCK)]
    cxl = Cxl(tmp_path, {"dax1.0": halves})
    Kmem(Tree(tmp_path), cxl.write).remove("cxl", BANK)
    assert cxl.told == unbound("dax1.0")


def test_other_memory_of_the_device_does_not_leave_with_the_bank(tmp_path: Path) -> None:
    cxl = Cxl(tmp_path, {"dax1.0": [Range(BANK.start, BANK.end + BLOCK)]})
    with pytest.raises(KernelError, match="also holds memory36"):
        Kmem(Tree(tmp_path), cxl.write).remove("cxl", BANK)
    assert cxl.told == []


def test_all_or_nothing_where_there_is_a_state(tmp_path: Path) -> None:
    cxl = Cxl(tmp_path, {"dax1.0": [BANK]}, new=True)
    Kmem(Tree(tmp_path), cxl.write).remove("cxl", BANK)
    assert cxl.told == [("devices/dax1.0/state", "unplugged"), *unbound("dax1.0")]


def test_a_state_that_refuses_sticks_nothing(tmp_path: Path) -> None:
    cxl = Cxl(tmp_path, {"dax1.0": [BANK]}, new=True, refused=True)
    with pytest.raises(KernelError) as caught:
        Kmem(Tree(tmp_path), cxl.write).remove("cxl", BANK)
    assert caught.value.code is not Code.STUCK
    assert cxl.told == [("devices/dax1.0/state", "unplugged")]
    assert not Kmem(Tree(tmp_path), cxl.write).stuck(BANK)


def test_a_driver_that_let_go_of_blocks_is_stuck(tmp_path: Path) -> None:
    cxl = Cxl(tmp_path, {"dax1.0": [BANK]})
    cxl.devices["dax1.0"] = []
    with pytest.raises(KernelError) as caught:
        Kmem(Tree(tmp_path), cxl.write).remove("cxl", BANK)
    assert caught.value.code is Code.STUCK
    assert Kmem(Tree(tmp_path), cxl.write).stuck(BANK)
