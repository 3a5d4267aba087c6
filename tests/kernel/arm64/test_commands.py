# SPDX-License-Identifier: Apache-2.0
"""A board's own switch commands, run here while a real kernel uses the memory: the content follows what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotbank.boards_qemu import Wanted
from hotbank.errors import Code
from hotbank.memory import KernelState, Power
from kernel.kernel_kit import add, complaints, guest, lean, remove

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.slow,
]  # the switch itself is tried on models: tests/model/test_real_switches.py

REPO = Path(__file__).parents[3]
DDRCTL = '#!/bin/sh\nif [ $# = 0 ]; then cat "{state}"; else echo "$1" > "{state}"; fi\n'
LIAR = '#!/bin/sh\nif [ $# = 0 ]; then echo on; else echo "$1" > "{state}"; fi\n'


def board_with(script: Path, folder: Path) -> str:
    """The kmem board whose domain this program switches."""
    words = "".join(f'{word} = ["{script}", "{word}"]\n' for word in ("on", "off"))
    text = (REPO / "boards/virt-arm64-kmem.toml").read_text()
    file = folder / "mine.toml"
    file.write_text(text.replace('switch = "machine"\n', f'switch = "command"\nstatus = ["{script}"]\n{words}'))
    return str(file)


def test_content_goes_and_comes_with_the_word_of_a_program(tmp_path: Path) -> None:
    state, script = tmp_path / "state", tmp_path / "ddrctl"
    state.write_text("on\n")
    script.write_text(DDRCTL.format(state=state))
    script.chmod(0o700)
    with guest(lean(Wanted(board_with(script, tmp_path), run_commands=True))) as machine:
        assert add(machine).code is Code.OK
        assert machine.power("ddr-high") is Power.ON
        assert remove(machine).code is Code.OK
        assert (state.read_text(), machine.files["high"].resident) == ("off\n", 0)
        assert machine.power("ddr-high") is Power.OFF
        assert add(machine).code is Code.OK
        assert (state.read_text(), machine.power("ddr-high")) == ("on\n", Power.ON)
        script.write_text(LIAR.format(state=state))
        assert remove(machine).code is Code.SWITCH_FAILED
        assert machine.files["high"].resident
        high = machine.snapshot().bank("high")
        assert high is not None
        assert high.kernel is KernelState.ONLINE
        assert complaints(machine) == []
