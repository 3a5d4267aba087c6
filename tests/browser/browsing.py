# SPDX-License-Identifier: Apache-2.0
"""Debian's Chromium, without a window, and what the tests look at in it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

SIZE = (1440, 900)
_WORDS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb")


@contextmanager
def chromium() -> Iterator[Chrome]:
    """One browser, with nothing fetched for it and every message of its console kept."""
    options = ChromeOptions()
    for word in (*_WORDS, f"--window-size={SIZE[0]},{SIZE[1]}"):
        options.add_argument(word)
    options.binary_location = _found("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options, ChromeService(_found("chromedriver")))
    try:
        yield browser
    finally:
        browser.quit()


def _found(program: str) -> str:
    path = shutil.which(program)
    assert path is not None, f"{program} is missing: tests/referees.sh installs it"
    return path


def turn(browser: Chrome, scheme: str) -> None:
    """``dark`` or ``light``, as the reader's system would have it."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def resize(browser: Chrome, width: int, height: int) -> None:
    """So many pixels of page, whatever the window's frame."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})


def complaints(browser: Chrome) -> list[str]:
    """What the console has said since it was last asked: errors, warnings, refusals of the page's policy."""
    entries = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]


def picture(browser: Chrome) -> Image.Image:
    """What is to be seen now."""
    return Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")


def keep(shown: Image.Image, path: Path) -> None:
    """As a small file."""
    shown.quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)
