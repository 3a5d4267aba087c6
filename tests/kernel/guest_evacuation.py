# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: a bank is evacuated, in one way or another, and what that costs; one JSON line each.

``python3 -S guest_evacuation.py START END plain|fenced [WORKERS]`` takes all blocks offline and brings them back.
``… cancel TIMES`` ends an evacuation at random moments, ``… cycles TIMES`` carries some out and ends others, and
where the kernel injects faults (Documentation/fault-injection) it denies most of them an allocation.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from hotbank.host import evacuating

BLOCK = 128 << 20
FAIL_NTH, DENIED = "/proc/thread-self/fail-nth", 14  # an evacuation asks for less than that many
SETTINGS = ("failslab/ignore-gfp-wait", "fail_page_alloc/ignore-gfp-wait", "fail_page_alloc/ignore-gfp-highmem")
FILE, HOLD = "/dev/hotbank/high", 300.0
WRITE = evacuating.write
FIELDS = {"moved": "pgmigrate_success", "failed": "pgmigrate_fail"}


def main(start: int, end: int, way: str, number: int) -> None:
    bank = Bank(start, end)
    ways = {"plain": bank.plain, "fenced": bank.fenced, "cancel": bank.cancel, "cycles": bank.cycles}
    print(json.dumps(ways[way](number)))


class Bank:
    """The bank and its blocks, online when a method begins and when it ends."""

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end
        self.blocks = range(start // BLOCK, end // BLOCK)

    def plain(self, _: int) -> dict[str, float]:
        """Block by block, as a shell would."""
        with Cost() as cost:
            self.write("offline")
        self.write("online_movable")
        return cost.found

    def fenced(self, workers: int) -> dict[str, object]:
        """Held first, by that many processes, and then block by block. ``early``: pages moved before the first block
        was asked to leave; ``held``: KiB that MemTotal lacked then."""
        total = meminfo("MemTotal")
        with Cost() as cost, Evacuation(self, workers) as evacuation:
            failed, report = evacuation.told()
            early, held = cost.so_far()["moved"], total - meminfo("MemTotal")
            middle = time.monotonic() - cost.began
            self.write("offline")
        self.write("online_movable")
        return {**cost.found, "early": early, "held": held, "taking": middle, "failed_ranges": failed, "report": report}

    def cancel(self, times: int) -> dict[str, list[float]]:
        """Seconds from SIGKILL of the holder until all is given back, what was held a moment before, and by how much
        MemTotal and MemFree (KiB) differ afterwards from before."""
        found: dict[str, list[float]] = {"after": [], "held": [], "lost": [], "free": []}
        whole = self.timed()
        total, free = settled()
        for number in range(times):
            with Evacuation(self, 2) as evacuation:
                time.sleep(whole * (number + random.random()) / times * 1.2)
                found["held"].append(total - meminfo("MemTotal"))
                found["after"].append(evacuation.killed())
            now = settled()
            found["lost"].append(total - now[0])
            found["free"].append(free - now[1])
        return found

    def timed(self) -> float:
        """Seconds that a whole evacuation takes when everything has moved already."""
        began = time.monotonic()
        with Evacuation(self, 2) as evacuation:
            evacuation.told()
        return time.monotonic() - began

    def cycles(self, times: int) -> dict[str, object]:
        """Each third is carried out, the others are killed: while pages are taken, or between two blocks. ``stayed``:
        ranges that could not be taken where they were waited for, by why."""
        deny_anything()
        before, said, stayed = settled(), [], list[str]()
        for number in range(times):
            with Evacuation(self, random.choice((1, 2, 4)), faulty=True) as evacuation:
                if number % 3 == 0:
                    stayed += evacuation.told()[0]
                    self.write("offline")
                elif number % 3 == 1:
                    time.sleep(random.random() * 0.2)
                    evacuation.killed()
                else:
                    stayed += evacuation.told()[0]
                    self.write("offline", self.blocks[: len(self.blocks) // 2])
                    evacuation.killed()
            self.write("online_movable", [n for n in self.blocks if self.state(n) == "offline"])
            said += [word for word in (self.state(n) for n in self.blocks) if word != "online"]
        lost, free = (was - now for was, now in zip(before, settled(), strict=True))
        return {"not_online": said, "lost": lost, "free": free, "stayed": stayed}

    def write(self, word: str, blocks: Sequence[int] | None = None) -> None:
        for number in self.blocks if blocks is None else blocks:
            with open(f"/sys/devices/system/memory/memory{number}/state", "w") as file:
                file.write(word)

    def state(self, number: int) -> str:
        with open(f"/sys/devices/system/memory/memory{number}/state") as file:
            return file.read().strip()

    def parts(self, number: int) -> list[str]:
        size = (self.end - self.start) // number
        return [f"{at:#x}-{at + size - 1:#x}" for at in range(self.start, self.end, size)]


class Evacuation:
    """The program that holds, in a process of its own; it lets go at the end of a ``with``. ``faulty``: each of its
    writes may be denied an allocation."""

    def __init__(self, bank: Bank, workers: int, *, faulty: bool = False) -> None:
        theirs, self.into = os.pipe()
        out, ours = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            for file, at in ((theirs, 0), (ours, 1)):
                os.dup2(file, at)
            os.closerange(3, 64)
            if faulty and os.path.exists(FAIL_NTH):
                evacuating.write = denied
            evacuating.main(HOLD, [f"{FILE}:{part}" for part in bank.parts(workers)])
            os._exit(0)
        os.close(theirs)
        os.close(ours)
        self.out = open(out, encoding="ascii")  # noqa: SIM115  # closed at the end of the ``with``

    def told(self) -> tuple[list[str], list[str]]:
        lines = []
        while line := self.out.readline().strip():
            lines.append(line)
        ranges = [line for line in lines if line.startswith("0x")]
        return [line for line in ranges if not line.endswith(" 0")], lines[len(ranges) :]

    def killed(self) -> float:
        """Seconds until neither it nor one that it began is there, and the file can be opened again."""
        began = time.monotonic()
        os.kill(self.pid, signal.SIGKILL)
        self.out.read()
        while True:
            try:
                os.close(os.open(FILE, os.O_RDWR))
                return time.monotonic() - began
            except OSError:
                time.sleep(0.001)

    def __enter__(self) -> Evacuation:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.into)
        os.waitpid(self.pid, 0)
        self.out.close()


def deny_anything() -> None:
    """Allocations that may wait or take high memory, and single pages, are among those that can be denied."""
    for name, word in [*((name, "N") for name in SETTINGS), ("fail_page_alloc/min-order", "0")]:
        with suppress(FileNotFoundError), open(f"/sys/kernel/debug/{name}", "w") as file:
            file.write(word)


def denied(file: int, span: str) -> int:
    """``evacuating.write``, its n-th allocation denied."""
    nth = os.open(FAIL_NTH, os.O_RDWR)
    os.write(nth, str(random.SystemRandom().randrange(1, DENIED)).encode())
    error = WRITE(file, span)
    os.write(nth, b"0")
    os.close(nth)
    return error


class Cost:
    """What happens during a ``with``: seconds, CPU seconds, pages moved."""

    def __enter__(self) -> Cost:
        self.began, self.before = time.monotonic(), counted()
        return self

    def so_far(self) -> dict[str, float]:
        now = counted()
        return {"seconds": time.monotonic() - self.began, **{name: now[name] - self.before[name] for name in now}}

    def __exit__(self, *_: object) -> None:
        self.found = self.so_far()


def counted() -> dict[str, float]:
    with open("/proc/vmstat") as file:
        counters = dict(line.split() for line in file)
    with open("/proc/stat") as file:
        ticks = [int(word) for word in file.readline().split()[1:]]
    spent = sum(ticks) - ticks[3] - ticks[4]
    return {**{name: int(counters[field]) for name, field in FIELDS.items()}, "cpu": spent / os.sysconf("SC_CLK_TCK")}


def settled() -> tuple[int, int]:
    """MemTotal and MemFree in KiB, without caches, the most of a few looks."""
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")
    looks = []
    for _ in range(4):
        looks.append(meminfo("MemFree"))
        time.sleep(0.02)
    return meminfo("MemTotal"), max(looks)


def meminfo(field: str) -> int:
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field + ":"))


if __name__ == "__main__":
    main(int(sys.argv[1], 16), int(sys.argv[2], 16), sys.argv[3], int(sys.argv[4]) if sys.argv[4:] else 0)
