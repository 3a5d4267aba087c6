# SPDX-License-Identifier: Apache-2.0
"""Before a domain goes dark: no dax device is left that could bring a bank of it in (drivers/dax, drivers/nvdimm)."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from host.captured_trees import Made, MadeBlock, write
from hotbank import board as boards
from hotbank.errors import Code, KernelError, SwitchError
from hotbank.host import Host
from hotbank.host.routes import Kmem
from hotbank.host.tree import Tree
from hotbank.memory import MIB, Power, Range

ND, DAX = "sys/bus/nd", "sys/bus/dax"
SPAN = Range.sized(0x4800_0000, 128 * MIB)
BOARD = """
name = "b"
block_size = "128M"
[bank.a]
start = 0x48000000
size = "128M"
movable = true
route = "kmem"
domain = "ddr"
[domain.ddr]
states = ["on", "off"]
switch = "machine"
"""


@dataclass
class Bus:
    """The two buses as files. ``sleeps``: its dax device goes when its namespace is unbound from dax_pmem."""

    root: Path
    sleeps: bool = True
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        start, size = f"{SPAN.start - 2 * MIB:#x}\n", f"{SPAN.size + 2 * MIB}\n"
        write(self.root, {f"{ND}/devices/region0/resource": start, f"{ND}/devices/region0/size": size})
        Made((MadeBlock(0),)).at(self.root)
        for name in (f"{DAX}/devices/dax0.0", f"{DAX}/drivers/kmem/dax0.0", f"{ND}/drivers/dax_pmem/dax0.0"):
            (self.root / name).mkdir(parents=True)

    def write(self, name: str, word: str, what: str) -> None:
        del what
        self.told.append(name)
        (self.root / name).with_name(word).rmdir()
        if name == f"{ND}/drivers/dax_pmem/unbind" and self.sleeps:
            (self.root / f"{DAX}/devices/{word}").rmdir()


def test_a_bank_that_is_out_is_shut_in(tmp_path: Path) -> None:
    bus = Bus(tmp_path)
    Kmem(Tree(tmp_path), bus.write).shut("a", SPAN)
    assert bus.told == [f"{DAX}/drivers/kmem/unbind", f"{ND}/drivers/dax_pmem/unbind"]
    Kmem(Tree(tmp_path), bus.write).shut("a", SPAN)
    assert len(bus.told) == 2


def test_a_device_that_stays_keeps_the_power_on(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=r"dax0\.0 is still there and could bring it in") as caught:
        Kmem(Tree(tmp_path), Bus(tmp_path, sleeps=False).write).shut("a", SPAN)
    assert caught.value.errno == errno.EBUSY


def test_a_device_that_also_holds_memory_in_use_is_not_unbound(tmp_path: Path) -> None:
    """Its unbind would take that memory out as well, or leave it STUCK."""
    beside, device = Range.sized(SPAN.end, SPAN.size), f"{DAX}/devices/dax0.0"
    for number, part in enumerate((SPAN, beside)):
        ends = {"start": f"{part.start:#x}\n", "end": f"{part.end - 1:#x}\n"}
        write(tmp_path, {f"{device}/mapping{number}/{name}": text for name, text in ends.items()})
    (tmp_path / f"{DAX}/drivers/kmem/dax0.0").mkdir(parents=True)
    Made((MadeBlock(beside.start // SPAN.size),)).at(tmp_path)
    with pytest.raises(KernelError, match=r"dax0\.0 also holds memory10, which is not the bank's") as caught:
        Kmem(Tree(tmp_path), lambda *_: pytest.fail("wrote")).shut("a", SPAN)
    assert caught.value.errno == errno.EINVAL


def test_a_driver_that_is_not_loaded_is_named(tmp_path: Path) -> None:
    device = f"{DAX}/devices/dax0.0"
    ends = {f"{device}/resource": f"{SPAN.start:#x}\n", f"{device}/size": f"{SPAN.size}\n"}
    write(tmp_path, ends | {f"{DAX}/drivers/device_dax/dax0.0/x": ""})
    Made((MadeBlock(0),)).at(tmp_path)
    with pytest.raises(KernelError, match=r"sys/bus/dax/drivers/kmem is missing: load kmem") as caught:
        Kmem(Tree(tmp_path), lambda *_: pytest.fail("wrote")).add("a", SPAN)
    assert caught.value.errno == errno.ENODEV


def test_where_nothing_is_nothing_is_shut(tmp_path: Path) -> None:
    Kmem(Tree(tmp_path), lambda *_: pytest.fail("wrote")).shut("a", SPAN)


@dataclass
class Rail:
    """A switch that is where it was told; ``meanwhile``: the block that somebody adds while it goes off."""

    root: Path
    meanwhile: int | None = None
    told: list[Power] = field(default_factory=lambda: [Power.ON])

    def status(self) -> Power:
        return self.told[-1]

    def turn(self, want: Power) -> None:
        self.told.append(want)
        if want is Power.OFF and self.meanwhile is not None:
            write(self.root, {f"sys/devices/system/memory/memory{self.meanwhile}/state": "online\n"})


def host(root: Path, rail: Rail) -> Host:
    return Host(Made((MadeBlock(8),)).at(root), boards.loads(BOARD), switches={"ddr": rail})


def test_a_host_turns_no_switch_while_a_device_stays(tmp_path: Path) -> None:
    """Writing to files of a tree unbinds nothing, as a driver that does not let go."""
    rail = Rail(tmp_path)
    Bus(tmp_path)
    write(tmp_path, {f"{DAX}/drivers/kmem/unbind": "", f"{ND}/drivers/dax_pmem/unbind": ""})
    with pytest.raises(KernelError, match=r"dax0\.0"):
        host(tmp_path, rail).set_power("ddr", Power.OFF)
    assert rail.told == [Power.ON]


def test_a_host_lights_what_came_in_meanwhile_and_says_that_it_is_lost(tmp_path: Path) -> None:
    rail = Rail(tmp_path, meanwhile=9)
    with pytest.raises(SwitchError, match="memory9 in the kernel; it is on again; what was in it is lost") as caught:
        host(tmp_path, rail).set_power("ddr", Power.OFF)
    assert caught.value.code is Code.LOST
    assert rail.told == [Power.ON, Power.OFF, Power.ON]


def test_a_host_with_nothing_left_goes_dark(tmp_path: Path) -> None:
    rail = Rail(tmp_path)
    host(tmp_path, rail).set_power("ddr", Power.OFF)
    assert rail.status() is Power.OFF
