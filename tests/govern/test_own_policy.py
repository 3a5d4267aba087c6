# SPDX-License-Identifier: Apache-2.0
"""A policy of one's own: a distribution beside hotbank, found by its entry point and held behind the same guard."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotbank import board, memspec, operate
from hotbank.errors import BoardError
from hotbank.govern import settings
from hotbank.govern.guard import Outcome
from hotbank.govern.runner import Governor
from hotbank.memory import MIB, Power
from hotbank.model import Model

MODULE = """
from dataclasses import dataclass

from hotbank.govern.policy import Wish


@dataclass(frozen=True)
class Greedy:
    share: float = 0.5

    def begin(self):
        return 0

    def decide(self, view, state):
        return Wish(round(self.share * view.total), "greed"), state + 1
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pip leaves of a wheel: the module, its metadata and its entry points."""
    (tmp_path / "greedy_policy.py").write_text(MODULE)
    info = tmp_path / "greedy_policy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greedy-policy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hotbank.policies]\ngreedy = greedy_policy:Greedy\n")
    monkeypatch.syspath_prepend(tmp_path)


class Hands:
    """As a person's."""

    def __init__(self, machine: Model) -> None:
        self._machine = machine

    def remove(self, banks: object) -> Outcome:
        return Outcome.DONE if operate.remove(self._machine, banks).exit == 0 else Outcome.FAILED  # type: ignore[arg-type]

    def add(self, banks: object) -> Outcome:
        return Outcome.DONE if operate.add(self._machine, banks).exit == 0 else Outcome.FAILED  # type: ignore[arg-type]

    def taken(self) -> None:
        return


def test_it_is_found_and_set_by_its_own_fields(tmp_path: Path) -> None:
    assert settings.read("greedy", ("share=0.25", "guard.hourly=3")).given() == {
        "every": settings.EVERY,
        "share": 0.25,
        "guard.hourly": 3.0,
    }
    file = tmp_path / "auto.toml"
    file.write_text('policy = "greedy"\n[settings]\nshare = 0.125\n')
    assert settings.read(str(file)).given()["share"] == 0.125
    with pytest.raises(BoardError, match="known: share, every, guard"):
        settings.read("greedy", ("headroom=1",))


def test_who_names_another_is_told_of_it() -> None:
    with pytest.raises(BoardError, match="known: balance, greedy, reserve"):
        settings.read("greed")


@pytest.mark.parametrize(("used", "leaves"), [(60, True), (300, False)])
def test_it_passes_the_same_guard(used: int, leaves: bool) -> None:
    """It wishes that nothing stays: a bank leaves only where what is used has room without it."""
    machine, chosen = Model.boot(board.load("arm-2009"), backend="reference"), settings.read("greedy", ("share=0",))
    machine.tasks.grow(machine.tasks.spawn("service"), used * MIB // machine.board.page_size)
    governor = Governor(machine, Hands(machine), chosen.policy, chosen.guarded(), memspec.named)
    for _ in range(3):
        governor.step()
        machine.clock.sleep(chosen.every)
    assert (machine.power("ddr-high") is Power.OFF) is leaves
    assert not machine.tasks.oom_killed
