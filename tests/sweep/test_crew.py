# SPDX-License-Identifier: Apache-2.0
"""However a sweep is carried out it comes to the same bytes: alone, by processes, by a Dask cluster, with workers that
are killed, cut off and gone on with."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from hotbank.errors import Code, MachineError, Refusal
from hotbank.sweep import run as runs_of
from hotbank.sweep.cluster import Cluster
from hotbank.sweep.crew import Alone, Crew, Processes, carry_out
from hotbank.sweep.grid import load
from hotbank.sweep.run import Answer, Run
from hotbank.sweep.store import Store
from sweeping import begun, odd_runs, write_sweep

pytestmark = pytest.mark.long
ROWS = ("runs.csv", "runs.jsonl")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a Dask cluster of two workers of a thread each, whose nannies replace those that die."""
    import distributed

    cluster_of: Any = distributed.LocalCluster
    with cluster_of(2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster:
        yield str(cluster.scheduler_address)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def alone(sweep: Path) -> Path:
    return carried(sweep, sweep.parent / "alone", Alone())


def carried(sweep: Path, folder: Path, crew: Crew, most: int | None = None) -> Path:
    """Carry out what is missing, ``most`` runs of it at the most."""
    its = load(sweep)
    with Store(folder) as store:
        missing = [run for run in its.runs if run.name not in store.rows][:most]
        carry_out(missing, its.contents, crew, lambda answer: store.keep(answer.rows))
        store.write(run.name for run in its.runs)
    return folder


def same(left: Path, right: Path) -> bool:
    return all((left / name).read_bytes() == (right / name).read_bytes() for name in ROWS)


def test_two_hundred_runs_come_to_a_row_each(sweep: Path, alone: Path) -> None:
    kept = (alone / "kept.jsonl").read_text().splitlines()
    assert len(kept) == len(set(kept)) == len((alone / "runs.csv").read_text().splitlines()) - 1 == 200


@pytest.mark.parametrize("crew", [lambda _: Processes(4), Cluster], ids=["processes", "dask"])
def test_by_many_as_by_one(crew: Callable[[str], Crew], sweep: Path, alone: Path, scheduler: str) -> None:
    by_many = carried(sweep, sweep.parent / f"by{crew}", crew(scheduler))
    assert same(alone, by_many)
    assert len((by_many / "kept.jsonl").read_text().splitlines()) == 200


def test_what_was_cut_off_goes_on(sweep: Path, alone: Path, tmp_path: Path) -> None:
    carried(sweep, tmp_path, Alone(), most=70)
    with (tmp_path / "kept.jsonl").open("a") as kept:
        kept.write('{"schema":1,"run":"cut')
    carried(sweep, tmp_path, Alone())
    assert same(alone, tmp_path)
    assert len((tmp_path / "kept.jsonl").read_text().splitlines()) == 200


def results(runs: list[Run], crew: Crew) -> list[Answer]:
    answers: list[Answer] = []
    carry_out(runs, {}, crew, answers.append)
    return answers


@pytest.mark.parametrize("crew", [lambda _: Processes(2), Cluster], ids=["processes", "dask"])
def test_a_worker_that_is_killed_in_a_task_costs_nothing(
    crew: Callable[[str], Crew], scheduler: str, tmp_path: Path
) -> None:
    """Each row once; only what was under way is begun twice."""
    runs = odd_runs(tmp_path, 30, n3=1, n17=1)
    answers = results(runs, crew(scheduler))
    rows = [row["run"] for answer in answers for row in answer.rows]
    assert sorted(rows) == sorted(run.name for run in runs)
    times = Counter(begun(str(tmp_path / "log")))
    assert times[3] >= 2 <= times[17]
    assert sum(count > 1 for count in times.values()) < len(runs)


@pytest.mark.parametrize("crew", [lambda _: Processes(2), Cluster], ids=["processes", "dask"])
def test_a_run_that_kills_whoever_does_it_is_named(crew: Callable[[str], Crew], scheduler: str, tmp_path: Path) -> None:
    runs = odd_runs(tmp_path, 3, n1=99)
    with pytest.raises(Refusal, match=runs[1].name) as caught:
        results(runs, crew(scheduler))
    assert caught.value.code is Code.SYSTEM_ERROR


def test_a_worker_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runs_of, "__version__", "0.0.1")
    with pytest.raises(MachineError, match=r"a worker has hotbank 0\.0\.1"):
        results(odd_runs(tmp_path, 1), Alone())


def test_no_scheduler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotbank.sweep.cluster.PATIENCE", 0.2)
    with pytest.raises(MachineError, match="no Dask scheduler answers at tcp://127"):
        Cluster("tcp://127.0.0.1:9")


def test_a_scheduler_that_goes_leaves_what_is_done(tmp_path: Path) -> None:
    """In a process of its own, which is killed after the first answer."""
    code = "from distributed import LocalCluster as C; import sys\n"
    code += "if __name__ == '__main__':\n"
    code += (
        " c = C(1, threads_per_worker=1, processes=False, protocol='tcp', dashboard_address=None, host='127.0.0.1')\n"
    )
    code += " print(c.scheduler_address, flush=True); sys.stdin.read()"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    words, pipe = [sys.executable, "-c", code], subprocess.PIPE
    there = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=env)
    assert there.stdout is not None
    with there:
        answers: list[Answer] = []

        def keep(answer: Answer) -> None:
            answers.append(answer)
            there.kill()

        with pytest.raises(MachineError, match=r"scheduler at .* is gone") as caught:
            carry_out(odd_runs(tmp_path, 50), {}, Cluster(there.stdout.readline().strip()), keep)
    assert "is kept" in caught.value.remedy
    assert 1 <= len(answers) < 50


def test_a_command_that_is_interrupted_goes_on(sweep: Path, alone: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "hotbank", "sweep", str(sweep), "-o", str(tmp_path), "--jobs", "2"]
    first = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while first.poll() is None and not (tmp_path / "kept.jsonl").exists():
        time.sleep(0.001)
    while first.poll() is None and not (tmp_path / "kept.jsonl").stat().st_size:
        time.sleep(0.001)
    first.send_signal(signal.SIGINT)
    _, told = first.communicate()
    assert first.returncode == 130
    assert "the same command goes on" in told
    kept = len((tmp_path / "kept.jsonl").read_text().splitlines())
    assert kept == len((tmp_path / "runs.csv").read_text().splitlines()) - 1
    again = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "200 of 200 runs there" in again.stdout
    assert same(alone, tmp_path)
    assert kept < len((tmp_path / "kept.jsonl").read_text().splitlines()) == 200


def test_a_ctrl_c_while_workers_are_ended_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    crew, others, kill = Processes(2), set(multiprocessing.active_children()), BaseProcess.kill
    pool, killed = crew.begin(), set[BaseProcess]()

    def noted(worker: BaseProcess) -> None:
        killed.add(worker)
        kill(worker)

    wait([pool.submit(os.getpid), pool.submit(os.getpid)])
    workers = set(multiprocessing.active_children()) - others
    monkeypatch.setattr(BaseProcess, "join", _interrupted)
    monkeypatch.setattr(BaseProcess, "kill", noted)
    with pytest.raises(KeyboardInterrupt):
        crew.end()
    assert killed == workers
    assert len(workers) == 2


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_workers_die_with_who_started_them(tmp_path: Path) -> None:
    code = "import sys, time\nfrom concurrent.futures import wait\nfrom hotbank.sweep.crew import Processes\n"
    code += "if __name__ == '__main__':\n pool = Processes(1).begin()\n import os\n"
    code += " print(pool.submit(os.getpid).result(), flush=True); time.sleep(600)"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent:
        worker = parent.stdout.readline().strip()
        parent.kill()
    deadline = time.monotonic() + 60
    while Path("/proc", worker).exists() and time.monotonic() < deadline:
        os.sched_yield()
        time.sleep(0.01)
    assert not Path("/proc", worker).exists()
