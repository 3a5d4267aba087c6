# SPDX-License-Identifier: Apache-2.0
"""A shadow week: what a governor that touches nothing recorded is a demand, which a simulation plays."""

from __future__ import annotations

import io
import json

import pytest

from hotbank import board
from hotbank.errors import FormatError
from hotbank.govern.settings import Settings
from hotbank.load import trace
from hotbank.memory import MIB
from hotbank.model import Model
from hotbank.serve.governing import Governing
from hotbank.simulate import Load, simulate
from hotbank.wire import encode

LOOK = {"at": 10.0, "used": 5, "supply": 30, "groups": [{"size": 12, "dark": True}, {"size": 9, "dark": False}]}


def shadow(looks: int) -> tuple[str, list[int]]:
    """A record of a model whose load comes and goes, and what was in use at each look."""
    model, file, used = Model.boot(board.load("arm-2009"), backend="reference"), io.StringIO(), list[int]()
    governing, eater = Governing(model, None, Settings()), model.tasks.spawn("eater")
    for number in range(looks):
        (model.tasks.grow if number % 60 < 30 else model.tasks.shrink)(eater, 6 * MIB // model.board.page_size)
        status = governing.look()
        used.append(status.used)
        file.write(json.dumps({**encode(status), "at": 1e9 + number * 2.0}) + "\n")
        model.clock.sleep(2.0)
    return file.getvalue(), used


def test_what_was_recorded_is_what_is_played() -> None:
    text, used = shadow(120)
    found = trace.loads(text, name="shadow")
    assert [sample.used for sample in found.samples] == used
    assert [sample.seconds for sample in found.samples] == [2.0 * number for number in range(120)]
    report = simulate(lambda: Model.boot(board.load("arm-2009"), backend="reference"), Load(trace=found))
    assert report.banks[0].removed >= 1
    assert report.harm.oom_kills == 0


def test_the_machine_is_what_was_in_and_what_was_out() -> None:
    found = trace.loads("\n".join(json.dumps({**LOOK, "at": at}) for at in (10.0, 12.0)))
    assert (found.total, found.samples[0].used) == (42, 5)


def test_who_saw_nothing_recorded_nothing() -> None:
    lines = [{**LOOK, "at": 10.0}, {**LOOK, "blind": "nobody answers", "at": 12.0}, {**LOOK, "at": 14.0}]
    found = trace.loads("\n".join(map(json.dumps, lines)))
    assert [sample.seconds for sample in found.samples] == [0.0, 4.0]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('{"at": 1', "line 1: no JSON; was it cut off there?"),
        (f"{json.dumps(LOOK)}\n[]", "line 2: not a look"),
        ("{}", "line 1, groups: not a list of groups"),
        (json.dumps({**LOOK, "used": -1}), "line 1, used: no number from 0"),
        (json.dumps({**LOOK, "groups": [{"dark": True}]}), "line 1, size: no number"),
        (json.dumps(LOOK), "samples: 1, at least 2"),
        (f"{json.dumps(LOOK)}\n{json.dumps(LOOK)}", "10 does not follow 10"),
    ],
)
def test_what_is_no_record_is_refused_with_its_line(lines: str, problem: str) -> None:
    with pytest.raises(FormatError, match=problem.replace("(", r"\(")):
        trace.loads(lines)
