# SPDX-License-Identifier: Apache-2.0
"""A mixed workload: processes that grow, write, shrink and exit, files read and written, slab, short pins.

Steps are drawn from a seeded generator, so a run can be had again. On simulated time the steps are made while others
sleep: also between two migration passes of an offline.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from hotbank.errors import KernelError
from hotbank.model.clock import Alarm
from hotbank.model.machine import Model

_NAMES = ("httpd", "dbus", "camera", "player", "browser", "logger", "indexer", "sync")


class Workload:
    """Keeps a model busy with about ``pages`` pages in use. A refusal by the model (no memory) is part of life."""

    def __init__(self, model: Model, seed: int = 0, *, pages: int = 4000) -> None:
        self._model, self._random, self._pages = model, random.Random(seed), pages
        self._pids: list[int] = []
        self._files: list[str] = []
        self._made = 0
        self._alarm: Alarm | None = None
        self._turn = threading.Lock()  # on wall time steps are made by timer threads
        self.steps = 0

    def start(self, period: float = 0.1) -> Workload:
        """Make a step every ``period`` seconds of the model's clock, until ``stop``."""
        self.stop()
        with self._turn:
            self._alarm = self._model.clock.call_later(period, lambda: self._tick(period))
        return self

    def stop(self) -> None:
        """Make no further steps of its own accord; a step that another thread is making is waited for."""
        with self._turn:
            if self._alarm is not None:
                self._alarm.cancel()
                self._alarm = None

    def fill(self) -> Workload:
        """Make steps until the pages aimed at are in use, or nothing more fits."""
        for _ in range(1000):
            if self._in_use() >= self._pages * 3 // 4:
                break
            self._attempt(self._spawn if len(self._pids) < len(_NAMES) else self._grow)
            self._attempt(self._read)
        return self

    def step(self) -> None:
        """One random act."""
        self.steps += 1
        self._pids = [pid for pid in self._pids if pid in self._model.tasks.processes]
        acts = [self._grow, self._shrink, self._write, self._read, self._dirty, self._write_back, self._slab, self._pin]
        act = self._random.choice([*acts, self._spawn if len(self._pids) < len(_NAMES) else self._exit])
        self._attempt(act)

    def _tick(self, period: float) -> None:
        with self._turn:
            if self._alarm is None:
                return
            self.step()
            self._alarm = self._model.clock.call_later(period, lambda: self._tick(period))

    def _attempt(self, act: Callable[[], None]) -> None:
        try:
            act()
        except KernelError:
            self._pids = [pid for pid in self._pids if pid in self._model.tasks.processes]

    def _in_use(self) -> int:
        tasks = self._model.tasks
        anonymous = sum(tasks.processes[pid].rss for pid in self._pids if pid in tasks.processes)
        return anonymous + sum(len(tasks.files[name].pages) for name in self._files if name in tasks.files)

    def _amount(self) -> int:
        return self._random.randint(1, max(1, self._pages // 16))

    def _spawn(self) -> None:
        name = self._random.choice(_NAMES)
        self._pids.append(self._model.spawn(name, anon_pages=self._amount()))

    def _grow(self) -> None:
        if not self._pids or self._in_use() > self._pages:
            self._shrink()
        elif self._pids:
            self._model.grow(self._random.choice(self._pids), self._amount())

    def _shrink(self) -> None:
        if self._pids:
            self._model.shrink(self._random.choice(self._pids), self._amount())

    def _write(self) -> None:
        pid = self._random.choice(self._pids) if self._pids else None
        rss = self._model.tasks.process(pid).rss if pid is not None else 0
        if pid is not None and rss:
            first = self._random.randrange(rss)
            self._model.write(pid, first, min(rss - first, 32))

    def _exit(self) -> None:
        self._model.exit(self._pids.pop(self._random.randrange(len(self._pids))))

    def _read(self) -> None:
        self._trim_files()
        self._model.read_file(self._file(), self._amount() // 2 + 1)

    def _dirty(self) -> None:
        self._trim_files()
        self._model.write_file(self._file(), self._amount() // 4 + 1)

    def _write_back(self) -> None:
        if self._files:
            self._model.write_back(self._random.choice(self._files))

    def _trim_files(self) -> None:
        if self._files and (len(self._files) > 8 or self._in_use() > self._pages):
            self._model.remove_file(self._files.pop(0))

    def _file(self) -> str:
        if not self._files or self._random.random() < 0.3:
            self._made += 1
            self._files.append(f"file{self._made}")
            self._model.read_file(self._files[-1], 1)
        return self._random.choice(self._files)

    def _slab(self) -> None:
        if self._random.random() < 0.5:
            self._model.kernel_alloc("a driver", self._random.randint(1, 16))
        else:
            self._model.kernel_free("a driver", self._random.randint(1, 16))

    def _pin(self) -> None:
        pid = self._random.choice(self._pids) if self._pids else None
        rss = self._model.tasks.process(pid).rss if pid is not None else 0
        if pid is not None and rss:
            self._model.pin(pid, self._random.randrange(rss), seconds=self._random.uniform(0.001, 0.02))
