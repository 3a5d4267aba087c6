# SPDX-License-Identifier: Apache-2.0
"""A simulation as a picture: what was used, in the kernel and dark, and below it when each bank was dark.

Needs matplotlib, the extra ``plot``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hotbank.cli import plots
from hotbank.memory import GIB, Power
from hotbank.simulate import Report

_DARK = {Power.SELF_REFRESH: "#7570b3", Power.OFF: "#444444"}


def draw(report: Report, path: str) -> None:
    """Write the picture, SVG or PNG by its name. Raises Refusal without matplotlib or for another kind, OSError."""
    kind = plots.kind_of(path)
    figure = plots.figure(9, 4 + 0.3 * len(report.banks))
    memory, banks = figure.subplots(2, 1, sharex=True, height_ratios=(3, 0.4 * max(1, len(report.banks))))
    _draw_memory(memory, report)
    _draw_banks(banks, report)
    Path(path).write_bytes(plots.rendered(figure, kind))


def _draw_memory(axes: Any, report: Report) -> None:
    """Lines stand where something changed: what the kernel has lasts until the next one, and until the end."""
    times, used, on, off = zip(*report.timeline, strict=True) if report.timeline else ((), (), (), ())
    until = (*times, report.seconds)
    total = [(a + b) / GIB for a, b in zip(on, off, strict=True)]
    axes.stairs([size / GIB for size in on], until, fill=True, color="#d95f02", alpha=0.4, label="in the kernel")
    axes.stairs(total, until, baseline=[size / GIB for size in on], fill=True, color="#444444", label="dark")
    axes.plot(times, [size / GIB for size in used], color="#1b9e77", marker=".", label="used, at each change")
    axes.legend(loc="upper right", fontsize="small")
    title = f"{report.snapshot.machine}, {report.load.name}, policy {report.settings.name}"
    axes.set(title=title, ylabel="GiB", xlim=(0, max(1e-9, report.seconds)), ylim=(0, None))


def _draw_banks(axes: Any, report: Report) -> None:
    for row, bank in enumerate(report.banks):
        for began, ended, power in bank.dark(report.seconds):
            axes.broken_barh([(began, ended - began)], (row - 0.4, 0.8), facecolors=_DARK[power])
    axes.set_yticks(range(len(report.banks)), [bank.name for bank in report.banks])
    axes.set(xlabel="seconds")
