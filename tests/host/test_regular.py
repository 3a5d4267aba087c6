# SPDX-License-Identifier: Apache-2.0
"""Files that others may have put there: each reader meets a FIFO, a device, a folder, a socket and too much."""

from __future__ import annotations

import gzip
import json
import os
import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from hotbank import board as boards
from hotbank.errors import FormatError, HotbankError, MachineError
from hotbank.host.tree import Tree
from hotbank.load import script, trace
from hotbank.model import Model, capture
from hotbank.regular import open_regular, read_regular
from hotbank.remote import Remote
from hotbank.serve import background
from hotbank.serve.background import Record
from hotbank.serve.state import listen, remove_socket

PLACES = ("fifo", "device", "folder", "socket")
READERS: dict[str, Callable[[Path], object]] = {
    "board": boards.load,
    "board's text": boards.read,
    "workload": script.load,
    "trace": trace.load,
    "capture": capture.load,
    "is it a capture": capture.is_capture,
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"{request.param}.toml"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "folder":
        path.mkdir()
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as somebody:
            somebody.bind(str(path))
    return path


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_regular_file_is_refused_at_once(reader: str, place: Path) -> None:
    with pytest.raises((HotbankError, OSError)):
        READERS[reader](place)


def test_a_tree_of_such_files_is_read_as_one_without_them(place: Path) -> None:
    tree = Tree(place.parent)
    assert tree.read(place.name) is None
    assert tree.open(place.name) is None


def test_a_record_that_is_none_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "runtime_folder", lambda: place.parent)
    place.rename(place.parent / "current")
    with pytest.raises(MachineError, match="unreadable"):
        background.current()


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 200_000)
    assert read_regular(tmp_path / "f", 200_000) == b"x" * 200_000
    with pytest.raises(OSError, match="larger than 199999 bytes"):
        read_regular(tmp_path / "f", 199_999)


def test_no_descriptor_is_left_open(place: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(OSError, match=r"."):
            open_regular(place)
    assert len(os.listdir("/proc/self/fd")) == before


def test_only_a_socket_is_removed_where_one_is_served(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    remove_socket(tmp_path / "mine")
    remove_socket(tmp_path / "nowhere")
    with pytest.raises(MachineError, match="mine"):
        listen(tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "x"
    listen(tmp_path / "s").close()
    listen(tmp_path / "s").close()
    remove_socket(tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_planted_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    (tmp_path / f".F.{os.getpid()}").symlink_to(tmp_path / "mine")
    with pytest.raises(FileExistsError):
        capture.save(capture.take(Model.boot(boards.load("arm-2009"))), tmp_path / "F")
    assert (tmp_path / f".F.{os.getpid()}").is_symlink()
    assert (tmp_path / "mine").read_text() == "x"


@pytest.mark.parametrize("packed", [False, True])
def test_a_capture_that_is_a_bomb_takes_no_memory(packed: bool) -> None:
    plain = b"[" + b"[]," * (4 << 20) + b"[]]"
    data = gzip.compress(plain) if packed else plain
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="too many lists"):
            capture.loads(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * len(plain) + (16 << 20)


def test_a_block_below_0_is_refused() -> None:
    document = json.loads(json.dumps(capture._document(capture.take(Model.boot(boards.load("arm-2009"))))))
    document["snapshot"]["blocks"][0]["number"] = -1
    with pytest.raises(FormatError, match="number -1"):
        capture.loads(json.dumps(document).encode())


@pytest.mark.parametrize("socket_path", ["a\0b", "\ud800"])
def test_a_record_of_no_path_is_nobody(socket_path: str) -> None:
    record = Record(socket_path, 1, "m", 0.0)
    with pytest.raises(MachineError):
        Remote.unix(record.socket)
