# SPDX-License-Identifier: Apache-2.0
"""Who governs a machine that has an owner: one at a time, where it may, paused across restarts, and written down."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from hotbank import board
from hotbank.errors import Code, Refusal
from hotbank.govern.settings import Settings
from hotbank.govern.status import Status
from hotbank.memory import Power
from hotbank.model import Model
from hotbank.operate import MemoryJournal
from hotbank.remote import Remote
from hotbank.serve.client import RemoteOwner
from hotbank.serve.desk import Desk, desk_in
from hotbank.serve.governing import Governing, govern
from hotbank.serve.local import attached
from hotbank.serve.owner import Owner

SETTINGS = Settings(every=2.0)


class Served:
    """A model with an owner; its clock goes on between looks."""

    def __init__(self, desk: Desk, model: Model | None, journal: MemoryJournal | None, seed: int) -> None:
        self.model = model or Model.boot(board.load("arm-2009"), backend="reference", seed=seed)
        self.journal = journal or MemoryJournal()
        self.remote: Remote = attached(Owner(self.model, journal=self.journal, desk=desk))

    def look(self, governing: Governing, times: int) -> list[Status]:
        told = []
        for _ in range(times):
            told.append(governing.look())
            self.model.clock.sleep(2.0)
        return told

    def is_dark(self) -> bool:
        return self.model.power("ddr-high") is Power.OFF


class Serving(Protocol):
    def __call__(
        self, desk: Desk, model: Model | None = None, journal: MemoryJournal | None = None, seed: int = 0
    ) -> Served: ...


@pytest.fixture
def serving() -> Iterator[Serving]:
    made: list[Served] = []

    def serve(desk: Desk, model: Model | None = None, journal: MemoryJournal | None = None, seed: int = 0) -> Served:
        made.append(Served(desk, model, journal, seed))
        return made[-1]

    yield serve
    for served in made:
        served.remote.close()


def told_by(pid: int, serving: Serving) -> Desk:
    """A desk at which that process has just told something."""
    status = Governing(serving(Desk()).remote, SETTINGS).look()
    desk = Desk()
    desk.govern(replace(status, pid=pid))
    return desk


def test_a_governor_acts_through_the_owner_and_the_journal_says_so(serving: Serving, tmp_path: Path) -> None:
    served = serving(desk_in(tmp_path, "model:x"))
    told = served.look(Governing(served.remote, SETTINGS), 20)
    assert served.is_dark()
    (entry,) = served.journal.entries()
    assert (entry.before.verb, entry.before.cause, entry.code) == ("remove", "governor", Code.OK)
    (deed,) = [deed for status in told for deed in status.deeds]
    assert (deed.group, deed.dark, deed.outcome) == ("ddr-high", True, "done")
    assert told[-1].groups[0].ours
    lines = [json.loads(line) for line in (tmp_path / "model%3Ax.wishes").read_text().splitlines()]
    assert [line["deeds"] for line in lines if line["deeds"]] == [
        [{"group": "ddr-high", "dark": True, "why": deed.why, "outcome": "done"}]
    ]


def test_a_pause_survives_owner_and_governor(serving: Serving, tmp_path: Path) -> None:
    served = serving(desk_in(tmp_path, "m"))
    RemoteOwner(served.remote).pause("the board is on my desk")
    after = serving(desk_in(tmp_path, "m"), served.model)
    told = after.look(Governing(after.remote, SETTINGS), 20)
    assert not after.is_dark()
    assert told[-1].groups[0].why == "paused: the board is on my desk"
    RemoteOwner(after.remote).resume()
    again = serving(desk_in(tmp_path, "m"), served.model)
    again.look(Governing(again.remote, SETTINGS), 20)
    assert again.is_dark()


def test_what_was_taken_before_a_restart_comes_back_after_it(serving: Serving, tmp_path: Path) -> None:
    served = serving(desk_in(tmp_path, "m"))
    served.look(Governing(served.remote, SETTINGS), 20)
    assert served.is_dark()
    after = serving(desk_in(tmp_path, "m"), served.model, served.journal)
    model = served.model
    model.tasks.grow(model.tasks.spawn("eater"), model.free() - (8 << 20) // model.board.page_size)
    after.look(Governing(after.remote, SETTINGS), 2)
    assert not after.is_dark()
    assert not model.tasks.oom_killed


def test_after_a_boot_nothing_is_ours(serving: Serving, tmp_path: Path) -> None:
    served = serving(desk_in(tmp_path, "m"))
    served.look(Governing(served.remote, SETTINGS), 20)
    after = serving(desk_in(tmp_path, "m"), seed=1)
    (status,) = after.look(Governing(after.remote, SETTINGS), 1)
    assert status.boot_id != served.model.snapshot().boot_id
    assert not status.groups[0].ours
    assert not status.state.paused


def test_a_second_governor_is_refused_before_it_looks(serving: Serving) -> None:
    served = serving(told_by(os.getppid(), serving))
    with pytest.raises(Refusal, match=rf"pid {os.getppid()} governs this machine by balance") as caught:
        served.look(Governing(served.remote, SETTINGS), 1)
    assert caught.value.code is Code.BUSY_TRANSACTION
    assert not served.journal.entries()


def test_one_that_is_gone_is_succeeded(serving: Serving) -> None:
    served = serving(told_by((1 << 22) + 1, serving))
    served.look(Governing(served.remote, SETTINGS), 1)


def test_a_machine_that_does_not_say_so_is_not_governed_but_for_show(serving: Serving) -> None:
    served = serving(Desk(closed="its board file does not say `auto = true`"))
    with pytest.raises(Refusal, match="does not say `auto = true`") as caught:
        served.look(Governing(served.remote, SETTINGS), 20)
    assert caught.value.code is Code.NOT_PERMITTED
    assert not served.is_dark()
    told = served.look(Governing(served.remote, SETTINGS, dry=True), 20)
    assert [deed.group for status in told for deed in status.deeds] == ["ddr-high"]
    assert not served.is_dark()


def test_a_thread_of_the_owner_governs_until_it_is_told_to_end(serving: Serving) -> None:
    served, looks = serving(Desk()), 0

    def stopped(seconds: float) -> bool:
        nonlocal looks
        looks += 1
        served.model.clock.sleep(seconds)
        return looks == 20

    govern(served.remote, SETTINGS, stopped)
    assert served.is_dark()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"status": 1, "orders": 2}', "\0"])
def test_a_file_that_is_damaged_is_nothing_known(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.auto").write_text(text)
    assert desk_in(tmp_path, "m").governed()[0] is None


def test_a_full_disk_keeps_nobody_from_governing(
    serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: Callable[..., object] = Path.open

    def full(path: Path, *args: object, **named: object) -> object:
        if path.suffix == ".wishes":
            raise OSError(28, "No space left on device")
        return opened(path, *args, **named)

    monkeypatch.setattr(Path, "open", full)
    served = serving(desk_in(tmp_path, "m"))
    served.look(Governing(served.remote, SETTINGS), 20)
    assert served.is_dark()
