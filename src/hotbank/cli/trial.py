# SPDX-License-Identifier: Apache-2.0
"""``hotbank plan --try``: the plan carried out on a model in the machine's state, and what happened to it there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from hotbank import operate
from hotbank.cli.progress import pages
from hotbank.machine import Machine
from hotbank.memory import format_size
from hotbank.operate import MemoryJournal, Outcome, Transaction


def carried_out(machine: Machine, targets: Sequence[str], *, adding: bool) -> Outcome:
    """What happens on a model of the machine, with ``--force``: a model need not be spared, and has the last word.

    Raises what capture.take raises where pages can't be seen, and Refusal when a model of that size can't be had.
    """
    from hotbank.model import Model, capture, named

    taken = capture.take(machine)
    model = Model.restore(taken, **named.given(taken, os.environ))
    plan = operate.plan_add(model, targets) if adding else operate.plan_remove(model, targets)
    return Transaction(model, plan, journal=MemoryJournal(), force=not adding).run()


def document(tried: Outcome) -> dict[str, Any]:
    """The part of the JSON that says what happened: pages planned and moved, bytes freed, seconds of simulated time."""
    answer = {"code": tried.code.value, "exit": tried.exit, "errno": tried.errno, "fact": tried.fact}
    answer |= {"planned": tried.planned, "moved": tried.moved, "freed": tried.freed}
    return answer | {"seconds": round(tried.seconds, 6)}


def line(tried: Outcome) -> str:
    """The same for people."""
    fact = f": {tried.fact}" if tried.fact else ""
    done = f"{pages(tried)}, {format_size(tried.freed)} freed, {tried.seconds:.2f} s of simulated time"
    return f"tried     {tried.code}{fact}; {done}"
