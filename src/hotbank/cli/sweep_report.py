# SPDX-License-Identifier: Apache-2.0
"""A sweep as lines of text, as a picture, and as one page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from hotbank.cli import plots, table
from hotbank.cli.terminal import counted
from hotbank.sweep.report import Line, Report
from hotbank.sweep.store import replace_file

HEADINGS = ("POLICY", "RUNS", "SAVED", "SPREAD", "OF-OPTIMUM", "WATTS", "SHORT", "P99", "MOST", "WORSE", "PARETO")
_STYLE = """body { font: 15px/1.5 sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse } td, th { padding: .2em .8em; border-bottom: 1px solid #ccc; text-align: right }
td:first-child, th:first-child { text-align: left } svg { max-width: 100%; height: auto }"""


def lines(report: Report) -> Iterator[str]:
    """For people: a line for each policy as it was set, and what it would mean for a fleet."""
    yield f"{report.name}: {report.there} of {counted(report.wanted, 'run')} there"
    yield from table.lines(HEADINGS, [cells(line) for line in report.lines], right=HEADINGS[1:])
    yield from fleet(report)
    yield from (f"failed    {each.run}: {each.code}: {each.message}" for each in report.failed)


def cells(line: Line) -> Sequence[str]:
    """One line of the table, by HEADINGS."""
    share = f"{line.of_optimum.mean:.1%}" if line.of_optimum else "-"
    saved, short = line.saved, line.short
    spread = f"{saved.least:.1%}-{saved.most:.1%}"
    tail = (f"{short.mean:.3g}", f"{short.p99:.3g}", f"{short.most:.3g}")
    watts = f"{line.watts:.3g}"
    best = "yes" if line.best else "-"
    return (line.name, f"{line.runs}", f"{saved.mean:.1%}", spread, share, watts, *tail, f"{line.worse}", best)


def fleet(report: Report) -> Iterator[str]:
    """What so many machines on paper would save, and how often one would be short; nothing without any."""
    for line in report.lines if report.machines else ():
        its = report.fleet(line)
        saves = f"{its['watts']:.3g} W of {its['optimum_watts']:.3g} W ({its['kwh_a_year']:.3g} kWh a year)"
        short = f"{its['short_at_once']:.3g} short at any moment, {its['ever_short']:.3g} ever"
        yield f"{counted(report.machines, 'machine')} under {line.name}: {saves}; {short}"


def check() -> None:
    """Before a long sweep: that its report can be drawn. Raises Refusal without matplotlib."""
    plots.figure(1, 1)


def write(report: Report, folder: Path) -> None:
    """``report.txt``, ``report.svg`` and ``report.html``. Raises Refusal without matplotlib, OSError."""
    picture = plots.rendered(_drawn(report), "svg")
    replace_file(folder / "report.txt", "".join(f"{line}\n" for line in lines(report)).encode())
    replace_file(folder / "report.svg", picture)
    replace_file(folder / "report.html", page(report, picture.decode()).encode())


def page(report: Report, picture: str) -> str:
    """The page, the picture in it."""
    head = "".join(f"<th>{heading.capitalize()}</th>" for heading in HEADINGS)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells(line))}</tr>\n" for line in report.lines)
    more = "".join(f"<p>{escape(line)}</p>\n" for line in fleet(report))
    title = escape(report.name)
    there = f"{report.there} of {counted(report.wanted, 'run')}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n<style>{_STYLE}</style>'
        f"</head>\n<body><h1>{title}</h1>\n<p>{there}. Saved: share of what banks take that are "
        "always on. Short: looks of a thousand. Watts: of a machine.</p>\n"
        f"{picture[picture.index('<svg') :]}\n<table><tr>{head}</tr>\n{rows}</table>\n{more}</body></html>\n"
    )


def _drawn(report: Report) -> Any:
    figure = plots.figure(11, 4 + 0.15 * len(report.lines))
    front, spread = figure.subplots(1, 2)
    _draw_front(front, report)
    _draw_spread(spread, report)
    return figure


def _draw_front(axes: Any, report: Report) -> None:
    """Energy against shortage."""
    for line in report.lines:
        marker, color = ("o", "#1b7837") if line.best else ("x", "#999999")
        axes.plot([line.short.mean], [line.watts], marker, color=color)
        axes.annotate(line.name, (line.short.mean, line.watts), fontsize=7, xytext=(4, 4), textcoords="offset points")
    if report.lines:
        best = max(line.optimum_watts for line in report.lines)
        axes.plot([0], [best], "*", color="#d95f02", markersize=12, label="optimum")
        axes.legend(fontsize="small")
    axes.set(title="energy against shortage", xlabel="looks short, of a thousand", ylabel="watts saved, a machine")


def _draw_spread(axes: Any, report: Report) -> None:
    """From the least to the most, with the mean and the optimum's."""
    for row, line in enumerate(report.lines):
        axes.plot([100 * line.saved.least, 100 * line.saved.most], [row, row], "-", color="#7570b3")
        axes.plot([100 * line.saved.mean], [row], "o", color="#7570b3")
        axes.plot([100 * line.possible], [row], "*", color="#d95f02")
    axes.set_yticks(range(len(report.lines)), [line.name for line in report.lines], fontsize=7)
    axes.set(title="saved, and the optimum", xlabel="% of what is always on")
