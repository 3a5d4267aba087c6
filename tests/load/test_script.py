# SPDX-License-Identifier: Apache-2.0
"""Workloads from TOML: what is refused, what each part does, and that a seed fixes everything."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from hotbank import board
from hotbank.errors import BoardError, Code
from hotbank.firmware import describe
from hotbank.keys import shipped
from hotbank.load import script as scripts
from hotbank.load.script import Playback
from hotbank.memory import Kind
from hotbank.model import Model
from hotbank.model.clock import Costs, load_costs
from model.small_boards import FOREVER, HIGH, errno_of, small_model

HEAD = 'name = "t"\nseconds = 100\n'
GROWTH = '[[growth]]\ncomm = "app"\nfrom = "1M"\nto = "4M"\nrate = "1M"\n'
PARTS = {
    "growth": GROWTH,
    "ramp": '[[ramp]]\ncomm = "app"\npoints = [[0, "1M"], [4, "4M"], [6, "1M"]]\nagain = true\n',
    "churn": '[[churn]]\ncomm = "app"\nsize = "2M"\nrate = "1M"\n',
    "scan": '[[scan]]\nsize = "2M"\nrate = "1M"\nfiles = 2\ndirty = 50\n',
    "fork": '[[fork]]\ncomm = "app"\nsize = "1M"\nshared = "64K"\nevery = 2\nlive = 1\n',
    "pin": '[[pin]]\ncomm = "app"\nsize = "1M"\nevery = 1\nhold = 0.5\n',
    "inodes": "[[inodes]]\ncount = 4000\n",
    "driver": '[[driver]]\nsize = "1M"\nhold = 2\n',
}


def played(text: str, seed: int = 0, seconds: float = 30) -> tuple[Model, Playback]:
    model = small_model()
    playback = Playback(model, scripts.loads(HEAD + text), seed).start()
    model.clock.sleep(seconds)
    model.validate()
    assert model.check_contents() == ()
    return model, playback


@pytest.mark.parametrize("kind", PARTS)
def test_each_part_lives_and_leaves_the_books_right(kind: str) -> None:
    model, playback = played(PARTS[kind])
    assert playback.refused == 0
    assert playback.acts >= (1 if kind == "inodes" else 10)
    playback.stop()
    acts = playback.acts
    model.clock.sleep(30)
    assert playback.acts == acts


def test_a_ramp_follows_its_points() -> None:
    """64 KiB every 0.5 s up to 1.5 MiB, down again, and once more."""
    points = '[[ramp]]\ncomm = "app"\npoints = [[0, "64K"], [10, "1344K"], [20, "64K"]]\nagain = {}\n'

    def sizes(again: str) -> list[int]:
        model = small_model()
        Playback(model, scripts.loads(HEAD + points.format(again))).start()
        model.clock.sleep(0)
        seen = []
        for _ in range(6):
            (process,) = model.tasks.processes.values()
            seen.append(process.rss * 4)
            model.clock.sleep(5)
        return seen

    assert sizes("true") == [64, 704, 1344, 704, 64, 704]
    assert sizes("false") == [64, 704, 1344, 704, 64, 64]


def test_what_the_parts_hold() -> None:
    def pages(kind: str, of: Kind, seconds: float = 30) -> int:
        model, _ = played(PARTS[kind], seconds=seconds)
        return sum(model.survey(b.number).kinds.get(of, 0) for b in model.snapshot().blocks)

    bare = small_model()
    slab = sum(bare.survey(b.number).kinds.get(Kind.SLAB, 0) for b in bare.snapshot().blocks)
    assert pages("churn", Kind.ANON) == 512
    assert 256 <= pages("growth", Kind.ANON) <= 1024
    assert 0 < pages("scan", Kind.FILE) <= 1024
    assert pages("fork", Kind.SHMEM) == 16
    assert pages("inodes", Kind.SLAB) == slab + 1000 + 191


def test_a_seed_fixes_everything() -> None:
    everything = "".join(PARTS.values())
    first, again, other = (played(everything, seed) for seed in (1, 1, 2))
    assert first[0].snapshot() == again[0].snapshot()
    assert (first[1].acts, first[0].clock.now()) == (again[1].acts, again[0].clock.now())
    assert first[0].snapshot() != other[0].snapshot()


def test_parts_begin_and_end_when_they_say() -> None:
    model = small_model()
    script = scripts.loads(HEAD + PARTS["churn"] + "start = 10\nuntil = 20\n")
    playback = Playback(model, script).start()
    model.clock.sleep(9.9)
    assert playback.acts == 0
    model.clock.sleep(10)
    acts = playback.acts
    assert acts > 5
    model.clock.sleep(30)
    assert playback.acts == acts


def test_a_part_that_is_refused_begins_anew() -> None:
    model, playback = played(PARTS["growth"].replace("4M", "400M").replace("1M", "10M"), seconds=90)
    assert playback.refused > 0
    assert len(model.tasks.oom_killed) > 0
    assert len(model.tasks.processes) <= 1, "what was refused has ended"


def test_a_pin_for_good_keeps_its_block() -> None:
    model, _ = played(PARTS["pin"].replace("hold = 0.5", "hold = 0"))
    blocked = [number for number in HIGH if model.survey(number).blocking]
    assert len(blocked) == 1
    assert [errno_of(model, number, 1.0) != 0 for number in HIGH] == [number in blocked for number in HIGH]


def test_forty_thousand_inodes_with_the_movable_bank_and_without() -> None:
    """As on the 32-bit port: a bank described as movable leaves; without the tag slab pages keep a block of it."""

    def left(model: Model) -> list[int]:
        script = scripts.load("inodes")
        Playback(model, script).start()
        model.clock.sleep(script.seconds)
        bank = model.snapshot().bank("high")
        assert bank is not None
        return [errno_of(model, number, FOREVER) for number in bank.blocks]

    tagged = board.load("arm-2009")
    assert set(left(Model.boot(tagged))) == {0}
    tag, plain = (0x5441004D).to_bytes(4, "little"), (0x54410002).to_bytes(4, "little")
    untagged = describe(tagged, "atags").data.replace(tag, plain)
    assert errno.EBUSY in left(Model.boot(tagged, description=untagged))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (HEAD + GROWTH + 'rat = "2M"\n', "growth[0].rat"),
        (HEAD + '[[ramp]]\ncomm = "app"\npoints = [[0, "1M"]]\n', "ramp[0].points"),
        (HEAD + '[[ramp]]\ncomm = "app"\npoints = [[0, "1M"], [0, "2M"]]\n', "ramp[0].points"),
        (HEAD + '[[ramp]]\ncomm = "app"\npoints = [[1, "1M"], [2, "2M"]]\n', "ramp[0].points"),
        (HEAD + "colour = 1\n" + GROWTH, "colour"),
        (HEAD + '[[grwth]]\ncomm = "a"\n', "grwth"),
        (HEAD + GROWTH.replace('to = "4M"\n', ""), "growth[0].to"),
        (HEAD + GROWTH.replace("4M", "512K"), "growth[0].to"),
        (HEAD + GROWTH.replace("4M", "much"), "growth[0].to"),
        (HEAD + GROWTH + "start = 50\nuntil = 20\n", "growth[0].until"),
        (HEAD + GROWTH + "start = -1\n", "growth[0].start"),
        (HEAD + PARTS["inodes"].replace("4000", "0"), "inodes[0].count"),
        (HEAD + PARTS["scan"].replace("50", "101"), "scan[0].dirty"),
        (HEAD + '[growth]\ncomm = "a"\n', "growth"),
        (HEAD, "workload"),
        ('name = "t"\n' + GROWTH, "seconds"),
        ("name =", "workload"),
        (HEAD + "huge = " + "9" * 5000 + "\n", "workload"),
        (HEAD + "deep = " + "[" * 5000 + "\n", "workload"),
    ],
)
def test_what_is_wrong_with_a_workload_is_said(text: str, key: str) -> None:
    with pytest.raises(BoardError) as caught:
        scripts.loads(text)
    assert (caught.value.key, caught.value.code) == (key, Code.BAD_FORMAT)


def test_all_mistakes_of_a_workload_are_told_with_their_lines() -> None:
    wrong = HEAD + GROWTH.replace("4M", "much") + 'rat = "2M"\n' + PARTS["scan"].replace("50", "101") + "movable = 1\n"
    with pytest.raises(BoardError) as caught:
        scripts.loads(wrong, "w.toml")
    lines = wrong.splitlines()
    told = [(lines[mistake.line - 1].split()[0], mistake.key) for mistake in caught.value.mistakes]
    assert told == [
        ("to", "growth[0].to"),
        ("rat", "growth[0].rat"),
        ("dirty", "scan[0].dirty"),
        ("movable", "scan[0].movable"),
    ]
    assert {mistake.code for mistake in caught.value.mistakes} == {Code.BAD_FORMAT}


@pytest.mark.parametrize("name", [path.stem for path in shipped("workloads")[-1].glob("*.toml")])
def test_shipped_workloads_can_be_read(name: str) -> None:
    assert scripts.load(name).name == name


def test_an_unknown_workload_names_those_there_are() -> None:
    with pytest.raises(BoardError, match="camera, inodes"):
        scripts.load("nowhere")


# Costs


def test_costs_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "costs.toml"
    path.write_text("migrate_page = 1e-6\nisolate_block = 0\n")
    costs = load_costs(path)
    assert (costs.migrate_page, costs.isolate_block, costs.add_bank) == (1e-6, 0.0, Costs().add_bank)
    path.write_text("migrate_pages = 1\n")
    with pytest.raises(BoardError, match="unknown key"):
        load_costs(path)
    path.write_text("migrate_page = -1\n")
    with pytest.raises(BoardError, match="0 or more"):
        load_costs(path)
