# SPDX-License-Identifier: Apache-2.0
"""A recorded trace is one that ``simulate`` reads, and is whole whatever ends the recording."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from click.testing import CliRunner

from host.captured_trees import write
from hotbank.cli import cli
from hotbank.cli import trace as recording
from hotbank.errors import MachineError, Refusal
from hotbank.host.tree import Tree
from hotbank.load import trace as traces
from hotbank.load.imports import FORMS
from hotbank.testing import ManualClock

MEMINFO = "MemTotal: 1000 kB\nAnonPages: 100 kB\nCached: 300 kB\nShmem: 50 kB\nBuffers: 7 kB\nDirty: 3 kB\n"


def test_what_is_recorded_is_read(tmp_path: Path) -> None:
    tree, file = Tree(write(tmp_path, {"proc/meminfo": MEMINFO})), io.StringIO()
    assert recording.write(file, tree, ManualClock(), 10, 35) == 4
    read = traces.loads(file.getvalue())
    assert (read.total, read.seconds) == (1000 << 10, 30)
    first = read.samples[0]
    assert (first.anon, first.shmem, first.cache, first.dirty) == (100 << 10, 50 << 10, 257 << 10, 3 << 10)


class Interrupted(ManualClock):
    """Ctrl-C in the third pause."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.time >= 20:
            raise KeyboardInterrupt


def test_ctrl_c_ends_it_with_what_there_is(tmp_path: Path) -> None:
    tree, file = Tree(write(tmp_path, {"proc/meminfo": MEMINFO})), io.StringIO()
    assert recording.write(file, tree, Interrupted(), 10, None) == 2
    assert len(traces.loads(file.getvalue()).samples) == 2


class Stopped(ManualClock):
    """Ctrl-Z in the third pause, and fg later."""

    def __init__(self, away: float) -> None:
        super().__init__()
        self.away, self.pauses = away, 0

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.pauses += 1
        self.time += self.away if self.pauses == 3 else 0


@pytest.mark.parametrize("away", [3, 9.75, 10, 60, 65.5])
def test_what_passes_while_it_is_stopped_is_left_out(away: float, tmp_path: Path) -> None:
    tree, file = Tree(write(tmp_path, {"proc/meminfo": MEMINFO})), io.StringIO()
    recording.write(file, tree, Stopped(away), 10, 150)
    times = [float(line.split(",")[0]) for line in file.getvalue().splitlines()[1:]]
    assert times == [0, 10, 20 + away, *(at for at in range(30, 151, 10) if at > 20 + away)]
    traces.loads(file.getvalue(), allow_gaps=True)


def test_a_tool_that_nobody_knows_is_answered_with_those_that_are(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["trace", "import", "--from", "sor", "x", "-o", str(tmp_path / "y")])
    assert done.exit_code == 2
    assert all(tool in done.output for tool in FORMS)


def test_no_meminfo(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="meminfo"):
        recording.write(io.StringIO(), Tree(tmp_path), ManualClock(), 10, None)


def test_another_machine_and_a_wrong_duration(tmp_path: Path) -> None:
    file = str(tmp_path / "day.csv")
    done = CliRunner().invoke(cli, ["-m", "model:arm-2009", "trace", "record", "-o", file], standalone_mode=False)
    assert isinstance(done.exception, Refusal)
    for wrong in ("0", "-1", "1w", "x"):
        assert CliRunner().invoke(cli, ["trace", "record", "-o", file, "--every", wrong]).exit_code == 2
