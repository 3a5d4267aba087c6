# SPDX-License-Identifier: Apache-2.0
"""``hotbank radar``: the model's rules against kernels in QEMU: which rule changed where?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from hotbank.cli import table
from hotbank.cli.terminal import say, say_json
from hotbank.cli.times import Seconds
from hotbank.errors import Code, HotbankError

if TYPE_CHECKING:
    from hotbank.radar import Cell, Found, Matrix

_WRONG, _NONE = "!", "-"
_WIDTH = 80  # columns


@click.command("radar", short_help="The model's rules against each kernel in QEMU: which rule changed where?")
@click.option("--kernels", "series", metavar="VERSION,...", help="Series or releases of Debian's kernels.")
@click.option("--rule", "rules", metavar="NAME", multiple=True, help="Only this rule; may be given several times.")
@click.option(
    "--between", nargs=2, metavar="VERSION", help="The first kernel in the archive of which the one --rule is not so."
)
@click.option("--deadline", type=Seconds(), metavar="SECONDS", help="For one kernel, from when it is up (600).")
@click.option("-J", "--json", "as_json", is_flag=True, help="One JSON document.")
def radar(
    series: str | None, rules: Sequence[str], between: tuple[str, str] | None, deadline: float | None, as_json: bool
) -> int:
    """Boot each kernel, ask it about each rule by a small experiment, and the model by the kernel's row in the table.

    Exit status 1 if an answer differs from the model's, or a kernel gave none. docs/radar.md says what is asked.
    """
    from hotbank import radar as instrument
    from hotbank.documents import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED

    _check(rules, tuple(instrument.RULES), series, between)
    matrix, found = instrument.Matrix(), None

    def tell(line: str) -> None:
        say(line, err=True)

    limit = deadline or instrument.DEADLINE
    try:
        if between:
            (rule,) = rules
            found = instrument.search(rule, *between, deadline=limit, progress=tell, matrix=matrix)
        else:
            asked = series.split(",") if series is not None else ()
            instrument.look(
                asked, rules, deadline=limit, progress=tell, on_cell=lambda cell: tell(_line(cell)), matrix=matrix
            )
    except KeyboardInterrupt:
        _print(matrix, None, as_json)  # an interrupted sweep has found something, too
        say(f"hotbank: {Code.INTERRUPTED}: after {len(matrix.cells)} answers", err=True)
        return EXIT_INTERRUPTED
    except HotbankError:
        if not as_json:  # there it is one document, which says why
            _print(matrix, None, as_json)
        raise
    _print(matrix, found, as_json)
    silent = matrix.unheard or any(cell.real is None for cell in matrix.cells)
    return EXIT_FAILED if silent or matrix.differences else EXIT_DONE


def _check(rules: Sequence[str], known: Sequence[str], series: str | None, between: tuple[str, str] | None) -> None:
    unknown = [name for name in rules if name not in known]
    if unknown:
        raise click.UsageError(f"--rule {unknown[0]}: there is no such rule; known: {', '.join(known)}")
    if series is not None and not all(series.split(",")):
        raise click.UsageError(f"--kernels {series}: a kernel without a name")
    if between and (series is not None or len(rules) != 1):
        raise click.UsageError("--between takes one --rule, and no --kernels")


def _print(matrix: Matrix, found: Found | None, as_json: bool) -> None:
    if as_json:
        say_json(matrix.document())
        return
    for line in (*_matrix(matrix), *_changes(matrix), *_faults(matrix), *(_first(found) if found else ())):
        say(line)


def _line(cell: Cell) -> str:
    """``7.3.4  frozen-slab    signal``"""
    said = cell.real if cell.real is not None else f"no answer: {cell.why}"
    return f"{_short(cell.release):<9} {cell.rule:<14} {said}{f', the model {cell.modelled}' if cell.different else ''}"


def _matrix(matrix: Matrix) -> Iterator[str]:
    """Tables of a line for each kernel and a column for each rule, as many as it takes; an empty line between them."""
    rules = matrix.rules
    while rules:
        fitting = max((n for n in range(1, len(rules) + 1) if _fits(*_cells(matrix, rules[:n]))), default=1)
        yield from table.lines(*_cells(matrix, rules[:fitting]))
        rules = rules[fitting:]
        yield from [""] if rules else []


def _fits(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    gaps = (len(table.GAP) - len(table.NARROW_GAP)) * (len(headings) - 1)
    return table.width(headings, rows) + gaps <= _WIDTH


def _cells(matrix: Matrix, rules: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows. Names of rules stand in two lines: they are longer than answers."""
    above, below = zip(*(rule.partition("-")[::2] for rule in rules), strict=True)
    said = {(cell.release, cell.rule): _word(cell) for cell in matrix.cells}
    rows = [[_short(release), *(said.get((release, rule), _NONE) for rule in rules)] for release in matrix.releases]
    return ["", *above], [["kernel", *below], *rows]


def _word(cell: Cell) -> str:
    return _NONE if cell.real is None else f"{cell.real}{_WRONG if cell.different else ''}"


def _changes(matrix: Matrix) -> Iterator[str]:
    for change in matrix.changes:
        before, after = change.before, change.after
        yield (
            f"{change.rule}: {before.real} in {_short(before.release)}, {after.real} in {_short(after.release)}"
            f"{f': {change.commit.hash}, {change.commit.since}' if change.commit else ''}"
        )
        if not change.explained:
            yield "  the table has no such change between the two"


def _faults(matrix: Matrix) -> Iterator[str]:
    for cell in matrix.differences:
        other = matrix.neighbour(cell)
        between = f"; {_short(other.release)} is as the model says" if other else ""
        yield f"DIFFERENT  {cell.rule}, {_short(cell.release)}: {cell.real}, the model {cell.modelled}{between}"
    for cell in matrix.cells:
        if cell.real is None:
            yield f"NO ANSWER  {cell.rule}, {_short(cell.release)}: {cell.why}"
    for series, why in matrix.unheard.items():
        yield f"NO KERNEL  {series}: {why}"


def _first(found: Found) -> Iterator[str]:
    if found.before is None or found.after is None:
        yield f"{found.rule}: the same at both ends"
    else:
        before, after = found.before, found.after
        yield f"{found.rule}: {before.real} up to {before.release}, {after.real} from {after.release} on"


def _short(release: str) -> str:
    """``6.12.95`` of ``6.12.95+deb12-cloud-arm64``."""
    return release.partition("+")[0].removesuffix("-cloud-arm64")
