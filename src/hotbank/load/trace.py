# SPDX-License-Identifier: Apache-2.0
"""Demand series: what a real machine's memory held every few seconds, played on a model page by page.

A trace is a CSV (``.gz`` or not) with a header: ``t_s`` in seconds and /proc/meminfo in KiB under the names of PCP's
``mem.util`` metrics. Needed: ``anonpages``, ``cached``, and ``physmem`` or ``used`` and ``free``; used where there:
``bufmem shmem slabReclaimable slabUnreclaimable kernelStack pageTables dirty``, and ``free`` or ``used`` beside
``physmem``. Other columns are not looked at. What is in use and in none of the columns, such as a pool of huge pages,
is memory that does not move. What ``hotbank auto run --record`` wrote is a trace, too (looks.py).
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from hotbank import packed
from hotbank.errors import FormatError, KernelError, in_file
from hotbank.keys import shipped
from hotbank.load import looks
from hotbank.load.looks import Look
from hotbank.memory import KIB, Kind
from hotbank.model.alloc import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_RECLAIMABLE, Gfp
from hotbank.model.clock import Alarm
from hotbank.model.lru import Handle
from hotbank.model.machine import Model
from hotbank.numbers import decimal
from hotbank.regular import read_regular
from hotbank.room import KERNEL_ZONES

FORM = "trace"
GAP = 3.0  # an interval this many times as long as the usual one has samples missing
_LARGEST = 256 << 20  # bytes of CSV
_NEEDED = ("t_s", "anonpages", "cached")
_CLEAN, _DIRTY = "trace cache", "trace dirty"
_KERNELS_OWN = ("slabReclaimable", "slabUnreclaimable", "kernelStack", "pageTables")
_MORE = ("bufmem", "shmem", *_KERNELS_OWN, "dirty")
_UNNAMED, _PINNED = "trace unnamed", "trace pinned"


@dataclass(frozen=True, slots=True)
class Sample:
    """What was in use, in bytes. ``seconds`` since the first sample. ``cache``: page cache and buffers, ``dirty`` of
    which were not written back. ``unnamed``: in use, and in no column."""

    seconds: float
    anon: int
    shmem: int
    cache: int
    dirty: int
    slab: int
    slab_reclaimable: int
    stacks: int
    tables: int
    unnamed: int = 0

    @property
    def used(self) -> int:
        """What could not be dropped: everything but clean page cache."""
        kernel = self.slab + self.slab_reclaimable + self.stacks + self.tables
        return self.anon + self.shmem + self.dirty + kernel + self.unnamed


@dataclass(frozen=True, slots=True)
class Trace:
    """A machine of ``total`` bytes over time; at least two samples, in order."""

    name: str
    total: int
    samples: tuple[Sample, ...]

    @property
    def seconds(self) -> float:
        """From the first sample to the last."""
        return self.samples[-1].seconds


def find(name: str | os.PathLike[str]) -> Path:
    """The path of a trace: a file, or one of those that are shipped by the beginning of its name (``vm01``)."""
    path = Path(name)
    if path.exists() or path.name != os.fspath(name):
        return path
    there = sorted(file for home in shipped("traces") for file in home.iterdir())
    return next((file for file in there if file.name.startswith(f"{name}_")), path)


def load(path: str | os.PathLike[str], *, allow_gaps: bool = False) -> Trace:
    """Read a trace file, or a shipped one by name. ``allow_gaps``: hold the demand over missing samples.

    Raises FormatError, OSError.
    """
    path = find(path)
    with in_file(path):
        return decode(read_regular(path, _LARGEST), name=Path(path).name.partition(".")[0], allow_gaps=allow_gaps)


def decode(data: bytes, *, name: str = "trace", allow_gaps: bool = False) -> Trace:
    """A trace from the bytes of its file. Raises FormatError."""
    if packed.is_packed(data):
        data = packed.unpacked(data, _LARGEST, FORM)
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as e:
        raise FormatError(FORM, e.start, "text", "not ASCII") from e
    return loads(text, name=name, allow_gaps=allow_gaps)


def loads(text: str, *, name: str = "trace", allow_gaps: bool = False) -> Trace:
    """A trace from its text. Raises FormatError with the line: gaps, text or negative values, times that go back."""
    if looks.is_record(text):
        return _recorded(list(looks.loads(text)), name, allow_gaps)
    rows = csv.reader(io.StringIO(text))
    try:
        columns = _columns(next(rows, []))
        table = [_numbers(columns, row, rows.line_num) for row in rows if row]
    except csv.Error as e:
        raise FormatError(FORM, 0, f"line {rows.line_num}", str(e)) from e
    _check_times([row["t_s"] for row in table], allow_gaps)
    total = max((int(row.get("physmem", row.get("used", 0) + row.get("free", 0))) for row in table), default=0) * KIB
    return _trace(name, total, [_sample(row, table[0]["t_s"]) for row in table])


def _recorded(seen: Sequence[Look], name: str, allow_gaps: bool) -> Trace:
    _check_times([look.at for look in seen], allow_gaps)
    samples = [Sample(look.at - seen[0].at, look.used, 0, 0, 0, 0, 0, 0, 0) for look in seen]
    return _trace(name, max((look.total for look in seen), default=0), samples)


def _trace(name: str, total: int, samples: Sequence[Sample]) -> Trace:
    if not total:
        raise FormatError(FORM, 0, "physmem", "the machine has no memory")
    return Trace(name, total, tuple(samples))


def _columns(header: Sequence[str]) -> dict[str, int]:
    """Name → position of the columns that are used."""
    total = ("physmem",) if "physmem" in header else ("used", "free")
    missing = [name for name in (*_NEEDED, *total) if name not in header]
    if missing:
        raise FormatError(FORM, 0, "line 1", f"no column {', '.join(missing)}")
    more = [name for name in ("free", "used") if name not in total]
    used = [name for name in (*_NEEDED, *total, *more, *_MORE) if name in header]
    doubled = [name for name in used if list(header).count(name) > 1]
    if doubled:
        raise FormatError(FORM, 0, "line 1", f"two columns {doubled[0]}")
    return {name: list(header).index(name) for name in used}


def _numbers(columns: dict[str, int], row: Sequence[str], line: int) -> dict[str, float]:
    values = {}
    for name, at in columns.items():
        text = row[at].strip() if at < len(row) else ""
        value = decimal(text)
        if value is None or value < 0:
            problem = f"{text[:40]!r} is no number from 0 to 2**53" if text else "missing"
            raise FormatError(FORM, 0, f"line {line}, {name}", problem)
        values[name] = value
    return values


def _check_times(times: Sequence[float], allow_gaps: bool) -> None:
    if len(times) < 2:
        raise FormatError(FORM, 0, "samples", f"{len(times)}, at least 2 are needed")
    steps = [later - earlier for earlier, later in pairwise(times)]
    usual = median(steps)
    for line, step in enumerate(steps, 3):
        if step <= 0:
            raise FormatError(FORM, 0, f"line {line}, t_s", f"{times[line - 2]:g} does not follow {times[line - 3]:g}")
        if step > GAP * usual and not allow_gaps:
            problem = f"a gap of {step:g} s, samples are {usual:g} s apart; cut the trace there, or allow gaps"
            raise FormatError(FORM, 0, f"line {line}, t_s", problem)


def _sample(row: dict[str, float], start: float) -> Sample:
    def size(name: str) -> int:
        return int(row.get(name, 0)) * KIB

    shmem = min(size("shmem"), size("cached"))  # Cached counts shared memory too
    cache = size("cached") - shmem + size("bufmem")
    named = size("anonpages") + size("cached") + size("bufmem") + sum(map(size, _KERNELS_OWN))
    return Sample(
        seconds=row["t_s"] - start,
        anon=size("anonpages"),
        shmem=shmem,
        cache=cache,
        dirty=min(size("dirty"), cache),
        slab=size("slabUnreclaimable"),
        slab_reclaimable=size("slabReclaimable"),
        stacks=size("kernelStack"),
        tables=size("pageTables"),
        unnamed=max(0, round(_in_use(row)) * KIB - named),
    )


def _in_use(row: dict[str, float]) -> float:
    """KiB that are not free, by the trace's own total where it has one."""
    if "physmem" in row and "free" in row:
        return row["physmem"] - row["free"]
    return row.get("used", 0.0)


@dataclass(frozen=True, slots=True)
class Demand:
    """What a sample asks of a model, in pages."""

    anon: int
    shmem: int
    clean: int
    dirty: int
    slab: int
    slab_reclaimable: int
    stacks: int
    tables: int
    unnamed: int


class Replay:
    """Plays a trace on a model, scaled from the traced machine's memory to what the model's kernel manages.

    After each sample every kind of use has exactly the scaled number of pages, as far as memory goes. Page cache takes
    only what is free: ``squeezed`` sums, over the samples, the pages of cache that had no room. ``failed``
    counts refused requests. What the model's kernel took at boot counts as part of the trace's slab. Unnamed memory is
    the kernel's as far as its zones have room, and pinned beyond.
    """

    def __init__(self, model: Model, trace: Trace) -> None:
        self._model, self._trace = model, trace
        self._pid = 0
        self._alarm: Alarm | None = None
        snapshot = model.snapshot()
        self.scale = sum(zone.managed for zone in snapshot.zones) / (trace.total / snapshot.page_size)
        self._page_size = snapshot.page_size
        self._boot = {
            name: len(model.tasks.caches[name].pages) if name in model.tasks.caches else 0
            for name in ("kmalloc", "dentry", "kernel")
        }
        self.next = 0
        self.squeezed = 0
        self.failed = 0

    @property
    def done(self) -> bool:
        """True once the last sample was played."""
        return self.next == len(self._trace.samples)

    def start(self) -> Replay:
        """Play the first sample now and each other when it is due on the model's clock."""
        self._tick()
        return self

    def stop(self) -> None:
        """Play no further samples; what is in use stays."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def run(self) -> Replay:
        """Play everything without letting time pass."""
        while not self.done:
            self.step()
        return self

    def step(self) -> Demand:
        """Play the next sample; what it asked for. First what gives pages back, then what takes some, cache last."""
        demand = self.demand(self._trace.samples[self.next])
        self.next += 1
        tasks, cached = self._model.tasks, self._model.tasks.cached
        with self._model.quiet():
            self._try(tasks.resize_file, _CLEAN, min(demand.clean, cached(_CLEAN)))
            self._try(tasks.resize_file, _DIRTY, min(demand.dirty, cached(_DIRTY)), dirty=True)
            for name, kind, gfp, pages in self._kernel(demand):
                self._try(tasks.resize_cache, name, pages, kind=kind, gfp=gfp)
            self._hold_unnamed(demand.unnamed)
            self._try(self._resize_process, demand.anon)
            mapped = len(tasks.processes[self._pid].tables) if self._pid in tasks.processes else 0
            more = max(0, demand.tables - mapped)
            self._try(tasks.resize_cache, "trace tables", more, kind=Kind.PAGE_TABLE, gfp=GFP_KERNEL)
            self._try(tasks.resize_file, _DIRTY, demand.dirty, dirty=True)
            self._fill_cache(demand.clean)
        return demand

    def demand(self, sample: Sample) -> Demand:
        """The sample in the model's pages."""

        def pages(size: int) -> int:
            return round(size * self.scale / self._page_size)

        return Demand(
            anon=pages(sample.anon),
            shmem=pages(sample.shmem),
            clean=pages(sample.cache) - pages(sample.dirty),
            dirty=pages(sample.dirty),
            slab=max(0, pages(sample.slab) - self._boot["kmalloc"]),
            slab_reclaimable=max(0, pages(sample.slab_reclaimable) - self._boot["dentry"]),
            stacks=max(0, pages(sample.stacks) - self._boot["kernel"]),
            tables=pages(sample.tables),
            unnamed=pages(sample.unnamed),
        )

    def _tick(self) -> None:
        at = self._trace.samples[self.next].seconds
        self.step()
        if not self.done:
            wait = self._trace.samples[self.next].seconds - at
            self._alarm = self._model.clock.call_later(wait, self._tick)

    def _kernel(self, demand: Demand) -> tuple[tuple[str, Kind, Gfp, int], ...]:
        return (
            ("trace slab", Kind.SLAB, GFP_KERNEL, demand.slab),
            ("trace dentries", Kind.SLAB, GFP_RECLAIMABLE, demand.slab_reclaimable),
            ("trace stacks", Kind.KERNEL, GFP_KERNEL, demand.stacks),
            ("trace shared", Kind.SHMEM, GFP_HIGHUSER_MOVABLE, demand.shmem),
        )

    def _try(self, change: Callable[..., None], *arguments: Any, **named: Any) -> None:
        """A change that memory may not be there for: that is counted, and life goes on."""
        try:
            change(*arguments, **named)
        except KernelError:
            self.failed += 1

    def _resize_process(self, pages: int) -> None:
        tasks = self._model.tasks
        if self._pid not in tasks.processes:
            self._pid = tasks.spawn("trace")
        there = len(tasks.process(self._pid).pages)
        if pages > there:
            tasks.grow(self._pid, pages - there)
        else:
            tasks.shrink(self._pid, there - pages)

    def _hold_unnamed(self, pages: int) -> None:
        model, tasks = self._model, self._model.tasks
        own = len(tasks.caches[_UNNAMED].pages) if _UNNAMED in tasks.caches else 0
        zones = [zone for zone in model.allocator.zones if zone.name in KERNEL_ZONES]
        room = sum(max(0, model.frames.free_pages(zone.number) - zone.high) for zone in zones)
        kernels = min(pages, own + room)
        self._let_go(pages - kernels)
        self._try(tasks.resize_cache, _UNNAMED, kernels, kind=Kind.KERNEL, gfp=GFP_KERNEL)
        there = len(self._pinned(0))
        self._try(tasks.resize_cache, _PINNED, pages - kernels, kind=Kind.SHMEM, gfp=GFP_HIGHUSER_MOVABLE)
        tasks.hold(self._pinned(there))

    def _pinned(self, first: int) -> Sequence[Handle]:
        caches = self._model.tasks.caches
        return caches[_PINNED].pages[first:] if _PINNED in caches else ()

    def _let_go(self, keep: int) -> None:
        """Unpin all but the oldest of the pinned pages: they are given back newest first."""
        for handle in self._pinned(keep):
            self._model.tasks.unpin(handle)

    def _fill_cache(self, pages: int) -> None:
        """Read as much as fits above the high watermarks."""
        model = self._model
        missing = pages - model.tasks.cached(_CLEAN)
        room = sum(max(0, model.frames.free_pages(z.number) - z.high) for z in model.allocator.zones)
        self._try(model.tasks.read_file, _CLEAN, max(0, min(missing, room)))
        self.squeezed += max(0, missing - room)
