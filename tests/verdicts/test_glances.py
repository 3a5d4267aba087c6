# SPDX-License-Identifier: Apache-2.0
"""Choosing by a glance: as good as by surveys of everything, and only what is about to be chosen is surveyed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

import pytest

from host.captured_trees import Made, MadeBlock, kcore, words
from hotbank.errors import Code
from hotbank.host import Host, pages
from hotbank.machine import Survey
from hotbank.memory import KIB, Kind
from hotbank.operate import plan_free
from hotbank.operate.choice import choose
from hotbank.operate.look import glances_at, surveys_of

PAGES, BLOCKS = 64, range(4, 12)
BLOCK = PAGES * 4 * KIB
ANON = pages.LRU | pages.UPTODATE | pages.ANON | pages.SWAPBACKED | pages.MMAP
SORTS = {
    "free": (pages.BUDDY, 0, 0),
    "anon": (ANON, 1, 1),
    "listed": (0, 0, 0),  # free, in a per-CPU list
    "kernel": (0, 0, 1),
    "slab": (pages.SLAB, 0, 1),
    "pinned": (ANON, 1, 2),
}
ZONE = (
    "Node 0, zone  Movable\n  pages free     4000\n        min      10\n        low      20\n        high     30\n"
    "        spanned  9000\n        present  9000\n        managed  9000\n  start_pfn:           256\n"
)


def machine(root: Path, blocks: list[list[str]], zones: str = "Movable") -> Host:
    made = [SORTS[sort] for block in blocks for sort in block]
    first, last = BLOCKS.start * PAGES, BLOCKS.stop * PAGES
    files: dict[str, str | bytes] = {
        "proc/kpageflags": words([pages.NOPAGE] * first + [page[0] for page in made]),
        "proc/kpagecount": words([0] * first + [page[1] for page in made]),
        "proc/kcore": kcore({first + at: page[2] for at, page in enumerate(made)}, pages=last),
        "proc/zoneinfo": ZONE.replace("Movable", zones),
        "proc/iomem": f"{first * 4096:08x}-{last * 4096 - 1:08x} : System RAM\n",
        "proc/sys/kernel/arch": "x86_64\n",
    }
    return Host(Made(tuple(MadeBlock(n, zones=zones) for n in BLOCKS), BLOCK, files).at(root))


def some(random: Random, troubles: float) -> list[str]:
    """A block's pages; some blocks have one in the way."""
    used = random.random()
    found = random.choices(["free", "anon", "listed"], [1 - used, used, 0.1], k=PAGES)
    if random.random() < troubles:
        found[random.randrange(PAGES)] = random.choice(["pinned", "slab", "kernel"])
    return found


def is_as_good_as_surveys_of_all(host: Host) -> None:
    """Assert that what is chosen is what a choice from surveys of all blocks would be."""
    snapshot = host.snapshot()
    surveys = surveys_of(host, snapshot, BLOCKS)
    for wanted in (1, 3, 6):
        found, best = plan_free(host, wanted * BLOCK), choose(snapshot, surveys, wanted * BLOCK)
        assert (found.plan.code, found.size, found.plan.may_move) == (best.plan.code, best.size, best.plan.may_move)
        assert found.at_least == best.at_least


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("zones", ["Movable", "Normal"])
def test_it_is_as_good_as_a_choice_from_surveys_of_all(seed: int, zones: str, tmp_path: Path) -> None:
    random = Random(seed)
    is_as_good_as_surveys_of_all(machine(tmp_path, [some(random, 0.1 * seed) for _ in BLOCKS], zones))


@pytest.fixture
def surveyed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The blocks that are surveyed, in order."""
    asked, right = list[int](), Host.surveys

    def surveys(host: Host, blocks: Iterable[int], *, pins: bool = True) -> Iterator[Survey]:
        for survey in right(host, blocks, pins=pins):
            if pins:
                asked.append(survey.block)
            yield survey

    monkeypatch.setattr(Host, "surveys", surveys)
    return asked


def test_only_what_is_about_to_be_chosen_is_surveyed(tmp_path: Path, surveyed: list[int]) -> None:
    """Block 4 would move least and is pinned, which only its survey says; then 5 is, and leaves."""
    blocks = [["anon"] * n + ["free"] * (PAGES - n) for n in range(2, 2 + len(BLOCKS))]
    blocks[0][0] = "pinned"
    found = plan_free(machine(tmp_path, blocks), BLOCK)
    assert (found.plan.code, found.plan.blocks, found.plan.pages) == (Code.OK, (5,), 3)
    assert surveyed == [4, 5]
    assert [(given.name, given.code) for given in found.given_up] == [("memory4", Code.PINNED)]


def test_where_nothing_can_leave_all_is_surveyed_and_the_reasons_are_true(tmp_path: Path, surveyed: list[int]) -> None:
    found = plan_free(machine(tmp_path, [["pinned"] + ["free"] * (PAGES - 1)] * len(BLOCKS)), BLOCK)
    assert found.plan.steps == ()
    assert {given.code for given in found.given_up} == {Code.PINNED}
    assert set(surveyed) == set(BLOCKS)


def test_a_glance_says_no_more_against_a_block_than_its_survey(tmp_path: Path) -> None:
    random = Random(7)
    host = machine(tmp_path, [random.choices(list(SORTS), k=PAGES) for _ in BLOCKS], "Normal")
    snapshot = host.snapshot()
    glances, surveys = glances_at(host, snapshot, BLOCKS), surveys_of(host, snapshot, BLOCKS)
    for number in BLOCKS:
        glance, survey = glances[number], surveys[number]
        assert glance.blocked < survey.blocked
        assert glance.to_move <= survey.to_move
        assert all(glance.kinds[kind] <= survey.kinds[kind] for kind in glance.kinds)
        assert "pins" in glance.unknown
        assert Kind.UNKNOWN not in glance.kinds
        assert all(evidence.owner is None for evidence in glance.blocking)
