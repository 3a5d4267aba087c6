# SPDX-License-Identifier: Apache-2.0
"""Pages that move until enough blocks are free, on models: by hotbank, and by the order of ``chmem -d``.

A model's kernel migrates as the real one does, into the smallest free blocks first; it has no time worth measuring. Ten
blocks, of which four are wanted, in use by shares that are dealt out anew for each seed. The least: what the four
cheapest blocks hold, if no page moved twice.

    PYTHONPATH=tests:bench python -m race.model [--seeds N]
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from dataclasses import replace
from typing import Any

from hotbank import operate
from hotbank.errors import KernelError
from hotbank.machine import Snapshot
from hotbank.model import Model
from hotbank.operate.look import migrated
from operate.filled import BLOCK, model_of
from race.states import STATES, State

RUN = 16  # pages that lie together
LIMIT = 30.0  # simulated seconds for a block


class Boardless:
    """A machine whose blocks are in no bank."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def snapshot(self) -> Snapshot:
        return replace(self._model.snapshot(), banks=(), domains=())


def made(state: State, seed: int) -> tuple[Model, list[int]]:
    """The state; what it pins is pinned."""
    dice = random.Random(seed)
    model, numbers = model_of(state.shares(dice), RUN, dice)
    for number in (numbers[index] for index in state.pinned):
        pid = next(pid for pid in model.tasks.processes if model.place(pid, number))
        model.pin(pid, model.place(pid, number)[0])
    return model, numbers


def chmem(model: Model, numbers: list[int], wanted: int) -> bool:
    """The highest block first. False once one does not end."""
    for number in reversed(numbers):
        if not wanted:
            break
        try:
            model.offline(number, model.clock.now() + LIMIT)
        except KernelError:
            return False
        wanted -= 1
    return True


def hotbank(model: Model, wanted: int) -> bool:
    """The cheapest blocks, emptiest first."""
    machine: Any = Boardless(model)
    plan = operate.plan_free(machine, wanted * BLOCK).plan
    return operate.remove(machine, [target.name for target in plan.targets]).exit == 0


def race(state: State, seed: int) -> tuple[int, int, int | None]:
    """Pages: the least, by hotbank, and by chmem's order, None if it did not end."""
    model, numbers = made(state, seed)
    costs = sorted(s.to_move for s in map(model.survey, numbers) if not s.blocked)
    done, ours = hotbank(model, state.wanted), migrated(model)
    assert done
    assert ours is not None
    model, numbers = made(state, seed)
    ended = chmem(model, numbers, state.wanted)
    return sum(costs[: state.wanted]), ours, migrated(model) if ended else None


def middle(values: list[float]) -> str:
    """The median, with the lowest and the highest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else "never"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="of each state")
    args = parser.parse_args()
    print("pages that moved, in parts of the least: median (lowest to highest)")
    for state in (s for s in STATES if s.wanted == 4 and not s.kernel):
        found = [race(state, seed) for seed in range(args.seeds)]
        ended = [(least, pages) for least, _, pages in found if pages is not None]
        ours = middle([pages / least for least, pages, _ in found])
        theirs = middle([pages / least for least, pages in ended])
        print(f"{state.name:<8} hotbank {ours:<22} chmem's order {theirs:<24} ended {len(ended)} of {len(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
