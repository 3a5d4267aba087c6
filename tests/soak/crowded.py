# SPDX-License-Identifier: Apache-2.0
"""An owner in a crowd: readers flood, never read, vanish and talk rubbish, while one client does removals and adds.

The oracle: each order ends within its deadline and a second; each is in the journal once, with the end that its client
was told; the owner's memory stays where it is after a warm-up, its descriptors and threads within bounds.
"""

from __future__ import annotations

import grp
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hotbank import serve
from hotbank.memory import KernelState
from hotbank.operate import Event, Limits, Outcome
from hotbank.operate.journal import START, STOP
from hotbank.remote import Remote
from patience import HANG, promised

BANK = "high"
CROWD = {"flood": 20, "deaf": 20, "vanish": 20, "garbage": 10}
FLAT = 4 << 10  # KiB between the least and the most: two either way
MOST_DESCRIPTORS, MOST_THREADS = 64 + 32, 24
_TOTALS = (1.0, 5.0, 20.0)  # seconds, drawn for each order; the first strikes now and then
_USERS = 65000  # and up: nobody's ids


@dataclass
class Report:
    """How it went. ``rss``: KiB after the warm-up, the least and the most; ``late``: seconds beyond a deadline."""

    orders: Counter[str] = field(default_factory=Counter)
    late: float = 0.0
    rss: list[int] = field(default_factory=list)
    descriptors: int = 0
    threads: int = 0
    crowd: list[dict[str, object]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {end}" for end, count in sorted(self.orders.items()))
        rss = f"{min(self.rss)} to {max(self.rss)} KiB, now {self.rss[-1]}" if self.rss else "not measured"
        return (
            f"{self.orders.total()} orders ({ends}), at most {self.late:.2f} s after their deadline; owner: {rss}, "
            f"{self.descriptors} descriptors and {self.threads} threads at most; crowd: {json.dumps(self.crowd)}"
        )


@dataclass(frozen=True, slots=True)
class Told:
    """What a client was told of its order. ``began``: it heard of a step."""

    verb: str
    end: str
    began: bool

    @property
    def may_be_absent(self) -> bool:
        """True if its time may have been over before there was anything to write down."""
        return not self.began and self.end != "OK"


def soak(seconds: float, warm_up: float, say: Callable[[str], None], *, flat: int = FLAT) -> Report:
    """Orders in a crowd for so many seconds of wall time, the first ``warm_up`` of which memory may still grow.

    ``flat``: KiB between the least and the most that the owner has afterwards.
    """
    report = Report()
    with tempfile.TemporaryDirectory(prefix="hb") as name:
        Path(name).chmod(0o755)
        path = f"{name}/s"
        with _owner(path) as owner, Remote.unix(path, timeout=HANG) as client:
            crowd = _crowd(path, seconds)
            told = list(_orders(client, seconds, warm_up, owner.pid, report, say))
            report.crowd = [json.loads(process.communicate()[0]) for process in crowd]
            report.wrong += astray(told, _written(client)) + _beyond(report, flat)
            if owner.poll() is not None:
                report.wrong.append(f"the owner ended with status {owner.returncode}")
    return report


@contextmanager
def _owner(path: str) -> Iterator[subprocess.Popen[str]]:
    group = ("--group", grp.getgrgid(_group()).gr_name) if os.getuid() == 0 else ()
    argv = [sys.executable, "-m", "hotbank", "-m", "model:arm-2009", "serve", "--socket", path, *group]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "is served at" in process.stderr.readline()
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def _group() -> int:
    """A group that this system knows and root is not in."""
    return next(group.gr_gid for group in grp.getgrall() if group.gr_gid not in (0, *os.getgroups()))


def _crowd(path: str, seconds: float) -> list[subprocess.Popen[str]]:
    """Each kind as two users, where this is root; else as the owner's own user, who then asks for no change."""
    users = [_USERS + n for n in range(2 * len(CROWD))] if os.getuid() == 0 else [os.getuid()] * 2 * len(CROWD)
    kinds = [(kind, count // 2) for kind, count in CROWD.items() for _ in range(2)]
    folder = str(Path(__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "soak.crowd", path, kind, str(count), str(user), str(_group()), str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        for (kind, count), user in zip(kinds, users, strict=True)
    ]


def _orders(
    client: Remote, seconds: float, warm_up: float, owner: int, report: Report, say: Callable[[str], None]
) -> Iterator[Told]:
    """One order after the other."""
    rng, began, said = random.Random(2009), time.monotonic(), 0.0
    while (since := time.monotonic() - began) < seconds:
        yield _order(client, rng.choice(_TOTALS), report)
        _measure(owner, report, steady=since >= warm_up)
        if since - said >= 10:
            said = since
            say(f"{since:.0f} s of {seconds:.0f}: {report}")


def _order(client: Remote, total: float, report: Report) -> Told:
    bank = client.snapshot().bank(BANK)
    verb = "remove" if bank is not None and bank.kernel is KernelState.ONLINE else "add"
    limits, began = Limits(total, total), time.monotonic()
    steps = list[Event]()
    outcome: Outcome = (serve.remove if verb == "remove" else serve.add)(
        client, BANK, limits=limits, on_event=lambda event: steps.extend([event] * (event.event == "step"))
    )
    late = time.monotonic() - began - total
    report.late = max(report.late, late)
    report.orders[f"{verb} {outcome.code}"] += 1
    if late > promised(1):
        report.wrong.append(f"{verb}: {late:.2f} s after its deadline of {total:g} s")
    return Told(verb, outcome.code.value, began=bool(steps))


def _measure(owner: int, report: Report, *, steady: bool) -> None:
    status = Path(f"/proc/{owner}/status").read_text()
    numbers = {key: int(value) for key, value in re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE)}
    report.threads = max(report.threads, numbers["Threads"])
    report.descriptors = max(report.descriptors, len(os.listdir(f"/proc/{owner}/fd")))
    if steady:
        report.rss.append(numbers["VmRSS"])


def _written(client: Remote) -> list[tuple[str, str]]:
    entries = [entry for entry in serve.history(client) if entry.before.verb not in (START, STOP)]
    return [(entry.before.verb, entry.code.value if entry.code else "open") for entry in entries]


def _beyond(report: Report, flat: int) -> list[str]:
    """Bounds that the owner did not keep."""
    wrong = list[str]()
    if report.rss and max(report.rss) - min(report.rss) > flat:
        wrong.append(f"memory between {min(report.rss)} and {max(report.rss)} KiB")
    if report.descriptors > MOST_DESCRIPTORS or report.threads > MOST_THREADS:
        wrong.append(f"{report.descriptors} descriptors, {report.threads} threads")
    return wrong


def astray(told: list[Told], written: list[tuple[str, str]]) -> list[str]:
    """Orders that are not in the journal once, in their turn and with the end that was told. One whose time was over
    before its first step need not be there."""
    if _fits(told, written):
        return []
    wrong, left = list[str](), deque(written)
    for number, order in enumerate(told):
        if left and left[0] == (order.verb, order.end):
            left.popleft()
        elif not order.may_be_absent:
            wrong.append(f"order {number} ({order.verb}: {order.end}) is not in the journal in its turn")
    return [*wrong, *(f"the journal has {verb}: {end}, which nobody ordered" for verb, end in left)]


def _fits(told: list[Told], written: list[tuple[str, str]]) -> bool:
    """True if the rows are the orders', in some reading of which of those that may be absent are."""
    read = {0}  # how many rows can be behind us
    for order in told:
        taken = {at + 1 for at in read if at < len(written) and written[at] == (order.verb, order.end)}
        read = taken | read if order.may_be_absent else taken
    return len(written) in read
