# SPDX-License-Identifier: Apache-2.0
"""``hotbank web``: a machine live in the browser, on loopback, behind an address that nobody guesses."""

from __future__ import annotations

import signal
from contextlib import suppress

import click

from hotbank.cli.context import Context
from hotbank.cli.terminal import say
from hotbank.errors import Code, Refusal


@click.command("web", short_help="A machine live in the browser; changes only with --allow-changes.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of 127.0.0.1; without it any that is free.")
@click.option("--allow-changes", is_flag=True, help="Let the page remove and add banks, and pause the governor.")
@click.pass_obj
def web(context: Context, port: int, allow_changes: bool) -> None:
    """Show a machine in the browser until Ctrl-C or SIGTERM: its map, what its blocks hold and whether they may leave,
    what runs on it, what its governor wishes; and, by dragging over the plots, what was so earlier.

    Prints the address, which has a token in it: whoever knows it may look. Only this host is listened to; from
    elsewhere ssh -L reaches it. Needs starlette and uvicorn (pip install 'hotbank[web]').
    """
    try:
        from hotbank.web import server
    except ImportError as e:
        what, remedy = f"the page needs starlette and uvicorn: {e}", "pip install 'hotbank[web]'"
        raise Refusal(Code.UNSUPPORTED, what, remedy=remedy) from e
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    session = context.visit()
    with suppress(KeyboardInterrupt):
        server.serve(session, port=port, change=allow_changes, ready=lambda url: _tell(session.name, url))


def _tell(machine: str, url: str) -> None:
    say(f"machine {machine}")
    say(f"{url}")
    say("whoever has this address may look; Ctrl-C ends it", err=True)
