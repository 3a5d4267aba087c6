# SPDX-License-Identifier: Apache-2.0
"""Random states of a real arm64 kernel, block by block: what the verdict says, and what the kernel then does.

``PYTHONPATH=tests python -m kernel.states 600`` prints the matrix that docs/fidelity.md shows; ``verdicts.states``
does the same for models. Only memory that was added after boot is looked at: the rest never leaves.
"""

from __future__ import annotations

import errno
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from hotbank import kernels
from hotbank.boards_qemu import Wanted
from hotbank.boards_qemu.shell import GuestJob
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.errors import EHWPOISON, CancelPending, Code, KernelError, Refusal
from hotbank.machine import Snapshot, Survey
from hotbank.memory import BlockState, Online, Zone
from hotbank.operate import reasons
from hotbank.operate.capacity import spare_for
from hotbank.operate.look import surveys_of
from hotbank.operate.targets import resolve
from hotbank.operate.verdict import Verdict, verdict
from kernel.kernel_kit import KERNEL, guest, lean, span_of
from patience import HANG

BOARD = Path(__file__).parent / "arm64" / "verdicts.toml"
LOAD = Path(__file__).with_name("guest_load.py")
ROUNDS = 4  # of one guest: kernel zones fill up with what can't be moved
PATIENCE, SOME_PATIENCE, GREAT_PATIENCE = 3.0, 15.0, 60.0  # seconds: a full block takes two on a quiet host
SETTLES = 1.0  # seconds past its deadline in which an offline is settled, or said not to be
RATELIMIT = 6.0  # seconds: the kernel logs a few failures, and then none for five seconds
CLASSES = ("kernel zone", "Movable", "pinned", "poisoned", "no room")
MEMORY = ("anon", "shared", "tmpfs", "file")  # kinds of load that are counted in MiB
HOW = {"Movable": Online.MOVABLE}
MANY_INODES = 8000  # slabs in most of a guest's kernel zones
SMALL_SLABS = "slub_max_order=0 slab_max_order=0"
_FAILED = re.compile(r"migrating pfn [0-9a-f]+ failed ret:(-?\d+)")

PROMISE = {code: frozenset({code}) for code in Code} | {
    Code.PINS_UNKNOWN: frozenset({Code.OK, Code.PINNED}),
}
NO_ANSWER = frozenset({Code.DEADLINE, Code.PINNED, Code.NO_CAPACITY})


def promised(said: Verdict) -> frozenset[Code]:
    """What may happen if that is true. Of a kernel that would go round no answer is the only one that fits, whatever
    else it meets on the way."""
    return NO_ANSWER if goes_round(said) else PROMISE[said.code]


def goes_round(said: Verdict) -> bool:
    """True if it says that the kernel would try until a signal."""
    return reasons.GOES_ROUND in said.fact


def forgoes_large_slabs(seed: int) -> bool:
    """True for every other guest of a kernel that does not refuse slabs of one page: chance leaves few blocks in which
    these are all that stays. Such a guest always has many inodes."""
    return seed % 2 == 1 and kernels.kernel(KERNEL or kernels.DEFAULT).frozen_slab


@dataclass(frozen=True)
class Trial:
    """One attempt. ``told``: what ``explain --all`` said of the block before the first attempt of its round. ``said``:
    the verdict right before this attempt, of ``snapshot`` and ``survey``. ``happened``: OK, or why the block did not
    leave or could not come back, by the kernel's own word; DEADLINE: it gave none, and named no page that failed to
    move. ``begun``: False where hotbank refused to begin, so that the kernel was asked without it. ``late``: seconds
    after its deadline when that ended, 0 if before."""

    seed: int
    round: int
    block: int
    kind: str
    told: Verdict
    said: Verdict
    trivial: bool
    happened: Code
    begun: bool
    late: float
    detail: str
    snapshot: Snapshot
    survey: Survey

    @property
    def true(self) -> bool:
        """What was said came true, reason included."""
        return self.happened in promised(self.said)

    @property
    def foretold(self) -> bool:
        """The same of what ``explain --all`` said."""
        return self.happened in promised(self.told)

    @property
    def overdue(self) -> bool:
        """It was begun as without force, and went on beyond its deadline."""
        return self.begun and not self.said.impossible and self.late > SETTLES


def trials(first_seed: int = 0) -> Iterator[Trial]:
    """Trials without end. The same seed makes the same states, as far as a running kernel repeats itself."""
    seed = first_seed
    while True:
        yield from _of_one_guest(seed)
        seed += 1


def _of_one_guest(seed: int) -> Iterator[Trial]:
    dice = random.Random(seed)
    files = {"opt/load.py": LOAD.read_text(encoding="utf-8")}
    cmdline = SMALL_SLABS if forgoes_large_slabs(seed) else ""
    with guest(lean(Wanted(str(BOARD), series=KERNEL, files=files, cmdline=cmdline))) as machine:
        machine.runner.run("mount -o remount,size=100% /tmp")
        machine.add("high")
        poisoned: set[int] = set()
        for number in range(ROUNDS):
            for block in blocks(machine, BlockState.OFFLINE):
                with suppress(KernelError):  # EHWPOISON
                    machine.online(block, dice.choice([Online.MOVABLE] * 5 + [Online.KERNEL] * 3 + [Online.ONLINE] * 2))
            yield from _Round(machine, dice, seed, number, poisoned).trials()


def blocks(machine: QemuMachine, state: BlockState) -> list[int]:
    """Numbers of the bank's blocks in that state."""
    span = span_of(machine)
    return [b.number for b in machine.snapshot().blocks if b.range.overlaps(span) and b.state is state]


@dataclass
class _Round:
    """One load, and an attempt at every block under it."""

    machine: QemuMachine
    dice: random.Random
    seed: int
    number: int
    poisoned: set[int]  # of this guest: what is bad stays bad
    pinned: set[int] = field(default_factory=set)
    full: bool = False
    kills: int = 0
    late: float = 0.0

    def trials(self) -> Iterator[Trial]:
        self.full = self.number > 0 and self.dice.random() < 0.5
        load = self._load()
        self.kills = oom_kills(self.machine)
        numbers = blocks(self.machine, BlockState.ONLINE)
        told = verdicts(self.machine, numbers)
        self.dice.shuffle(numbers)
        try:
            for number in numbers:
                yield self._trial(number, told[number])
                if self._struck():
                    break
        finally:
            load.kill()
            load.wait(HANG)
            self.machine.runner.run(
                "rm -rf /tmp/load /tmp/inodes /mnt/load /run/load; echo 3 > /proc/sys/vm/drop_caches"
            )

    def _load(self) -> GuestJob:
        """Memory in use, in an order that spreads what is pinned and poisoned over several blocks."""
        inodes = self.dice.choice([0, 500, MANY_INODES])
        words = [f"inodes:{MANY_INODES if forgoes_large_slabs(self.seed) else inodes}"]
        for _ in range(self.dice.randint(2, 5)):
            words += [f"{self.dice.choice(['anon', 'shared', 'tmpfs', 'file', 'anon'])}:{self.dice.randint(5, 90)}"]
            words += self.dice.choice([[], [f"pinned:{self.dice.choice([1, 3, 40])}"]])
        words += self.dice.choice([[], [], ["poisoned:1"]])
        files = [word for word in words if word.startswith("file")]  # the disk is small
        words = [word for word in words if word not in files[1:]]
        if self.full:
            words.append(f"anon:{self._rest(words)}")
        return self._start(words)

    def _rest(self, words: list[str]) -> int:
        """MiB that fill the guest but for about one block."""
        taken = sum(int(count) for kind, _, count in (word.partition(":") for word in words) if kind in MEMORY)
        free = int(self.machine.runner.run("awk '/MemAvailable/ {print int($2 / 1024)}' /proc/meminfo"))
        return max(1, free - taken - self.dice.choice([40, 90, 120, 150, 190, 250]))

    def _start(self, words: list[str]) -> GuestJob:
        runner = self.machine.runner
        job = runner.start(f"exec python3 -S /opt/load.py {' '.join(words)}")
        runner.run("until [ -e /run/load ]; do sleep 0.1; done", timeout=HANG)
        pages = self.machine.snapshot().block_size // 4096
        found: dict[str, list[int]] = json.loads(runner.run("cat /run/load"))
        self.pinned = {pfn // pages for pfn in found["pinned"]}
        self.poisoned |= {pfn // pages for pfn in found["poisoned"]}
        return job

    def _trial(self, number: int, told: Verdict) -> Trial:
        snapshot, survey, said = self._said(number)
        block = snapshot.block(number)
        assert block is not None
        zone = block.valid_zones[0]
        happened, begun, detail = self._happens(number, HOW.get(zone, Online.KERNEL), self._patience(number, said))
        kind = self._class(number, zone)
        trivial = zone == Zone.MOVABLE
        return Trial(
            self.seed,
            self.number,
            number,
            kind,
            told,
            said,
            trivial,
            happened,
            begun,
            self.late,
            detail,
            snapshot,
            survey,
        )

    def _patience(self, number: int, said: Verdict) -> float:
        """Seconds for an attempt. What is known to go on for ever would take all of them."""
        if number in self.pinned:
            return PATIENCE
        return SOME_PATIENCE if goes_round(said) else GREAT_PATIENCE

    def _said(self, number: int) -> tuple[Snapshot, Survey, Verdict]:
        snapshot, survey = self.machine.snapshot(), self.machine.survey(number)
        return snapshot, survey, verdict(snapshot, {number: survey}, resolve(snapshot, number))

    def _class(self, number: int, zone: str) -> str:
        if number in self.poisoned | self.pinned:
            return "pinned" if number in self.pinned else "poisoned"
        return "no room" if self.full else "Movable" if zone == Zone.MOVABLE else "kernel zone"

    def _happens(self, number: int, how: Online, patience: float) -> tuple[Code, bool, str]:
        """Take the block offline and, if it went, bring it back: what happened, if hotbank began it, and details."""
        kept, self.late = self._spare(number), 0.0
        begun = kept is not None
        error = self._offline_without_hotbank(number) if kept is None else self._offline(number, patience, kept)
        if self._struck():
            return Code.NO_CAPACITY, begun, "the OOM killer struck"
        if error is not None:
            code = self._reason(error, number)
            after = f"; afterwards {self._said(number)[2].fact}" if code is Code.DEADLINE else ""
            return code, begun, f"{error}{after}"
        happened, detail = self._returns(number, how)
        return happened, begun, detail

    def _struck(self) -> bool:
        """True if the OOM killer has struck in this round."""
        return self.full and oom_kills(self.machine) > self.kills

    def _reason(self, error: KernelError | Refusal, number: int) -> Code:
        """The reason code of a refusal. At the deadline the kernel's log tells a pin from want of room; a page that is
        known to be pinned would stay if there were room."""
        if isinstance(error, Refusal):
            return error.code
        if error.errno == errno.EBUSY:
            return Code.UNMOVABLE
        assert error.errno == errno.EINTR, error
        if number in self.pinned:
            return Code.PINNED
        failures = _FAILED.findall(error.detail)
        if not failures:
            return Code.DEADLINE
        return Code.NO_CAPACITY if int(failures[-1]) == -errno.ENOMEM else Code.PINNED

    def _spare(self, number: int) -> int | None:
        """What a transaction would have the machine keep; None where it would not begin."""
        try:
            return spare_for(self.machine, number)
        except Refusal:
            return None

    def _offline(self, number: int, seconds: float, kept: int) -> KernelError | Refusal | None:
        deadline = self.machine.clock.now() + seconds
        error: KernelError | Refusal | None = None
        try:
            self.machine.offline(number, deadline, spare=kept)
        except (Refusal, KernelError) as e:
            error = e
        self.late = max(0.0, self.machine.clock.now() - deadline)
        return self._settled(number, error) if isinstance(error, CancelPending) else error

    def _settled(self, number: int, error: KernelError) -> KernelError | None:
        """How a cancelled attempt ended, once the kernel has let go of the block."""
        state = f"/sys/devices/system/memory/memory{number}/state"
        self.machine.runner.run(f"while grep -q going {state}; do sleep 0.1; done", timeout=GREAT_PATIENCE)
        return error if number in blocks(self.machine, BlockState.ONLINE) else None

    def _offline_without_hotbank(self, number: int) -> KernelError | None:
        """The bare write, which nothing but a signal ends. The OOM killer finds its victim in the load."""
        write = f"echo offline > /sys/devices/system/memory/memory{number}/state"
        job = self.machine.runner.start(f"dmesg -c > /dev/null; timeout -s KILL {RATELIMIT:g} sh -c '{write}'")
        result = job.wait(HANG)
        if result.status == 0:
            return None
        number_of = errno.EBUSY if "busy" in result.out else errno.EINTR
        log = self.machine.runner.run("dmesg | grep -e unmovable -e failed | tail -n 1")
        return KernelError(number_of, write, detail=log.strip())

    def _returns(self, number: int, how: Online) -> tuple[Code, str]:
        try:
            self.machine.online(number, how)
        except KernelError as e:
            if e.errno != EHWPOISON:
                raise
            return Code.POISONED, str(e)
        return Code.OK, ""


def oom_kills(machine: QemuMachine) -> int:
    """How often the OOM killer has struck."""
    return int(machine.runner.run("sed -n 's/^oom_kill //p' /proc/vmstat"))


def verdicts(machine: QemuMachine, numbers: list[int]) -> dict[int, Verdict]:
    """What ``explain --all`` says of each of these blocks."""
    snapshot = machine.snapshot()
    surveys = surveys_of(machine, snapshot, numbers)
    return {n: verdict(snapshot, {n: surveys[n]}, resolve(snapshot, f"memory{n}")) for n in numbers}


# The matrix


def matrix(found: list[Trial]) -> Iterator[str]:
    """Markdown: by class, how many left, and how often each verdict and the trivial rule were right about it."""
    yield "| class | attempts | left | verdict: right | with the right reason | explain --all | trivial rule: right |"
    yield "|---|---|---|---|---|---|---|"
    for kind in [*CLASSES, "all"]:
        mine = [t for t in found if kind in (t.kind, "all")]
        left = sum(t.happened is Code.OK for t in mine)
        right = sum(t.said.impossible is not (t.happened is Code.OK) for t in mine)
        trivial = sum(t.trivial is (t.happened is Code.OK) for t in mine)
        reasons, foretold = sum(t.true for t in mine), sum(t.foretold for t in mine)
        yield f"| {kind} | {len(mine)} | {left} | {right} | {reasons} | {foretold} | {trivial} |"
    yield ""
    yield "| verdict | what happened | attempts | of which not begun |"
    yield "|---|---|---|---|"
    pairs = Counter(map(_pair, found))
    for pair, count in sorted(pairs.items()):
        idle = sum(not t.begun for t in found if _pair(t) == pair)
        yield f"| {pair[0]} | {pair[1]} | {count} | {idle} |"
    yield ""
    yield f"late: {max((t.late for t in found), default=0.0):.1f} s at most"


def _pair(t: Trial) -> tuple[str, str]:
    """The verdict, and what happened."""
    return f"{t.said.code}, until a signal" if goes_round(t.said) else t.said.code.value, t.happened.value


def false(found: list[Trial]) -> Iterator[str]:
    """One line for each verdict that did not come true."""
    for t in found:
        if not t.true:
            yield f"{_line(t)}: {t.said.fact}"


def main() -> None:
    """Print the matrix of as many attempts as the first argument says, from the seed of the second on; Ctrl-C: of those
    that were made."""
    words = dict(enumerate(sys.argv))
    count, seed = int(words.get(1, "150")), int(words.get(2, "0"))
    found = []
    with suppress(KeyboardInterrupt):
        for trial in islice(trials(seed), count):
            found.append(trial)
            print(_line(trial), "" if trial.true else trial.said.fact, file=sys.stderr, flush=True)
    print("\n".join([*matrix(found), *false(found)]))


def _line(t: Trial) -> str:
    begun = "" if t.begun else "(not begun)"
    return f"{t.seed}.{t.round} memory{t.block} {t.kind}: {t.told.code} {t.said.code} {t.happened} {begun} {t.detail}"


if __name__ == "__main__":
    main()
