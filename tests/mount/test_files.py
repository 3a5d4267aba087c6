# SPDX-License-Identifier: Apache-2.0
"""The files of a machine: a Host that reads them sees the machine they were made from, and writes give its errno."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from host.captured_trees import BOOTS, DUMPS, from_boot, from_dump
from hotbank import board
from hotbank.errors import KernelError
from hotbank.host import Host
from hotbank.load import Workload
from hotbank.machine import Machine
from hotbank.memory import BlockState, KernelState, Power
from hotbank.model import Model
from hotbank.mount import File, Folder, Link, MachineFiles

BOARDS = ("arm-2009", "virt-arm32", "virt-arm64", "virt-arm64-kmem", "virt-arm64-virtio-mem")
STATE = "sys/devices/system/memory/memory{}/{}"


def write_out(folder: Folder, root: Path) -> Path:
    """As a tree of plain files."""
    root.mkdir(exist_ok=True)
    for name, entry in folder.entries.items():
        if isinstance(entry, Folder):
            write_out(entry, root / name)
        elif isinstance(entry, Link):
            os.symlink(entry.target, root / name)
        else:
            (root / name).write_text(entry.text())
    return root


@pytest.mark.parametrize("name", BOARDS)
def test_a_host_sees_the_machine_that_the_files_were_made_from(name: str, tmp_path: Path) -> None:
    model = Model.boot(board.load(name), backend="reference", seed=3)
    Workload(model, 3, pages=500).fill()
    truth = model.snapshot()
    host = Host(write_out(MachineFiles(model, None).tree(), tmp_path / "root"), board.load(name))
    seen = host.snapshot()
    assert [(b.number, b.range, b.state, b.valid_zones, b.node) for b in seen.blocks] == [
        (b.number, b.range, b.state, b.valid_zones, b.node) for b in truth.blocks
    ]
    assert seen.zones == truth.zones
    assert (seen.arch, seen.page_size, seen.block_size, seen.boot_id, seen.auto_online) == (
        truth.arch,
        truth.page_size,
        truth.block_size,
        truth.boot_id,
        truth.auto_online,
    )
    assert [(b.name, b.kernel) for b in seen.banks] == [(b.name, b.kernel) for b in truth.banks]


@pytest.mark.parametrize("source", [*DUMPS[:2], *BOOTS[:4]], ids=lambda p: "/".join(p.parts[-3:]))
def test_the_files_of_a_captured_kernel_are_its_own_again(source: Path, tmp_path: Path) -> None:
    """What a real kernel printed, read by Host and made into files again: equal bytes."""
    make = from_dump if source in DUMPS else from_boot
    root = make(source, tmp_path / "captured")
    made = MachineFiles(Host(root), None).tree()
    compared = 0
    for path in (root / "sys/devices/system/memory").rglob("*"):
        entry = made.find(str(path.relative_to(root)))
        if isinstance(entry, File) and path.name != "auto_online_blocks" and path.name != "uevent":
            assert entry.text() == path.read_text(), path
            compared += 1
        elif path.is_symlink() and path.name.startswith("node"):
            assert isinstance(entry, Link)
            assert os.path.basename(entry.target) == os.path.basename(os.readlink(path))
    assert compared > 8
    again = Host(write_out(made, tmp_path / "again"))
    assert again.snapshot().zones == Host(root).snapshot().zones  # with what each zone keeps for others


@pytest.fixture
def model() -> Model:
    model = Model.boot(board.load("arm-2009"), backend="reference", seed=1)
    Workload(model, 1, pages=2000).fill()
    return model


def store(machine: Machine, path: str, word: str, *, read_only: bool = False) -> None:
    entry = MachineFiles(machine, None if read_only else machine).tree().find(path)
    assert isinstance(entry, File)
    if entry.store is None:
        raise KernelError(errno.EACCES, path)
    entry.store(word)


def state(machine: Machine, number: int) -> BlockState:
    block = machine.snapshot().block(number)
    assert block is not None
    return block.state


@pytest.mark.parametrize(
    ("block", "name", "word", "expected"),
    [
        (20, "state", "nonsense", errno.EINVAL),
        (20, "state", "", errno.EINVAL),
        (20, "state", "Offline", errno.EINVAL),
        (20, "state", "going-offline", errno.EINVAL),
        (20, "state", "online", errno.EINVAL),  # the state it is in
        (20, "state", "online_kernel", errno.EINVAL),  # must go offline first
        (16, "state", "offline", errno.EBUSY),  # an unmovable page
        (16, "online", "0", errno.EBUSY),
        (20, "online", "2", errno.EINVAL),
        (20, "online", "", errno.EINVAL),
        (20, "online", "o", errno.EINVAL),
        (20, "online", "1", 0),  # unlike state
        (20, "online", "on", 0),
        (20, "online", "n", 0),
        (20, "online", "off", 0),
        (20, "state", "offline", 0),
    ],
)
def test_the_errno_of_a_write(model: Model, block: int, name: str, word: str, expected: int) -> None:
    """The table of the kernel's own answers, measured on arm64 kernels."""
    got = 0
    try:
        store(model, STATE.format(block, name), word)
    except KernelError as e:
        got = e.errno
    assert got == expected
    gone = expected == 0 and word in ("n", "off", "offline")
    assert state(model, block) is (BlockState.OFFLINE if gone else BlockState.ONLINE)


def test_what_is_offline_already(model: Model) -> None:
    store(model, STATE.format(20, "state"), "offline")
    with pytest.raises(KernelError, match="EINVAL"):
        store(model, STATE.format(20, "state"), "offline")
    store(model, STATE.format(20, "online"), "0")
    store(model, STATE.format(20, "state"), "online_movable")
    assert state(model, 20) is BlockState.ONLINE


def test_arm64_vetoes_boot_memory() -> None:
    model = Model.boot(board.load("virt-arm64"), backend="reference")
    snapshot = model.snapshot()
    free = [b.number for b in snapshot.blocks if b.state is BlockState.ONLINE and not model.survey(b.number).blocked]
    with pytest.raises(KernelError, match="EPERM"):
        store(model, STATE.format(free[0], "state"), "offline")


def test_a_bank_leaves_and_returns_by_its_driver(model: Model) -> None:
    folder = "sys/class/hotbank/high"
    with pytest.raises(KernelError, match="EBUSY"):
        store(model, f"{folder}/supply", "off")
    with pytest.raises(KernelError, match="EINVAL"):
        store(model, f"{folder}/state", "evict me")
    for number in (20, 21, 22, 23):
        store(model, STATE.format(number, "state"), "offline")
    store(model, f"{folder}/state", "remove")
    store(model, f"{folder}/supply", "off")
    tree = MachineFiles(model, model).tree()
    assert tree.find("sys/devices/system/memory/memory20") is None
    assert [tree.find(f"{folder}/{n}").text() for n in ("state", "supply", "range")] == [  # type: ignore[union-attr]
        "absent\n",
        "off\n",
        "0x50000000-0x5fffffff\n",
    ]
    assert model.power("ddr-high") is Power.OFF
    store(model, f"{folder}/supply", "on")
    store(model, f"{folder}/state", "add")
    bank = model.snapshot().bank("high")
    assert bank is not None
    assert bank.kernel is KernelState.OFFLINE


def test_a_machine_mounted_read_only_is_changed_by_nobody(model: Model) -> None:
    before = model.snapshot()
    for path in (STATE.format(20, "state"), STATE.format(20, "online"), "sys/class/hotbank/high/state"):
        with pytest.raises(KernelError, match="EACCES"):
            store(model, path, "offline", read_only=True)
    assert model.snapshot() == before


@pytest.mark.parametrize("name", ["", ".", "..", "/x", "a/b"])
def test_a_bank_whose_name_is_no_file_name_has_no_files(
    model: Model, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = model.snapshot()
    banks = tuple(replace(bank, name=name) if bank.name == "high" else bank for bank in now.banks)
    monkeypatch.setattr(model, "snapshot", lambda: replace(now, banks=banks))
    tree = MachineFiles(model, None).tree()
    assert tree.find("sys/devices/system/memory/memory20/state") is not None
    assert tree.find("sys/class/hotbank") is None
