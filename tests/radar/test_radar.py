# SPDX-License-Identifier: Apache-2.0
"""The radar without a guest: what kernels answered once against the models of today, and wrong cells of the table."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank import kernels, radar
from hotbank.boards_qemu.parts.packages import Archive
from hotbank.errors import MachineError, Refusal
from hotbank.radar import RULES, Cell, Matrix, sweep
from hotbank.radar.search import halve
from patience import HANG

ANSWERED: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "radar.json").read_text(encoding="utf-8"))
CELLS = [(cell["rule"], cell["release"], cell["answer"]) for cell in ANSWERED["cells"]]
ASKED = {rule for rule, _, _ in CELLS}
COLUMNS = [(rule.name, rule.column) for rule in RULES.values() if rule.column and rule.name in ASKED]


@pytest.mark.parametrize(("rule", "release", "answer"), CELLS)
def test_models_answer_as_kernels_did(rule: str, release: str, answer: str) -> None:
    assert RULES[rule].modelled(release) == answer


def test_rules_were_asked_of_eleven_kernels() -> None:
    assert all(sum(rule == asked for asked, _, _ in CELLS) == 11 for rule in ASKED)


def test_each_rule_with_a_column_changes_where_the_table_says() -> None:
    columns = dict(COLUMNS)
    matrix = Matrix([Cell(rule, "", release, answer, answer) for rule, release, answer in CELLS], columns)
    changes = list(matrix.changes)
    assert {change.rule for change in changes} == columns.keys()
    for change in changes:
        before, after = (
            getattr(kernels.kernel(cell.release), columns[change.rule]) for cell in (change.before, change.after)
        )
        its = kernels.rules()[columns[change.rule]]
        assert (before, after, change.commit) == ((False, True, its[0]) if after else (True, False, its[-1]))


@contextmanager
def guest(series: str, _progress: object) -> Iterator[Any]:
    """Answers as the kernel of that series did."""
    release = next(release for _, release, _ in CELLS if release.startswith(series))
    answers = {rule: answer for rule, its, answer in CELLS if its == release}

    class Subject:
        def __init__(self) -> None:
            self.release, self.answers = release, answers

    yield Subject()


@pytest.fixture
def guests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that answer as they did once, instead of QEMU."""

    @contextmanager
    def unlimited(*_: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(over="")

    def answer(name: str, subject: Any) -> str:
        return str(subject.answers[name])

    monkeypatch.setattr(sweep, "booted", guest)
    monkeypatch.setattr(sweep, "_limited", unlimited)
    recorded = {name: replace(rule, real=partial(answer, name)) for name, rule in RULES.items()}
    monkeypatch.setattr(sweep, "RULES", recorded)


@pytest.mark.usefixtures("guests")
def test_nothing_differs_from_what_kernels_answered() -> None:
    matrix = radar.look(["6.1", "6.12.95", "7.3"], sorted(ASKED))
    assert len(matrix.cells) == 3 * len(ASKED)
    assert (matrix.differences, matrix.unheard) == ([], {})


@pytest.mark.usefixtures("guests")
def test_a_guest_is_asked_in_the_order_in_which_it_can_be_and_each_rule_once() -> None:
    names = [name for name in RULES if name in ASKED]
    matrix = radar.look(["7.3"], [*reversed(names), *names])
    assert [cell.rule for cell in matrix.cells] == names


def test_a_rule_that_there_is_not() -> None:
    with pytest.raises(Refusal, match="there is no rule slabs"):
        radar.look(["7.3"], ["slabs"])


@pytest.mark.usefixtures("guests")
def test_without_kernels_each_series_of_the_archive_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Archive, "kernels", lambda *_, **__: [release for _, release, _ in CELLS[:: len(ASKED)]])
    matrix = radar.look(rules=["leaf"])
    assert [cell.series for cell in matrix.cells] == [
        *("6.1", "6.12", "6.16", "6.17", "6.18", "6.19"),
        *("7.0", "7.1", "7.2", "7.3"),
    ]


def test_a_guest_that_takes_too_long_is_ended_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    @contextmanager
    def slow(*_: object) -> Iterator[Any]:
        yield SimpleNamespace(release="7.3.4", machine=SimpleNamespace(qemu=SimpleNamespace(stop=ended.set)))

    def hang(_subject: object) -> str:
        assert ended.wait(HANG)
        raise MachineError("the machine's owner hung up")

    monkeypatch.setattr(sweep, "booted", slow)
    monkeypatch.setattr(sweep, "RULES", {"leaf": replace(RULES["leaf"], real=hang)})
    (cell,) = radar.look(["7.3"], ["leaf"], deadline=0.01).cells
    assert (cell.real, cell.why) == (None, "its deadline of 0.01 s is over")


def test_a_guest_without_what_is_asked_about_gives_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def empty(*_: object) -> Iterator[Any]:
        stop = SimpleNamespace(stop=lambda: None)
        there = SimpleNamespace(blocks=(), zones=())
        machine = SimpleNamespace(qemu=stop, snapshot=lambda: there, online=lambda *_: None)
        yield SimpleNamespace(release="7.3.4", machine=machine, once=lambda _make: None)

    monkeypatch.setattr(sweep, "booted", empty)
    matrix = radar.look(["7.3"], ["boot-memory", "movable-min"])
    assert [(cell.real, cell.why) for cell in matrix.cells] == [
        (None, "no block that was there at boot is in Movable"),
        (None, "it has no zone Movable"),
    ]


@pytest.mark.usefixtures("guests")
def test_what_was_asked_on_the_way_stands_in_the_order_of_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the matrix has one change, the one that was found."""
    there = [release for _, release, _ in CELLS[:: len(ASKED)]]
    monkeypatch.setattr(Archive, "kernels", lambda *_, **__: there)
    matrix = Matrix()
    found = radar.search("frozen-slab", "6.1", "7.3", matrix=matrix)
    assert found.before is not None
    assert found.after is not None
    (change,) = matrix.changes
    assert (change.before, change.after) == (found.before, found.after)
    assert [there.index(cell.release) for cell in matrix.cells] == sorted(there.index(c.release) for c in matrix.cells)


def _with(kernel: Any, columns: dict[str, bool]) -> Any:
    return replace(kernel, **columns)


@pytest.mark.usefixtures("guests")
@pytest.mark.parametrize("row", ["6.1", "6.12", "7.3"])
@pytest.mark.parametrize(("rule", "column"), COLUMNS)
def test_a_wrong_cell_of_the_table_is_found(rule: str, column: str, row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named with its rule, and with a kernel of which the rule is right."""
    flipped = {
        kernel.release: {column: not getattr(kernel, column)} for kernel in kernels.KERNELS if kernel.release == row
    }
    wrong = [_with(kernel, flipped.get(kernel.release, {})) for kernel in kernels.KERNELS]
    monkeypatch.setattr(kernels, "KERNELS", tuple(wrong))
    matrix = radar.look(["6.1", "6.12.95", "7.3"], [rule])
    assert [(cell.rule, kernels.kernel(cell.release).judged_by) for cell in matrix.differences] == [(rule, row)]
    near = matrix.neighbour(matrix.differences[0])
    assert near is not None
    assert not near.different


def test_a_kernel_that_can_not_be_had_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(series: str, _progress: object) -> Any:
        raise MachineError(f"Debian's archive has no kernel {series}")

    monkeypatch.setattr(sweep, "booted", none)
    matrix = radar.look(["6.14"])
    assert (matrix.cells, list(matrix.unheard)) == ([], ["6.14"])


@cache
def releases(count: int) -> tuple[str, ...]:
    return tuple(f"6.{n}" for n in range(count))


@given(st.integers(2, 300), st.data())
def test_the_first_kernel_that_differs_is_found_by_few_questions(count: int, data: st.DataObject) -> None:
    first, asked = data.draw(st.integers(1, count - 1)), list[str]()

    def ask(release: str) -> Cell:
        asked.append(release)
        return Cell("leaf", "", release, "EPERM" if releases(count).index(release) >= first else "leaves", "leaves")

    found = halve("leaf", releases(count), ask)
    assert found.before is not None
    assert found.after is not None
    assert (found.before.release, found.after.release) == releases(count)[first - 1 : first + 1]
    assert len(asked) <= 2 + (count - 1).bit_length()


def test_ends_that_agree_and_kernels_without_an_answer() -> None:
    same = halve("leaf", releases(9), lambda release: Cell("leaf", "", release, "leaves", "leaves"))
    assert (same.before, same.after, len(same.asked)) == (None, None, 2)
    with pytest.raises(MachineError, match=r"6\.0 gave no answer about leaf: it ended"):
        halve("leaf", releases(9), lambda release: Cell("leaf", "", release, None, "leaves", "it ended"))
