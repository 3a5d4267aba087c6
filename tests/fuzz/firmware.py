# SPDX-License-Identifier: Apache-2.0
"""What firmware says: ATAGs, device trees, SRATs, command lines, what they come wrapped in, and what consoles show."""

from __future__ import annotations

import functools
import gzip
import struct
from collections.abc import Sequence
from pathlib import Path
from random import Random

from codec import debian_blobs
from fuzz.driver import Target
from fuzz.grammar import number as anything
from fuzz.grammar import numeral, reworded, some
from hotbank import board as boards
from hotbank import firmware, zones
from hotbank.errors import FormatError, Refusal
from hotbank.firmware import atags, cmdline, efi, fdt, srat
from hotbank.memory import KIB, MIB, MemoryMap
from hotbank.zones import iomem

_ZONES = Path(__file__).resolve().parents[1] / "data" / "zones"
_BOOT = _ZONES / "6.12.95" / "numa2-movablecore512-2g"


@functools.cache
def _described(form: str) -> tuple[bytes, ...]:
    return tuple(firmware.describe(boards.load(name), form).data for name in ("arm-2009", "virt-arm64"))


def _word(rng: Random) -> int:
    return anything(rng) & 0xFFFFFFFF


def _noise(rng: Random, most: int = 9) -> bytes:
    return rng.randbytes(4 * rng.randrange(most))


# ATAGs


def _tags(data: bytes) -> None:
    for vendor in (None, "qcom"):
        tags = atags.decode(data, vendor)
        assert data.startswith(atags.encode(tags)), "a tag did not survive"
        atags.memory_map(tags, vendor)


def _make_tags(rng: Random) -> bytes:
    named = [*atags.NAMED, 0x5441000A, 0x54420001, 0xFFFFFFFF]
    raw = b"" if rng.random() < 0.05 else _tag(atags.CORE, rng.choice((b"", struct.pack("<III", 1, 4096, 0))))
    for number in some(rng, lambda r: r.choice(named), 20):
        raw += _tag(number, _payload(rng, number))
    return raw + rng.choice((struct.pack("<II", 0, 0), struct.pack("<II", 2, 0), b""))


def _payload(rng: Random, number: int) -> bytes:
    layout = atags.NAMED.get(number)
    if layout is None or rng.random() < 0.2:
        return _noise(rng)
    if layout.form == "string":
        line = _make_line(rng)[:1023] + b"\0"
        return line + bytes(-len(line) % 4)
    return b"".join(struct.pack("<I", _word(rng)) for _ in range(-(-layout.size // 4)))


def _tag(number: int, payload: bytes) -> bytes:
    return struct.pack("<II", 2 + len(payload) // 4, number) + payload


# Device trees


def _tree(data: bytes) -> None:
    tree = fdt.decode(data)
    assert fdt.decode(fdt.encode(tree)) == tree, "something did not survive"
    firmware.memory_map(data)


_NAMES = (
    "memory@40000000",
    "memory",
    "cpus",
    "cpu@0",
    "chosen",
    "reserved-memory",
    "soc",
    "pci@1",
    "linux,cma",
    "x" * 90,
)
_PROPERTIES: dict[str, Sequence[bytes]] = {
    "#address-cells": [fdt.cells(n) for n in (0, 1, 2, 3, 2**32 - 1)],
    "#size-cells": [fdt.cells(n) for n in (0, 1, 2, 5)],
    "device_type": [b"memory\0", b"cpu\0", b"memory"],
    "status": [b"okay\0", b"disabled\0"],
    "ranges": [b""],
    "hotpluggable": [b""],
    "no-map": [b""],
    "reusable": [b""],
    "bootargs": [b"mem=1G movablecore=50%\0", b"\xff\0"],
    "compatible": [b"shared-dma-pool\0", b"arm,cortex-a53\0simple-bus\0", b"pmem-region\0"],
}
_CELLS = ("reg", "dma-ranges", "ranges", "size", "alignment", "alloc-ranges", "numa-node-id", "linux,initrd-start")


def _make_tree(rng: Random) -> bytes:
    if rng.random() < 0.2:
        return rng.choice(_blobs())
    tree = fdt.decode(rng.choice(_described("dtb")))
    root = fdt.Node("", _properties(rng) + tree.root.properties, (*tree.root.children, *_children(rng, 3)))
    return fdt.encode(fdt.Tree(root, reservations=_reserved(rng)))


def _reserved(rng: Random) -> tuple[tuple[int, int], ...]:
    return tuple(some(rng, lambda r: (anything(r) % (1 << 64) or 1, anything(r) % (1 << 64)), 5))


def _children(rng: Random, depth: int) -> tuple[fdt.Node, ...]:
    names = some(rng, lambda r: r.choice(_NAMES), 6) if depth else []
    return tuple(fdt.Node(name, _properties(rng), _children(rng, depth - 1)) for name in names)


def _properties(rng: Random) -> tuple[fdt.Property, ...]:
    plain = some(rng, lambda r: r.choice([*_PROPERTIES]), 4)
    cells = some(rng, lambda r: r.choice(_CELLS), 4)
    numbers = [(name, fdt.cells(*some(rng, _word, 12))) for name in cells]
    return (*((name, rng.choice(_PROPERTIES[name])) for name in plain), *numbers)


@functools.cache
def _blobs() -> tuple[bytes, ...]:
    small = sorted(debian_blobs.sample().values(), key=len)[:2]
    return ((_BOOT / "guest.dtb").read_bytes(), *small)


# SRAT


def _srat(data: bytes) -> None:
    table = srat.decode(data)
    assert data.startswith(srat.encode(table)), "a structure did not survive"
    srat.memory_map(table)


def _make_srat(rng: Random) -> bytes:
    return srat.encode(srat.Table(tuple(some(rng, _structure, 30)), revision=rng.choice((1, 2, 3, 255))))


def _structure(rng: Random) -> srat.Structure:
    kind = rng.choice((0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 200))
    if kind == srat.MEMORY:
        start, size = anything(rng) % (1 << 64), anything(rng) % (1 << 40)
        fields = (_word(rng), start, min(size, (1 << 64) - start), rng.randrange(8))
        return srat.Structure(kind, struct.pack("<I2xQQ4xI8x", *fields))
    size = {0: 16, 2: 24, 3: 18, 4: 12, 5: 32, 6: 32}.get(kind, rng.randrange(2, 256)) - 2
    return srat.Structure(kind, rng.randbytes(size))


def _with_valid_sum(data: bytes) -> bytes:
    """What lies behind the check is reached too."""
    if len(data) < 10 or data[:4] != b"SRAT":
        return data
    raw = bytearray(data)
    raw[9] = 0
    raw[9] = -sum(raw[: int.from_bytes(raw[4:8], "little")]) & 0xFF
    return bytes(raw)


# Command lines


def _line(data: bytes) -> None:
    line = cmdline.decode(data)
    assert cmdline.decode(cmdline.encode(line)) == line, "a parameter did not survive"
    cmdline.memory_options(line)


_KEYS = (
    *("mem", "movablemem", "kernelcore", "movablecore", "cma", "memmap", "movable_node", "numa", "hugepages", "init"),
    *("memory_hotplug.online_policy", "memory_hotplug.memmap_on_memory", "memhp_default_state", "a-b_c", '"q"'),
)


def _make_line(rng: Random) -> bytes:
    words = [f"{rng.choice(_KEYS)}{_value(rng)}" for _ in range(rng.choice((1, 2, 5, 40)))]
    return rng.choice((" ", "  ", "\t", " -- ")).join(words).encode("latin-1", "replace")


def _value(rng: Random) -> str:
    size = f"{numeral(rng)[:99]}{rng.choice(('', 'K', 'M', 'G', 'E', '%', 'mirror', 'KK'))}"
    place = f"{size}@{numeral(rng)[:99]}"
    return rng.choice(
        ("", "=", f"={size}", f"={place}", f'="{place} x"', "=online_movable", "=mirror", f"={size},{place}")
    )


# Containers and consoles


def _file(data: bytes) -> None:
    firmware.memory_map(data)


def _make_file(rng: Random) -> bytes:
    tree = _make_tree(rng)
    image = bytearray(0x40)
    image[0x24:0x30] = bytes.fromhex("18286f01 00000000 40000000")
    wrapped = (gzip.compress(tree, 1, mtime=0), bytes(image) + tree, _make_tags(rng), _make_srat(rng), _make_line(rng))
    return rng.choice((*wrapped, b"[    0.000000] Kernel command line: " + _make_line(rng)))


def _efi(data: bytes) -> None:
    efi.apply(MemoryMap(uefi=2), efi.decode(_text(data)))


def _make_efi(rng: Random) -> bytes:
    kinds = ("Conventional", "Loader Data", "Runtime Code", "Reserved", "Persistent", "x" * 50)
    lines = ["[    0.000000] efi: Remapping and enabling EFI services."]
    for at in range(rng.choice((0, 1, 2, 9))):
        attributes = "|".join(rng.choice(("WB", "WT", "UC", "SP", "RUN", "  ")) for _ in range(5))
        range_ = f"[{'-'.join(f'0x{end}' for end in _span(rng))}]"
        lines.append(f"[    0.000000] efi: mem{at:02d}: [{rng.choice(kinds)}|{attributes}] range={range_} (1MB)")
    text = "\n".join(lines) + "\n"
    return rng.choice((text, reworded(rng, text))).encode("utf-8", "surrogatepass")


def _span(rng: Random) -> tuple[str, str]:
    """First and last address, mostly in order."""
    if rng.random() < 0.05:
        return numeral(rng)[:40], numeral(rng)[:40]
    first, last = sorted(anything(rng) % (1 << rng.choice((32, 40, 64))) for _ in range(2))
    return f"{first:08x}", f"{last:08x}"


def _iomem(data: bytes) -> None:
    text = _text(data)
    assert all(r.start < r.end for r, _ in iomem.decode(text))
    given = MemoryMap(regions=firmware.memory_map(_described("dtb")[0]).regions)
    for take in (iomem.restrict, iomem.as_found):
        take(given, text)


def _make_iomem(rng: Random) -> bytes:
    names = ("System RAM", "System RAM", "reserved", "System RAM (kmem)")
    text = "".join(f"{'-'.join(_span(rng))} : {rng.choice(names)}\n" for _ in range(rng.choice((1, 3, 20))))
    text = rng.choice((_iomem_of_boot(), "")) + rng.choice((text, reworded(rng, text)))
    return text.encode("utf-8", "surrogatepass")


@functools.cache
def _iomem_of_boot() -> str:
    return (_BOOT / "iomem").read_text()


# What a kernel makes of them


def _zones(data: bytes) -> None:
    memory = firmware.memory_map(data)
    for arch, size in (("arm", 64 * MIB), ("arm64", 128 * MIB)):
        try:
            prediction = zones.predict(memory, arch=arch, page_size=4 * KIB, block_size=size)
        except Refusal:
            continue
        assert all(zone.present <= zone.spanned for zone in prediction.layout.zones)


def _make_described(rng: Random) -> bytes:
    return rng.choice((_make_tree, _make_tags, _make_srat, _make_line))(rng)


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as e:
        raise FormatError("text", e.start, "UTF-8", e.reason) from e


TARGETS = (
    Target("atags", _tags, _make_tags),
    Target("dtb", _tree, _make_tree),
    Target("srat", _srat, _make_srat, seal=_with_valid_sum),
    Target("cmdline", _line, _make_line),
    Target("file", _file, _make_file, work=(40_000, 100)),
    Target("efi", _efi, _make_efi),
    Target("iomem", _iomem, _make_iomem),
    Target("zones", _zones, _make_described, seal=_with_valid_sum, work=(4_000_000, 400)),
)
