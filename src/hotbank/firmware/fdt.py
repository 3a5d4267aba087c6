# SPDX-License-Identifier: Apache-2.0
"""The flattened device tree, versions 16 and 17: bytes to a tree and back.

Truth: the Devicetree Specification, chapter 5, and libfdt. Kept: every node and property in its order, memory
reservations, header fields, the strings block (so that names keep their offsets) and the padding behind the
last block. FDT_NOP, which means "nothing", and gaps between blocks become padding: the total size stays.
A name is Latin-1 text, one character for each byte.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from hotbank.errors import FormatError

FORM = "device tree"
MAGIC = 0xD00DFEED
MAX_DEPTH = 64  # FDT_MAX_DEPTH of drivers/of/fdt.c: deeper trees don't boot
MAX_NAME = 255  # no real name comes near; keeps hostile string tables from growing

_HEADER = struct.Struct(">10I")
_RESERVE = struct.Struct(">QQ")
_BEGIN_NODE, _END_NODE, _PROP, _NOP, _END = 1, 2, 3, 4, 9

Property = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Node:
    """One node. Property values are the raw bytes; ``u32s`` and ``strings`` read the usual shapes."""

    name: str
    properties: tuple[Property, ...] = ()
    children: tuple[Node, ...] = ()

    def get(self, name: str) -> bytes | None:
        """The value of the property ``name``, or None."""
        return next((value for key, value in self.properties if key == name), None)

    def u32s(self, name: str) -> tuple[int, ...]:
        """The property as big-endian 32-bit cells; empty without it. Odd bytes at the end are not cells."""
        value = self.get(name) or b""
        return struct.unpack_from(f">{len(value) // 4}I", value)

    def strings(self, name: str) -> tuple[str, ...]:
        """The property as NUL-terminated strings; empty without it."""
        value = self.get(name) or b""
        return tuple(part.decode("latin-1") for part in value.rstrip(b"\0").split(b"\0")) if value else ()

    def child(self, name: str) -> Node | None:
        """The first child called ``name`` exactly, or with any unit address behind ``name``."""
        return next((c for c in self.children if c.name == name or c.name.partition("@")[0] == name), None)

    def with_property(self, name: str, value: bytes) -> Node:
        """This node with the property set: in its old place, or last."""
        if self.get(name) is None:
            return replace(self, properties=(*self.properties, (name, value)))
        return replace(self, properties=tuple((k, value if k == name else v) for k, v in self.properties))

    def without_property(self, name: str) -> Node:
        """This node without the property."""
        return replace(self, properties=tuple(p for p in self.properties if p[0] != name))


@dataclass(frozen=True, slots=True)
class Tree:
    """A whole blob. ``reservations``: (address, size) of the memory reservation block, as they stand.

    ``padding``: what lies between the last block and the blob's total size. ``strings``: the strings block that the
    encoder continues, which no comparison looks at.
    """

    root: Node
    reservations: tuple[tuple[int, int], ...] = ()
    boot_cpu: int = 0
    version: int = 17
    last_compatible: int = 16
    padding: bytes = b""
    strings: bytes = field(default=b"", compare=False, repr=False)

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Every node with its path, parents first."""
        stack = [("/", self.root)]
        while stack:
            path, node = stack.pop()
            yield path, node
            base = path if path == "/" else f"{path}/"
            stack.extend((base + child.name, child) for child in reversed(node.children))

    def find(self, path: str) -> Node | None:
        """The node at a path such as ``/chosen``; unit addresses may be left out."""
        node: Node | None = self.root
        for name in filter(None, path.split("/")):
            node = node.child(name) if node else None
        return node


def cells(*values: int) -> bytes:
    """32-bit big-endian cells."""
    return struct.pack(f">{len(values)}I", *values)


def strings(*values: str) -> bytes:
    """NUL-terminated strings, one behind the other."""
    return b"".join(v.encode("latin-1", "replace") + b"\0" for v in values)


def decode(data: bytes) -> Tree:
    """The tree of a blob; bytes behind its total size are not part of it. Raises FormatError."""
    data = bytes(data)
    header = _header(data)
    total, off_struct, off_strings, off_reserve, version, last_compatible, boot_cpu, size_strings, size_struct = header
    names = bytes(data[off_strings : off_strings + size_strings])
    reservations, end_reserve = _reservations(data, off_reserve, total)
    root, used, nops = _structure(data, off_struct, size_struct, _Names(names, off_strings))
    end = max(off_strings + size_strings, off_struct + (size_struct if version >= 17 else used), end_reserve)
    encoded = _HEADER.size + _RESERVE.size * (len(reservations) + 1) + used - 4 * nops + size_strings
    padding = data[end:total] + bytes(max(0, end - encoded))
    return Tree(root, reservations, boot_cpu, version, last_compatible, padding, names)


def encode(tree: Tree) -> bytes:
    """The blob: header, reservations, structure, strings, padding. Raises FormatError for what it can't hold."""
    reserve = b"".join(_RESERVE.pack(*entry) for entry in (*tree.reservations, (0, 0)))
    if any(entry == (0, 0) for entry in tree.reservations):
        raise FormatError(FORM, 0, "reservations", "an entry of 0, 0 would end the list early")
    words = bytearray()
    names = _StringTable(tree.strings)
    _write(tree.root, words, names)
    off_reserve = 40
    off_struct = off_reserve + len(reserve)
    off_strings = off_struct + len(words)
    total = off_strings + len(names.block) + len(tree.padding)
    if total >= 1 << 32:
        raise FormatError(FORM, 4, "totalsize", f"{total} bytes don't fit into 32 bits")
    offsets = (total, off_struct, off_strings, off_reserve, tree.version, tree.last_compatible)
    header = _HEADER.pack(MAGIC, *offsets, tree.boot_cpu, len(names.block), len(words))
    return b"".join((header, reserve, words, names.block, tree.padding))


def blob_size(data: bytes, at: int = 0) -> int | None:
    """The total size of a blob that begins at ``at`` and fits into ``data``, or None when none does."""
    try:
        return _header(data[at : at + _HEADER.size], len(data) - at)[0]
    except FormatError:
        return None


def _header(data: bytes, available: int | None = None) -> tuple[int, ...]:
    available = len(data) if available is None else available
    if len(data) < _HEADER.size:
        raise FormatError(FORM, 0, "header", f"{len(data)} bytes, needs {_HEADER.size}")
    header = _HEADER.unpack_from(data)
    magic, total, off_struct, off_strings, off_reserve, version, last_compatible, _, size_strings, size_struct = header
    if magic != MAGIC:
        raise FormatError(FORM, 0, "magic", f"{magic:#010x}, not {MAGIC:#x}")
    if version < 16 or last_compatible > 17:
        raise FormatError(FORM, 20, "version", f"{version} (compatible to {last_compatible}); 16 and 17 are known")
    if not _HEADER.size - 4 <= total <= available:
        raise FormatError(FORM, 4, "totalsize", f"{total} bytes, but {available} are there")
    if version < 17:
        size_struct = total - off_struct
    for at, name, offset, size in (
        (8, "off_dt_struct", off_struct, size_struct),
        (12, "off_dt_strings", off_strings, size_strings),
        (16, "off_mem_rsvmap", off_reserve, 16),
    ):
        if size < 0 or offset + size > total:
            raise FormatError(FORM, at, name, f"{offset:#x} and {size} bytes reach beyond the blob's {total}")
    if off_struct % 4:
        raise FormatError(FORM, 8, "off_dt_struct", f"{off_struct:#x} is not a multiple of 4")
    return (*header[1:9], size_struct)


def _reservations(data: bytes, at: int, total: int) -> tuple[tuple[tuple[int, int], ...], int]:
    entries: list[tuple[int, int]] = []
    while True:
        if at + _RESERVE.size > total:
            raise FormatError(FORM, at, "reservations", "no 0, 0 entry at the end")
        address, size = _RESERVE.unpack_from(data, at)
        at += _RESERVE.size
        if address == size == 0:
            return tuple(entries), at
        entries.append((address, size))


class _Names:
    """The strings block: property names by offset, each looked up once."""

    def __init__(self, block: bytes, offset: int) -> None:
        self._block, self._offset, self.known = block, offset, dict[int, str]()

    def read(self, at: int) -> str:
        end = self._block.find(b"\0", at, at + MAX_NAME + 1)
        if end <= at:
            problem = f"no name of 1 to {MAX_NAME} bytes at {at:#x} of the strings block ({len(self._block)} bytes)"
            raise FormatError(FORM, self._offset + at, "property name", problem)
        name = self.known[at] = self._block[at:end].decode("latin-1")
        return name


def _structure(data: bytes, base: int, size: int, names: _Names) -> tuple[Node, int, int]:
    """The root node, how many bytes of the structure block were read, and how many FDT_NOP were among them.

    One loop over tokens with an explicit stack: it is the speed of the decoder, and no input can exhaust
    Python's own stack.
    """
    words = array("I", data[base : base + size // 4 * 4])
    if sys.byteorder == "little":
        words.byteswap()
    known, read_name = names.known, names.read
    stack: list[tuple[str, list[Property], list[Node]]] = []
    siblings: list[Node] = []
    properties: list[Property] = []
    name = ""
    at, nops, count = 0, 0, len(words)
    while at < count:
        token = words[at]
        at += 1
        if token == _PROP:
            if not stack or at + 2 > count:
                raise FormatError(FORM, base + 4 * at - 4, "FDT_PROP", "outside a node, or cut short")
            length, offset = words[at], words[at + 1]
            begin = base + 4 * at + 8
            at += 2 + (length + 3) // 4
            if at > count:
                raise FormatError(FORM, begin - 8, "property length", f"{length} bytes leave the structure block")
            properties.append((known.get(offset) or read_name(offset), data[begin : begin + length]))
        elif token == _BEGIN_NODE:
            stack.append((name, properties, siblings))
            if len(stack) > MAX_DEPTH:
                raise FormatError(FORM, base + 4 * at - 4, "FDT_BEGIN_NODE", f"deeper than {MAX_DEPTH} nodes")
            name, at = _node_name(data, base, at, count)
            properties, siblings = [], []
        elif token == _END_NODE:
            if not stack:
                raise FormatError(FORM, base + 4 * at - 4, "FDT_END_NODE", "no node is open")
            node = Node(name, tuple(properties), tuple(siblings))
            name, properties, siblings = stack.pop()
            siblings.append(node)
            if not stack and len(siblings) > 1:
                raise FormatError(FORM, base + 4 * at - 4, "FDT_END_NODE", "a second root node")
        elif token == _END:
            if stack or not siblings:
                raise FormatError(FORM, base + 4 * at - 4, "FDT_END", "a node is still open, or there is none")
            return siblings[0], 4 * at, nops
        elif token == _NOP:
            nops += 1
        else:
            raise FormatError(FORM, base + 4 * at - 4, "token", f"{token:#x} is none")
    raise FormatError(FORM, base + 4 * at, "FDT_END", "missing at the end of the structure block")


def _node_name(data: bytes, base: int, at: int, count: int) -> tuple[str, int]:
    begin = base + 4 * at
    end = data.find(b"\0", begin, min(begin + MAX_NAME + 1, base + 4 * count))
    if end < 0:
        raise FormatError(FORM, begin, "node name", f"no NUL within {MAX_NAME} bytes or before the block's end")
    return data[begin:end].decode("latin-1"), at + (end - begin) // 4 + 1


class _StringTable:
    """Strings block under construction; a name that is another's tail shares its bytes, as in dtc."""

    def __init__(self, start: bytes) -> None:
        self.block = bytearray(start)
        self._known: dict[str, int] = {}

    def offset(self, name: str) -> int:
        if name not in self._known:
            raw = _raw_name(name, "property name") + b"\0"
            at = self.block.find(raw)
            if at < 0:
                at = len(self.block)
                self.block += raw
            self._known[name] = at
        return self._known[name]


def _raw_name(name: str, what: str) -> bytes:
    try:
        raw = name.encode("latin-1")
    except UnicodeEncodeError as e:
        raise FormatError(FORM, 0, what, f"{name!r} is not bytes") from e
    if b"\0" in raw or len(raw) > MAX_NAME:
        raise FormatError(FORM, 0, what, f"{name[:32]!r}: {len(raw)} bytes; at most {MAX_NAME}, none of them NUL")
    return raw


def _write(root: Node, words: bytearray, names: _StringTable) -> None:
    stack: list[Node | None] = [root]
    depth = 0
    while stack:
        node = stack.pop()
        if node is None:
            words += cells(_END_NODE)
            depth -= 1
            continue
        depth += 1
        if depth > MAX_DEPTH:
            raise FormatError(FORM, len(words), "FDT_BEGIN_NODE", f"deeper than {MAX_DEPTH} nodes")
        words += cells(_BEGIN_NODE) + _padded(_raw_name(node.name, "node name") + b"\0")
        for name, value in node.properties:
            if not name:
                raise FormatError(FORM, len(words), "property name", "is empty")
            words += cells(_PROP, len(value), names.offset(name)) + _padded(value)
        stack.append(None)
        stack.extend(reversed(node.children))
    words += cells(_END)


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % 4)


def edit(node: Node, path: Iterable[str], change: Node | None) -> Node:
    """``node`` with the descendant at ``path`` (exact names) replaced, added last, or (None) taken out."""
    name, *rest = path
    children = list(node.children)
    at = next((i for i, c in enumerate(children) if c.name == name), len(children))
    if rest:
        deeper = edit(children[at] if at < len(children) else Node(name), rest, change)
        children[at : at + 1] = [deeper]
    else:
        children[at : at + 1] = [] if change is None else [change]
    return replace(node, children=tuple(children))
