# SPDX-License-Identifier: Apache-2.0
"""A machine whose frames are played: a model at work from which a bank is leaving, always the same."""

from __future__ import annotations

import time
from dataclasses import replace

from hotbank import board
from hotbank.govern import settings
from hotbank.govern.status import Governed, Orders
from hotbank.load import Workload
from hotbank.machine import Snapshot
from hotbank.model import Model
from hotbank.operate import Event, MemoryJournal, Plan, remove
from hotbank.operate.look import surveys_of
from hotbank.operate.targets import resolve
from hotbank.operate.verdict import verdict
from hotbank.report.cells import Map
from hotbank.serve.governing import Governing
from hotbank.serve.protocol import Happening
from hotbank.watch import Frame, Look, Record
from hotbank.watch.running import Running, after, counted

START = 1_790_000_000.0
SECONDS = 60  # of work before the bank leaves
PASS = 0.02  # seconds of the model's clock from frame to frame while it leaves
_PID = 2009


class Played:
    """As a feed answers, with frames that are there already. ``orders``: what it was asked for."""

    ordering = carries = False

    def __init__(self, frames: list[Frame]) -> None:
        self.record, self.orders = Record(len(frames)), list[tuple[str, ...]]()
        self._frames = frames
        for frame in frames:
            self.record.add(frame)

    def wait(self, after: int = 0, timeout: float | None = None) -> Frame | None:
        """The last one, at once; then nothing more."""
        last = self._frames[-1]
        if after < last.seq:
            return last
        time.sleep(min(timeout or 0.0, 0.05))
        return None

    def look(self, name: str | int) -> None:
        self.orders.append(("look", str(name)))

    def plan(self, verb: str, *names: str | int) -> Plan:
        raise AssertionError("nobody plans")

    change = interrupt = plan


def leaving() -> list[Frame]:
    """A minute of work, then the bank ``high`` leaves, half way."""
    model = Model.boot(board.load("arm-2009"), seed=3, backend="reference")
    work = Workload(model, 3, pages=9000).fill()
    made = _Made(model)
    for _ in range(SECONDS):
        for _ in range(4):
            work.step()
        model.clock.sleep(1.0)
        made.frame()
    remove(model, "high", journal=MemoryJournal(), on_event=made.event)
    half = next(at for at, f in enumerate(made.frames) if f.running and (f.running.moved or 0) * 2 > f.running.total)
    return made.frames[: half + 1]


class _Made:
    """Frames of the model: one a second of work, and many while pages move."""

    def __init__(self, model: Model) -> None:
        self._model, self.frames = model, list[Frame]()
        self._running: Running | None = None
        self._before = model.reading()
        told = Governing(model, None, settings.read("balance")).look()
        self._governed = Governed(replace(told, at=START, pid=_PID), Orders(), alive=True)

    def event(self, event: Event) -> None:
        at = self.frames[-1].at
        self._running = after(self._running, [Happening(event.seq, at, "remove high", _PID, event)])
        if event.event == "plan":
            self._before = self._model.reading()
            self._model.clock.call_later(PASS, self._pass)

    def _pass(self) -> None:
        self.frame(PASS)
        self._model.clock.call_later(PASS, self._pass)

    def frame(self, seconds: float = 1.0) -> None:
        snapshot, reading = self._model.snapshot(), self._model.reading()
        at = self.frames[-1].at + seconds if self.frames else START
        surveys = surveys_of(self._model, snapshot, [b.number for b in snapshot.blocks])
        drawn = Map.of(snapshot, surveys)
        looks = self._looks(snapshot, at)
        seq = len(self.frames) + 1
        running = self._running and counted(self._running, self._before, reading)
        self.frames.append(
            Frame(seq, at, snapshot, drawn, reading, running=running, governed=self._governed, looks=looks)
        )

    def _looks(self, snapshot: Snapshot, at: float) -> dict[str, Look]:
        """What was seen of the first block of the bank."""
        target = resolve(snapshot, "low" if not snapshot.banks[-1].blocks else snapshot.banks[-1].blocks[0])
        found = verdict(snapshot, surveys_of(self._model, snapshot, target.blocks), target)
        return {target.name: Look(at, 1, 1, found)}
