# SPDX-License-Identifier: Apache-2.0
"""Which zones a kernel will make of what firmware says: a pure function from a memory map to a layout.

``boot`` follows early boot up to memblock and the architecture's zone limits, ``mainline`` free_area_init,
``banks`` the two strategies of the 2009 proposal, ``surprises`` what a user should be warned of.
"""

from __future__ import annotations

from hotbank.errors import Code, Refusal
from hotbank.firmware import cmdline as _cmdline
from hotbank.memory import MemoryMap, MemoryRegion
from hotbank.zones import mainline
from hotbank.zones.boot import Boot, boot_arm, boot_arm64, kernel_traits
from hotbank.zones.layout import BlockZones, Hidden, Layout, Warning, ZoneSpan

__all__ = ["BlockZones", "Hidden", "Layout", "Warning", "ZoneSpan", "predict"]


def predict(
    memory: MemoryMap,
    *,
    arch: str,
    page_size: int,
    block_size: int,
    cmdline: str | None = None,
    kernel: str = "6.12",
    strategy: str = "mainline",
    dma_size: int | None = None,
) -> Layout:
    """The layout that ``kernel`` (6.1, 6.12 or 7.3) makes of ``memory`` on ``arch`` (arm, arm64; any is arm64).

    ``cmdline`` replaces the description's own line. ``strategy``: ``mainline``, or ``adjust`` and ``banks`` of the
    2009 proposal. ``dma_size``: on arm, bytes of the machine's DMA zone. Sizes in bytes.
    Raises FormatError (command line) and Refusal.
    """
    if strategy != "mainline":
        raise Refusal(Code.UNSUPPORTED, f"no strategy {strategy!r}", remedy="use mainline")
    traits = kernel_traits(kernel)
    line = cmdline if cmdline is not None else memory.cmdline or ""
    options = _cmdline.memory_options(_cmdline.decode(line))
    if arch == "arm":
        boot = boot_arm(memory, options, page_size, dma_size)
    else:
        boot = boot_arm64(memory, options, traits, page_size)
    spans = mainline.zones(boot, options, traits, page_size)
    return Layout(
        zones=spans,
        blocks=mainline.blocks(boot, spans, page_size, block_size),
        ram=_system_ram(boot),
        hidden=tuple(sorted(boot.hidden, key=lambda h: h.range)),
    )


def _system_ram(boot: Boot) -> tuple[MemoryRegion, ...]:
    return tuple(
        MemoryRegion(r.range, r.node, r.hotplug and boot.movable_node, "memblock") for r in boot.memory if not r.nomap
    )
