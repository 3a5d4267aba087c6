# SPDX-License-Identifier: Apache-2.0
"""What QEMU's ``virt`` machines have in common (hw/arm/virt.c): where their memory begins, the tree they describe
themselves with, and our driver's nodes in it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from hotbank.board import Bank
from hotbank.errors import BoardError, Code, MachineError
from hotbank.firmware import devicetree, fdt
from hotbank.memory import MemoryRegion

RAM = 0x4000_0000


def check_memory(banks: Iterable[Bank]) -> int:
    """Where the machine's memory ends that is made of these banks, by address. Raises BoardError for a gap."""
    end = RAM
    for bank in banks:
        if bank.range.start != end:
            allowed = f"must be {end:#x}: QEMU's memory begins at {RAM:#x} and has no gaps"
            raise BoardError(f"bank.{bank.name}.start", f"{bank.range.start:#x}", allowed)
        end = bank.range.end
    return end


def base_tree(program: str, arguments: Sequence[str], folder: Path) -> fdt.Tree:
    """The tree of the bare machine, as QEMU describes it. ``arguments``: CPUs and memory. Raises MachineError."""
    path = folder / "virt.dtb"
    argv = [program, "-M", f"virt,dumpdtb={path}", *arguments, "-nodefaults", "-display", "none"]
    try:
        subprocess.run(argv, capture_output=True, text=True, check=True)
    except FileNotFoundError as e:
        raise MachineError(
            f"{program} is not installed", code=Code.SYSTEM_ERROR, remedy="apt-get install qemu-system-arm"
        ) from e
    except subprocess.CalledProcessError as e:
        raise MachineError(f"{program} gave no device tree: {e.stderr.strip()}", code=Code.SYSTEM_ERROR) from e
    return replace(fdt.decode(path.read_bytes()), padding=b"")  # a MiB, which a guest would read whenever it looks


def start_at(stub: int) -> tuple[str, str]:
    """QEMU's arguments to start the first CPU at that address."""
    return "-device", f"loader,addr={stub:#x},cpu-num=0"


def with_node(tree: fdt.Tree, node: fdt.Node) -> fdt.Tree:
    """The tree with a node below its root, in the place of the one of that name."""
    return replace(tree, root=fdt.edit(tree.root, [node.name], node))


def with_driver_bank(tree: fdt.Tree, bank: Bank, properties: Iterable[tuple[str, bytes]]) -> fdt.Tree:
    """The tree with a bank that our driver attends to, and more properties of its node (kernel/bank/driver.c)."""
    known = {node.name for node in tree.root.children}
    tree = devicetree.add_banks(tree, [MemoryRegion(bank.range, bank.node, source=bank.name)])
    (node,) = (node for node in tree.root.children if node.name not in known)
    for name, value in properties:
        node = node.with_property(name, value)
    return with_node(tree, node)
