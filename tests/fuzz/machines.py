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
from hotbank.host.udev import onlinings
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
    entries = (iomem.Resource(Range(0, 1 << 30), "System RAM", 0), iomem.Resource(Range(4096, 8192), "Kernel code", 1))
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


# Rules of udev


def _udev(data: bytes) -> None:
    """The file of rules; behind a line of dashes the script that a rule may run."""
    rules, _, script = data.partition(b"\n----\n")
    for name, content in (("etc/udev/rules.d/50.rules", rules), ("sbin/on", script)):
        path = _root() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for found in onlinings(Tree(_root())):
        assert found.word.startswith("online")
        assert 1 <= found.rule.line <= found.rule.last
        assert found.remedy


_KEYS = ("ATTR{state}", "ATTR{online}", "ENV{a}", "ENV{b}", "GOTO", "LABEL", "RUN", "RUN{program}", "OPTIONS")
_ASKED = (
    "ACTION",
    "SUBSYSTEM",
    "KERNEL",
    "ATTR{state}",
    "ENV{a}",
    "TEST",
    "PROGRAM",
    "CONST{arch}",
    "CONST{virt}",
    "DRIVERS",
)
_VALUES = (
    "online",
    "offline",
    "memory",
    "memory*",
    "add",
    "1",
    "x",
    "$env{a}$env{b}",
    "%E{a}%E{a}",
    "$attr{state}",
    "[!a",
    "",
)
_RUNS = ("/sbin/on", "/bin/sh -c 'echo online > /sys$devpath/state'", "chmem -e 1", "echo 1 > /sys/x/online", "1 1 1 1")


def _make_udev(rng: Random) -> bytes:
    lines = [_rule(rng) for _ in range(rng.choice((1, 2, 5, 40)))]
    script = " ".join(rng.choice((*_RUNS, "\n", "#")) for _ in range(rng.choice((0, 1, 50))))
    text = reworded(rng, "".join(lines)) if rng.random() < 0.3 else "".join(lines)
    return f"{text}\n----\n{script}".encode("utf-8", "surrogatepass")


def _rule(rng: Random) -> str:
    asked = [f'{rng.choice(_ASKED)}{rng.choice(("==", "!="))}"{rng.choice(_VALUES)}"' for _ in range(rng.randrange(4))]
    done = [
        f'{rng.choice(_KEYS)}{rng.choice(("=", "+=", ":="))}"{rng.choice((*_VALUES, *_RUNS))}"'
        for _ in range(rng.randrange(3))
    ]
    return rng.choice((", ", ",", " ", ", \\\n")).join([*asked, *done]) + rng.choice(("\n", "\n", "\\\n", "\n\n"))


TARGETS = (
    Target("sysfs", _file, _make_file),
    Target("udev", _udev, _make_udev, work=(60_000, 400)),
    Target("kcore", _kcore, _make_kcore, work=(300_000, 100)),
)
