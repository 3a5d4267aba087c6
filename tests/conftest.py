# SPDX-License-Identifier: Apache-2.0
"""Hypothesis' profiles; and what each kind of test took, in one line at the end of every run, so that anyone sees when
one of them grows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator

import pytest

import effort

effort.register()

ARCHES = ("arm64", "arm32")
pytest.register_assert_rewrite("contract.promises")


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
