# SPDX-License-Identifier: Apache-2.0
"""A board as this machine would have it: memory by node, what devices hold, and regulators that could switch it.

What no file tells, which rail feeds which bank above all, is left to who knows the board, as a remark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count, groupby

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
    found = _usable(devices(tree), size)
    banks = _banks(device for device, _ in found)
    fed = [bank for device, bank in banks.items() if _is_fed(tree, device)]
    rails = _rails(regulators(tree), fed)
    return (
        Section("", _head(tree, name, size), _REMARKS),
        *_there_at_boot(files.blocks(tree, size), [span for _, span in found], [*banks.values()]),
        *(_on_device(device, span, banks[device], rails, fed=banks[device] in fed) for device, span in found),
        *(Section(f"domain.{bank}", {"states": ["on", "off"], "switch": "machine"}) for bank in fed),
        *(Section(f"domain.{own}", _switched_by(rail)) for own, rail in rails.items()),
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


def _banks(found: Iterable[Device]) -> dict[Device, str]:
    """The bank of each. Our driver knows a bank by its name, so its own come first."""
    in_turn = sorted(found, key=lambda device: not route(device.route).switches)
    return dict(zip(in_turn, _apart(_slug(device.name) for device in in_turn), strict=True))


def _rails(regulators: Sequence[str], fed: Sequence[str]) -> dict[str, str]:
    """Power domain → its regulator. ``fed``: the domains that are there besides."""
    wanted = (f"{slug}-rail" if slug in fed else slug for slug in map(_slug, regulators))
    return dict(zip(_apart(wanted, fed), regulators, strict=True))


def _apart(wanted: Iterable[str], taken: Iterable[str] = ()) -> Iterator[str]:
    """Each of the names, with a number behind it where another has it already."""
    given = {*taken}
    for name in wanted:
        numbered = (f"{name}-{number}" for number in count(2))
        own = next(one for one in chain([name], numbered) if one not in given)
        given.add(own)
        yield own


def _there_at_boot(blocks: Sequence[Block], taken: Sequence[Range], named: Sequence[str]) -> Iterator[Section]:
    """A bank for each run of blocks on one node and alike in whether they are kept for movable pages."""
    own = [block for block in blocks if not any(block.range.overlaps(span) for span in taken)]
    runs = groupby(enumerate(own), key=lambda e: (e[1].number - e[0], e[1].node, e[1].zone == Zone.MOVABLE))
    names = _apart((f"dram{place}" for place in count()), named)
    for name, ((_, node, movable), run) in zip(names, runs, strict=False):
        there = [block.range for _, block in run]
        keys = _range(Range(there[0].start, there[-1].end))
        keys |= {"movable": True} if movable else {}
        yield Section(f"bank.{name}", keys | _node(node))


def _on_device(device: Device, span: Range, name: str, rails: Iterable[str], *, fed: bool) -> Section:
    keys = {**_range(span), "movable": True, "at_boot": False, "route": device.route}
    keys |= {"domain": name} if fed else {}
    remarks = [f"{device.name}: {device.range}, of which whole memory blocks"] if span != device.range else []
    if rails and not fed:
        remarks.append(f"if a rail below feeds it alone: domain = {' or '.join(rails)}")
    return Section(f"bank.{name}", keys | _node(device.node), tuple(remarks))


def _switched_by(regulator: str) -> dict[str, Value]:
    return {"states": ["on", "off"], "switch": "regulator", "regulator": regulator}


def _range(span: Range) -> dict[str, Value]:
    return {"start": span.start, "size": format_size(span.size)}


def _node(node: int | None) -> dict[str, Value]:
    return {} if node is None else {"node": node}


def _slug(name: str) -> str:
    """As a name in a board file: ``dax0.0`` is ``dax0-0``."""
    slug = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-_")
    return slug if slug and block_named(slug) is None else f"named-{slug}".rstrip("-")
