# SPDX-License-Identifier: Apache-2.0
"""Orders that rest on what our driver counts: as good as by surveys, without a page read, and with few questions."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import pytest

from hotbank.errors import Code
from hotbank.host import Host
from hotbank.machine import Survey
from hotbank.operate import explain, plan_free, plan_remove
from hotbank.operate.look import counted, surveys_of
from verdicts.test_glances import BLOCK, BLOCKS, PAGES, is_as_good_as_surveys_of_all, machine, some

OF_PAGES = ("kpageflags", "kpagecount", "kcore")
KINDS = {"free": 1, "listed": 1, "anon": 2, "pinned": 2, "slab": 7, "kernel": 10}


def counting(root: Path, blocks: Sequence[Sequence[str]], zones: str = "Movable") -> Host:
    """The machine, with our driver's counts of all of its blocks."""
    host = machine(root, [list(block) for block in blocks], zones)
    folder = root / "sys/class/hotbank/all"
    folder.mkdir(parents=True)
    (folder / "range").write_text(f"{BLOCKS.start * BLOCK:#x}-{BLOCKS.stop * BLOCK - 1:#x}\n")
    (folder / "counts").write_bytes(b"".join(record(block, zones) for block in blocks))
    return host


def record(pages: Sequence[str], zones: str) -> bytes:
    """kernel/bank/counts.c, ``struct bank_counts``."""
    kinds = [0] * 16
    for page in pages:
        kinds[KINDS[page]] += 1
    movable = PAGES if zones == "Movable" else 0
    return struct.pack("=3Ii60I", 1, pages.count("pinned"), movable, 0, *kinds, *[0] * 44)


def clear(random: Random) -> list[str]:
    return random.choices(["free", "anon", "listed"], k=PAGES)


@pytest.mark.parametrize("seed", [0, 5, 9])
@pytest.mark.parametrize("zones", ["Movable", "Normal"])
def test_it_is_as_good_as_a_choice_from_surveys_of_all(seed: int, zones: str, tmp_path: Path) -> None:
    random = Random(seed)
    is_as_good_as_surveys_of_all(counting(tmp_path, [some(random, 0.1 * seed) for _ in BLOCKS], zones))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_count_is_a_survey_or_is_left_out(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    blocks = [some(random, 0.5) for _ in BLOCKS]
    host = counting(tmp_path, blocks)
    snapshot = host.snapshot()
    counts, surveys = counted(host, snapshot, BLOCKS), surveys_of(host, snapshot, BLOCKS)
    doubtful = {number for number, pages in zip(BLOCKS, blocks, strict=True) if {"pinned", "slab"} & set(pages)}
    assert counts == {number: survey for number, survey in surveys.items() if number not in doubtful}


def test_where_all_can_move_no_page_is_read(tmp_path: Path) -> None:
    """The files that show pages are not even there; the answers are those from when they were."""
    random = Random(3)
    host = counting(tmp_path, [clear(random) for _ in BLOCKS])
    free, two = plan_free(host, 2 * BLOCK), plan_remove(host, [4, 7])
    for name in OF_PAGES:
        (tmp_path / "proc" / name).unlink()
    assert (plan_free(host, 2 * BLOCK), plan_remove(host, [4, 7])) == (free, two)
    assert free.plan.code is two.code is Code.OK


def test_only_what_a_count_leaves_open_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block 5 has a pin, which its survey names, and so it is passed over."""
    blocks = [["anon"] * (8 + n) + ["free"] * (PAGES - 8 - n) for n in range(len(BLOCKS))]
    blocks[1][0] = "pinned"
    asked, right = list[tuple[int, bool]](), Host.surveys

    def surveys(host: Host, numbers: Sequence[int], *, pins: bool = True) -> Mapping[int, Survey]:
        wanted = list(numbers)
        asked.extend((number, pins) for number in wanted)
        return right(host, wanted, pins=pins)  # type: ignore[return-value]

    monkeypatch.setattr(Host, "surveys", surveys)
    found = plan_free(counting(tmp_path, blocks), 2 * BLOCK)
    assert found.plan.blocks == (4, 6)
    assert [(given.name, given.code) for given in found.given_up] == [("memory5", Code.PINNED)]
    assert asked == [(5, False), (5, True)]


def test_boot_memory_that_never_leaves_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While anything can be chosen: else all is surveyed, for the reasons."""
    host = counting(tmp_path, [["anon"] * 8 + ["free"] * (PAGES - 8) for _ in BLOCKS])
    first, last = (at * BLOCK for at in (BLOCKS.start, BLOCKS.stop))
    (tmp_path / "proc/iomem").write_text(
        f"{first:08x}-{first + 2 * BLOCK - 1:08x} : System RAM\n"
        f"{first + 2 * BLOCK:08x}-{last - 1:08x} : System RAM (hotbank)\n"
    )
    (tmp_path / "proc/sys/kernel/arch").write_text("aarch64\n")
    (tmp_path / "sys/class/hotbank/all/counts").unlink()
    glanced, right = list[int](), Host.surveys

    def surveys(host: Host, numbers: Sequence[int], *, pins: bool = True) -> Mapping[int, Survey]:
        wanted = list(numbers)
        glanced.extend(wanted if not pins else ())
        return right(host, wanted, pins=pins)  # type: ignore[return-value]

    monkeypatch.setattr(Host, "surveys", surveys)
    found = plan_free(host, BLOCK)
    assert [(given.name, given.code) for given in found.given_up] == [
        (f"memory{number}", Code.BOOT_MEMORY) for number in BLOCKS[:2]
    ]
    assert glanced == list(BLOCKS[2:])


def test_who_asks_for_the_reason_has_the_pages_looked_at(tmp_path: Path) -> None:
    host = counting(tmp_path, [["free"] * PAGES for _ in BLOCKS])
    for name in OF_PAGES:
        (tmp_path / "proc" / name).unlink()
    assert plan_remove(host, [4]).code is Code.OK
    assert explain(host, 4).code is Code.PINS_UNKNOWN
