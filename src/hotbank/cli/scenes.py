# SPDX-License-Identifier: Apache-2.0
"""The story that ``hotbank demo`` tells: the main job on the 2009 board, then the contrasts it was proposed for.

Each scene boots the board from the bytes its boot loader would hand over, does one thing through the same verbs
that the command line has, and returns what came of it. Nothing is printed here, and nothing is assumed: a scene whose
end is not the one it should have says so (``ok``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from hotbank import board, operate
from hotbank.board import Board
from hotbank.errors import Code
from hotbank.firmware import describe
from hotbank.load import Workload
from hotbank.machine import BankStatus
from hotbank.memory import KernelState, Power
from hotbank.model import Model
from hotbank.operate import Event, Limits, Outcome, Verdict

BANK = "high"
_BUSY = 24000  # pages that the mixed workload keeps in use: 94 MiB of 512
_DEADLINE = 2.0  # simulated seconds that a forced removal may take
_CROWDED = 48000  # free pages that leaves the low bank full
_INODES = 40000  # the experiment of the 2009 proposal: creating this many files


@dataclass(frozen=True, slots=True)
class Scene:
    """What one scene did. ``expected``: the code its last attempt should end with.

    ``explained``: the verdict beforehand. ``outcomes``: each attempt in order. ``pages``: user pages whose content was
    compared afterwards, ``damaged`` of them not as written. ``as_found``: every block in the state and zone it had,
    None where the scene is meant to change that. ``note``: one fact more.
    """

    name: str
    title: str
    machine: str
    expected: Code
    explained: Verdict
    outcomes: tuple[Outcome, ...]
    pages: int
    damaged: int
    as_found: bool | None
    kernel: KernelState
    power: Power
    note: str = ""

    @property
    def ok(self) -> bool:
        """True if the scene ended as it should, with every page intact."""
        return self.outcomes[-1].code is self.expected and self.damaged == 0 and self.as_found is not False

    @property
    def moved(self) -> int:
        """Pages moved by all attempts."""
        return sum(outcome.moved or 0 for outcome in self.outcomes)

    @property
    def seconds(self) -> float:
        """Simulated seconds of all attempts."""
        return sum(outcome.seconds for outcome in self.outcomes)

    @property
    def freed(self) -> int:
        """Bytes that left the kernel."""
        return sum(outcome.freed for outcome in self.outcomes)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "scene": self.name,
            "title": self.title,
            "expected": self.expected.value,
            "ok": self.ok,
            "explain": self.explained.document(self.machine),
            "attempts": [_attempt(outcome) for outcome in self.outcomes],
            "pages_compared": self.pages,
            "pages_damaged": self.damaged,
            "as_found": self.as_found,
            "kernel": self.kernel.value,
            "power": self.power.value,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Audience:
    """Who watches: told of each machine that boots, of how its memory stands where the story wants that seen, of each
    verdict and of each event."""

    boots: Callable[[str, Model, bytes], None]
    stands: Callable[[Model], None]
    explained: Callable[[Verdict], None]
    event: Callable[[Model, Event], None]


def play(seed: int, audience: Audience) -> Iterator[Scene]:
    """All scenes, one after the other; deterministic for a seed."""
    stage = _Stage(board.load("arm-2009"), seed, audience)
    yield from _main_job(stage)
    yield _untagged(stage)
    yield _pinned(stage)
    yield _full(stage)


class _Stage:
    """Boots machines for the scenes and runs verbs on them before the audience."""

    def __init__(self, its_board: Board, seed: int, audience: Audience) -> None:
        self.board, self._seed, self._audience = its_board, seed, audience

    def boot(self, title: str, movable: bool = True) -> tuple[Model, Workload]:
        """A freshly booted board with a workload that keeps running."""
        banks = tuple(replace(b, movable=movable) if b.name == BANK else b for b in self.board.banks)
        its_board = replace(self.board, banks=banks)
        tags = describe(its_board, "atags").data
        model = Model.boot(its_board, description=tags, seed=self._seed, backend="reference")
        work = Workload(model, self._seed, pages=_BUSY).fill().start(period=0.01)
        self._audience.boots(title, model, tags)
        return model, work

    def show(self, model: Model) -> None:
        self._audience.stands(model)

    def explain(self, model: Model) -> Verdict:
        verdict = operate.explain(model, BANK)
        self._audience.explained(verdict)
        return verdict

    def remove(self, model: Model, *, force: bool = False) -> Outcome:
        limits = Limits(total=_DEADLINE, block=_DEADLINE) if force else None
        return operate.remove(model, BANK, force=force, limits=limits, on_event=self._tell(model))

    def add(self, model: Model) -> Outcome:
        return operate.add(model, BANK, on_event=self._tell(model))

    def _tell(self, model: Model) -> Callable[[Event], None]:
        return lambda event: self._audience.event(model, event)


def _main_job(stage: _Stage) -> Iterator[Scene]:
    model, work = stage.boot("the bank leaves")
    stage.show(model)
    explained = stage.explain(model)
    gone = stage.remove(model)
    stage.show(model)
    steps = work.steps
    note = f"the workload made {steps} steps meanwhile"
    yield _scene("leave", "the bank leaves and goes dark", model, Code.OK, explained, (gone,), note=note)
    hog = model.fill_until(4096, "player")
    explained = stage.explain(model)
    back = stage.add(model)
    model.grow(hog, 16384)
    stage.show(model)
    there = sum(len(model.place(hog, block)) for block in _bank(model).blocks)
    note = f"memory was down to 16 MiB; {there} pages of player now live in {BANK}"
    yield _scene("return", "pressure rises and the bank returns", model, Code.OK, explained, (back,), note=note)
    work.stop()


def _untagged(stage: _Stage) -> Scene:
    model, work = stage.boot("the same board without the movable tag", movable=False)
    hog = model.fill_until(_CROWDED, "updater")
    model.create_inodes(_INODES)
    model.exit(hog)
    stage.show(model)
    found = _blocks(model)
    explained = stage.explain(model)
    refused = stage.remove(model)
    work.stop()
    note = f"{_INODES} files were created while memory was tight; their inodes went where there was room"
    title = "without the movable tag"
    return _scene("untagged", title, model, Code.UNMOVABLE, explained, (refused,), found=found, note=note)


def _pinned(stage: _Stage) -> Scene:
    model, work = stage.boot("a pinned page")
    pid = model.spawn("capture", anon_pages=512)
    block = next(n for n in _bank(model).blocks if model.place(pid, n))
    model.pin(pid, model.place(pid, block)[0])
    stage.show(model)
    found = _blocks(model)
    explained = stage.explain(model)
    attempts = (stage.remove(model), stage.remove(model, force=True))
    work.stop()
    title = "a pinned page, refused, then forced"
    return _scene("pinned", title, model, Code.DEADLINE, explained, attempts, found=found)


def _full(stage: _Stage) -> Scene:
    model, work = stage.boot("no room elsewhere")
    work.stop()
    model.fill_until(8192, "browser")
    stage.show(model)
    found = _blocks(model)
    explained = stage.explain(model)
    refused = stage.remove(model)
    return _scene("full", "no room elsewhere", model, Code.NO_CAPACITY, explained, (refused,), found=found)


def _scene(
    name: str,
    title: str,
    model: Model,
    expected: Code,
    explained: Verdict,
    outcomes: tuple[Outcome, ...],
    *,
    found: object = None,
    note: str = "",
) -> Scene:
    bank = _bank(model)
    damaged = len(model.check_contents())
    if not damaged:
        model.validate()
    as_found = None if found is None else _blocks(model) == found
    pages = _user_pages(model)
    return Scene(
        name,
        title,
        model.snapshot().machine,
        expected,
        explained,
        outcomes,
        pages,
        damaged,
        as_found,
        bank.kernel,
        bank.power,
        note,
    )


def _bank(model: Model) -> BankStatus:
    return next(bank for bank in model.snapshot().banks if bank.name == BANK)


def _blocks(model: Model) -> tuple[object, ...]:
    return tuple((b.number, b.state, b.valid_zones) for b in model.snapshot().blocks)


def _user_pages(model: Model) -> int:
    """Pages with content to lose: of processes, and of files in the page cache."""
    processes = sum(process.rss for process in model.tasks.processes.values())
    return processes + sum(len(file.pages) for file in model.tasks.files.values())


def _attempt(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON; the evidence is in ``explain`` already."""
    fields = asdict(replace(outcome, evidence=()))
    return {key: value for key, value in fields.items() if key != "evidence"}
