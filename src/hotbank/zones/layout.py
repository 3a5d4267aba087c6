# SPDX-License-Identifier: Apache-2.0
"""What a prediction is made of: zones, blocks, findings, memory that the kernel won't use, and what boot code knew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hotbank.errors import Finding
from hotbank.firmware.cmdline import MemoryOptions
from hotbank.kernels import Arch, Kernel
from hotbank.memory import MemoryMap, MemoryRegion, Range, Zone
from hotbank.zones.memblock import Memblock


@dataclass(frozen=True, slots=True)
class ZoneSpan:
    """One populated zone of one node. ``start_pfn`` a page frame number, ``spanned`` and ``present`` in pages."""

    node: int
    zone: str
    start_pfn: int
    spanned: int
    present: int

    @property
    def end_pfn(self) -> int:
        """The pfn behind the span."""
        return self.start_pfn + self.spanned


@dataclass(frozen=True, slots=True)
class BlockZones:
    """One memory block that is there at boot, and what its ``valid_zones`` reads: ``("none",)`` if not one zone."""

    block: int
    valid_zones: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hidden:
    """A range that firmware describes and this kernel won't use as RAM, and why."""

    range: Range
    why: str


@dataclass(frozen=True, slots=True)
class Layout:
    """What one kernel makes of one description.

    ``zones`` in node and address order. ``blocks``: every memory block at boot. ``ram``: System RAM with its node,
    ``hotpluggable`` where this kernel honours it. ``reserved``: ranges inside ``ram`` that firmware keeps from the
    allocator.
    """

    zones: tuple[ZoneSpan, ...] = ()
    blocks: tuple[BlockZones, ...] = ()
    findings: tuple[Finding, ...] = ()
    ram: tuple[MemoryRegion, ...] = ()
    hidden: tuple[Hidden, ...] = ()
    reserved: tuple[Range, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Prediction:
    """A layout and all that was known when it was made, so that nobody has to guess it again.

    ``memory``: memblock as early boot left it, with flags, nodes and what firmware reserves; ``copy`` it to go on.
    ``limits``: the first pfn behind each of the architecture's zones, in their order. ``movable_node``: this kernel
    keeps its own memory out of what is marked movable. ``line``: the command line, and ``options`` what it says about
    memory. Sizes in bytes. ``no_numa``: why the kernel refuses firmware's node numbers, or empty.
    ``panics``: why it does not boot, or empty; then there are no zones. ``refused``: why words of the line that ask for
    memory get none. ``numa_emu``: this kernel has CONFIG_NUMA_EMU; ``fakes``: its nodes were made by ``numa=fake=``.
    """

    layout: Layout
    firmware: MemoryMap
    arch: Arch
    kernel: Kernel
    options: MemoryOptions
    memory: Memblock
    limits: Mapping[Zone, int]
    movable_node: bool
    page_size: int
    block_size: int
    line: str = ""
    no_numa: str = ""
    panics: str = ""
    refused: tuple[str, ...] = ()
    numa_emu: bool = False
    fakes: bool = False
