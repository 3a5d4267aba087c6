# SPDX-License-Identifier: Apache-2.0
"""The fault walk, from the host's side: each operation of our driver with each of its allocations denied once."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from kernel import splats

OPERATIONS = (
    "load", "unload", "supply-on", "supply-off", "add", "online", "refcounts", "pages", "counts", "evacuate",
    "offline", "evict", "remove",
)  # fmt: skip
BEYOND = 10**6  # allocations that no operation asks for: once undenied, what is kept from the first time on is there
STRIDE = 25  # attempts between two looks at the log
SETTLED = 6  # seconds after which kmemleak takes an object for old enough (mm/kmemleak.c, MSECS_MIN_AGE)
PAGE_KB = 4
DRIFT = 4 * 1024  # kB that caches may hold more after a walk than before
# The kernel's own functions that warn when they can't have memory: of a link in sysfs that stays (drivers/base/core.c).
WARNS_WITHOUT_MEMORY = ("devlink_remove_symlinks",)
# What was freed stays in KASAN's quarantine, up to a 32nd of all memory (mm/kasan/quarantine.c). Full it grows no more.
FILL = "import socket; a, b = socket.socketpair(); d = bytes(3000); [(a.send(d), b.recv(4096)) for _ in range(20000)]"

Ask = Callable[[str], str]
"""A shell command in the guest, answered by what it prints. Raises MachineError when it fails."""


@dataclass
class Walked:
    """One operation. ``attempts``: how often it was tried; ``denied``: allocations that failed once each;
    ``errors``: what the operation answered, and how often; ``asking``: the functions whose memory was denied.
    ``drift``: kB of free memory that were there before and not after."""

    operation: str
    attempts: int = 0
    denied: int = 0
    errors: Counter[int] = field(default_factory=Counter)
    asking: Counter[str] = field(default_factory=Counter)
    drift: int = 0
    wrong: list[str] = field(default_factory=list)

    def line(self) -> str:
        """For a table."""
        answers = ", ".join(f"{errno}: {times}" for errno, times in sorted(self.errors.items()))
        return (
            f"{self.operation:<11} {self.denied:>5} {len(self.asking):>5} {self.drift:>7}  "
            f"{len(self.wrong) or 'nothing':>7}  {answers}"
        )


def walk(ask: Ask, bank: str, operation: str, first: int = 1, most: float = math.inf) -> Walked:
    """Count up from the ``first`` allocation until the operation succeeds with nothing denied, or ``most`` attempts."""
    done = Walked(operation)
    ask(f"python3 -S /opt/walk.py {bank} {operation} {BEYOND} 1")
    ask(f"python3 -S -c '{FILL}'")
    before = free(ask)
    ask("echo clear > /sys/kernel/debug/kmemleak")
    while done.attempts < most:
        command = f"python3 -S /opt/walk.py {bank} {operation} {first + done.attempts} {STRIDE}"
        attempts = [json.loads(line) for line in ask(command).splitlines()]
        _take(done, attempts, first)
        _read_log(done, ask)
        if not attempts or not attempts[-1]["hit"]:
            break
    done.drift = before - free(ask)
    done.wrong += leaks(ask)
    if done.drift > DRIFT:
        done.wrong.append(f"{done.drift} kB are not free any more")
    return done


def _take(done: Walked, attempts: Sequence[dict[str, object]], first: int) -> None:
    if not attempts:
        done.wrong.append("no answer")
    for attempt in attempts:
        done.attempts += 1
        done.denied += bool(attempt["hit"])
        done.errors[int(str(attempt["errno"]))] += 1
        wrong = attempt["wrong"]
        assert isinstance(wrong, list)
        done.wrong += [f"allocation {first + done.attempts - 1}: {what}" for what in wrong]


def _read_log(done: Walked, ask: Ask) -> None:
    seen = splats.read(ask("dmesg -c"))
    done.asking.update(seen.faults)
    done.wrong += [what for what in seen.mistakes if not _of_the_denied(what, seen.faults)]


def _of_the_denied(mistake: str, faults: Sequence[str]) -> bool:
    return any(f" at {name}+" in mistake and name in faults for name in WARNS_WITHOUT_MEMORY)


def free(ask: Ask) -> int:
    """kB that are free once all that can be given back is, those on the lists that each CPU keeps for itself too."""
    ask("sync; echo 3 > /proc/sys/vm/drop_caches")
    words = ask("grep MemFree: /proc/meminfo; grep count: /proc/zoneinfo").split()
    return int(words[1]) + PAGE_KB * sum(int(pages) for word, pages in pairwise(words) if word == "count:")


def leaks(ask: Ask) -> Iterator[str]:
    """Objects that nothing points to; a page's or a stack's chance pointer is asked for twice."""
    ask(f"sleep {SETTLED}; echo scan > /sys/kernel/debug/kmemleak; echo scan > /sys/kernel/debug/kmemleak")
    found = ask("cat /sys/kernel/debug/kmemleak")
    for leak in found.split("unreferenced object")[1:]:
        lines = [line.strip() for line in leak.splitlines()]
        yield f"leaked: {lines[0]} {' < '.join(line.split()[-1] for line in lines if '+0x' in line)}"


def blind(ask: Ask) -> list[str]:
    """Which of the instruments is off: lockdep switches itself off at its first report, and kmemleak without memory."""
    instruments = {
        "lockdep": "grep -q 'debug_locks: *1' /proc/lockdep_stats",
        "kmemleak": "echo scan > /sys/kernel/debug/kmemleak",
        "KASAN": "zcat /proc/config.gz | grep -q CONFIG_KASAN=y",
        "fault injection": "[ -e /proc/self/fail-nth ]",
    }
    return [name for name, command in instruments.items() if ask(f"{command} && echo on || echo off").strip() != "on"]
