# SPDX-License-Identifier: Apache-2.0
"""Hypothesis' profiles; which files begin; and what each kind of test took, in one line at the end of every run, so
that anyone sees when one of them grows."""

from __future__ import annotations

import gc
import os
import signal
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import pytest

import effort

effort.register()
# Commands that tests start would be compiled anew each time, which is half of what most of them take.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# A shell starts what runs in the background deaf to Ctrl-C, and what tests start would be so too: some send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ARCHES = ("arm64", "arm32")
HERE = Path(__file__).parent
# Files run side by side, these first: what is left for the end is short.
LONGEST = (
    "kernel/arm64/test_compare.py",
    "kernel/arm64/test_verdicts.py",
    "kernel/arm64/test_breath.py",
    "kernel/arm64/test_routes.py",
    "kernel/arm64/test_crashes.py",
    "kernel/arm32/test_banks.py",
)
pytest.register_assert_rewrite("contract.promises")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then what boots a kernel, then the rest."""
    first = {str(HERE / name): rank for rank, name in enumerate(LONGEST)}

    def rank(item: pytest.Item) -> int:
        return first.get(str(item.path), len(first) + (item.get_closest_marker("kernel") is None))

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """Thousands of tests stay to the end: each search for garbage would look through them anew."""
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A report says of which kind its test is: it may come from another process, where there is no item to ask."""
    report = yield
    report.user_properties.append(("kind", kind_of(item)))
    return report


def kind_of(item: pytest.Item) -> str:
    """A test with several markers counts once, for the most expensive."""
    for marker in ("slow", "kernel", "long"):
        if item.get_closest_marker(marker) is not None:
            arch = next((folder for folder in item.path.parts if folder in ARCHES), "") if marker == "kernel" else ""
            return f"{marker} {arch}".strip()
    return "the rest"


def _kind_told(report: pytest.TestReport) -> str:
    """The report of a test that took its process with it was made by nobody who knew."""
    return str(dict(report.user_properties).get("kind", "crashed"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The line. A test counts with its fixtures: the first of a module pays for what the others share. Of tests that
    run side by side it is the sum."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[_kind_told(report)] += report.duration
    took = sorted(((total, kind) for kind, total in seconds.items()), reverse=True)
    if took:
        terminalreporter.write_line("wall time: " + ", ".join(f"{kind} {total:.0f} s" for total, kind in took))
