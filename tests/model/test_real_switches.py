# SPDX-License-Identifier: Apache-2.0
"""The programs that a board names, run for real while the memory is a model's: what they say counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotbank import board, operate
from hotbank.errors import Code, SwitchError
from hotbank.gate import Beside
from hotbank.host.switch import commands
from hotbank.load import Workload
from hotbank.memory import Power
from hotbank.model import Model

REPO = Path(__file__).parents[2]
# What a bring-up engineer writes: `ddrctl STATE` turns, `ddrctl` tells.
DDRCTL = '#!/bin/sh\nif [ $# = 0 ]; then cat "{state}"; else echo "$1" > "{state}"; fi\n'
LIAR = '#!/bin/sh\nif [ $# = 0 ]; then echo on; else echo "$1" > "{state}"; fi\n'


def machine(folder: Path, program: str) -> Model:
    """The board of 2009 with this program as its switch, and pages in use."""
    state, script = folder / "state", folder / "ddrctl"
    state.write_text("on\n")
    script.write_text(program.format(state=state))
    script.chmod(0o700)
    words = "\n".join(f'{word} = ["{script}", "{word}"]' for word in ("on", "self-refresh", "off"))
    text = (REPO / "boards/arm-2009.toml").read_text()
    its = board.loads(text.replace('switch = "machine"', f'switch = "command"\nstatus = ["{script}"]\n{words}'))
    model = Model.boot(its, switches=commands(its), backend="reference")
    Workload(model, 1, pages=500).fill()
    return model


def test_a_program_turns_the_power_and_the_memory_follows(tmp_path: Path) -> None:
    model = machine(tmp_path, DDRCTL)
    assert operate.remove(model, "high").code is Code.OK
    assert ((tmp_path / "state").read_text(), model.power("ddr-high")) == ("off\n", Power.OFF)
    assert model.contents.dark
    assert operate.add(model, "high").code is Code.OK
    assert ((tmp_path / "state").read_text(), model.snapshot().domains[0].power) == ("on\n", Power.ON)
    model.validate()


def test_a_program_that_lies_is_not_believed_and_nothing_is_lost(tmp_path: Path) -> None:
    model = machine(tmp_path, LIAR)
    assert operate.remove(model, "high").code is Code.SWITCH_FAILED
    assert [bank.kernel for bank in model.snapshot().banks] == ["online", "online"]
    assert not model.contents.dark
    model.check_contents()


def test_a_program_that_is_missing_leaves_the_power_unknown(tmp_path: Path) -> None:
    model = machine(tmp_path, DDRCTL)
    (tmp_path / "ddrctl").unlink()
    assert model.snapshot().domains[0].power is Power.UNKNOWN
    with pytest.raises(SwitchError, match="can't be run: No such file"):
        model.power("ddr-high")


class Played:
    """A switch that does as it is told."""

    def __init__(self) -> None:
        self.now = Power.ON

    def status(self) -> Power:
        return self.now

    def turn(self, want: Power) -> None:
        self.now = want


class Broken(Played):
    """One that turns nothing, and says so."""

    def turn(self, want: Power) -> None:
        raise SwitchError(f"did not go {want}")


def test_played_memory_follows_a_real_switch() -> None:
    real, memory = Played(), Played()
    both = Beside(real, memory)
    both.turn(Power.OFF)
    assert (both.status(), memory.now) == (Power.OFF, Power.OFF)
    real.turn(Power.ON)  # by somebody else
    assert both.status() is Power.UNKNOWN


def test_played_memory_stays_where_the_real_switch_fails() -> None:
    memory = Played()
    with pytest.raises(SwitchError):
        Beside(Broken(), memory).turn(Power.OFF)
    assert memory.now is Power.ON
