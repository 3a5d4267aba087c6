# SPDX-License-Identifier: Apache-2.0
"""What a kernel shows of a machine, as anybody's tree may have it: each file of /sys and /proc, and /proc/kcore."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from random import Random

from fuzz.driver import Target
from fuzz.grammar import number, numeral, reworded
from host.captured_trees import kcore
from hotbank.errors import FormatError
from hotbank.host.kcore import RefCounts
from hotbank.host.tree import Tree
from hotbank.machine import ZoneInfo
from hotbank.memory import Range, Zone
from hotbank.sysfs import iomem, names
from hotbank.sysfs.files import FILES

PAGES = 64

# Files of /sys and /proc: the first line is the file's name


def _file(data: bytes) -> None:
    name, _, text = data.partition(b"\n")
    form = FILES.get(name.decode("latin-1"))
    if form is None:
        raise FormatError("file", 0, "name", "no such file")
    value = form.parse(text.decode("utf-8", "surrogateescape"))
    assert form.parse(form.show(value)) == value, "what is shown is not what was read"


def _make_file(rng: Random) -> bytes:
    name = rng.choice([*FILES])
    text = _texts().get(name, "")
    if rng.random() < 0.8 or not text:
        text = reworded(
            rng, text or f"{numeral(rng)}\n", ("online", "Movable none", "0-3,7", "avg10=0.00", "Node 0, zone")
        )
    return f"{name}\n{text}".encode("utf-8", "surrogateescape" if "\ud800" not in text else "surrogatepass")


@functools.cache
def _texts() -> dict[str, str]:
    zone = ZoneInfo(0, Zone.MOVABLE.value, *range(1, 13))
    entries = (iomem.Entry(Range(0, 1 << 30), "System RAM", 0), iomem.Entry(Range(4096, 8192), "Kernel code", 1))
    shown = {
        names.IOMEM: FILES[names.IOMEM].show(entries),
        names.ZONEINFO: FILES[names.ZONEINFO].show((zone,)),
        names.MEMINFO: "MemTotal:        2048 kB\nHugePages_Total:       0\nActive(anon):   12 kB\n",
        names.VMSTAT: "nr_free_pages 100\npgmigrate_success 5\n",
        names.PRESSURE: "".join(f"{who} avg10=0.10 avg60=0.00 avg300=0.00 total=12\n" for who in ("some", "full")),
    }
    return shown | {name: "0x0000000040000000-0x000000004fffffff\n" for name in FILES if name.endswith("/range")}


# /proc/kcore


def _kcore(data: bytes) -> None:
    (_root() / "proc" / "kcore").write_bytes(data)
    counts = RefCounts.open(Tree(_root()))
    if counts is None:
        raise FormatError("kcore", 0, "layout", "shows no reference counts")
    with counts:
        for pfn, pages in ((0, PAGES), (PAGES - 1, 1), (1 << 40, 8)):
            found = counts.read(pfn, pages)
            assert found is None or found.count == pages


@functools.cache
def _root() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="hotbank-fuzz-")
    _folders.append(folder)
    (Path(folder.name) / "proc").mkdir()
    return Path(folder.name)


_folders = list[tempfile.TemporaryDirectory[str]]()  # as long as this process


def _make_kcore(rng: Random) -> bytes:
    whole = kcore({5: 1, 40: 2}, pages=PAGES, memstart=rng.choice((None, 0, 1 << 30, (1 << 64) - (1 << 30))))
    if rng.random() < 0.5:
        return whole
    old, new = rng.choice((b"=64\n", b"=52\n", b"=4096\n", b"SIZE(page)", b"SYMBOL", b"VMCOREINFO\0\0")), _replaced(rng)
    raw = bytearray(whole.replace(old, new, 1))
    if rng.random() < 0.5:  # a word of the headers
        at = rng.choice((32, *range(54, 58), *range(64, 64 + 3 * 56, 8)))
        raw[at : at + 8] = (number(rng) % (1 << 64)).to_bytes(8, "little")
    return bytes(raw)


def _replaced(rng: Random) -> bytes:
    return rng.choice((f"={numeral(rng)}\n", f"={number(rng) * 4}\n", "=0\n", "", "x=1\n")).encode()


TARGETS = (
    Target("sysfs", _file, _make_file),
    Target("kcore", _kcore, _make_kcore, work=(300_000, 100)),
)
