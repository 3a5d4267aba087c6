# SPDX-License-Identifier: Apache-2.0
"""A bank that leaves and returns again and again under a workload, on simulated time: no byte is lost.

The oracle is the model's own: every page reads as it was written, every page has one frame; and what the transaction
did keeps the invariants (hotbank.testing).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hotbank import board, operate
from hotbank.load import Workload
from hotbank.memory import Power
from hotbank.model import Model
from hotbank.operate import Limits, MemoryJournal
from hotbank.testing import Watched, breaches, places

BANK = "high"
_LOOK_EVERY = 50  # cycles between two looks at every page
_LIMITS = Limits(total=30, block=10)


@dataclass
class Report:
    """How it went."""

    cycles: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    moved: int = 0
    acts: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {end}" for end, count in sorted(self.ends.items()))
        return f"{self.cycles} cycles ({ends}), {self.moved} pages moved, {self.acts} acts of the workload"


def soak(cycles: int, seed: int, say: Callable[[str], None]) -> Report:
    """So many times out and in."""
    report = Report()
    model = Model.boot(board.load("arm-2009"), backend="reference", seed=seed)
    watched = Watched(model)
    load = Workload(model, seed, pages=3000).fill().start(0.05)
    while report.cycles < cycles and not report.wrong:
        for verb in ("remove", "add"):
            _once(verb, model, watched, report)
        report.cycles, report.acts = report.cycles + 1, load.steps
        model.clock.sleep(1.0)
        if report.cycles % _LOOK_EVERY == 0 or report.cycles == cycles:
            report.wrong += [f"pfn {pfn} lost its content" for pfn in model.check_contents()]
            model.validate()
        if report.cycles % 500 == 0:
            say(str(report))
    return report


def _once(verb: str, model: Model, watched: Watched, report: Report) -> None:
    before = places(model)
    act = operate.remove if verb == "remove" else operate.add
    outcome = act(watched, BANK, journal=MemoryJournal(), limits=_LIMITS)
    report.ends[f"{verb} {outcome.code}"] += 1
    report.moved += outcome.moved or 0
    dark = model.power("ddr-high") is not Power.ON
    found = breaches(before, model, watched, outcome)
    if verb == "add" and dark:
        found.append(f"still dark after {outcome.code}: {outcome.fact}")
    report.wrong += [f"cycle {report.cycles}, {verb}: {what}" for what in found]
    watched.calls.clear()
