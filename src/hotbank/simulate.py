# SPDX-License-Identifier: Apache-2.0
"""What a board would save: a workload or a demand series on a model, and a policy that takes banks out and back in.

The policy is plain on purpose. Every ``period`` seconds it looks at the memory that could be free: free pages and clean
page cache. Below ``reserve`` of all managed pages the bank that left last comes back. If what would be left
without a bank is above ``headroom`` of what would then be managed, ``patience`` times in a row, that bank is taken
out: the one with fewest pages in use first. After a failed attempt the bank is left alone for ``backoff`` seconds.
Everything goes through plan and transaction, as on a real machine; time is simulated.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hotbank import operate
from hotbank.documents import EXIT_DONE, SCHEMA
from hotbank.errors import Code, HotbankError, Refusal
from hotbank.load.script import Playback, Script
from hotbank.load.trace import Replay, Trace
from hotbank.machine import BankStatus
from hotbank.memory import KernelState, Power
from hotbank.model import Model
from hotbank.operate import Limits, Outcome
from hotbank.routes import route


@dataclass(frozen=True, slots=True)
class Policy:
    """When banks leave and return: seconds, and shares of managed memory."""

    period: float = 10.0
    reserve: float = 0.10
    headroom: float = 0.20
    patience: int = 3
    backoff: float = 120.0
    limits: Limits = field(default_factory=Limits)


@dataclass(slots=True)
class BankHistory:
    """What happened to one bank. ``planned``: pages that were to move; ``pages``: those that did.

    ``off``: seconds at which its bytes stopped (True) or began again to take power.
    """

    name: str
    size: int
    tried: int = 0
    removed: int = 0
    added: int = 0
    refused: Counter[Code] = field(default_factory=Counter)
    planned: int = 0
    pages: int = 0
    busy: float = 0.0
    off: list[tuple[float, bool]] = field(default_factory=list)

    def seconds_off(self, end: float) -> float:
        """Seconds without power until ``end``."""
        return sum(ended - began for began, ended in self.dark(end))

    def dark(self, end: float) -> list[tuple[float, float]]:
        """When it was without power until ``end``: from, to, in seconds."""
        stretches, since = [], None
        for when, dark in [*self.off, (end, False)]:
            if dark and since is None:
                since = when
            elif not dark and since is not None:
                stretches.append((since, when))
                since = None
        return stretches

    def document(self, end: float) -> dict[str, Any]:
        """The JSON of one bank."""
        seconds = self.seconds_off(end)
        return {
            "bank": self.name,
            "size": self.size,
            "tried": self.tried,
            "removed": self.removed,
            "added": self.added,
            "refused": {code.value: times for code, times in sorted(self.refused.items())},
            "planned": self.planned,
            "pages": self.pages,
            "seconds": round(self.busy, 6),
            "seconds_off": round(seconds, 6),
            "share_off": round(seconds / end, 6) if end else 0.0,
            "dark": [[round(began, 6), round(ended, 6)] for began, ended in self.dark(end)],
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What happened. ``timeline``: seconds and the bytes without power from then on. ``oom_kills``: processes lost;
    ``squeezed``: pages of page cache that a trace asked for and had no room, summed over its samples."""

    machine: str
    workload: str
    seed: int
    seconds: float
    banks: tuple[BankHistory, ...]
    timeline: tuple[tuple[float, int], ...]
    refused_acts: int
    oom_kills: int
    squeezed: int

    def document(self) -> dict[str, Any]:
        """The JSON of ``hotbank simulate --json``."""
        return {
            "schema": SCHEMA["simulate"],
            "machine": self.machine,
            "workload": self.workload,
            "seed": self.seed,
            "seconds": round(self.seconds, 6),
            "banks": [bank.document(self.seconds) for bank in self.banks],
            "timeline": [{"t": round(when, 6), "bytes_off": off} for when, off in self.timeline],
            "byte_seconds_off": round(sum(bank.size * bank.seconds_off(self.seconds) for bank in self.banks)),
            "refused_acts": self.refused_acts,
            "oom_kills": self.oom_kills,
            "squeezed": self.squeezed,
        }


def simulate(
    model: Model,
    *,
    script: Script | None = None,
    trace: Trace | None = None,
    seed: int = 0,
    policy: Policy | None = None,
    seconds: float | None = None,
) -> Report:
    """Run a workload, a trace or both on the model until the longer one ends, or for ``seconds``.

    The model's clock must be simulated. Raises Refusal(UNSUPPORTED) when the board has no bank that could leave, and
    ValueError without anything to run.
    """
    if script is None and trace is None:
        raise ValueError("a script, a trace or both")
    return _Run(model, policy or Policy(), script, trace, seed).until(seconds)


class _Run:
    def __init__(self, model: Model, policy: Policy, script: Script | None, trace: Trace | None, seed: int) -> None:
        self._model, self._policy, self._seed = model, policy, seed
        self._script, self._trace = script, trace
        self._playback = Playback(model, script, seed) if script else None
        self._replay = Replay(model, trace) if trace else None
        movable = [bank for bank in model.snapshot().banks if bank.movable and route(bank.route).removes]
        if not movable:
            why = f"{model.board.name} has no movable bank with a route out of the kernel"
            raise Refusal(Code.UNSUPPORTED, why, remedy="give a bank of the board movable = true and a route")
        self._banks = {bank.name: BankHistory(bank.name, bank.range.size) for bank in movable}
        self._calm: Counter[str] = Counter()
        self._not_before: dict[str, float] = {}
        self._away: list[str] = []
        self._timeline: list[tuple[float, int]] = []
        self._began = model.clock.now()

    def until(self, seconds: float | None) -> Report:
        lengths = [part.seconds for part in (self._script, self._trace) if part is not None]
        end = self._began + (max(lengths) if seconds is None else seconds)
        self._note_power()
        if self._replay:
            self._replay.start()
        if self._playback:
            self._playback.start()
        while (now := self._model.clock.now()) < end:
            self._model.clock.sleep(min(self._policy.period, end - now))
            self._look()
        return self._report()

    def _report(self) -> Report:
        for source in (self._replay, self._playback):
            if source is not None:
                source.stop()
        named = [part.name for part in (self._script, self._trace) if part is not None]
        return Report(
            machine=f"model:{self._model.board.name}",
            workload=" + ".join(named),
            seed=self._seed,
            seconds=self._model.clock.now() - self._began,
            banks=tuple(self._banks.values()),
            timeline=tuple(self._timeline),
            refused_acts=self._refused_acts(),
            oom_kills=len(self._model.tasks.oom_killed),
            squeezed=self._replay.squeezed if self._replay else 0,
        )

    def _refused_acts(self) -> int:
        played = self._playback.refused if self._playback else 0
        return played + (self._replay.failed if self._replay else 0)

    # The policy

    def _look(self) -> None:
        managed, spare = self._memory()
        if spare < self._policy.reserve * managed:
            self._calm.clear()
            if self._away:
                self._bring_back(self._away[-1])
            return
        for history in self._banks.values():
            size = history.size // self._model.board.page_size
            calm = spare - size >= self._policy.headroom * (managed - size)
            self._calm[history.name] = self._calm[history.name] + 1 if calm else 0
        ready = [name for name, looks in self._calm.items() if looks >= self._policy.patience]
        candidates = self._candidates(ready) if ready else []
        if candidates:
            self._take_out(min(candidates, key=lambda bank: (bank.used or 0, bank.name)).name)

    def _memory(self) -> tuple[int, int]:
        """Pages that the kernel manages, and those of them that are free or clean page cache."""
        managed = sum(zone.managed for zone in self._model.allocator.zones)
        return managed, self._model.free() + self._model.reclaimable()

    def _candidates(self, names: list[str]) -> list[BankStatus]:
        """Those of the banks that are in the kernel and whose backoff is over."""
        now = self._model.clock.now()
        waiting = {name for name in names if now < self._not_before.get(name, now)}
        wanted = set(names) - waiting - set(self._away)
        banks = self._model.snapshot().banks if wanted else ()
        return [bank for bank in banks if bank.name in wanted and bank.kernel is KernelState.ONLINE]

    def _take_out(self, name: str) -> None:
        history = self._banks[name]
        history.tried += 1
        outcome = self._counted(history, operate.remove(self._model, name, limits=self._policy.limits))
        self._calm.clear()
        if outcome.exit == EXIT_DONE:  # out, be it that its domain stays on until the last bank of it is
            history.removed += 1
            self._away.append(name)
        else:
            history.refused[outcome.code] += 1
            self._not_before[name] = self._model.clock.now() + self._policy.backoff

    def _bring_back(self, name: str) -> None:
        history = self._banks[name]
        try:
            outcome = self._counted(history, operate.add(self._model, name, limits=self._policy.limits))
        except HotbankError as e:
            history.refused[e.code] += 1
            return
        if outcome.exit == EXIT_DONE:
            history.added += 1
            self._away.remove(name)
        else:
            history.refused[outcome.code] += 1

    def _counted(self, history: BankHistory, outcome: Outcome) -> Outcome:
        history.planned += outcome.planned
        history.pages += outcome.moved or 0
        history.busy += outcome.seconds
        self._note_power()
        return outcome

    def _note_power(self) -> None:
        """Which banks are dark now, and how many bytes that makes."""
        now, dark = self._model.clock.now() - self._began, 0
        for bank in self._model.snapshot().banks:
            if bank.name not in self._banks:
                continue
            off = bank.power is Power.OFF
            dark += bank.range.size if off else 0
            self._banks[bank.name].off.append((now, off))
        if not self._timeline or self._timeline[-1][1] != dark:
            self._timeline.append((now, dark))
