# SPDX-License-Identifier: Apache-2.0
"""The pictures of pages in README and docs, taken in Chromium: ``PYTHONPATH=src:tests python -m browser.pictures``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

import patience
from browser.browsing import chromium, keep, picture, resize, turn
from browser.site import Site
from hotbank.cli import run
from hotbank.serve import ModelSpec
from hotbank.serve.daemon import boot

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
SCHEMES = ("light", "dark")
LIVE, REPORT = (1320, 980), (1080, 620)
NAMES = tuple(f"{kind}-{scheme}" for kind in ("web", "simulate") for scheme in SCHEMES)
PAGES = 90_000  # of 4 KiB, in use
PAST = 12.0  # seconds to look back at
_BOARD = """
name = "four-banks"
arch = "arm"
page_size = "4K"
block_size = "64M"
describe = "atags"
[bank.low]
start = 0x40000000
size = "512M"
"""
_BANK = """
[bank.{name}]
start = {start:#x}
size = "256M"
movable = true
route = "driver"
domain = "ddr-{name}"
[domain.ddr-{name}]
states = ["on", "self-refresh", "off"]
switch = "machine"
"""


def board() -> str:
    """Of a kernel's bank and three that may leave."""
    banks = (_BANK.format(name=name, start=0x60000000 + (at << 28)) for at, name in enumerate(("one", "two", "three")))
    return _BOARD + "".join(banks)


def live(site: Site, browser: Chrome, past: float = PAST) -> Iterator[tuple[str, Image.Image]]:
    """A bank that is dark, one that a pinned page keeps, and one on its way out."""
    resize(browser, *LIVE)
    browser.get(site.url)
    patience.until(lambda: browser.find_element(By.ID, "state").text == "live")
    site.session.remove("three")
    browser.execute_script("document.getElementById('map').map.select(28)")
    for scheme in SCHEMES:
        turn(browser, scheme)
        for block in site.session.list().blocks:
            site.feed.look(block.number)
        time.sleep(past)
        site.feed.change("remove", "one")
        patience.until(lambda: steps(site) > 2)
        time.sleep(0.5)
        yield f"web-{scheme}", picture(browser)
        patience.until(lambda: not site.feed.ordering)
        site.session.add("one")


def steps(site: Site) -> int:
    """Of the removal that runs."""
    running = site.feed.frame and site.feed.frame.running
    return len(running.steps) if running and running.order == "remove one" and running.ended is None else 0


def report(file: Path, browser: Chrome) -> Iterator[tuple[str, Image.Image]]:
    """The camera's half hour."""
    resize(browser, *REPORT)
    for scheme in SCHEMES:
        turn(browser, scheme)
        browser.get(file.as_uri())
        yield f"simulate-{scheme}", picture(browser)


def main() -> None:
    """Draw all anew."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        file, machine = Path(folder, "four-banks.toml"), Path(folder, "camera.html")
        file.write_text(board(), encoding="utf-8")
        run(["simulate", "arm-2009", "--workload", "camera", "--html", str(machine)])
        with Site(boot(ModelSpec(str(file), pages=PAGES, faults=("pin",)))) as site:
            for name, shown in (*live(site, browser), *report(machine, browser)):
                keep(shown, FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
