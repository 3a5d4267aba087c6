# SPDX-License-Identifier: Apache-2.0
"""``hotbank demo``: the main job and its contrasts, with a live map on a terminal and plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import click

from hotbank.cli import bankmap, scenes
from hotbank.cli.explain import evidence_line, kinds_line
from hotbank.cli.progress import event_line
from hotbank.cli.scenes import Audience, Scene
from hotbank.cli.screen import PLAIN, Line, LiveArea, Style, columns, live
from hotbank.cli.terminal import painted, say, say_drawn, say_json
from hotbank.documents import EXIT_DONE, EXIT_FAILED, SCHEMA
from hotbank.firmware import atags, memory_map
from hotbank.memory import format_size
from hotbank.model import Model
from hotbank.operate import Event, Verdict
from hotbank.operate.look import surveys_of
from hotbank.report.cells import Map

_FRAME = 0.12  # seconds of wall time that the live map shows each event
_BAR = 24  # columns of the bar below it
_DONE, _LEFT = Style(fg=2), Style(dim=True)


@click.command("demo")
@click.option("--seed", type=int, default=2009, show_default=True, help="Seed of everything random.")
@click.option("-J", "--json", "as_json", is_flag=True, help="One JSON document.")
def demo(seed: int, as_json: bool) -> int:
    """Watch a bank leave, go dark and come back, and see what stops one.

    Boots a model of the 2009 board (32-bit ARM, 512 MiB, 256 MiB of it movable) from its ATAG list, with a
    workload running all the time. Time is simulated. Nothing of this host is touched.
    """
    if as_json:
        quiet = Audience(_nothing, _nothing, _nothing, _nothing)
        told = [scene.document() for scene in scenes.play(seed, quiet)]
        ok = all(scene["ok"] for scene in told)
        say_json({"schema": SCHEMA["demo"], "board": "arm-2009", "seed": seed, "ok": ok, "scenes": told})
        return EXIT_DONE if ok else EXIT_FAILED
    with _show() as audience:
        told_scenes = []
        for scene in scenes.play(seed, audience):
            told_scenes.append(scene)
            for line in _scene_lines(scene):
                say(line)
    for line in _table(told_scenes):
        say(line)
    return EXIT_DONE if all(scene.ok for scene in told_scenes) else EXIT_FAILED


@contextmanager
def _show() -> Iterator[Audience]:
    with ExitStack() as drawn:
        yield Audience(_boot_lines, _stand, _verdict_lines, _LiveMap(drawn).event)


def _nothing(*_: object) -> None:
    """Nobody watches."""


def _boot_lines(title: str, model: Model, tags: bytes) -> None:
    say("", f"== {title}")
    listed = ", ".join(f"{r.source} {r.range}" for r in memory_map(tags).regions)
    say(f"boot      {len(tags)} bytes, {len(atags.decode(tags))} tags: {listed}")
    zones = ", ".join(f"{z.zone} {format_size(z.present * 4096)}" for z in model.snapshot().zones)
    say(f"zones     {zones}")


def _stand(model: Model) -> None:
    say_drawn(*_map_lines(model))


def _map_lines(model: Model) -> Iterator[Line]:
    """The map, as wide as the terminal is."""
    snapshot = model.snapshot()
    surveys = surveys_of(model, snapshot, [block.number for block in snapshot.blocks])
    return bankmap.lines(Map.of(snapshot, surveys), columns())


def _verdict_lines(verdict: Verdict) -> None:
    say(f"explain   {verdict.code}: {verdict.fact}")
    say(f"          {kinds_line(verdict)}")
    for evidence in verdict.evidence[:2]:
        say(f"          {evidence_line(evidence)}")


class _LiveMap:
    """The map while a verb is at work: drawn over in place, below the lines of its steps."""

    def __init__(self, drawn: ExitStack) -> None:
        self._drawn = drawn
        self._area: LiveArea | None = None

    def event(self, model: Model, event: Event) -> None:
        if event.event == "plan":
            self._area = self._drawn.enter_context(live(sys.stdout))
        line = event_line(event)
        if line is not None:
            say(line)
        if event.event == "done":
            self._drawn.close()
        elif self._area is not None:
            self._area.show("\n".join(map(painted, (*_map_lines(model), _foot(event)))))
            time.sleep(_FRAME)


def _foot(event: Event) -> Line:
    """How far it is."""
    moved, total = event.moved or 0, max(event.total, 1)
    done = min(_BAR, moved * _BAR // total)
    bar = ("━" * done, _DONE), ("━" * (_BAR - done), _LEFT)
    return (f"{event.t:8.3f}  ", PLAIN), *bar, (f"  {moved} of {event.total} pages moved", PLAIN)


def _scene_lines(scene: Scene) -> Iterator[str]:
    for outcome in scene.outcomes:
        yield f"{outcome.verb:<10}{outcome.code}: {outcome.fact}"
    if scene.note:
        yield f"note      {scene.note}"
    if scene.as_found is not None:
        yield f"blocks    {'all in the state and zone they were in' if scene.as_found else 'NOT AS THEY WERE'}"
    yield f"content   {scene.pages} pages compared, {scene.damaged} damaged"


def _table(told: list[Scene]) -> Iterator[str]:
    yield ""
    yield f"{'SCENE':<10}{'RESULT':<14}{'MOVED':>7}{'FREED':>7}{'SECONDS':>9}  {'KERNEL':<8}{'POWER':<7}AS EXPECTED"
    for s in told:
        freed = format_size(s.freed) if s.freed else "-"
        result = s.outcomes[-1].code
        ok = "yes" if s.ok else f"NO, {s.expected} was"
        yield f"{s.name:<10}{result:<14}{s.moved:>7}{freed:>7}{s.seconds:>9.2f}  {s.kernel:<8}{s.power:<7}{ok}"
    yield "MOVED in pages of 4 KiB; SECONDS simulated. Next: hotbank up arm-2009, hotbank list, hotbank explain high"
