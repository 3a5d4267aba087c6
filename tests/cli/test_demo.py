# SPDX-License-Identifier: Apache-2.0
"""The demo tells the whole story, the same for the same seed, and notices when a scene goes wrong."""

from __future__ import annotations

import json

import pytest

from hotbank import operate
from hotbank.cli import run, scenes
from hotbank.errors import Code
from hotbank.model import Model
from hotbank.model.frames import DARK
from hotbank.operate import Outcome

QUIET = scenes.Audience(*[lambda *_: None] * 4)


def test_every_scene_ends_as_it_should_with_every_page_intact() -> None:
    told = {scene.name: scene for scene in scenes.play(2009, QUIET)}
    assert {name: scene.outcomes[-1].code for name, scene in told.items()} == {
        "leave": Code.OK,
        "return": Code.OK,
        "untagged": Code.UNMOVABLE,
        "pinned": Code.DEADLINE,
        "full": Code.NO_CAPACITY,
    }
    assert all(scene.ok for scene in told.values())
    leave = told["leave"]
    assert (leave.kernel, leave.power, leave.freed) == ("absent", "off", 256 << 20)
    assert leave.moved > 10_000
    assert leave.pages > 10_000
    assert told["pinned"].outcomes[0].code is Code.PINNED
    owner = told["untagged"].explained.evidence[0].owner
    assert owner is not None
    assert owner.comm == "inode_cache"


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_the_story_holds_for_other_seeds(seed: int) -> None:
    assert all(scene.ok for scene in scenes.play(seed, QUIET))


def test_json_is_one_document_and_repeats(capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for _ in range(2):
        assert run(["demo", "--json"]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    document = json.loads(outputs[0])
    assert document["schema"] == 1
    assert [scene["scene"] for scene in document["scenes"]] == ["leave", "return", "untagged", "pinned", "full"]


def test_plain_lines_close_with_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    table = out[out.index("SCENE ") :].splitlines()
    assert [row.split()[:2] for row in table[1:6]] == [
        ["leave", "OK"],
        ["return", "OK"],
        ["untagged", "UNMOVABLE"],
        ["pinned", "DEADLINE"],
        ["full", "NO_CAPACITY"],
    ]


def test_a_lost_page_makes_the_demo_fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The planted breach: power goes off under a page that is still there."""
    verb = operate.remove

    def lose_a_page(machine: Model, *arguments: object, **options: object) -> Outcome:
        outcome: Outcome = verb(machine, *arguments, **options)  # type: ignore[arg-type]
        process = next(p for p in machine.tasks.processes.values() if p.rss)
        frame = machine.contents.frame(process.pages[0])
        machine.frames.fill(frame, frame + 1, DARK)
        return outcome

    monkeypatch.setattr(operate, "remove", lose_a_page)
    assert run(["demo"]) == 1
    assert "1 damaged" in capsys.readouterr().out
