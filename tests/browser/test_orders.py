# SPDX-License-Identifier: Apache-2.0
"""What a page orders is a plan that it has shown, of the machine as it is; the governor hears it too."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import patience
from browser.site import Site
from hotbank import board
from hotbank.memory import KernelState
from hotbank.model import Model


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(Model.boot(board.load("arm-2009"))) as site:
        yield site


def kernel(site: Site) -> KernelState | None:
    bank = site.session.list().bank("high")
    return None if bank is None else bank.kernel


def test_a_plan_is_carried_out(site: Site) -> None:
    plan = site.post("plan", {"verb": "remove", "name": "high"})[1]["done"]
    assert site.post("order", plan) == (200, {"done": None})
    patience.until(lambda: kernel(site) is KernelState.ABSENT)
    patience.until(lambda: not site.feed.ordering)
    assert site.session.history()[-1].before.targets == ("high",)


def test_a_plan_of_a_machine_that_has_changed_is_refused(site: Site) -> None:
    plan = site.post("plan", {"verb": "remove", "name": "high"})[1]["done"]
    site.session.remove("memory20")
    assert site.post("order", plan)[0] == 200  # what refuses it comes with the frames
    patience.until(lambda: site.feed.frame and site.feed.frame.running and site.feed.frame.running.code == "CHANGED")
    assert kernel(site) is KernelState.PARTIAL


@pytest.mark.parametrize("plan", [{}, {"found": None}, {"found": {}}, {"found": {"x": 1}}])
def test_what_is_no_plan_is_refused(site: Site, plan: object) -> None:
    status, told = site.post("order", plan)
    assert (status, told["error"]["code"]) == (400, "BAD_FORMAT")
    assert kernel(site) is KernelState.ONLINE


def test_the_governor_is_paused_and_goes_on(site: Site) -> None:
    assert site.post("pause", {}) == (200, {"done": None})
    assert site.session.auto().orders.paused
    assert site.post("resume", {}) == (200, {"done": None})
    assert not site.session.auto().orders.paused


def test_a_name_with_half_of_a_character_is_told_in_frames_and_moments(site: Site) -> None:
    assert site.post("plan", {"verb": "remove", "name": "\ud800"})[0] == 404
    assert site.post("look", {"name": "\ud800"})[0] == 200
    patience.until(lambda: site.feed.frame and "\ud800" in site.feed.frame.looks)
    status, told, _ = site.call("/moment?at=9e9")
    assert (status, list(json.loads(told)["looks"])) == (200, ["\ud800"])
