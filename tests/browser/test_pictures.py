# SPDX-License-Identifier: Apache-2.0
"""The pictures in README and docs are of pages as they are taken today: size, ground, and where there is ink."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageChops
from selenium.webdriver import Chrome

from browser import pictures
from browser.browsing import complaints, keep
from browser.site import Site
from hotbank.serve import ModelSpec
from hotbank.serve.daemon import boot

ALIKE = 0.8  # of all pixels: times and numbers differ, and how far a bank has come
SMALL = 80_000  # bytes
pytestmark = [pytest.mark.long, pytest.mark.referee]


def alike(one: Image.Image, other: Image.Image) -> float:
    """The share of pixels that are about the same."""
    differences = ImageChops.difference(one.convert("L"), other.convert("L")).histogram()
    return sum(differences[:24]) / (one.width * one.height)


def kept(name: str) -> Image.Image:
    return Image.open(pictures.FOLDER / f"{name}.png").convert("RGB")


def test_the_live_page_looks_as_in_its_pictures(browser: Chrome, tmp_path: Path) -> None:
    board = tmp_path / "four-banks.toml"
    board.write_text(pictures.board(), encoding="utf-8")
    with Site(boot(ModelSpec(str(board), pages=pictures.PAGES, faults=("pin",)))) as site:
        for name, shown in pictures.live(site, browser, past=0.5):
            assert shown.size == kept(name).size
            assert alike(shown, kept(name)) > ALIKE
            keep(shown, tmp_path / f"{name}.png")
            assert (tmp_path / f"{name}.png").stat().st_size < SMALL
        assert complaints(browser) == []
        browser.get("about:blank")


def test_pictures_are_small_and_differ() -> None:
    assert all((pictures.FOLDER / f"{name}.png").stat().st_size < SMALL for name in pictures.NAMES)
    assert alike(kept("web-light"), kept("web-dark")) < ALIKE
