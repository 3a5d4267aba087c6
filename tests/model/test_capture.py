# SPDX-License-Identifier: Apache-2.0
"""Captures: a model that starts from one is the machine that was captured, and says what that one would have done."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from hotbank import board, operate
from hotbank.errors import FormatError, Refusal
from hotbank.load import Workload
from hotbank.machine import Ability, Machine, Pages, Snapshot, Survey, tells_pages
from hotbank.memory import Kind, Online, Power
from hotbank.model import Model, capture
from hotbank.serve.local import attached
from hotbank.serve.owner import Owner
from model.small_boards import FOREVER, HIGH, errno_of, small_board, small_model


def busy(seed: int = 1, name: str | None = None) -> Model:
    model = Model.boot(board.load(name) if name else small_board(), seed=seed)
    Workload(model, seed, pages=2500).fill()
    model.write_file("log", 100)
    return model


def comparable(snapshot: Snapshot) -> Snapshot:
    """Who the machine says it is may differ."""
    return replace(snapshot, machine="", boot_id="")


def restored(machine: Model, tmp_path: Path, name: str = "c.json.gz") -> Model:
    capture.save(capture.take(machine), tmp_path / name)
    return Model.restore(capture.load(tmp_path / name))


@pytest.mark.parametrize("name", ["c.json", "c.json.gz"])
@pytest.mark.parametrize("board_name", [None, "arm-2009", "virt-arm64"])
def test_what_was_captured_is_what_starts(board_name: str | None, name: str, tmp_path: Path) -> None:
    """Blocks, zones with their free pages and watermarks, banks, surveys, and the kind of every page: all equal."""
    before = busy(name=board_name)
    after = restored(before, tmp_path, name)
    after.validate()
    assert comparable(after.snapshot()) == comparable(before.snapshot())
    for block in before.snapshot().blocks:
        number = block.number
        assert after.pages(number) == before.pages(number)
        assert after.survey(number).kinds == before.survey(number).kinds
        assert after.survey(number).clean == before.survey(number).clean


def test_the_removal_goes_as_it_would_have_gone(tmp_path: Path) -> None:
    """As many pages move, it takes as long, and the answer of each block is the same."""
    before = busy()
    after = restored(before, tmp_path)
    assert operate.plan_remove(after, "high").steps == operate.plan_remove(before, "high").steps
    theirs, ours = operate.remove(before, "high"), operate.remove(after, "high")
    assert (ours.code, ours.moved, ours.freed) == (theirs.code, theirs.moved, theirs.freed)
    assert ours.seconds == pytest.approx(theirs.seconds, rel=0.01)
    after.validate()
    assert after.check_contents() == ()


def test_a_pin_is_captured(tmp_path: Path) -> None:
    before = small_model()
    pid = before.spawn("vmsplicer", anon_pages=2000)
    number = next(n for n in HIGH if before.place(pid, n))
    before.pin(pid, before.place(pid, number)[0])
    after = restored(before, tmp_path)
    assert [e.pfn for e in after.survey(number).blocking] == [e.pfn for e in before.survey(number).blocking]
    assert errno_of(after, number, 1.0) == errno_of(before, number, 1.0) != 0


def test_a_dark_bank_is_dark_and_can_return(tmp_path: Path) -> None:
    before = small_model()
    for number in HIGH:
        before.offline(number, FOREVER)
    before.remove("high")
    before.set_power("dram", Power.OFF)
    after = restored(before, tmp_path)
    assert after.power("dram") is Power.OFF
    after.set_power("dram", Power.ON)
    after.add("high")
    after.online(HIGH[0], Online.MOVABLE)
    after.validate()


@contextmanager
def served(machine: Machine) -> Iterator[Machine]:
    with attached(Owner(machine)) as far:
        yield far


def test_a_served_machine_is_captured_as_itself() -> None:
    model = busy()
    with served(model) as machine:
        assert tells_pages(machine)
        assert capture.take(machine) == capture.take(model)


class CountsOnly:
    """A machine that can count pages and not tell where they are."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.can: frozenset[Ability] = frozenset()
        self.clock, self.snapshot, self.survey = model.clock, model.snapshot, model.survey
        self.online, self.offline, self.add, self.remove = model.online, model.offline, model.add, model.remove
        self.power, self.set_power, self.reading = model.power, model.set_power, model.reading
        self.set_auto_online = model.set_auto_online


@pytest.mark.parametrize("reached", [nullcontext, served], ids=["here", "far"])
def test_a_machine_that_only_counts_is_captured_by_its_counts(
    reached: Callable[[Machine], AbstractContextManager[Machine]],
) -> None:
    model = busy()
    with reached(CountsOnly(model)) as machine:
        assert not tells_pages(machine)
        taken = capture.take(machine)
    assert all("positions" in block.unknown for block in taken.blocks)
    after = Model.restore(taken)
    after.validate()
    for block in model.snapshot().blocks:
        assert after.survey(block.number).kinds == model.survey(block.number).kinds


def test_kinds_that_cannot_be_seen_are_refused() -> None:
    class Blind(CountsOnly):
        def __init__(self, model: Model) -> None:
            super().__init__(model)
            self.survey = lambda block: Survey(block, {Kind.UNKNOWN: 1024}, unknown=("kinds",))

    with pytest.raises(Refusal, match="can't be seen"):
        capture.take(Blind(small_model()))


# Files that are no captures


@pytest.fixture(scope="module")
def good() -> bytes:
    taken = capture.take(small_model())
    return json.dumps(capture._document(taken)).encode()


@examples(60)
@given(part=st.floats(0, 0.9999), packed=st.booleans())
def test_a_capture_cut_short_anywhere_is_refused(good: bytes, part: float, packed: bool) -> None:
    data = gzip.compress(good, mtime=0) if packed else good
    with pytest.raises(FormatError):
        capture.loads(data[: int(len(data) * part)])


def version(document: dict[str, Any]) -> None:
    document["version"] = 2


def architecture(document: dict[str, Any]) -> None:
    document["snapshot"]["arch"] = "riscv64"


def one_block_less(document: dict[str, Any]) -> None:
    document["blocks"].pop()


def one_page_less(document: dict[str, Any]) -> None:
    document["blocks"][0]["pages"]["runs"][-1] -= 1


def unknown_kind(document: dict[str, Any]) -> None:
    document["blocks"][0]["pages"]["runs"][0] = 99


def another_field(document: dict[str, Any]) -> None:
    document["snapshot"]["colour"] = "red"


def negative_run(document: dict[str, Any]) -> None:
    runs = document["blocks"][0]["pages"]["runs"]
    runs[1:1] = [2000, 0, -2000]


def odd_block_size(document: dict[str, Any]) -> None:
    document["snapshot"]["block_size"] = 3 << 20


def no_capture(document: dict[str, Any]) -> None:
    document["hotbank"] = "plan"


def pin_elsewhere(document: dict[str, Any]) -> None:
    document["blocks"][0]["pages"]["pinned"] = [5]


def unknown_zone(document: dict[str, Any]) -> None:
    document["snapshot"]["zones"][0]["zone"] = "Twilight"


def block_elsewhere(document: dict[str, Any]) -> None:
    document["snapshot"]["blocks"][0]["range"]["start"] -= 4096


def no_such_domain(document: dict[str, Any]) -> None:
    document["snapshot"]["banks"][1]["domain"] = "none-such"


BREACHES = [
    pin_elsewhere,
    unknown_zone,
    block_elsewhere,
    no_such_domain,
    version,
    architecture,
    one_block_less,
    one_page_less,
    unknown_kind,
    another_field,
    negative_run,
    odd_block_size,
    no_capture,
]


@pytest.mark.parametrize("breach", BREACHES)
def test_what_is_wrong_with_a_capture_is_said(good: bytes, breach: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(good)
    assert capture.loads(good).snapshot.arch == "arm"
    breach(document)
    with pytest.raises(FormatError) as caught:
        capture.loads(json.dumps(document).encode())
    assert caught.value.form == "capture"


@examples(40)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_capture_or_an_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        capture.loads(data)


def test_a_bank_that_no_model_can_have_is_refused(good: bytes) -> None:
    document = json.loads(good)
    document["snapshot"]["banks"][1]["range"]["end"] = 1 << 43
    with pytest.raises(Refusal, match="frames are possible"):
        Model.restore(capture.loads(json.dumps(document).encode()))


def test_kinds_in_transit_have_to_move() -> None:
    """A real Movable zone shows pages between two states; only reserved ones make the kernel say no there."""
    taken = capture.take(small_model())
    blocks = list(taken.blocks)
    at = next(n for n, b in enumerate(blocks) if b.pages.block == HIGH[0])
    blocks[at] = replace(blocks[at], pages=Pages(HIGH[0], ((Kind.UNKNOWN, 24), (Kind.FREE, 1000))))
    model = Model.restore(replace(taken, blocks=tuple(blocks)))
    model.validate()
    assert model.survey(HIGH[0]).kinds == {Kind.FREE: 1000, Kind.ANON: 24}
    assert errno_of(model, HIGH[0]) == 0


# Memory that reading takes


def peak(data: bytes) -> int:
    """Bytes of Python's that reading takes at most, refused or not."""
    tracemalloc.start()
    try:
        with suppress(FormatError):
            capture.loads(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def many_runs(good: bytes, runs: int) -> bytes:
    """The capture with each block in that many runs, of one page each but the last."""
    document = json.loads(good)
    for entry in document["blocks"]:
        pages = sum(entry["pages"]["runs"][1::2])
        words = [word for n in range(runs - 1) for word in (n % 3, 1)]
        entry["pages"] |= {"runs": [*words, 0, pages - runs + 1], "pinned": [], "cma": []}
    return json.dumps(document, separators=(",", ":")).encode()


@pytest.mark.parametrize("runs", [1, 30, 900])
def test_a_capture_takes_eight_times_its_text_at_most(good: bytes, runs: int) -> None:
    data, little = many_runs(good, runs), 64 << 10
    assert len(capture.loads(data).blocks[0].pages.runs) == runs
    assert peak(data) <= 8 * len(data) + little


@pytest.mark.parametrize("what", ["257,", '"ab",', "[],", "{},", "1.25,", '[[""]],', "1,", "12345,", '"\\u0100",'])
@pytest.mark.parametrize("within", ["whole", "kinds", "blocks"])
def test_text_of_many_small_values_takes_no_more(what: str, within: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "_LITTLE", 64 << 10)
    values = "[" + what * (300_000 // len(what)) + what[:-1] + "]"
    text = values if within == "whole" else f'{{"hotbank":"capture","version":1,"{within}":{values}}}'
    assert peak(text.encode()) <= 10 * len(text)
