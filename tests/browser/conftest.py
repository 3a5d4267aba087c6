# SPDX-License-Identifier: Apache-2.0
"""One browser for all tests of a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome

from browser.browsing import SIZE, chromium, complaints, resize, turn


@pytest.fixture(scope="session")
def whole_browser() -> Iterator[Chrome]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def browser(whole_browser: Chrome) -> Iterator[Chrome]:
    """As it was at first, and silent; the page that a test leaves open is closed before its server goes."""
    whole_browser.get("about:blank")
    turn(whole_browser, "light")
    resize(whole_browser, *SIZE)
    complaints(whole_browser)
    yield whole_browser
    whole_browser.get("about:blank")
