# SPDX-License-Identifier: Apache-2.0
"""Random states of models, block by block: what the verdict says, and what the model's kernel then does.

``PYTHONPATH=tests python -m verdicts.states 2000`` prints the matrix that docs/verdicts.md shows; with ``--blind`` the
surveys can't see pins.
"""

from __future__ import annotations

import errno
import random
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from hotbank.board import Bank, Board
from hotbank.errors import EHWPOISON, Code, KernelError, Refusal
from hotbank.load import Workload
from hotbank.machine import Snapshot, Survey
from hotbank.memory import MIB, BlockState, Kind, Online, Range
from hotbank.model import Model
from hotbank.model.migrate import Pass
from hotbank.operate.look import surveys_of
from hotbank.operate.targets import resolve
from hotbank.operate.verdict import Verdict, verdict
from hotbank.room import leaving_of, must_fit, room, spare

PATIENCE = 3.0  # simulated seconds: a block that can leave takes less than one
PER_MODEL = 6  # states taken of one model
CLASSES = ("boot", "kernel zone", "Movable", "pinned", "poisoned", "no room", "holes", "straddling")

# What each verdict promises.
PROMISE = {code: frozenset({code}) for code in Code} | {
    Code.CMA: frozenset({Code.UNMOVABLE}),  # isolation answers the same EBUSY
    Code.PINS_UNKNOWN: frozenset({Code.OK, Code.PINNED}),
}


@dataclass(frozen=True)
class Trial:
    """One state of one block. ``happened``: OK, or the reason why it did not leave or could not come back."""

    seed: int
    block: int
    kind: str
    said: Verdict
    trivial: bool
    happened: Code

    @property
    def true(self) -> bool:
        """What was said came true, reason included."""
        return self.happened in PROMISE[self.said.code]


def trials(first_seed: int = 0, *, blind: bool = False) -> Iterator[Trial]:
    """Trials without end, the same for the same seed."""
    seed = first_seed
    while True:
        yield from _of_one_model(seed, blind)
        seed += 1


def _of_one_model(seed: int, blind: bool) -> Iterator[Trial]:
    dice = random.Random(seed)
    model = _boot(dice, blind)
    workload = Workload(model, seed, pages=dice.choice([50, 1000, 6000])).fill()
    for _ in range(PER_MODEL):
        for _ in range(dice.randrange(4)):
            workload.step()
        model.clock.sleep(0.1)  # short pins end
        yield _trial(model, dice, seed)
        model.validate()
        assert not model.check_contents()


def _boot(dice: random.Random, blind: bool) -> Model:
    """Boards of 32-bit ARM and arm64 with small blocks; ragged banks, movablecore= off a block's edge, CMA."""
    arm64 = dice.random() < 0.5
    unit = dice.choice([8, 16]) * MIB
    low = 192 * MIB if arm64 else 64 * MIB
    ragged = dice.choice([0, 0, 4 * MIB, 2 * MIB])
    high = Bank(
        "high",
        Range.sized(0x60000000, dice.choice([2, 4]) * unit),
        movable=dice.random() < 0.8,
        at_boot=not arm64,
        route="kmem" if arm64 else "driver",  # our driver vetoes a kernel zone
    )
    banks = (Bank("low", Range.sized(0x40000000, low + ragged)), high)
    line = f"cma={dice.choice(['0', '8M'])}" if arm64 else ""
    if dice.random() < 0.4:
        line += f" movablecore={dice.choice([16, 20, 32, 44]) << 20}"
    arch, form = ("arm64", "dtb") if arm64 else ("arm", "atags")
    board = Board("random", arch, block_size=unit, describe=form, cmdline=line, banks=banks)
    model = Model.boot(board, cmdline=line or None, seed=dice.randrange(1000), kcore=not blind, backend="reference")
    if arm64:
        _plug(model, dice)
    return model


def _plug(model: Model, dice: random.Random) -> None:
    """The bank that arm64 may lose, in Movable or, as by a careless udev rule, in a kernel zone."""
    model.set_auto_online("offline")
    model.add("high")
    how = dice.choice([Online.MOVABLE, Online.MOVABLE, Online.KERNEL])
    for block in model.snapshot().blocks:
        if block.state is BlockState.OFFLINE:
            model.online(block.number, how)


def _trial(model: Model, dice: random.Random, seed: int) -> Trial:
    number, made, pid = _make_trouble(model, dice, dice.choice(["", "", "pinned", "no room", "no room", "poisoned"]))
    snapshot = model.snapshot()
    target = resolve(snapshot, f"memory{number}")
    surveys = surveys_of(model, snapshot, target.blocks)
    said = verdict(snapshot, surveys, target)
    kind = _class(snapshot, surveys[number], number, made)
    trivial = snapshot.block(number) is not None and kind != "boot" and _zone(snapshot, number) == "Movable"
    kept = spare(snapshot.zones, leaving_of(snapshot, surveys))
    happened = _happens(model, number, _zone(snapshot, number), kept)
    for handle in list(model.contents.long_pins):
        model.unpin(handle)
    if pid in model.tasks.processes:
        model.exit(pid)
    return Trial(seed, number, kind, said, trivial, happened)


def _choose(model: Model, dice: random.Random) -> int:
    """A block, the odd ones as likely as the many that are alike."""
    blocks = [b for b in model.snapshot().blocks if b.state is BlockState.ONLINE]
    kinds: dict[object, list[int]] = {}
    for block in blocks:
        found = model.survey(block.number)
        kinds.setdefault((block.valid_zones, found.holes, found.boot, bool(found.blocked)), []).append(block.number)
    return dice.choice(dice.choice(sorted(kinds.values())))


def _make_trouble(model: Model, dice: random.Random, trouble: str) -> tuple[int, str, int]:
    """A block, what was done to it, and the process that did it; not everything can be done to every machine."""
    if trouble in ("pinned", "poisoned"):
        done = _harm(model, dice, trouble)
        if done is not None:
            return done
    number = _choose(model, dice)
    if trouble == "no room":
        return _fill(model, dice, number)
    return number, "", 0


def _harm(model: Model, dice: random.Random, trouble: str) -> tuple[int, str, int] | None:
    """Pin or poison a page of a new process, in one of the blocks that it has pages in."""
    try:
        pid = model.spawn("victim", anon_pages=dice.randint(1, 3000))
    except KernelError:
        return None
    blocks = [b.number for b in model.snapshot().blocks if b.state is BlockState.ONLINE]
    homes = {n: pages for n in blocks if (pages := model.place(pid, n))}
    number = dice.choice(sorted(homes))
    if trouble == "pinned":
        model.pin(pid, dice.choice(homes[number]))
    else:
        model.poison(pid, dice.choice(homes[number]))
    return number, trouble, pid


def _fill(model: Model, dice: random.Random, number: int) -> tuple[int, str, int]:
    """Use memory up until the block's pages just fit elsewhere, or just don't."""
    pid = model.spawn("hog")
    try:
        for _ in range(12):
            left = _spare(model, number)
            if left <= dice.randint(-2, 40):
                break
            model.grow(pid, max(1, left // dice.choice([2, 3])))
        model.grow(pid, max(0, _spare(model, number) + dice.choice([-9, -1, 0, 1, 2, 9, 90])))
    except KernelError:
        pass  # killed: the machine has room again
    return number, "no room" if abs(_spare(model, number)) < 500 else "", pid


def _spare(model: Model, number: int) -> int:
    snapshot = model.snapshot()
    surveys = surveys_of(model, snapshot, (number,))
    leaving = leaving_of(snapshot, surveys)
    return room(snapshot.zones, leaving) - must_fit(snapshot.zones, leaving)


def _class(snapshot: Snapshot, survey: Survey, number: int, made: str) -> str:
    if survey.holes:
        return "holes"
    if _zone(snapshot, number) == "none":
        return "straddling"
    if survey.boot and snapshot.boot_memory_leaves is False:
        return "boot"
    if survey.kinds.get(Kind.POISONED):
        return "poisoned"
    return made or ("Movable" if _zone(snapshot, number) == "Movable" else "kernel zone")


def _zone(snapshot: Snapshot, number: int) -> str:
    block = snapshot.block(number)
    assert block is not None
    return block.valid_zones[0]


def _happens(model: Model, number: int, zone: str, kept: int) -> Code:
    """Take the block offline, as long as so many pages are left, and, if it went, bring it back to its zone."""
    passes = _watch(model)
    try:
        model.offline(number, model.clock.now() + PATIENCE, spare=kept)
    except Refusal as e:
        return e.code
    except KernelError as e:
        return _reason(e, passes)
    try:
        model.online(number, Online.MOVABLE if zone == "Movable" else Online.KERNEL)
    except KernelError as e:
        if e.errno == EHWPOISON:
            return Code.POISONED
        raise
    return Code.OK


def _watch(model: Model) -> list[Pass]:
    """The passes of migration from now on, in which the model tells why pages stayed."""
    passes: list[Pass] = []
    migration, migrate = model.hotplug.migration, type(model.hotplug.migration).migrate

    def watched(sources: list[int], gfp: object) -> Pass:
        passes.append(migrate(migration, sources, gfp))  # type: ignore[arg-type]
        return passes[-1]

    migration.migrate = watched  # type: ignore[assignment, method-assign]
    return passes


def _reason(error: KernelError, passes: list[Pass]) -> Code:
    if error.errno == errno.EINVAL:
        return Code.MULTI_ZONE if "spans zones" in str(error) else Code.HOLES
    if error.errno == errno.EBUSY:
        return Code.UNMOVABLE
    if error.errno == errno.EPERM:
        return Code.BOOT_MEMORY
    assert error.errno == errno.EINTR, error
    last = next(p for p in reversed(passes) if p.failed)
    return Code.NO_CAPACITY if last.no_room else Code.PINNED


# The matrix


def matrix(found: list[Trial]) -> Iterator[str]:
    """Markdown: by class, how many left, and how often the verdict and the trivial rule were right about it."""
    yield "| class | states | left | verdict: right | with the right reason | trivial rule: right |"
    yield "|---|---|---|---|---|---|"
    for kind in [*CLASSES, "all"]:
        mine = [t for t in found if kind in (t.kind, "all")]
        left = sum(t.happened is Code.OK for t in mine)
        right = sum(t.said.impossible is not (t.happened is Code.OK) for t in mine)
        reason, trivial = sum(t.true for t in mine), sum(t.trivial is (t.happened is Code.OK) for t in mine)
        yield f"| {kind} | {len(mine)} | {left} | {right} | {reason} | {trivial} |"
    yield ""
    yield "| verdict | what happened | states |"
    yield "|---|---|---|"
    for (said, happened), count in sorted(Counter((t.said.code, t.happened) for t in found).items()):
        yield f"| {said} | {happened} | {count} |"


def main() -> None:
    """Print the matrix of as many states as the command line says."""
    count = int(next((a for a in sys.argv[1:] if a.isdecimal()), "200"))
    found = list(islice(trials(blind="--blind" in sys.argv), count))
    print("\n".join(matrix(found)))
    for trial in found:
        if not trial.true:
            print(f"seed {trial.seed} memory{trial.block} {trial.kind}: {trial.said.fact}; happened {trial.happened}")


if __name__ == "__main__":
    main()
