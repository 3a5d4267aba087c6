# SPDX-License-Identifier: Apache-2.0
"""``hotbank top``: a machine as it changes, on a terminal, or its frames as JSON."""

from __future__ import annotations

import sys
from itertools import count as counting

import click

from hotbank.cli.context import Context, given
from hotbank.cli.screen import is_terminal
from hotbank.cli.terminal import say_json
from hotbank.cli.times import Seconds
from hotbank.documents import EXIT_DONE, EXIT_INTERRUPTED
from hotbank.errors import Code, MachineError
from hotbank.watch import Feed

_WAIT = 1.0  # seconds in which a Ctrl-C is heard


@click.command("top", short_help="Watch a machine live: its map, verdicts, what runs; and change it from there.")
@click.option("--every", type=Seconds(), default=1.0, show_default=True, metavar="SECONDS", help="Look so often.")
@click.option("--light", is_flag=True, help="Dark on light.")
@click.option("--count", type=click.IntRange(min=1), help="With --json: end after so many.")
@click.option("-J", "--json", "as_json", is_flag=True, help="Frames as JSON, one a line, until Ctrl-C.")
@click.pass_obj
def top(context: Context, every: float, light: bool, count: int | None, as_json: bool) -> int:
    """Watch a machine: banks and blocks, free memory, pressure, watts, what runs, the governor's wishes.

    A block is selected by arrow keys or the mouse; its pages are looked at then, and no others are. Keys explain, plan,
    remove and add, after a plan was shown and confirmed; ? lists them. A host may be changed where it is named
    (-m host), as everywhere. Needs textual: pip install 'hotbank[top]'.
    """
    if stray := given("light") if as_json else given("count"):
        raise click.UsageError(f"{', '.join(stray)} has no effect {'with' if as_json else 'without'} --json")
    if as_json:
        return _frames(context, every, count)
    if not (is_terminal(sys.stdout) and is_terminal(sys.stdin)):
        raise click.UsageError("top draws on a terminal; elsewhere --json prints what it would draw")
    try:
        from hotbank.cli.seen.app import Top
    except ImportError as e:
        raise MachineError(f"top needs textual: {e}", code=Code.UNSUPPORTED, remedy="pip install 'hotbank[top]'") from e
    with Feed(context.visit(), every=every) as feed:
        Top(feed, light=light).run()
    return EXIT_DONE


def _frames(context: Context, every: float, most: int | None) -> int:
    """Print them, at most so many."""
    seq = 0
    try:
        with Feed(context.visit(), every=every) as feed:
            for _ in counting() if most is None else range(most):
                while (frame := feed.wait(seq, _WAIT)) is None:
                    continue
                seq = frame.seq
                say_json(frame.document())
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return EXIT_DONE
