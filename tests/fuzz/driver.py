# SPDX-License-Identifier: Apache-2.0
"""One driver for every fuzzer: inputs that a grammar makes, half of them with bytes changed, through a decoder.

The oracle: a value whose laws hold, or one of the package's own errors that says where; work that grows no faster than
the input, counted in calls of functions; and memory within 64 MiB, which the process itself is limited to while it
runs. An alarm ends what never comes back. Seconds are processor time: a busy machine is no finding.
"""

from __future__ import annotations

import random
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from counted import calls
from hotbank.errors import BoardError, FormatError, HotbankError
from hotbank.memory import MIB

MAX_SECONDS, MAX_MEMORY = 10.0, 64 * MIB
_WORDS = (0, 1, 2, 3, 4, 8, 9, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF8, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Target:
    """A decoder. ``decode`` raises AssertionError for a law that does not hold; ``make``: inputs of its grammar.

    ``refusals``: the errors that are an answer. ``seal``: sets checksums right. ``work``: calls of functions that any
    input may take, and that each byte of it may.
    """

    name: str
    decode: Callable[[bytes], None]
    make: Callable[[random.Random], bytes]
    refusals: tuple[type[HotbankError], ...] = (FormatError,)
    seal: Callable[[bytes], bytes] = bytes
    work: tuple[int, int] = (20_000, 100)

    @property
    def corpus(self) -> Path:
        """The folder of what was ever found."""
        return Path(__file__).resolve().parents[1] / "data" / "corpus" / self.name


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that did something else than give a value or an error that says where."""

    target: str
    data: bytes
    what: str


@dataclass(frozen=True, slots=True)
class Report:
    """How a run went: inputs, how many of them decoded, the most calls that one took, and what was wrong."""

    target: str
    inputs: int
    decoded: int
    calls: int
    findings: tuple[Finding, ...]


def run(target: Target, count: int, seed: int = 2009) -> Report:
    """``count`` inputs through one decoder. Findings end the run at ten."""
    rng, inputs, decoded, most, findings = random.Random(seed), 0, 0, 0, list[Finding]()
    while inputs < count and len(findings) < 10:
        inputs += 1
        data = target.seal(_input(rng, target))
        what, work = examine(target, data)
        decoded, most = decoded + (what == ""), max(most, work)
        if what and what != _REFUSED:
            findings.append(Finding(target.name, data, what))
    return Report(target.name, inputs, decoded, most, tuple(findings))


def _input(rng: random.Random, target: Target) -> bytes:
    made = target.make(rng)
    return made if rng.random() < 0.5 else mutated(rng, made, target.make(rng))


def mutated(rng: random.Random, one: bytes, other: bytes) -> bytes:
    """``one`` with one to eight changes: words, bits, cuts, noise, and pieces of ``other``."""
    data = bytearray(one)
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
            begin = rng.randrange(len(other) + 1)
            data[at:at] = other[begin : begin + rng.randrange(64)]
        elif kind == 5:
            data[at : at + 8] = rng.randbytes(8)
        else:
            data[at:at] = rng.randbytes(rng.randrange(16))
    return bytes(data)


_REFUSED = "refused"


def examine(target: Target, data: bytes) -> tuple[str, int]:
    """What came of one input: nothing for a value, ``refused``, or what was wrong; and the calls that it took."""
    what = _REFUSED

    def decode() -> None:
        nonlocal what
        what = _answer(target, data)

    with _limits():
        work = calls(decode)
    least, each = target.work
    limit = least + each * len(data)
    return (what if work <= limit or what not in ("", _REFUSED) else f"{work} calls for {len(data)} bytes"), work


def _answer(target: Target, data: bytes) -> str:
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
    try:
        target.decode(data)
    except target.refusals as e:
        return _REFUSED if says_where(e) else f"an error that does not say where: {e!r}"
    except BaseException as e:  # whatever else comes is what this looks for
        return repr(e)[:200]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return ""


def says_where(error: HotbankError) -> bool:
    """True if the error names the place: a field, a key, or a sentence of its own."""
    if isinstance(error, FormatError):
        return bool(error.form and error.field and error.problem)
    if isinstance(error, BoardError):
        return bool(error.key and error.allowed)
    return bool(str(error))


def _too_slow(*_: object) -> NoReturn:
    raise TimeoutError(f"slower than {MAX_SECONDS} s")


@contextmanager
def _limits() -> Iterator[None]:
    """No more memory than there is, and 64 MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGPROF, _too_slow)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MAX_MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGPROF, handler)
