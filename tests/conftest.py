# SPDX-License-Identifier: Apache-2.0
"""What each kind of test took, in one line at the end of every run, so that anyone sees when one of them grows."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Generator

import pytest

ARCHES = ("arm64", "arm32")
_seconds = pytest.StashKey[dict[str, float]]()


def pytest_configure(config: pytest.Config) -> None:
    """Nothing took any time yet."""
    config.stash[_seconds] = defaultdict(float)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test with its fixtures: the first of a module pays for what the others share."""
    began = time.perf_counter()
    try:
        return (yield)
    finally:
        item.config.stash[_seconds][kind_of(item)] += time.perf_counter() - began


def kind_of(item: pytest.Item) -> str:
    """A test with several markers counts once, for the most expensive."""
    for marker in ("slow", "kernel", "long"):
        if item.get_closest_marker(marker) is not None:
            arch = next((folder for folder in item.path.parts if folder in ARCHES), "") if marker == "kernel" else ""
            return f"{marker} {arch}".strip()
    return "the rest"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The line."""
    took = sorted(((seconds, kind) for kind, seconds in config.stash[_seconds].items()), reverse=True)
    if took:
        terminalreporter.write_line("wall time: " + ", ".join(f"{kind} {seconds:.0f} s" for seconds, kind in took))
