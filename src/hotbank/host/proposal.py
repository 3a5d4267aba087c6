# SPDX-License-Identifier: Apache-2.0
"""A board as this machine would have it: memory by node, what devices hold, and regulators that could switch it.

What no file tells, which rail feeds which bank above all, is left to who knows the board, as a remark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from hotbank import kernels
from hotbank.draft import Section, Value
from hotbank.host import tree as files
from hotbank.host.devices import Device, devices
from hotbank.host.switch import regulators
from hotbank.host.tree import Tree
from hotbank.machine import Block
from hotbank.memory import KIB, Range, Zone, block_named, format_size
from hotbank.routes import route
from hotbank.sysfs import names
from hotbank.sysfs.bank import SUPPLY, Supply

_REMARKS = (
    "Proposed by `hotbank board new --from-host`: what the machine's own files tell.",
    "Look through it, then: hotbank board check FILE --host",
)


def propose(tree: Tree, name: str) -> tuple[Section, ...]:
    """The board's tables. Raises MachineError where there are no memory blocks."""
    size = files.block_size(tree)
    found, rails = _usable(devices(tree), size), regulators(tree)
    fed = [_slug(device.name) for device, _ in found if _is_fed(tree, device)]
    return (
        Section("", _head(tree, name, size), _REMARKS),
        *_there_at_boot(files.blocks(tree, size), [span for _, span in found]),
        *(_on_device(device, span, rails, fed=_slug(device.name) in fed) for device, span in found),
        *(Section(f"domain.{bank}", {"states": ["on", "off"], "switch": "machine"}) for bank in fed),
        *(_rail(rail, fed) for rail in rails),
    )


def _head(tree: Tree, name: str, block_size: int) -> dict[str, Value]:
    arch = kernels.arch(files.arch(tree))
    return {
        "name": name,
        "arch": arch.name if arch.name in kernels.ARCHES else kernels.ANY,
        "page_size": format_size(files.page_size(tree) or 4 * KIB),
        "block_size": format_size(block_size),
        "describe": "srat" if tree.names("sys/firmware/acpi/tables") else arch.firmware,
    }


def _usable(found: Sequence[Device], block_size: int) -> list[tuple[Device, Range]]:
    """Each with its whole memory blocks; one that has none, or lies over another, is left out."""
    usable: list[tuple[Device, Range]] = []
    for device in found:
        start = -(-device.range.start // block_size) * block_size
        span = Range(start, max(start, device.range.end // block_size * block_size))
        if span.size and (not usable or usable[-1][1].end <= span.start):
            usable.append((device, span))
    return usable


def _is_fed(tree: Tree, device: Device) -> bool:
    """Whether our driver holds a supply or power domain for it."""
    said = tree.value(names.bank(device.name, "supply"), SUPPLY)
    return route(device.route).switches and said not in (None, Supply.UNMANAGED)


def _there_at_boot(blocks: Sequence[Block], taken: Sequence[Range]) -> Iterator[Section]:
    """A bank for each run of blocks on one node and alike in whether they are kept for movable pages."""
    own = [block for block in blocks if not any(block.range.overlaps(span) for span in taken)]
    runs = groupby(enumerate(own), key=lambda e: (e[1].number - e[0], e[1].node, e[1].zone == Zone.MOVABLE))
    for place, ((_, node, movable), run) in enumerate(runs):
        there = [block.range for _, block in run]
        keys = _range(Range(there[0].start, there[-1].end))
        keys |= {"movable": True} if movable else {}
        yield Section(f"bank.dram{place}", keys | _node(node))


def _on_device(device: Device, span: Range, rails: Sequence[str], *, fed: bool) -> Section:
    name = _slug(device.name)
    keys = {**_range(span), "movable": True, "at_boot": False, "route": device.route}
    keys |= {"domain": name} if fed else {}
    remarks = [f"{device.name}: {device.range}, of which whole memory blocks"] if span != device.range else []
    if rails and not fed:
        remarks.append(f"if a rail below feeds it alone: domain = {' or '.join(map(_slug, rails))}")
    return Section(f"bank.{name}", keys | _node(device.node), tuple(remarks))


def _rail(name: str, fed: Sequence[str]) -> Section:
    its = _slug(name) if _slug(name) not in fed else f"{_slug(name)}-rail"
    return Section(f"domain.{its}", {"states": ["on", "off"], "switch": "regulator", "regulator": name})


def _range(span: Range) -> dict[str, Value]:
    return {"start": span.start, "size": format_size(span.size)}


def _node(node: int | None) -> dict[str, Value]:
    return {} if node is None else {"node": node}


def _slug(name: str) -> str:
    """As a name in a board file: ``dax0.0`` is ``dax0-0``."""
    slug = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-_")
    return slug if slug and block_named(slug) is None else f"named-{slug}".rstrip("-")
