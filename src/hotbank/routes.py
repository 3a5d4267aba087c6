# SPDX-License-Identifier: Apache-2.0
"""Routes: how a bank enters and leaves the kernel, as facts. One row a route, one column a question.

``none``        it can be taken offline, and that is all; after boot a DIMM (drivers/acpi/acpi_memhotplug.c)
``kmem``        drivers/dax/kmem.c: a pmem region as a dax device
``virtio-mem``  drivers/virtio/virtio_mem.c: the hypervisor plugs and unplugs, the guest only agrees
``driver``      our bank driver, kernel/bank
``probe``       drivers/base/memory.c, ``probe_store``: adds a block; nothing removes one

What acts by a route stands in host/routes.py, one class each, and in one place of a board's emulation. Nobody else
tells a route by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hotbank.memory import KernelState, Power

_IN = frozenset({KernelState.OFFLINE, KernelState.PARTIAL, KernelState.ONLINE})


@dataclass(frozen=True, slots=True)
class Route:
    """One way in and out.

    ``enters``, ``removes``: a bank can be added, and taken out again. ``in_guest``: the kernel's own side does it;
    False where a hypervisor has to ask. ``group``: its blocks are one memory group, ``dynamic`` one of virtio-mem's
    kind. ``own_memmap``: it asks for MHP_MEMMAP_ON_MEMORY. ``offlines``: a removal takes blocks offline by itself.
    ``sticks``: it lets go of a bank whose blocks are still there, and then only a reboot helps (STUCK).
    ``movable_only``: its driver lets no block into a kernel zone. ``fences``: its driver can empty several blocks
    together, so that nothing moves from one into another. ``bank_files``: the bank has a folder in
    /sys/class/hotbank. ``switches``: its driver turns the bank's supply. ``resource``: what /proc/iomem calls its
    memory, None for plain System RAM. ``modules``: what the kernel has to load, in this order.
    """

    name: str
    enters: bool = True
    removes: bool = True
    in_guest: bool = True
    group: bool = False
    dynamic: bool = False
    own_memmap: bool = False
    offlines: bool = False
    sticks: bool = False
    movable_only: bool = False
    fences: bool = False
    bank_files: bool = False
    switches: bool = False
    resource: str | None = None
    modules: tuple[str, ...] = ()

    def reaches(self, kernel: KernelState, power: Power) -> bool:
        """True if a bank that comes and goes by this route can be in that pair of states, its power being known."""
        if power is Power.UNKNOWN:
            return False
        if kernel is KernelState.ABSENT:
            return self.removes or (self.enters and power is Power.ON)
        if kernel is KernelState.STUCK:
            return self.sticks and power is Power.ON
        return kernel in _IN and not power.dark


NONE = Route("none", enters=False, removes=False, group=True)

ROUTES: Mapping[str, Route] = {
    row.name: row
    for row in (
        NONE,
        Route(
            "kmem",
            group=True,
            own_memmap=True,
            sticks=True,
            resource="kmem",
            modules=("nd_pmem", "of_pmem", "device_dax", "dax_pmem", "kmem"),
        ),
        Route(
            "virtio-mem",
            in_guest=False,
            group=True,
            dynamic=True,
            offlines=True,
            resource="virtio_mem",
            modules=("virtio_mem",),
        ),
        Route(
            "driver",
            movable_only=True,
            fences=True,
            bank_files=True,
            switches=True,
            resource="hotbank",
            modules=("hotbank_bank",),
        ),
        Route("probe", removes=False),
    )
}
"""The table."""


def removing() -> tuple[str, ...]:
    """The routes that can take a bank out of the kernel, for messages."""
    return tuple(name for name, row in ROUTES.items() if row.removes)


def route(name: str) -> Route:
    """The row of that route. One that this hotbank does not know, as a newer machine may name, leads nowhere here."""
    return ROUTES.get(name) or Route(name, enters=False, removes=False)
