# SPDX-License-Identifier: Apache-2.0
"""Runs in groups over any executor of ``concurrent.futures``, whose workers may die.

A group is as many runs as take about a second, so that handing it over costs next to nothing. A worker that dies takes
its group along, which is handed over anew to an executor made anew; a run under way at several such deaths is suspected
of causing them, and named.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from math import ceil
from typing import Any, Protocol

from hotbank import __version__
from hotbank.errors import Code, HotbankError, MachineError, Refusal
from hotbank.sweep.run import Answer, Contents, Run, work

GROUP = 1.0  # seconds of work that a group should be
_AHEAD = 2  # groups handed over for each worker, so that none waits for the next
_DEATHS = 3  # at which a run may have been under way
_FEW = 3  # runs that an error names
Keep = Callable[[Answer], None]


class Crew(Protocol):
    """Who carries runs out. ``workers``: how many at a time."""

    workers: int

    def begin(self) -> Executor:
        """An executor; after one broke, another. Raises HotbankError."""

    def told(self, error: Exception, runs: Sequence[Run]) -> HotbankError | None:
        """What an error means that came instead of the answer to these runs; None where it says so itself."""

    def end(self) -> None:
        """Whatever is under way is given up."""


class Alone:
    """This process, one run after the other."""

    workers = 1

    def begin(self) -> Executor:
        """See Crew."""
        return _Here()

    def told(self, error: Exception, runs: Sequence[Run]) -> HotbankError | None:
        """See Crew."""

    def end(self) -> None:
        """See Crew."""


class _Here(Executor):
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as e:
            future.set_exception(e)
        return future


class Processes:
    """So many processes of this host, which die with this one."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._others = set(multiprocessing.active_children())
        self._pool: ProcessPoolExecutor | None = None

    def begin(self) -> Executor:
        """See Crew."""
        self.end()
        self._pool = ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"), _begin)
        return self._pool

    def told(self, error: Exception, runs: Sequence[Run]) -> HotbankError | None:
        """See Crew."""

    def end(self) -> None:
        """See Crew."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            children = set(multiprocessing.active_children()) - self._others
            for child in children:
                child.kill()
            for child in children:  # a Ctrl-C here leaves none: one alone would wait for the lock that another had
                child.join()
            self._pool = None


def _begin() -> None:
    """A worker: Ctrl-C is for who asked, and without it nobody wants the answer."""
    from hotbank.serve.children import die_with_parent

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()


def carry_out(runs: Sequence[Run], contents: Contents, crew: Crew, keep: Keep) -> None:
    """All runs, in any order; ``keep`` has each answer as it comes, also of what had ended when this is interrupted.

    Raises Refusal for a run whose workers die, MachineError for workers that are gone or of another version.
    """
    course = _Course(runs, contents, crew, keep)
    try:
        course.run()
    finally:
        course.collect()
        crew.end()


class _Course:
    def __init__(self, runs: Sequence[Run], contents: Contents, crew: Crew, keep: Keep) -> None:
        self._waiting, self._contents, self._crew, self._keep = deque(runs), contents, crew, keep
        self._flying: dict[Future[Answer], tuple[Run, ...]] = {}
        self._deaths: Counter[str] = Counter()
        self._done, self._seconds = 0, 0.0

    def run(self) -> None:
        while self._waiting or self._flying:
            executor = self._crew.begin()
            with suppress(BrokenExecutor):
                self._through(executor)
            self._mourn()

    def collect(self) -> None:
        """What has ended well and was not kept yet."""
        for future in [future for future in self._flying if future.done() and not future.cancelled()]:
            if future.exception() is None:
                del self._flying[future]
                self._keep(future.result())

    def _through(self, executor: Executor) -> None:
        while self._waiting or self._flying:
            while self._waiting and len(self._flying) < _AHEAD * self._crew.workers:
                self._hand_over(executor)
            for future in wait(self._flying, return_when=FIRST_COMPLETED).done:
                self._take(future)

    def _hand_over(self, executor: Executor) -> None:
        group = tuple(self._waiting.popleft() for _ in range(min(self._size(), len(self._waiting))))
        needed = {file.digest for run in group for file in run.subject.files}
        try:
            future = executor.submit(work, group, {digest: self._contents[digest] for digest in needed})
        except BrokenExecutor:
            self._waiting.extendleft(reversed(group))
            raise
        self._flying[future] = group

    def _size(self) -> int:
        """Runs in a group, by what they took so far; one as long as nobody knows, or any may be deadly."""
        if not self._seconds or self._deaths:
            return 1
        return max(1, ceil(GROUP * self._done / self._seconds))

    def _take(self, future: Future[Answer]) -> None:
        group = self._flying[future]
        try:
            answer = future.result()
        except BrokenExecutor:
            raise
        except Exception as e:
            raise self._crew.told(e, group) or e from e
        del self._flying[future]
        if answer.version != __version__:
            what = f"a worker has hotbank {answer.version}, this is {__version__}"
            raise MachineError(what, code=Code.UNSUPPORTED, remedy="install the same version on all workers")
        self._done, self._seconds = self._done + len(group), self._seconds + answer.seconds
        self._keep(answer)

    def _mourn(self) -> None:
        """Hand over again what was under way. Raises Refusal for what was so too often."""
        self.collect()
        lost = [run for group in self._flying.values() for run in group]
        self._flying.clear()
        self._waiting.extendleft(reversed(lost))
        self._deaths.update(run.name for run in lost)
        if suspects := [run for run in lost if self._deaths[run.name] >= _DEATHS]:
            raise deadly(suspects)


def deadly(runs: Sequence[Run]) -> HotbankError:
    """The error of runs whose workers die."""
    names = ", ".join(f"{run.name} ({run.choice.name} on {run.subject.label['subject']})" for run in runs[:_FEW])
    what = f"workers died again and again under {names}"
    return Refusal(Code.SYSTEM_ERROR, what, remedy="look for a lack of memory there (dmesg); what is done is kept")
