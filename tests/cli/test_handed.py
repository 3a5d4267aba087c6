# SPDX-License-Identifier: Apache-2.0
"""Files that somebody names: what is waited for, and said of it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from hotbank.cli import handed

DATA = bytes(range(256)) * 1000  # more than a pipe holds


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(handed, "_SOON", 0.05)
    os.mkfifo(tmp_path / "pipe")
    return str(tmp_path / "pipe")


def test_a_pipe_is_waited_for_and_not_in_silence(pipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []

    def write_when_it_is_said() -> None:
        until = time.monotonic() + 60
        while "waiting" not in "".join(said) and time.monotonic() < until:
            said.append(capsys.readouterr().err)
            time.sleep(0.01)
        Path(pipe).write_bytes(DATA)

    writer = threading.Thread(target=write_when_it_is_said, daemon=True)
    writer.start()
    assert handed.contents(pipe) == DATA
    writer.join()
    assert "".join(said) == f"{pipe}: nobody has written into this pipe yet; waiting for that\n"


def test_who_writes_at_once_is_read_in_silence(
    pipe: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handed, "_SOON", 60.0)
    writer = threading.Thread(target=Path(pipe).write_bytes, args=(DATA,), daemon=True)
    writer.start()
    assert handed.contents(pipe) == DATA
    assert capsys.readouterr().err == ""
    writer.join()


def test_the_other_end_of_a_pipe_of_ours_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    """As a shell's ``<(command)`` is, also of a command that has ended by then."""
    ours, theirs = os.pipe()
    os.write(theirs, b"abc")
    os.close(theirs)
    assert handed.contents(f"/dev/fd/{ours}") == b"abc"
    assert handed.contents(f"/dev/fd/{ours}") == b""
    os.close(ours)
    assert capsys.readouterr().err == ""
