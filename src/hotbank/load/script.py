# SPDX-License-Identifier: Apache-2.0
"""Workloads from TOML: processes that grow and churn, file scans, forks, pins, kernel memory.

A file has ``name``, ``seconds`` to run, and arrays of tables, each one activity: ``[[growth]]``, ``[[ramp]]``,
``[[churn]]``, ``[[scan]]``, ``[[fork]]``, ``[[pin]]``, ``[[inodes]]``, ``[[driver]]``; docs/model.md has their keys. An
activity is a generator that acts on the model and yields the seconds until its next act; times and amounts vary by a
seeded half, a ramp's not at all.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from hotbank import keys as toml
from hotbank.errors import Code, KernelError
from hotbank.keys import Key, Keys, boolean, moment, seconds, text, whole
from hotbank.memory import parse_size
from hotbank.model.clock import Alarm
from hotbank.model.machine import Model

_AHEAD = 256  # pages that are read at once
_STEP = 0.5  # seconds between two acts of an activity that has a rate
_PAUSE = 1.0  # seconds until an activity that was refused, or killed, begins anew
_FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Context:
    """What an activity acts on. ``name``: its own, unique in the workload."""

    model: Model
    random: random.Random
    name: str

    @contextmanager
    def process(self, comm: str, size: int) -> Iterator[int]:
        """A process of ``size`` bytes, which ends when it is refused something."""
        pid = self.model.spawn(comm, anon_pages=self.exactly(size))
        try:
            yield pid
        except KernelError:
            if pid in self.model.tasks.processes:
                self.model.exit(pid)
            raise

    def pages(self, size: float) -> int:
        """Whole pages of about that many bytes, at least one."""
        return max(1, round(size * self.random.uniform(0.5, 1.5) / self.model.board.page_size))

    def exactly(self, size: int) -> int:
        """Pages that hold so many bytes."""
        return -(-size // self.model.board.page_size)

    def wait(self, time: float = _STEP) -> float:
        """About that many seconds."""
        return time * self.random.uniform(0.5, 1.5)


class Activity(Protocol):
    """One table of a workload."""

    def run(self, context: Context) -> Iterator[float]:
        """Act, and yield the seconds until the next act. Begun anew after a KernelError."""
        ...


@dataclass(frozen=True, slots=True)
class Growth:
    """A process that grows from ``low`` to ``high`` bytes by ``rate`` bytes a second, ends, and starts again."""

    comm: str
    low: int
    high: int
    rate: int

    def run(self, context: Context) -> Iterator[float]:
        top = context.exactly(self.high)
        while True:
            with context.process(self.comm, self.low) as pid:
                while (there := context.model.tasks.process(pid).rss) < top:
                    yield context.wait()
                    context.model.grow(pid, min(top - there, context.pages(self.rate * _STEP)))
                yield context.wait()
                context.model.exit(pid)


@dataclass(frozen=True, slots=True)
class Ramp:
    """A process whose size follows straight lines between ``points``: seconds from its start, bytes. Nothing varies.

    ``again``: from the first point once more after the last; else it stays as large as it is then.
    """

    comm: str
    points: tuple[tuple[float, int], ...]
    again: bool

    def run(self, context: Context) -> Iterator[float]:
        model = context.model
        began = model.clock.now()
        with context.process(self.comm, self.points[0][1]) as pid:
            while self.again or model.clock.now() - began < self.points[-1][0] + _STEP:
                there = model.tasks.process(pid).rss
                more = context.exactly(self._size(model.clock.now() - began)) - there
                if more > 0:
                    model.grow(pid, more)
                else:
                    model.shrink(pid, -more)
                yield _STEP
            yield _FOREVER

    def _size(self, at: float) -> int:
        at = at % self.points[-1][0] if self.again else at
        after = next((n for n, (when, _) in enumerate(self.points) if when > at), None)
        if after is None or not after:
            return self.points[-1 if after is None else 0][1]
        (t0, s0), (t1, s1) = self.points[after - 1], self.points[after]
        return round(s0 + (s1 - s0) * (at - t0) / (t1 - t0))


@dataclass(frozen=True, slots=True)
class Churn:
    """A process of ``size`` bytes that gives ``rate`` bytes a second back, takes as many anew, and writes to others."""

    comm: str
    size: int
    rate: int

    def run(self, context: Context) -> Iterator[float]:
        whole = context.exactly(self.size)
        with context.process(self.comm, self.size) as pid:
            while True:
                yield context.wait()
                pages = min(context.pages(self.rate * _STEP), whole)
                context.model.shrink(pid, pages)
                context.model.grow(pid, pages)
                context.model.write(pid, context.random.randrange(whole))


@dataclass(frozen=True, slots=True)
class Scan:
    """Files of ``size`` bytes read one after the other by ``rate`` bytes a second; ``dirty`` of 100 pages written."""

    size: int
    rate: int
    files: int
    dirty: int

    def run(self, context: Context) -> Iterator[float]:
        at = 0
        while True:
            name = f"{context.name}.{at % self.files}"
            if name in context.model.tasks.files:
                context.model.remove_file(name)
            while (left := context.exactly(self.size) - context.model.tasks.cached(name)) > 0:
                pages = min(left, context.pages(self.rate * _STEP))
                written = pages * self.dirty // 100
                context.model.read_file(name, pages - written)
                context.model.write_file(name, written)
                yield context.wait()
                context.model.write_back(name)
            at += 1
            yield context.wait()


@dataclass(frozen=True, slots=True)
class Reread:
    """A file of ``size`` bytes that is read as a whole ``every`` so often: what is missing of it is read again."""

    size: int
    every: float

    def run(self, context: Context) -> Iterator[float]:
        tasks, whole = context.model.tasks, context.exactly(self.size)
        while True:
            for left in range(whole - tasks.cached(context.name), 0, -_AHEAD):
                context.model.read_file(
                    context.name, min(left, _AHEAD)
                )  # what was read first may be dropped for the rest
            yield context.wait(self.every)


@dataclass(frozen=True, slots=True)
class Fork:
    """A process with ``size`` bytes of its own and ``shared`` ones; ``every`` so often a child is there to ``live``."""

    comm: str
    size: int
    shared: int
    every: float
    live: float

    def run(self, context: Context) -> Iterator[float]:
        model = context.model
        with context.process(self.comm, self.size) as parent:
            model.share(parent, context.exactly(self.shared))
            while True:
                yield context.wait(self.every)
                child = model.fork(parent)
                yield context.wait(self.live)
                if child in model.tasks.processes:  # the OOM killer may have been there first
                    model.exit(child)


@dataclass(frozen=True, slots=True)
class Pin:
    """A process of ``size`` bytes that pins one page in place ``every`` so often for ``hold`` seconds, 0 for good."""

    comm: str
    size: int
    every: float
    hold: float

    def run(self, context: Context) -> Iterator[float]:
        with context.process(self.comm, self.size) as pid:
            while True:
                yield context.wait(self.every)
                vpage = context.random.randrange(context.exactly(self.size))
                context.model.pin(pid, vpage, seconds=context.wait(self.hold) if self.hold else None)
                if not self.hold:
                    yield _FOREVER


@dataclass(frozen=True, slots=True)
class Inodes:
    """``count`` files are created, whose inodes stay."""

    count: int

    def run(self, context: Context) -> Iterator[float]:
        context.model.create_inodes(self.count)
        yield _FOREVER


@dataclass(frozen=True, slots=True)
class Driver:
    """A driver takes ``size`` bytes of kernel memory and gives them back after ``hold`` seconds, again and again."""

    size: int
    hold: float

    def run(self, context: Context) -> Iterator[float]:
        while True:
            context.model.kernel_alloc(context.name, context.exactly(self.size))
            yield context.wait(self.hold)
            context.model.kernel_free(context.name)
            yield context.wait(self.hold)


@dataclass(frozen=True, slots=True)
class Scheduled:
    """An activity and when it is on: seconds from the workload's start, ``until`` not included."""

    name: str
    activity: Activity
    start: float
    until: float


@dataclass(frozen=True, slots=True)
class Script:
    """A workload: its parts, and how long it lasts in seconds."""

    name: str
    seconds: float
    parts: tuple[Scheduled, ...]


class Playback:
    """A script being played on a model; ``refused`` counts acts that there was no memory for."""

    def __init__(self, model: Model, script: Script, seed: int = 0) -> None:
        self._model, self._script, self._seed = model, script, seed
        self._alarms: dict[str, Alarm] = {}
        self.acts = 0
        self.refused = 0

    def start(self) -> Playback:
        """Begin every part when it is due on the model's clock."""
        began = self._model.clock.now()
        for part in self._script.parts:
            context = Context(self._model, random.Random(f"{self._seed}/{part.name}"), part.name)
            self._later(part, part.start, self._opening(part, context, began))
        return self

    def stop(self) -> None:
        """No further acts; what is in use stays."""
        for alarm in self._alarms.values():
            alarm.cancel()
        self._alarms.clear()

    def _opening(self, part: Scheduled, context: Context, began: float) -> Callable[[], None]:
        return lambda: self._act(part, context, part.activity.run(context), began)

    def _act(self, part: Scheduled, context: Context, acts: Iterator[float], began: float) -> None:
        if self._model.clock.now() - began >= part.until:
            return
        self.acts += 1
        try:
            wait = next(acts)
        except KernelError:
            self.refused += 1
            self._later(part, _PAUSE, self._opening(part, context, began))
            return
        if wait != _FOREVER:
            self._later(part, wait, lambda: self._act(part, context, acts, began))

    def _later(self, part: Scheduled, wait: float, call: Callable[[], None]) -> None:
        self._alarms[part.name] = self._model.clock.call_later(wait, call)


# The file


def load(name: str | os.PathLike[str]) -> Script:
    """Read a workload file, or one of those shipped by name. Raises BoardError: the key, its value, what is allowed."""
    path = find(name)
    return loads(toml.read("workload", path), str(path))


def find(name: str | os.PathLike[str]) -> Path:
    """The path of a workload: a file, or the name of one that is shipped. Raises BoardError."""
    return toml.find("workload", name)


def loads(data: str, file: str = "") -> Script:
    """A workload from TOML text. ``file``: where it stands. Raises BoardError, which has all mistakes."""
    return _script(toml.table("workload", data, code=Code.BAD_FORMAT, file=file, schema=_TABLES))


def _script(keys: Keys) -> Script:
    tables = [(kind, number, table) for kind in _ACTIVITIES for number, table in enumerate(keys.arrays(kind))]
    given = keys.read(_TABLES[""])
    parts = [_part(f"{kind}[{number}]", kind, table, given["seconds"]) for kind, number, table in tables]
    keys.check()
    if not parts:
        keys.note("workload", given["name"], "has no [[growth]], [[churn]] or other part")
    keys.check()
    return Script(given["name"], given["seconds"], tuple(parts))


def _part(name: str, kind: str, keys: Keys, length: float) -> Scheduled:
    given = keys.read(_TABLES[kind])
    start, until = given.pop("start"), given.pop("until")
    if until is not None and until <= start:
        keys.note("until", until, f"must be after start = {start:g}")
    if kind == "growth" and None not in given.values() and given["to"] < given["from"]:
        keys.note("to", given["to"], f"must not be below from = {given['from']}")
    return Scheduled(name, _ACTIVITIES[kind](*given.values()), start, length if until is None else until)


def _size(value: object) -> int:
    size = parse_size(value)  # type: ignore[arg-type]  # refuses other types itself
    if not size:
        raise ValueError("must be more than 0")
    return size


def _count(value: object) -> int:
    count = whole(value)
    if not count:
        raise ValueError("must be 1 or more")
    return count


def _percent(value: object) -> int:
    if whole(value) > 100:
        raise ValueError("must be a percentage from 0 to 100")
    return whole(value)


def _points(value: object) -> tuple[tuple[float, int], ...]:
    """Pairs of seconds, from 0 on and rising, and sizes."""
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise ValueError('must be pairs such as [0, "64M"]')
    points = tuple((moment(when), _size(size)) for when, size in value)
    if len(points) < 2 or points[0][0] != 0 or any(later <= at for (at, _), (later, _) in pairwise(points)):
        raise ValueError("must be two pairs or more, from 0 seconds on, each later than the one before")
    return points


_ACTIVITIES: Mapping[str, Callable[..., Activity]] = {
    "growth": Growth,
    "ramp": Ramp,
    "churn": Churn,
    "scan": Scan,
    "reread": Reread,
    "fork": Fork,
    "pin": Pin,
    "inodes": Inodes,
    "driver": Driver,
}
_COMM, _SIZED, _RATE = Key("comm", text, needed=True), Key("size", _size, needed=True), Key("rate", _size, needed=True)
_EVERY, _HOLD = Key("every", seconds, needed=True), Key("hold", seconds, needed=True)
_OWN: Mapping[str, tuple[Key, ...]] = {  # in the order of the activity's arguments
    "growth": (_COMM, Key("from", _size, 1), Key("to", _size, needed=True), _RATE),
    "ramp": (_COMM, Key("points", _points, needed=True), Key("again", boolean, False)),
    "churn": (_COMM, _SIZED, _RATE),
    "scan": (_SIZED, _RATE, Key("files", _count, 1), Key("dirty", _percent, 0)),
    "reread": (_SIZED, _EVERY),
    "fork": (_COMM, _SIZED, Key("shared", parse_size, 0), _EVERY, Key("live", seconds, needed=True)),
    "pin": (_COMM, _SIZED, _EVERY, Key("hold", moment, 0.0)),
    "inodes": (Key("count", _count, needed=True),),
    "driver": (_SIZED, _HOLD),
}
_TABLES: Mapping[str, tuple[Key, ...]] = {
    "": (Key("name", text, needed=True), Key("seconds", seconds, needed=True)),
    **{kind: (*own, Key("start", moment, 0.0), Key("until", moment)) for kind, own in _OWN.items()},
}
"""Every key of a workload file, by the kind of its table; ``""``: above all tables."""
