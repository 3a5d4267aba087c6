# SPDX-License-Identifier: Apache-2.0
"""What a host does about a node as a whole: what it reads of processes, whom it leaves alone, how it ends."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank import kernels
from hotbank.host import nodes, vacating
from hotbank.host.nodes import Moving, Vacancy, statuses
from hotbank.host.tree import Tree
from hotbank.host.writer import Waited, Writers
from hotbank.machine import NodeStatus, WallClock
from hotbank.sysfs.node import LIST

MAPS = """aaaaaaaa0000 default file=/usr/bin/python3 mapped=10 N0=7 N1=3 kernelpagesize_kB=4
ffff80000000 bind:1 anon=4 dirty=4 N1=4 kernelpagesize_kB=4
ffff81000000 bind=static:0-1,3 anon=2 dirty=2 N1=2 kernelpagesize_kB=4
ffff82000000 bind:2 anon=9 dirty=9 N2=9 kernelpagesize_kB=4
ffff83000000 prefer (many):1 anon=1 N1=1 kernelpagesize_kB=4
ffff84000000 default
"""
HERE = WallClock()


def test_pages_on_a_node_and_what_binds_them_there() -> None:
    assert vacating.there(io.StringIO(MAPS), 1) == (10, [frozenset({1}), frozenset({0, 1, 3})])
    assert vacating.there(io.StringIO(MAPS), 0) == (7, [])
    assert vacating.there(io.StringIO(MAPS), 3) == (0, [])


@given(st.sets(st.integers(0, 200)))
def test_numbers_are_those_that_the_kernel_prints(them: set[int]) -> None:
    assert vacating.numbers(LIST.show(tuple(sorted(them))).strip()) == them


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], list[tuple[int, int]]]:
    """Writes what /proc says of process 7; the moves that come of it."""
    asked: list[tuple[int, int]] = []
    opened = open

    def moves(maps: str, allowed: str) -> list[tuple[int, int]]:
        (tmp_path / "numa_maps").write_bytes(maps.encode(errors="surrogateescape"))
        cpuset = f"Mems_allowed:\t1\nMems_allowed_list:\t{allowed}\n" if allowed else ""
        status = f"Name:\tx\udcff\n{cpuset}"
        (tmp_path / "status").write_bytes(status.encode(errors="surrogateescape"))
        return asked

    def migrate(call: int, pid: int, node: int, target: int) -> tuple[int, int]:
        asked.append((node, target))
        return (5, 0) if target == 2 else (0, 0)

    monkeypatch.setattr(vacating, "_migrate", migrate)
    monkeypatch.setattr(vacating, "open", lambda path, **how: opened(tmp_path / Path(path).name, **how), raising=False)
    return moves


@pytest.mark.parametrize(
    ("maps", "allowed", "asked", "said"),
    [
        ("0 default anon=3 N1=3", "0-3", [(1, 2), (1, 0)], "7 3 0 0"),
        ("0 bind:0-1 anon=3 N1=3", "0-3", [(1, 0)], "7 3 0 0"),
        ("0 bind:1 anon=3 N1=3", "0-3", [], "7 3 bound 0"),
        ("0 bind:0-1 anon=3 N1=3\n1 bind:1-2 anon=1 N1=1", "0-3", [], "7 4 bound 0"),
        ("0 default anon=3 N1=3", "1", [], "7 3 bound 0"),
        ("0 default anon=3 N1=3", "", [(1, 2), (1, 0)], "7 3 0 0"),
        ("0 default anon=3 N1=3", "1-2", [(1, 2)], "7 3 5 0"),
        ("0 bind:1 anon=3 N0=3", "0-3", [], ""),
        ("0 bind:1 file=/\udcff\rx mapped=3 N1=3", "0-3", [], "7 3 bound 0"),
    ],
)
def test_policies_and_cpusets_are_heeded(
    process: Callable[[str, str], list[tuple[int, int]]],
    maps: str,
    allowed: str,
    asked: list[tuple[int, int]],
    said: str,
) -> None:
    found = process(maps, allowed)
    assert vacating.moved(0, 7, 1, [2, 0]) == said
    assert found == asked


@pytest.mark.parametrize(("free", "asked"), [({0: 5, 2: 9, 3: 7}, [2, 3]), ({0: 9, 2: 0, 3: 1}, [0]), ({}, [2, 3])])
def test_the_node_with_the_most_room_is_asked_first(
    process: Callable[[str, str], list[tuple[int, int]]],
    monkeypatch: pytest.MonkeyPatch,
    free: dict[int, int],
    asked: list[int],
) -> None:
    """The second does not take all of them here; where nobody tells, they are asked as they come."""
    monkeypatch.setattr(vacating, "free", lambda node: free.get(node, 0))
    found = process("0 default anon=3 N1=3", "0-3")
    vacating.moved(0, 7, 1, [2, 3, 0])
    assert found == [(1, target) for target in asked]


def test_free_pages_of_a_node(process: Callable[[str, str], list[tuple[int, int]]], tmp_path: Path) -> None:
    assert process("", "") == []
    assert vacating.free(1) == 0
    (tmp_path / "vmstat").write_text("nr_free_pages_blocks 4\nnr_free_pages 73\nnr_zone_inactive_anon 5\n")
    assert vacating.free(1) == 73


def test_a_process_that_has_ended_is_nobody() -> None:
    assert vacating.moved(0, 1 << 30, 1, [0]) == ""
    assert os.getpid() in set(vacating.processes())


def tree_of(tmp_path: Path, rights: int, *with_file: int) -> Tree:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text(f"Name:\tx\nCapEff:\t{rights:016x}\n")
    for number in with_file:
        folder = tmp_path / f"sys/devices/system/node/node{number}"
        folder.mkdir(parents=True)
        (folder / "reclaim").write_text("")
        (folder / "vmstat").write_text("pgsteal_proactive 100\n")
    return Tree(tmp_path)


@pytest.mark.parametrize(
    ("rights", "arch", "moves"),
    [(1 << 19 | 1 << 23, "arm64", True), (1 << 23, "arm64", False), (0, "arm64", False), ((1 << 41) - 1, "any", False)],
)
def test_what_can_be_done_is_what_rights_and_files_allow(tmp_path: Path, rights: int, arch: str, moves: bool) -> None:
    found = statuses(tree_of(tmp_path, rights, 1), {0, 1}, kernels.arch(arch))
    assert found == (NodeStatus(0, False, moves), NodeStatus(1, True, moves))


def test_where_pages_can_be_moved_processes_can() -> None:
    """Else a machine would be said to lack rights."""
    for arch in kernels.ARCHES.values():
        assert (arch.migrate_pages is None) is (arch.move_pages is None), arch.name


def waiting(what: Waited) -> str | None:
    assert what.wait(HERE, HERE.now() + 60)
    return None


def test_cache_is_asked_for_by_bytes_and_without_swapping(tmp_path: Path) -> None:
    tree, writers = tree_of(tmp_path, 0, 1), Writers()
    vacancy = Vacancy(tree, NodeStatus(1, drops=True), kernels.arch("arm64"), 4096, writers)
    assert vacancy.make(10, waiting).dropped == 0
    assert (tmp_path / "sys/devices/system/node/node1/reclaim").read_text() == "40960 swappiness=0"
    assert vacancy.make(0, waiting).left == ()
    writers.close()


def test_the_program_looks_at_all_processes_and_ends() -> None:
    """On a node that nobody has pages on; the call would be refused (ENOSYS) if it were made."""
    moving = Moving(100_000, 900, [0], ())
    assert moving.wait(HERE, HERE.now() + 60)
    assert (moving.errno, moving.said) == (0, [])


def test_the_program_ends_when_it_is_told_to() -> None:
    moving = Moving(100_000, 900, [0], ())
    moving.cancel()
    assert moving.wait(HERE, HERE.now() + 60)
    assert moving.errno in (0, errno.EINTR)


@pytest.mark.parametrize(("work", "said"), [("", b"\n"), ("os.kill(os.getpid(), 9)", b""), ("1 / 0", b"")])
def test_the_program_has_come_to_its_end_only_if_none_of_its_processes_was_killed(work: str, said: bytes) -> None:
    code = f"""
import os
from hotbank.host import vacating
def work(call, node, targets, todo):
    {work or "pass"}
vacating._work = work
vacating.main(100_000, 900, 3, [0])
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read() == said


def test_that_the_program_was_ended_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ends.py").write_text("raise SystemExit(1)")
    monkeypatch.setattr(vacating, "__file__", str(tmp_path / "ends.py"))
    writers = Writers()
    vacancy = Vacancy(tree_of(tmp_path, 0), NodeStatus(1, moves=True), kernels.arch("arm64"), 4096, writers)
    assert vacancy.make(0, waiting).left == (
        "node 1 was not emptied to the end: the program that moves pages was ended",
    )
    writers.close()


def test_who_was_left_is_named() -> None:
    said = [["1", "5", "bound", "0"], ["2", "5", "-1", "1"], ["3", "5", "0", "0"]]
    bound, refused = nodes._left(said, 4, Tree("/nowhere"))
    assert bound.startswith("bound to node 4 alone")
    assert bound.endswith("a process (1)")
    assert refused.endswith("a process (2)")
