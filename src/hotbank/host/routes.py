# SPDX-License-Identifier: Apache-2.0
"""Routes: how a bank enters and leaves this kernel, and how one finds out whether it really did.

``probe``    drivers/base/memory.c, ``probe_store``: adds one block; nothing removes it
``driver``   our own module, kernel/bank: ``/sys/class/hotbank/BANK/state``
``kmem``     drivers/dax/kmem.c: dax devices, bound to ``kmem``. Its unbind reports success also when blocks could not
             be removed ("removing memory fails"), and then nothing but a reboot helps: STUCK. From 7.3 on a device has
             a ``state``, and writing ``unplugged`` to it takes out all blocks or none (2a6f2aef1126)
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Mapping
from typing import Protocol

from hotbank.errors import Code, KernelError
from hotbank.host import tree as files
from hotbank.host.devices import DAX, ND, extent, parts_of
from hotbank.host.tree import Tree
from hotbank.memory import MIB, Range
from hotbank.routes import NONE
from hotbank.sysfs import names
from hotbank.sysfs.bank import RANGE

Write = Callable[[str, str, str], None]
"""``write(file, word, what)``: write the word, or raise KernelError about ``what``."""

_ALIGN = 2 * MIB  # of a dax device on 4K pages


class Route(Protocol):
    """One way in and out. Errors are KernelError; what ``add`` and ``remove`` return from, has happened."""

    def add(self, bank: str, span: Range) -> None:
        """Bring the bank's blocks into the kernel."""
        ...

    def remove(self, bank: str, span: Range) -> None:
        """Take the bank's blocks out of the kernel; every one of them is offline."""
        ...

    def stuck(self, span: Range) -> bool:
        """True if some of the bank is still there although its driver has let go of it."""
        ...

    def shut(self, bank: str, span: Range) -> None:
        """Before its power goes, the bank being out: leave no device that could bring it in again. KernelError(EBUSY)
        where one stays."""
        ...

    def fence(self, bank: str) -> str | None:
        """The path of the file by which its blocks are emptied together (evacuation.py); None where there is none."""
        ...


def route_for(name: str, tree: Tree, write: Write) -> Route:
    """The route of that name on this machine."""
    return _WAYS[name](tree, write) if name in _WAYS else Closed(name)


class Closed:
    """A route that this machine can't go by itself."""

    def __init__(self, name: str) -> None:
        self._detail = "the bank has no route" if name == NONE.name else f"a bare host has no route {name} for it"

    def add(self, bank: str, span: Range) -> None:  # noqa: ARG002  # the protocol's arguments
        """Raises KernelError(EOPNOTSUPP)."""
        raise KernelError(errno.EOPNOTSUPP, f"add of {bank}", detail=self._detail)

    def remove(self, bank: str, span: Range) -> None:  # noqa: ARG002
        """Raises KernelError(EOPNOTSUPP)."""
        raise KernelError(errno.EOPNOTSUPP, f"remove of {bank}", detail=self._detail)

    def stuck(self, span: Range) -> bool:  # noqa: ARG002
        """Never: nothing was begun."""
        return False

    def shut(self, bank: str, span: Range) -> None:
        """Nothing: no device stands behind it."""

    def fence(self, bank: str) -> str | None:  # noqa: ARG002
        """None."""
        return None


class Probe(Closed):
    """Writes the address of each block that is missing to ``probe``. There is no way back."""

    NAME = "probe"

    def __init__(self, tree: Tree, write: Write) -> None:
        super().__init__(self.NAME)
        self._tree, self._write = tree, write

    def add(self, bank: str, span: Range) -> None:
        """Add the blocks that are not there."""
        size, present = files.block_size(self._tree), set(files.block_numbers(self._tree))
        for address in range(span.start, span.end, size):
            if address // size not in present:
                self._write(f"{names.MEMORY}/probe", f"{address:#x}", f"add of {bank} at {address:#x}")


class Driver:
    """Our bank driver."""

    NAME = "driver"

    def __init__(self, tree: Tree, write: Write) -> None:
        self._tree, self._write = tree, write

    def add(self, bank: str, span: Range) -> None:
        """Tell the driver to add it."""
        self._control(bank, span, "add")

    def remove(self, bank: str, span: Range) -> None:
        """Tell the driver to remove it, and see that no block is left. A bank that is out already stays out."""
        if _left(self._tree, span):
            self._control(bank, span, "remove")
        _check_gone(self._tree, f"remove of {bank}", span)

    def stuck(self, span: Range) -> bool:
        """Never: the driver's remove is all or nothing (``try_remove_memory``)."""
        del span
        return False

    def shut(self, bank: str, span: Range) -> None:
        """Nothing: the driver brings in no bank whose supply it has turned off."""

    def fence(self, bank: str) -> str | None:
        """What kernel/bank/evacuate.c makes, where this kernel has it."""
        path = self._tree.path(names.evacuation(bank))
        return path if os.path.exists(path) else None

    def _control(self, bank: str, span: Range, word: str) -> None:
        what = f"{word} of {bank}"
        found = self._tree.value(names.bank(bank, "range"), RANGE)
        if found is None:
            where = self._tree.path(names.bank(bank))
            raise KernelError(errno.ENODEV, what, detail=f"{where} is missing: load hotbank_bank")
        if found != span:
            raise KernelError(errno.EINVAL, what, detail=f"the driver's bank is {found}, the board's {span}")
        self._write(names.bank(bank, "state"), word, what)


class Kmem:
    """Dax devices that lie in the bank and are bound to ``kmem``, whoever made them: CXL and HMEM bring theirs, a pmem
    region that begins a little below the bank gets one made of it."""

    NAME = "kmem"

    def __init__(self, tree: Tree, write: Write) -> None:
        self._tree, self._write = tree, write

    def add(self, bank: str, span: Range) -> None:
        """Make the region's dax device if need be, and bind what lies in the bank to ``kmem``."""
        what = f"add of {bank}"
        if self.stuck(span):
            raise KernelError(errno.EBUSY, what, detail="a removal left half of it behind", code=Code.STUCK)
        if _left(self._tree, span):
            raise KernelError(errno.EEXIST, what, detail="its blocks are there")
        devices = self._devices(span) or [self._awake(self._region(span, what), what)]
        self._check_loaded(DAX, "kmem", what)
        for device in devices:
            driver = self._driver(device)
            if driver == "device_dax":
                self._write(f"{DAX}/drivers/device_dax/unbind", device, what)
            if driver != "kmem":
                self._bind(device, what)
        if not _left(self._tree, span):
            raise KernelError(errno.EIO, what, detail=f"{', '.join(devices)} is bound to kmem and no block came")

    def remove(self, bank: str, span: Range) -> None:
        """Unbind it from ``kmem``, see that no block is left, and unbind a region's device from ``dax_pmem`` too: a
        dark device that is still there could be bound to ``device_dax`` by anyone."""
        what = f"remove of {bank}"
        devices, region = self._devices(span), self._region_of(span)
        if not devices and region is None:
            raise KernelError(errno.ENODEV, what, detail=f"no dax device and no pmem region holds {span}")
        for device in devices:
            self._check_alone(device, span, what)
        for device in devices:
            self._unplug(device, what)
        _check_gone(self._tree, what, span)
        if region is not None:
            self._put_to_sleep(region, what)

    def stuck(self, span: Range) -> bool:
        """True if blocks are there and no dax device that is bound to ``kmem`` stands behind them."""
        return (
            bool(self._tree.names(f"{DAX}/drivers"))
            and _left(self._tree, span)
            and not any(self._driver(device) == "kmem" for device in self._lying_in(span))
        )

    def shut(self, bank: str, span: Range) -> None:
        """Unbind it from ``kmem`` and ``dax_pmem``, whoever bound it since it was removed, and see that it has no dax
        device any more. KernelError(EINVAL), and nothing is unbound, where one also holds what is not the bank's."""
        what, region = f"shutting the way in of {bank}", self._region_of(span)
        devices = self._devices(span)
        for device in devices:
            self._check_alone(device, span, what)
        for device in devices:
            self._unbind(device, what)
        if region is not None:
            self._put_to_sleep(region, what)
        left = self._devices(span)
        if left:
            raise KernelError(errno.EBUSY, what, detail=f"{left[0]} is still there and could bring it in")

    def fence(self, bank: str) -> str | None:  # noqa: ARG002
        """None."""
        return None

    def _unplug(self, device: str, what: str) -> None:
        """By the ``state`` of kernels from 7.3 on, which takes out all or nothing; then unbind what is empty."""
        state, driver = f"{DAX}/devices/{device}/state", self._driver(device)
        if driver == "kmem" and self._tree.read(state) not in (None, "unplugged"):
            self._write(state, "unplugged", what)
        self._unbind(device, what)

    def _unbind(self, device: str, what: str) -> None:
        if self._driver(device) == "kmem":
            self._write(f"{DAX}/drivers/kmem/unbind", device, what)

    def _check_alone(self, device: str, span: Range, what: str) -> None:
        """What goes with the device must be the bank's: its other memory would leave as well."""
        own = _blocks(self._tree, span)
        held = [number for part in parts_of(self._tree, device) for number in _whole_blocks(self._tree, part)]
        others = [number for number in held if number not in own]
        if others and self._driver(device) == "kmem":
            detail = f"{device} also holds memory{others[0]}, which is not the bank's: make the bank as large"
            raise KernelError(errno.EINVAL, what, detail=detail)

    def _put_to_sleep(self, region: str, what: str) -> None:
        for awake in self._bound(region, "dax_pmem"):
            self._write(f"{ND}/drivers/dax_pmem/unbind", awake, what)

    def _region(self, span: Range, what: str) -> str:
        region = self._region_of(span)
        if region is None:
            detail = (
                f"no dax device and no pmem region holds {span}: is the driver of its bus loaded (cxl_port, of_pmem)?"
            )
            raise KernelError(errno.ENODEV, what, detail=detail)
        return region

    def _region_of(self, span: Range) -> str | None:
        for region in self._tree.names(f"{ND}/devices"):
            folder = f"{ND}/devices/{region}"
            if region.startswith("region") and extent(self._tree, folder).contains(span):
                return region
        return None

    def _devices(self, span: Range) -> list[str]:
        """The dax devices that hold memory of the bank, by their ranges, or by the name of the region below them."""
        region = self._region_of(span)
        above = [] if region is None else [self._device(region)]
        return sorted({*self._lying_in(span), *(device for device in above if device is not None)})

    def _lying_in(self, span: Range) -> list[str]:
        devices = self._tree.names(f"{DAX}/devices")
        return [device for device in devices if any(span.overlaps(part) for part in parts_of(self._tree, device))]

    def _device(self, region: str) -> str | None:
        """The dax device on top of the region, if there is one now."""
        number = region.removeprefix("region")
        return next((d for d in self._tree.names(f"{DAX}/devices") if d.startswith(f"dax{number}.")), None)

    def _awake(self, region: str, what: str) -> str:
        """Bind the region's namespace to ``dax_pmem``, which makes its dax device."""
        seed = self._holder(region)
        if seed is None:
            seed = self._configured(region, what)
        self._check_loaded(ND, "dax_pmem", what)
        self._write(f"{ND}/drivers/dax_pmem/bind", seed, what)
        device = self._device(region)
        if device is None:
            raise KernelError(errno.EIO, what, detail=f"{seed} is bound to dax_pmem and made no dax device")
        return device

    def _holder(self, region: str) -> str | None:
        """The region's ``daxN.M`` of the nd bus that has the namespace already, from before or from an info block
        that an earlier boot left."""
        number = region.removeprefix("region")
        for name in self._tree.names(f"{ND}/devices"):
            if name.startswith(f"dax{number}.") and self._tree.read(f"{ND}/devices/{name}/namespace"):
                return name
        return None

    def _configured(self, region: str, what: str) -> str:
        """The region's dax seed, given the namespace. A fresh uuid replaces whatever info block is there."""
        namespace = f"namespace{region.removeprefix('region')}.0"
        for driver in ("nd_pmem", "nd_btt"):
            if namespace in self._tree.names(f"{ND}/drivers/{driver}"):
                self._write(f"{ND}/drivers/{driver}/unbind", namespace, what)
        seed = self._tree.read(f"{ND}/devices/{region}/dax_seed")
        if not seed:
            raise KernelError(errno.ENODEV, what, detail=f"{region} has no dax seed: is dax_pmem loaded?")
        settings = {"uuid": str(uuid.uuid4()), "align": str(_ALIGN), "mode": "ram", "namespace": namespace}
        for name, value in settings.items():
            self._write(f"{ND}/devices/{seed}/{name}", value, what)
        return seed

    def _bind(self, device: str, what: str) -> None:
        """``bind`` where ``kmem`` knows the device, else ``new_id``, which binds it as well."""
        try:
            self._write(f"{DAX}/drivers/kmem/bind", device, what)
        except KernelError as e:
            if e.errno != errno.ENODEV:
                raise
            self._write(f"{DAX}/drivers/kmem/new_id", device, what)

    def _check_loaded(self, bus: str, driver: str, what: str) -> None:
        if driver not in self._tree.names(f"{bus}/drivers"):
            where = self._tree.path(f"{bus}/drivers/{driver}")
            raise KernelError(errno.ENODEV, what, detail=f"{where} is missing: load {driver}")

    def _driver(self, device: str) -> str | None:
        drivers = self._tree.names(f"{DAX}/drivers")
        return next((d for d in drivers if device in self._tree.names(f"{DAX}/drivers/{d}")), None)

    def _bound(self, region: str, driver: str) -> list[str]:
        number = region.removeprefix("region")
        return [d for d in self._tree.names(f"{ND}/drivers/{driver}") if d.startswith(f"dax{number}.")]


_WAYS: Mapping[str, Callable[[Tree, Write], Route]] = {way.NAME: way for way in (Driver, Kmem, Probe)}


def _blocks(tree: Tree, span: Range) -> list[int]:
    """The blocks in the kernel that touch the range."""
    there = span.blocks(files.block_size(tree))
    return [number for number in files.block_numbers(tree) if number in there]


def _whole_blocks(tree: Tree, part: Range) -> list[int]:
    """The blocks in the kernel that lie in the range: ``kmem`` adds no others (``dax_kmem_range``)."""
    size = files.block_size(tree)
    return [number for number in _blocks(tree, part) if part.contains(Range.sized(number * size, size))]


def _left(tree: Tree, span: Range) -> bool:
    return bool(_blocks(tree, span))


def _check_gone(tree: Tree, what: str, span: Range) -> None:
    if _left(tree, span):
        raise KernelError(errno.EBUSY, what, detail="it was removed, and blocks of it are still there", code=Code.STUCK)
