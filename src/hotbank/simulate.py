# SPDX-License-Identifier: Apache-2.0
"""What a board would save: a load on a model under a policy, beside the same load without one and beside the optimum.

Three runs of one load. Without a policy: what it asks for, look by look, and what harm it does itself. With the policy
behind its guard, every transaction through plan and rollback as on a real machine. And the clairvoyant's, which is
arithmetic (govern/optimum.py): the same demand, covered as far as the policy covered it. Banks that the kernel
did not get at boot are brought in first. Time is simulated, and both runs look at the same moments, side by side: where
one is stopped both are, and what was simulated until then is a whole report of so many seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import ceil, inf
from typing import Any

from hotbank import memspec, operate
from hotbank.documents import EXIT_DONE, SCHEMA
from hotbank.energy import Bounds
from hotbank.errors import Code, HotbankError, Refusal
from hotbank.govern.banks import Bunch, bunches, view
from hotbank.govern.guard import Outcome as Came
from hotbank.govern.optimum import Bill, Level, Stretch, optimum
from hotbank.govern.replay import Result
from hotbank.govern.runner import Governor, Step
from hotbank.govern.settings import Settings
from hotbank.load.script import Playback, Script
from hotbank.load.trace import Replay, Trace
from hotbank.machine import BankStatus, Reading, Snapshot
from hotbank.memory import Power
from hotbank.model import Model
from hotbank.model.clock import SimClock
from hotbank.operate import Outcome
from hotbank.report.ledger import Parts, of_simulation
from hotbank.report.states import DARK

Boot = Callable[[], Model]
"""Makes the model anew, on simulated time."""

_NEVER = -1


@dataclass(frozen=True, slots=True)
class Load:
    """What keeps the model busy: a workload, a recorded demand, or both; and the seed of everything random in it."""

    script: Script | None = None
    trace: Trace | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.script is None and self.trace is None:
            raise ValueError("a script, a trace or both")

    @property
    def name(self) -> str:
        """Of all its parts."""
        return " + ".join(part.name for part in (self.script, self.trace) if part is not None)

    @property
    def seconds(self) -> float:
        """Until the longer part ends."""
        return max(part.seconds for part in (self.script, self.trace) if part is not None)


@dataclass(frozen=True, slots=True)
class Harm:
    """Processes killed for want of memory; requests refused; ``squeezed``: pages of page cache that a trace asked for
    and had no room, summed over its samples. ``refaults``: pages of it that were dropped and read again."""

    oom_kills: int = 0
    refused_acts: int = 0
    squeezed: int = 0
    refaults: int = 0

    def document(self) -> dict[str, Any]:
        """Part of the JSON."""
        return {
            "oom_kills": self.oom_kills,
            "refused_acts": self.refused_acts,
            "squeezed": self.squeezed,
            "refaults": self.refaults,
        }


@dataclass(frozen=True, slots=True)
class Blame:
    """Until ``at``, and while these banks were out, so many more were killed or refused than without the policy.

    Where none was, they had been: what moved out of them stays in a kernel zone, where the kernel's own memory then has
    no room.
    """

    at: float
    banks: tuple[str, ...]
    oom_kills: int
    refused_acts: int


@dataclass(slots=True)
class BankHistory:
    """What happened to one bank. ``planned``: pages that were to move; ``pages``: those that did.

    ``power``: seconds at which its bytes went into another state. ``held``: why it was last not taken.
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
    power: list[tuple[float, Power]] = field(default_factory=list)
    held: str = ""

    def dark(self, end: float) -> list[tuple[float, float, Power]]:
        """When it was dark until ``end``: from, to, in seconds, and how. A transaction may last beyond that."""
        ends = [*(min(when, end) for when, _ in self.power[1:]), end]
        both = zip(self.power, ends, strict=True)
        return [(began, ended, power) for (began, power), ended in both if power in DARK and began < end]

    def seconds_off(self, end: float) -> float:
        """Seconds in the dark until ``end``."""
        return sum(ended - began for began, ended, _ in self.dark(end))

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
            "dark": [[round(began, 6), round(ended, 6), power.value] for began, ended, power in self.dark(end)],
            "held": self.held,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What happened. ``brought_in``: banks that the kernel did not have at boot. ``timeline``: seconds, and bytes asked
    for, in the kernel, and dark from then on. ``best``: seconds that the clairvoyant has each group dark.

    ``asked``: seconds that it was to last; more than ``seconds`` where it was stopped. ``manifest``: what made it, for
    whoever wants to make it again.
    """

    snapshot: Snapshot
    load: Load
    settings: Settings
    seconds: float
    brought_in: tuple[str, ...]
    banks: tuple[BankHistory, ...]
    timeline: tuple[tuple[float, int, int, int], ...]
    baseline: Harm
    harm: Harm
    blame: tuple[Blame, ...]
    result: Result
    best: Mapping[str, float]
    parts: Parts
    asked: float
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def partial(self) -> bool:
        """True where it was stopped before its end."""
        return self.seconds < self.asked

    @property
    def byte_seconds_off(self) -> int:
        """Of all banks."""
        return round(sum(bank.size * bank.seconds_off(self.seconds) for bank in self.banks))

    def saved(self) -> tuple[Bounds, Bounds]:
        """Joules that the dark time saved, and that the optimum's would have; what switching costs is not in them."""
        accounts = of_simulation(self._plain(), self.snapshot, self.parts).accounts
        domains = {account.bank: bank.domain for account in accounts if (bank := self.snapshot.bank(account.bank))}
        best = (a.dram.saved(a.dark) * (self.best.get(domains[a.bank] or "", 0.0) * 1e-3) for a in accounts)
        return Bounds.total(account.saved.joules for account in accounts), Bounds.total(best)

    def document(self) -> dict[str, Any]:
        """The JSON of ``hotbank simulate --json``."""
        plain = self._plain()
        ours, best = (_bounds(figure) for figure in self.saved())
        sizes = {bunch.group.name: bunch.group.size for bunch in leaving(self.snapshot, self.parts)}
        optimal = round(sum(sizes[name] * seconds for name, seconds in self.best.items()))
        return plain | {
            "policy": plain["policy"] | {"joules_saved": ours},
            "optimum": {"byte_seconds_off": optimal, "joules_saved": best},
            "timeline": [
                {"t": round(at, 6), "demand": demand, "on": on, "bytes_off": off}
                for at, demand, on, off in self.timeline
            ],
        }

    def _plain(self) -> dict[str, Any]:
        """All but what has to be reckoned from it."""
        result = self.result
        share = None if result.share is None else round(result.share, 6)
        return {
            "schema": SCHEMA["simulate"],
            "manifest": {
                "board": self.snapshot.machine.removeprefix("model:"),
                "load": self.load.name,
                "policy": self.settings.name,
                "settings": self.settings.given(),
                "seed": self.load.seed,
                **self.manifest,
            },
            "seconds": round(self.seconds, 6),
            "asked": round(self.asked, 6),
            "partial": self.partial,
            "brought_in": list(self.brought_in),
            "baseline": self.baseline.document(),
            "policy": {
                "name": self.settings.name,
                "byte_seconds_off": self.byte_seconds_off,
                "share_of_optimum": share,
                "shortage_permille": round(result.shortage_permille, 6),
                "switches_per_hour": round(result.switches_per_hour, 6),
                **self.harm.document(),
                "blame": [
                    {"t": b.at, "banks": list(b.banks), "oom_kills": b.oom_kills, "refused_acts": b.refused_acts}
                    for b in self.blame
                ],
                "banks": [bank.document(self.seconds) for bank in self.banks],
            },
        }


def leaving(snapshot: Snapshot, parts: Parts) -> tuple[Bunch, ...]:
    """The domains whose banks can leave, and save something by it."""
    return tuple(bunch for bunch in bunches(snapshot, parts) if not bunch.why and bunch.group.cost < inf)


def _bounds(figure: Bounds) -> dict[str, float]:
    return {"low": round(figure.low, 6), "typical": round(figure.typical, 6), "high": round(figure.high, 6)}


def simulate(
    boot: Boot,
    load: Load,
    settings: Settings | None = None,
    *,
    seconds: float | None = None,
    parts: Parts = memspec.named,
    manifest: Mapping[str, Any] | None = None,
    stopped: Callable[[float], bool] = lambda _: False,
) -> Report:
    """Run the load without and with the policy until its end, or for ``seconds``. ``stopped`` is asked before each look
    with its moment, in seconds; True ends the simulation there.

    Raises Refusal(UNSUPPORTED) when no bank of the board could save anything by leaving, or one is to stand by, and
    what bringing a bank in raises.
    """
    chosen, length = settings or Settings(), load.seconds if seconds is None else seconds
    if chosen.standby:
        what = f"a simulation keeps no domain on standby, and {chosen.standby} are to be"
        raise Refusal(Code.UNSUPPORTED, what, remedy="leave standby out of the settings")
    without = _Without(boot(), load, chosen.every, parts)
    under = _With(boot(), load, chosen, parts, without)
    looks, until = ceil(length / chosen.every), length
    for number in range(looks):
        if stopped(number * chosen.every):
            looks, until = number, number * chosen.every
            break
        without.look(number)
        under.look(number)
    without.end(until)
    return replace(under.end(looks, until), asked=length, manifest=manifest or {})


class _Playing:
    """A load on a model, with everything in from the start."""

    def __init__(self, model: Model, load: Load, every: float, parts: Parts) -> None:
        assert isinstance(model.clock, SimClock), "time is simulated"
        self.model, self._clock, self._every, self._called = model, model.clock, every, _NEVER
        self.brought_in = tuple(_bring_in(model, parts))
        self.began = model.clock.now()
        self._playback = Playback(model, load.script, load.seed) if load.script else None
        self._replay = Replay(model, load.trace) if load.trace else None
        for source in (self._replay, self._playback):
            if source is not None:
                source.start()

    def reading(self) -> Reading:
        """How the model feels. Where nothing was called since the look before, nothing has happened to it."""
        if self.stirred():
            self._reading = self.model.reading()
        return replace(self._reading, at=self.model.clock.now())

    def snapshot(self) -> Snapshot:
        """See Machine."""
        return self.model.snapshot()

    def stirred(self) -> bool:
        """Whether anything may have happened to the model since this was asked before."""
        before, self._called = self._called, self._clock.called
        return before != self._called

    def stir(self) -> None:
        """Something was done to the model that its load did not call for."""
        self._called = _NEVER

    def reached(self, number: int) -> bool:
        """Wait for the moment of that look; False where a transaction has taken longer."""
        wait = self.began + number * self._every - self.model.clock.now()
        if wait >= 0:
            self.model.clock.sleep(wait)
        return wait >= 0

    def end(self, length: float) -> None:
        """Nothing more is asked for after so many seconds."""
        self.model.clock.sleep(self.began + length - self.model.clock.now())
        for source in (self._replay, self._playback):
            if source is not None:
                source.stop()

    @property
    def harm(self) -> Harm:
        """Until now."""
        refused = self._playback.refused if self._playback else 0
        failed, squeezed = (self._replay.failed, self._replay.squeezed) if self._replay else (0, 0)
        tasks = self.model.tasks
        return Harm(len(tasks.oom_killed), refused + failed, squeezed, tasks.refaults)


def _bring_in(model: Model, parts: Parts) -> Iterator[str]:
    """The banks that could leave and are out at boot: the load is scaled to what the kernel manages."""
    found = leaving(model.snapshot(), parts)
    if not found:
        why = f"no bank of {model.board.name} could save anything by leaving"
        remedy = "give a bank movable = true, a route, and a domain of its own that is not interleaved"
        raise Refusal(Code.UNSUPPORTED, why, remedy=remedy)
    for bunch in (bunch for bunch in found if bunch.group.dark):
        outcome = operate.add(model, bunch.banks)
        if outcome.exit != EXIT_DONE:
            what = f"{', '.join(bunch.banks)} can't be brought in: {outcome.fact}"
            raise Refusal(outcome.code, what, remedy=outcome.remedy)
        yield from bunch.banks


class _Without:
    """The load without a policy. ``used``: bytes, and ``harm``: what was done, until each look."""

    def __init__(self, model: Model, load: Load, every: float, parts: Parts) -> None:
        self._playing = _Playing(model, load, every, parts)
        self.used, self.harm = list[int](), list[Harm]()

    def look(self, number: int) -> None:
        """See ``simulate``."""
        self._playing.reached(number)
        if self._playing.stirred():
            model = self._playing.model
            self._last = view(model.reading(), model.board.page_size, ()).used, self._playing.harm
        used, harm = self._last
        self.used.append(used)
        self.harm.append(harm)

    def end(self, length: float) -> None:
        """See ``_Playing``."""
        self._playing.end(length)

    @property
    def harm_at_end(self) -> Harm:
        """All of it."""
        return self._playing.harm


class _Hands:
    """Carries the governor's orders out on the model, each as one transaction, and keeps each bank's history."""

    def __init__(self, model: Model, found: Sequence[Bunch], snapshot: Snapshot) -> None:
        self._model, self._bunches, self._began = model, found, model.clock.now()
        names = {name for bunch in found for name in bunch.banks}
        banks = (bank for bank in snapshot.banks if bank.name in names)
        self.banks = {bank.name: BankHistory(bank.name, bank.range.size) for bank in banks}
        self._note_power()

    def taken(self) -> None:
        """A run begins with everything in."""
        return

    def remove(self, banks: Sequence[str]) -> Came:
        """Out, and dark."""
        for name in banks:
            self.banks[name].tried += 1
        return self._counted(banks, operate.remove, "removed")

    def add(self, banks: Sequence[str]) -> Came:
        """On, and back in."""
        return self._counted(banks, operate.add, "added")

    def _counted(self, banks: Sequence[str], change: Callable[..., Outcome], done: str) -> Came:
        try:
            outcome = change(self._model, tuple(banks))
        except HotbankError as e:
            return self._refused(banks, e.code)
        self._note_work(banks, outcome)
        if outcome.exit != EXIT_DONE:
            return self._refused(banks, outcome.code)
        for name in banks:
            setattr(self.banks[name], done, getattr(self.banks[name], done) + 1)
        return Came.DONE

    def _refused(self, banks: Sequence[str], code: Code) -> Came:
        for name in banks:
            self.banks[name].refused[code] += 1
        return Came.FAILED

    def _note_work(self, banks: Sequence[str], outcome: Outcome) -> None:
        """Pages and seconds, shared alike by the banks."""
        for number, name in enumerate(banks):
            bank = self.banks[name]
            bank.planned += _part(outcome.planned, number, len(banks))
            bank.pages += _part(outcome.moved or 0, number, len(banks))
            bank.busy += outcome.seconds / len(banks)
        self._note_power()

    def _note_power(self) -> None:
        now = self._model.clock.now() - self._began
        for bunch in self._bunches:
            power = self._model.power(bunch.group.name)
            for name in bunch.banks:
                changes = self.banks[name].power
                if not changes or changes[-1][1] is not power:
                    changes.append((now, power))


class _With:
    """The load under the policy."""

    def __init__(self, model: Model, load: Load, settings: Settings, parts: Parts, without: _Without) -> None:
        self._playing = _Playing(model, load, settings.every, parts)
        self._load, self._settings, self._parts, self._without = load, settings, parts, without
        self._snapshot = model.snapshot()
        self._bunches = leaving(self._snapshot, parts)
        self._hands = _Hands(model, self._bunches, self._snapshot)
        self._governor = Governor(self._playing, self._hands, settings.policy, settings.guarded(), parts)
        self._supply: dict[int, tuple[int, int]] = {}
        self._timeline: list[tuple[float, int, int, int]] = []
        self._blame: list[Blame] = []
        self._switches = 0

    def look(self, number: int) -> None:
        """See ``simulate``; one that a transaction took longer than is left out."""
        if self._playing.reached(number):
            self._note_harm(number)
            step = self._governor.step()
            if step.deeds:
                self._playing.stir()
            self._note(number, step)

    def end(self, count: int, length: float) -> Report:
        """What came of so many looks and seconds."""
        self._playing.end(length)
        result, best = self._reckoned(count, length)
        return Report(
            snapshot=self._snapshot,
            load=self._load,
            settings=self._settings,
            seconds=length,
            brought_in=self._playing.brought_in,
            banks=tuple(self._hands.banks.values()),
            timeline=tuple(self._timeline),
            baseline=self._without.harm_at_end,
            harm=self._playing.harm,
            blame=tuple(self._blame),
            result=result,
            best=best,
            parts=self._parts,
            asked=length,
        )

    def _note(self, number: int, step: Step) -> None:
        """What a look came to. The timeline has a line where something changed."""
        assert step.view is not None  # a model can always be seen
        changed = {deed.group: deed.dark for deed in step.deeds if deed.outcome is not Came.FAILED}
        held = {standing.group: standing.why for standing in step.standings if standing.why}
        dark = [group.size for group in step.view.groups if changed.get(group.name, group.dark)]
        on, off = step.view.total - sum(dark), sum(dark)
        self._supply[number] = step.view.supply, on
        self._switches += len(changed)
        for bunch in self._bunches:
            for name in bunch.banks:
                self._hands.banks[name].held = held.get(bunch.group.name, self._hands.banks[name].held)
        if not self._timeline or self._timeline[-1][2:] != (on, off):
            self._timeline.append((number * self._settings.every, step.view.used, on, off))

    def _note_harm(self, number: int) -> None:
        """What is worse than without the policy, and was not so before, is to be blamed on who is out."""
        ours, alone = self._playing.harm, self._without.harm[number]
        killed = ours.oom_kills - alone.oom_kills - sum(blame.oom_kills for blame in self._blame)
        refused = ours.refused_acts - alone.refused_acts - sum(blame.refused_acts for blame in self._blame)
        banks = self._hands.banks.values()
        out = tuple(bank.name for bank in banks if bank.power[-1][1] in DARK)
        out = out or tuple(bank.name for bank in banks if bank.removed)
        if out and (killed > 0 or refused > 0):
            self._blame.append(Blame(number * self._settings.every, out, max(0, killed), max(0, refused)))

    def _reckoned(self, count: int, length: float) -> tuple[Result, dict[str, float]]:
        """Against the optimum: the demand of the run without a policy, as far as this one covered it."""
        levels = self._levels()
        fixed = sum(z.managed for z in self._snapshot.zones) * self._snapshot.page_size - sum(at.size for at in levels)
        met, on, short = self._met(count, length, fixed)
        starts = accumulate((at.size for at in levels), initial=fixed)
        best = [optimum(met, start, [at]) for start, at in zip(starts, levels, strict=False)]
        returns = sum(at.cost * at.size * self._left(bunch) for at, bunch in zip(levels, self._bunches, strict=True))
        always = sum(at.size for at in levels) * length
        result = Result(Bill(on, returns), sum(best, Bill()), always, count, short, self._switches, length)
        dark = {b.group.name: length - bill.on / b.group.size for b, bill in zip(self._bunches, best, strict=True)}
        return result, dark

    def _met(self, count: int, length: float, fixed: int) -> tuple[list[Stretch], float, int]:
        """The demand as far as it was covered; byte-seconds that were on; looks that found too little."""
        every, met, on, short = self._settings.every, list[Stretch](), 0.0, 0
        before, after = 0, 0
        for number in range(count):
            used, seconds = self._without.used[number], min(every, length - number * every)
            before, after = self._supply.get(number, (after, after))
            short += used > before
            met.append(Stretch(seconds, min(used, after)))
            on += (after - fixed) * seconds
        return met, on, short

    def _levels(self) -> list[Level]:
        """What leaving and coming back is worth, by the pages that really moved; by all where it never left."""
        banks = tuple(replace(bank, used=self._moved(bank)) for bank in self._snapshot.banks)
        priced = {b.group.name: b.group.cost for b in bunches(replace(self._snapshot, banks=banks), self._parts)}
        return [Level(bunch.group.size, priced[bunch.group.name]) for bunch in self._bunches]

    def _moved(self, bank: BankStatus) -> int:
        """Pages a removal."""
        history = self._hands.banks.get(bank.name)
        if history is None or not history.removed:
            return bank.range.size // self._snapshot.page_size
        return history.pages // history.removed

    def _left(self, bunch: Bunch) -> int:
        """How often it left, and so came back: what is dark at the end comes back as well."""
        return self._hands.banks[bunch.banks[0]].removed


def _part(pages: int, number: int, banks: int) -> int:
    """The share of the bank of that number of so many."""
    each, rest = divmod(pages, banks)
    return each + (number < rest)
