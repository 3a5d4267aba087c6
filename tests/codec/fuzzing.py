# SPDX-License-Identifier: Apache-2.0
"""Mutated inputs for each codec: nothing but values and FormatError, each within a second and 64 MiB.

The process limits its own address space to 64 MiB more than it has when the run begins, and sets an alarm for each
input, so that neither limit can be missed. Seconds are processor time: a busy machine is no finding. A value that
decodes must also encode and decode to itself.
"""

from __future__ import annotations

import gc
import gzip
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from codec import debian_blobs
from hotbank import board as boards
from hotbank import firmware
from hotbank.errors import FormatError
from hotbank.firmware import atags, cmdline, fdt, srat
from hotbank.memory import MIB

MAX_SECONDS, MAX_MEMORY = 1.0, 64 * MIB
_ZONES = Path(__file__).resolve().parents[1] / "data" / "zones"
_WORDS = (0, 1, 2, 3, 4, 8, 9, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF8, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that did something else than give a value or FormatError."""

    codec: str
    data: bytes
    what: str


@dataclass(frozen=True, slots=True)
class Report:
    """How a run went: inputs, how many of them decoded, the slowest in seconds, and what was wrong."""

    codec: str
    inputs: int
    decoded: int
    slowest: float
    findings: tuple[Finding, ...]


def _tags(data: bytes) -> None:
    for vendor in (None, "qcom"):
        tags = atags.decode(data, vendor)
        assert atags.decode(atags.encode(tags), vendor) == tags
        atags.memory_map(tags, vendor)


def _tree(data: bytes) -> None:
    tree = fdt.decode(data)
    assert fdt.decode(fdt.encode(tree)) == tree
    firmware.memory_map(data)


def _srat(data: bytes) -> None:
    table = srat.decode(data)
    assert srat.decode(srat.encode(table)) == table
    srat.memory_map(table)


def _line(data: bytes) -> None:
    line = cmdline.decode(data)
    assert cmdline.decode(cmdline.encode(line)) == line
    cmdline.memory_options(line)


def _file(data: bytes) -> None:
    firmware.memory_map(data)


CODECS: Mapping[str, Callable[[bytes], None]] = {
    "atags": _tags,
    "dtb": _tree,
    "srat": _srat,
    "cmdline": _line,
    "file": _file,
}


def seeds(codec: str) -> list[bytes]:
    """Valid inputs to begin from."""
    described = [
        firmware.describe(boards.load(name), codec if codec != "file" else "dtb").data
        for name in ("arm-2009", "virt-arm64")
    ]
    if codec == "atags":
        return [
            *described,
            atags.encode((atags.core(), atags.cmdline("quiet"), *(atags.Tag(t, bytes(36)) for t in range(1, 9)))),
        ]
    if codec == "dtb":
        captured = (_ZONES / "6.12.95" / "numa2-movablecore512-2g" / "guest.dtb").read_bytes()
        small = sorted(debian_blobs.sample().values(), key=len)[:2]
        return [*described * 20, captured, *small]
    if codec == "srat":
        affinities = (srat.gicc(1, 1), srat.Structure(0, bytes(14)), srat.Structure(200, bytes(9)))
        return [*described, srat.encode(srat.Table(affinities))]
    if codec == "cmdline":
        lines = [
            b'a="b c" "d e"=f mem=0x10000000@1G movablemem=64M@2G',
            b"kernelcore=50% movablecore=1G cma=64M -- init",
        ]
        return [*described, *lines]
    image = bytearray(0x40)
    image[0x24:0x30] = bytes.fromhex("18286f01 00000000 40000000")
    return [gzip.compress(described[0]), bytes(image) + described[0], (_ZONES / "padded-1MiB.dtb.gz").read_bytes()]


def mutated(rng: random.Random, corpus: Sequence[bytes]) -> bytes:
    """One seed with one to eight changes: words, bits, cuts, and pieces of itself or another."""
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(7)
        if kind == 0:
            data[at // 4 * 4 : at // 4 * 4 + 4] = rng.choice(_WORDS).to_bytes(4, rng.choice(("big", "little")))
        elif kind == 1 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + rng.randrange(64)]
        elif kind == 4:
            other = rng.choice(corpus)
            begin = rng.randrange(len(other))
            data[at:at] = other[begin : begin + rng.randrange(64)]
        elif kind == 5:
            data[at : at + 8] = rng.randbytes(8)
        else:
            data[at:at] = rng.randbytes(rng.randrange(16))
    return bytes(data)


def with_valid_sums(codec: str, data: bytes) -> bytes:
    """A table's checksum set right, so that what lies behind the check is reached too."""
    if codec != "srat" or len(data) < 10:
        return data
    raw = bytearray(data)
    raw[9] = 0
    raw[9] = -sum(raw[: int.from_bytes(raw[4:8], "little")]) & 0xFF
    return bytes(raw)


def run(codec: str, count: int, seed: int = 2009, decode: Callable[[bytes], None] | None = None) -> Report:
    """``count`` mutated inputs through one codec (or ``decode`` in its place). Findings end the run at ten."""
    decode = decode or CODECS[codec]
    rng, corpus = random.Random(seed), seeds(codec)
    inputs, decoded, slowest, findings = 0, 0, 0.0, list[Finding]()
    with _limits():
        while inputs < count and len(findings) < 10:
            inputs += 1
            data = with_valid_sums(codec, mutated(rng, corpus))
            what, seconds = _one(decode, data)
            decoded, slowest = decoded + (what == ""), max(slowest, seconds)
            if what and what != FormatError.__name__:
                findings.append(Finding(codec, data, what))
    return Report(codec, inputs, decoded, slowest, tuple(findings))


def _one(decode: Callable[[bytes], None], data: bytes) -> tuple[str, float]:
    """The name of what was raised, empty for a value, and the seconds that passed."""
    begin = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
    try:
        decode(data)
        what = ""
    except FormatError as e:
        what = FormatError.__name__ if e.form and e.field and e.problem else "an error that does not say where"
    except BaseException as e:  # whatever else comes is what this looks for
        what = repr(e)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return what, time.process_time() - begin


def _too_slow(*_: object) -> NoReturn:
    raise TimeoutError(f"slower than {MAX_SECONDS} s")


@contextmanager
def _limits() -> Iterator[None]:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGPROF, _too_slow)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MAX_MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGPROF, handler)
