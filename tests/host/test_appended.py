# SPDX-License-Identifier: Apache-2.0
"""Files that only grow: cut lines go, whatever else is in a file stays, and a full disk leaves no part of a line."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank.appended import Appended, as_line
from hotbank.errors import Code, FormatError, Refusal

MOST = 1 << 20
LINES = [{"at": n, "of": "x" * n} for n in range(4)]


def taken(path: Path, most: int = MOST) -> list[Any]:
    found: list[Any] = []
    with Appended(path, "list", "at", most, found.append):
        return found


@given(st.integers(0, 200))
def test_a_line_that_was_cut_is_dropped_and_the_next_is_whole(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    path = tmp_path_factory.mktemp("a") / "a"
    data = b"".join(map(as_line, LINES))[:length]
    path.write_bytes(data)
    with Appended(path, "list", "at", MOST, lambda _: None) as file:
        file.append(as_line({"at": 9}))
    assert taken(path) == [*LINES[: data.count(b"\n")], {"at": 9}]


@pytest.mark.parametrize("content", ["my notes, without a line end", '{"schema":1}', '{"at":1}\nnotes', "[]\n", "\n"])
def test_what_somebody_else_wrote_stays(tmp_path: Path, content: str) -> None:
    (tmp_path / "a").write_text(content)
    with pytest.raises(FormatError, match="no row of a list"):
        Appended(tmp_path / "a", "list", "at", MOST, lambda row: row["at"])
    assert (tmp_path / "a").read_text() == content


def test_a_file_that_is_too_large_is_refused_and_stays(tmp_path: Path) -> None:
    data = b"".join(map(as_line, LINES))
    (tmp_path / "a").write_bytes(data)
    assert taken(tmp_path / "a", len(data)) == LINES
    with pytest.raises(OSError, match="is larger than") as told:
        taken(tmp_path / "a", len(data) - 1)
    assert (told.value.errno, (tmp_path / "a").read_bytes()) == (errno.EFBIG, data)


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room, write = [11], os.write

    def short(file: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = write(file, data[: room[0]])
        room[0] -= done
        return done

    monkeypatch.setattr(os, "write", short)
    with Appended(tmp_path / "a", "list", "at", MOST, lambda _: None) as file:
        file.append(as_line({"at": 1}))
        with pytest.raises(OSError, match="No space"):
            file.append(as_line({"at": 2}))
        room[0] = MOST
        file.append(as_line({"at": 3}))
    assert [json.loads(line)["at"] for line in (tmp_path / "a").read_text().splitlines()] == [1, 3]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Appended(tmp_path / "a", "list", "at", MOST, lambda _: None):
        with pytest.raises(Refusal, match="another process is at work") as told:
            taken(tmp_path / "a")
        assert told.value.code is Code.BUSY_TRANSACTION
    assert taken(tmp_path / "a") == []
