# SPDX-License-Identifier: Apache-2.0
"""The order that is carried out, step by step: what the events of an owner add up to. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from hotbank.errors import Code
from hotbank.machine import Reading
from hotbank.operate import Event
from hotbank.serve.protocol import Happening


class Progress(StrEnum):
    """How far a step is."""

    DOING = "doing"
    DONE = "done"
    FAILED = "failed"
    RESTORED = "restored"  # an act of a rollback


@dataclass(frozen=True, slots=True)
class Stage:
    """One step. ``t``: seconds from the order's beginning to the step's. ``code``: of an act of a rollback."""

    step: str
    target: str
    state: Progress
    t: float
    code: Code | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """An order: the one that runs, or the last one. ``began``, ``ended``: seconds since 1970.

    ``moved`` and ``total`` as in an event, in pages. ``exit``, ``fact``, ``remedy``: how it ended, None and empty
    while it runs.
    """

    order: str
    pid: int
    began: float
    steps: tuple[Stage, ...] = ()
    moved: int | None = 0
    total: int = 0
    ended: float | None = None
    code: Code | None = None
    exit: int | None = None
    fact: str = ""
    remedy: str = ""


def after(running: Running | None, happenings: Iterable[Happening]) -> Running | None:
    """The order that runs once these have happened, or the last that did."""
    for happening in happenings:
        running = _after(running, happening)
    return running


def counted(running: Running, before: Reading, now: Reading) -> Running:
    """The same with what the machine has migrated since a reading from before it: its events tell only at the end of a
    step. Not more than is expected, for others may have pages moved as well."""
    if running.ended is not None or running.moved is None or before.migrated is None or now.migrated is None:
        return running
    since = min(now.migrated.success - before.migrated.success, running.total)
    return replace(running, moved=max(running.moved, since))


def _after(running: Running | None, told: Happening) -> Running:
    event = told.event
    if running is None or running.ended is not None or (running.order, running.pid) != (told.order, told.pid):
        running = Running(told.order, told.pid, told.at - event.t)
    running = replace(running, steps=_steps(running.steps, event), moved=event.moved, total=event.total)
    if event.event != "done":
        return running
    return replace(running, ended=told.at, code=event.code, exit=event.exit, fact=event.fact, remedy=event.remedy)


def _steps(steps: tuple[Stage, ...], event: Event) -> tuple[Stage, ...]:
    if event.event == "step":
        return (*_settled(steps, Progress.FAILED), _stage(event, Progress.DOING))
    if event.event == "progress":
        return _settled(steps, Progress.DONE)
    if event.event == "rollback":
        return (*_settled(steps, Progress.FAILED), _stage(event, Progress.RESTORED))
    if event.event == "done":
        return _settled(steps, Progress.FAILED if event.exit else Progress.DONE)
    return steps


def _settled(steps: tuple[Stage, ...], state: Progress) -> tuple[Stage, ...]:
    """The step under way has come to that."""
    if not steps or steps[-1].state is not Progress.DOING:
        return steps
    return (*steps[:-1], replace(steps[-1], state=state))


def _stage(event: Event, state: Progress) -> Stage:
    failed = event.code not in (None, Code.OK)
    return Stage(event.step or "", event.target or "", Progress.FAILED if failed else state, event.t, event.code)
