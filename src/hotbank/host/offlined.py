# SPDX-License-Identifier: Apache-2.0
"""Who holds pages that are PG_offline, and whether a block that is to leave gets them.

Truth: mm/memory_hotplug.c (``scan_movable_pages``: EBUSY for one that has a reference and can't be moved),
drivers/virtio/virtio_mem.c (``virtio_mem_fake_offline_going_offline`` drops the reference), mm/balloon_compaction.c
(pages of drivers that use it move: virtio_balloon, vmw_balloon). drivers/hv/hv_balloon.c and drivers/xen/balloon.c let
go of nothing.
"""

from __future__ import annotations

from hotbank import kernels
from hotbank.host import tree as files
from hotbank.host.ram import Ram
from hotbank.host.tree import Tree
from hotbank.memory import Kind, Range
from hotbank.sysfs import names

_VIRTIO_MEM = "virtio_mem"
_BOUND = "sys/bus/virtio/drivers/virtio_balloon"


def kind_of_offlined(tree: Tree, ram: Ram, span: Range) -> Kind | None:
    """What the PG_offline pages in the range are: ``balloon`` moves, ``unplugged`` is let go of, ``unbacked`` is not.

    None where nothing tells who holds them.
    """
    if ram.added_by(span) == _VIRTIO_MEM and not _ballooned(tree):
        return Kind.UNPLUGGED
    if any(name.startswith("virtio") for name in tree.names(_BOUND)):
        return Kind.BALLOON
    if tree.names("sys/module/vmw_balloon"):
        return _of_vmware(tree)
    return Kind.UNBACKED if tree.names("sys/bus") or tree.names("sys/hypervisor") else None


def _ballooned(tree: Tree) -> bool:
    """True if a balloon holds pages now: its pages look like those that were never plugged."""
    counters = files.counters(tree)
    return counters.get("balloon_inflate", 0) > counters.get("balloon_deflate", 0)


def _of_vmware(tree: Tree) -> Kind | None:
    moves = kernels.moves_vmware_balloon(tree.read(names.OSRELEASE) or "")
    return None if moves is None else Kind.BALLOON if moves else Kind.UNBACKED
