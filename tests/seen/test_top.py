# SPDX-License-Identifier: Apache-2.0
"""``hotbank top`` by keys and mouse, on machines that are served; what stands on the screen, against what the machine
says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from hotbank import cli
from hotbank.cli import bankmap
from hotbank.cli.plan import plan_lines
from hotbank.cli.seen.app import Head, Top
from hotbank.cli.seen.dialogs import Dialog
from hotbank.cli.seen.mapview import MapView
from hotbank.cli.seen.tiles import Part
from hotbank.errors import Code, Refusal
from hotbank.load import Workload
from hotbank.memory import KernelState
from hotbank.model import Model
from hotbank.operate.look import surveys_of
from hotbank.report.cells import Map
from hotbank.serve import ModelSpec, current, down, serve_in_background
from hotbank.session import Session, connect, visit
from hotbank.watch import Feed, Frame
from model.small_boards import HIGH, small_model
from patience import HANG
from seen.played import START, Played, leaving
from terminal import pictures, screens

SIZE = (100, 32)
Act = Callable[[Top, Pilot[None]], Awaitable[None]]


def driven(feed: Any, act: Act, size: tuple[int, int] = SIZE) -> None:
    """Do that with the app before its first frame is a minute old."""

    async def drive() -> None:
        app = Top(feed)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.frame is not None)
            await act(app, pilot)

    asyncio.run(drive())


async def until(pilot: Pilot[None], true: Callable[[], object]) -> None:
    """Return as soon as it is true."""
    end = time.monotonic() + HANG
    while not true():
        assert time.monotonic() < end, "what is waited for"
        await pilot.pause(0.02)


def text(app: Top, name: str) -> str:
    """What stands in a panel."""
    return str(app.query_one(f"#{name}-body", Static).content)


def asked(app: Top) -> str:
    """What stands in a dialog."""
    return str(app.screen.query_one("#dialog-text Static", Static).content)


def shown(app: Top) -> str:
    """All that is on the screen."""
    return "\n".join("".join(segment.text for segment in line) for line in app.screen._compositor.render_strips())


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr("hotbank.serve.local._SERVED", tmp_path / "none")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return tmp_path


@pytest.fixture
def served(nowhere: Path) -> Iterator[Session]:
    """The machine of `hotbank up`, watched."""
    serve_in_background(ModelSpec("arm-2009"))
    with visit() as session:
        yield session
    with visit() as idle:
        idle.wait(HANG)
    record = current()
    assert record is not None
    down(record)


def kernel(app: Top, bank: str) -> KernelState | None:
    found = None if app.frame is None else app.frame.snapshot.bank(bank)
    return None if found is None else found.kernel


def test_a_removal_and_an_addition_watched_to_their_ends(served: Session) -> None:
    """Plan, confirmation, steps, the end; then back in. What the dialog shows is what ``hotbank plan`` prints."""

    async def act(app: Top, pilot: Pilot[None]) -> None:
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        assert [button.id for button in app.screen.query("Button")] == ["no"]
        told = list(plan_lines(served.plan("high")))
        assert [line for line in told if line not in asked(app)] == []
        await pilot.press("escape", "r")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and bool(app.screen.query("#yes")))
        await pilot.click("#yes")
        await until(pilot, lambda: "OK high is out" in text(app, "transaction"))
        await until(pilot, lambda: kernel(app, "high") is KernelState.ABSENT)
        assert text(app, "transaction").count("✓") == 6
        assert "not in the kernel  power off" in text(app, "details")
        await until(pilot, lambda: not app._feed.ordering)
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        await pilot.press("y")
        await until(pilot, lambda: "OK high is online" in text(app, "transaction"))
        await until(pilot, lambda: kernel(app, "high") is KernelState.ONLINE)
        await until(pilot, lambda: text(app, "journal").count("OK") == 2)

    with Feed(served) as feed:
        driven(feed, act)


def test_what_cannot_leave_is_not_offered(served: Session) -> None:
    async def act(app: Top, pilot: Pilot[None]) -> None:
        await pilot.press("home", "r")
        await until(pilot, lambda: isinstance(app.screen, Dialog) and bool(app.screen.query("Button")))
        assert [button.id for button in app.screen.query("Button")] == ["no"]
        assert "UNMOVABLE" in asked(app)
        await pilot.press("y")
        await until(pilot, lambda: not isinstance(app.screen, Dialog))
        await pilot.press("i")
        assert not app._feed.ordering

    with Feed(served) as feed:
        driven(feed, act)
    assert [entry for entry in served.history() if not entry.is_sign] == []


def test_the_verdict_of_the_selected_block_and_of_its_bank(served: Session) -> None:
    async def act(app: Top, pilot: Pilot[None]) -> None:
        view = app.query_one(MapView)
        assert view.selected == 20
        verdict = served.explain("20")
        await until(pilot, lambda: verdict.fact in text(app, "details"))
        await pilot.press("e")
        await until(pilot, lambda: served.explain("high").fact in text(app, "details"))
        y, row = next((y, row) for y, row in enumerate(view._layout_of_map.rows) if row.spots)
        x = next(spot.x for spot in row.spots if spot.cell.block == 17)
        await pilot.click(MapView, offset=(x + 3, y + 2))
        assert view.selected == 17
        await until(pilot, lambda: served.explain("17").fact in text(app, "details"))
        await pilot.press("left", "down")
        assert view.selected == 20
        await pilot.press("end")
        assert view.selected == 23

    with Feed(served) as feed:
        driven(feed, act)


def test_an_owner_that_is_gone_and_back(served: Session) -> None:
    async def act(app: Top, pilot: Pilot[None]) -> None:
        os.kill(served.pid, signal.SIGKILL)
        await until(pilot, lambda: app.has_class("-gone"))
        assert "○ as of" in str(app.query_one(Head).content)
        record = current()
        assert record is not None
        down(record)
        serve_in_background(ModelSpec("arm-2009"))
        await until(pilot, lambda: not app.has_class("-gone"))
        assert "● live" in str(app.query_one(Head).content)

    with Feed(served, every=0.2) as feed:
        driven(feed, act)


def test_who_may_not_change_it_is_told() -> None:
    def refuse(machine: Model, change: bool | None) -> Session:
        if change:
            raise Refusal(Code.NOT_PERMITTED, "not you", remedy="ask")
        return Session(machine, None, change=False, again=partial(refuse, machine))

    async def act(app: Top, pilot: Pilot[None]) -> None:
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, Dialog))
        await pilot.press("y")
        await until(pilot, lambda: any("NOT_PERMITTED: not you; ask" in n.message for n in app._notifications))

    with Feed(refuse(small_model(), False)) as feed:
        driven(feed, act)


def test_leaving_while_an_order_of_ours_runs_rolls_it_back() -> None:
    model = small_model()
    pid = model.spawn("held", anon_pages=600)
    homes = {n: pages for n in HIGH if (pages := model.place(pid, n))}
    model.pin(pid, next(iter(homes.values()))[0])

    async def act(app: Top, pilot: Pilot[None]) -> None:
        app._feed.change("remove", "high")
        await until(pilot, lambda: app._feed.ordering)
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, Dialog) or not app.is_running)
        await pilot.press("y")
        await until(pilot, lambda: not app.is_running or not app._feed.ordering)

    with connect(model, change=True) as session, Feed(session) as feed:
        driven(feed, act)
        assert not feed.ordering
        bank = session.list().bank("high")
    assert bank is not None
    assert bank.kernel is KernelState.ONLINE


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
def test_everything_stands_on_a_screen_of_any_size(size: tuple[int, int], played: list[Frame]) -> None:
    async def act(app: Top, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "q Quit" in shown(app))
        seen = shown(app)
        words = ("hotbank model:arm-2009", "low", "high", "memory20", "free", "demand", "remove high", "keep")
        assert [word for word in words if word not in seen] == []
        assert [len(line) for line in seen.splitlines()] == [size[0]] * size[1]
        await pilot.press("question_mark")
        await until(pilot, lambda: "interrupt what runs" in shown(app))

    driven(Played(played), act, size)


def test_signs_are_those_of_the_map_that_is_listed() -> None:
    """Of many blocks: what ``list --map`` prints of them, but for the selected one."""
    model = small_model(**{'"16M"': '"256M"'})
    Workload(model, 4, pages=9000).fill()
    snapshot = model.snapshot()
    drawn = Map.of(snapshot, surveys_of(model, snapshot, [b.number for b in snapshot.blocks]))
    rows = [line[1:] for line in bankmap.lines(drawn, 80) if line[0][0].startswith("0x")]
    listed = "".join(sign for row in rows for sign, _ in row)

    async def act(app: Top, pilot: Pilot[None]) -> None:
        view = app.query_one(MapView)
        await pilot.press("end")
        await until(pilot, lambda: "◆" in shown(app))
        lines = [(row, view.render_line(y).text) for y, row in enumerate(view._layout_of_map.rows)]
        signs = "".join(text[spot.x] for row, text in lines if row.part is Part.SIGNS for spot in row.spots)
        assert signs == listed[:-1] + "◆"
        assert len(set(signs)) > 3

    driven(Played([Frame(1, START, snapshot, drawn, model.reading())]), act)


@pytest.fixture(scope="module")
def played() -> list[Frame]:
    return leaving()


# The command.


def test_on_a_terminal_it_draws_and_leaves_nothing_behind(nowhere: Path) -> None:
    came = screens.pressed(("-m", "model:arm-2009", "top"), "memory20", b"q", {"NO_COLOR": "1"})
    assert came.rindex(b"\x1b[?1049l") > came.rindex(b"\x1b[?1049h")
    colours = [sgr for sgr in re.findall(rb"\x1b\[([0-9;]*)m", came) if set(sgr.split(b";")) & {b"38", b"48"}]
    assert colours == []


def test_frames_as_json(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["-m", "model:arm-2009", "top", "--json", "--every", "0.1", "--count", "3"]) == 0
    frames = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [frame["machine"] for frame in frames] == ["model:arm-2009"] * 3
    assert sorted(frames, key=lambda frame: frame["seq"]) == frames


@pytest.mark.parametrize("words", [(), ("--count", "3"), ("--json", "--light")])
def test_what_has_no_effect_is_refused(nowhere: Path, words: tuple[str, ...]) -> None:
    assert cli.run(["-m", "model:arm-2009", "top", *words]) == 2


def test_without_textual_it_says_what_to_install(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("hotbank.cli.seen")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "textual", None)
    monkeypatch.setattr("hotbank.cli.top.is_terminal", lambda _: True)
    assert cli.run(["-m", "model:arm-2009", "top"]) == 1
    assert "pip install 'hotbank[top]'" in capsys.readouterr().err


def test_others_import_nothing_of_it() -> None:
    code = "import json, sys; from hotbank import cli; cli.run(['list']); cli.run(['serve', '--help'])"
    code += "; import hotbank.serve.worker; print('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert [name for name in loaded if name.startswith(("textual", "hotbank.watch", "hotbank.cli.seen"))] == []


# The picture.


def test_the_picture_shows_what_is_shown_today(played: list[Frame]) -> None:
    kept = (pictures.FOLDER / "top.svg").read_text()
    assert pictures.content(kept) == pictures.content(pictures.top(played)), pictures.AGAIN
