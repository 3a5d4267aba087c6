# SPDX-License-Identifier: Apache-2.0
"""``hotbank metrics``: the machine for Prometheus, as a file for node_exporter or on a port of this host."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING

import click

from hotbank import memspec
from hotbank.cli.context import Context
from hotbank.cli.terminal import say
from hotbank.cli.times import Seconds
from hotbank.documents import EXIT_DONE, EXIT_FAILED
from hotbank.errors import BoardError, Code, HotbankError, MachineError, Refusal
from hotbank.numbers import digits
from hotbank.report.ledger import of_journal

if TYPE_CHECKING:
    from hotbank.export.metrics import Scrape, Seen
    from hotbank.govern.status import Governed
    from hotbank.machine import Snapshot
    from hotbank.operate import Entry
    from hotbank.report.ledger import Ledger
    from hotbank.session import Session

_PORTS = 1 << 16
_LEAST = 0.1  # seconds between two looks


class Address(click.ParamType):  # type: ignore[type-arg]  # Debian 12 has click 8.1, where it is no generic
    """``127.0.0.1:PORT`` or ``[::1]:PORT``: what only this host reaches."""

    name = "address"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, _, number = str(value).rpartition(":")
        port = digits(number, limit=_PORTS)
        if port is None or not _is_loopback(host.strip("[]")):
            self.fail(f"{value!r} is no port of this host such as 127.0.0.1:9101", param, ctx)
        return host.strip("[]"), port


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@click.command("metrics", short_help="The machine for Prometheus: a file for node_exporter, or a port.")
@click.option(
    "--textfile",
    type=click.Path(dir_okay=False),
    help="Write FILE for node_exporter, which reads *.prom, whole or not at all.",
)
@click.option("--listen", type=Address(), metavar="127.0.0.1:PORT", help="Answer scrapes there until Ctrl-C.")
@click.option(
    "--every", type=Seconds(), help="Write FILE again so often until Ctrl-C: of the journal only what is new is read."
)
@click.pass_obj
def metrics(context: Context, textfile: str | None, listen: tuple[str, int] | None, every: float | None) -> int:
    """Show banks, power, energy, memory, transactions and the governor to Prometheus.

    A scrape asks the machine and walks no page. A machine that does not answer is hotbank_machine_up 0, and asked again
    at the next scrape. docs/metrics.md lists what there is; packaging/ has a dashboard and alert rules.
    """
    if (textfile is None) is (listen is None):
        raise click.UsageError("give one of --textfile FILE and --listen 127.0.0.1:PORT")
    if every is not None and textfile is None:
        raise click.UsageError("--every has an effect with --textfile only")
    asking = _Asking(context)
    click.get_current_context().call_on_close(asking.close)
    scrape = _scrape(asking)
    if textfile is not None:
        return _write(scrape, asking, textfile) if every is None else _keep_writing(scrape, asking, textfile, every)
    _serve(scrape, asking, *listen)  # type: ignore[misc]  # one of both is given
    return EXIT_DONE


class _Asking:
    """Asks the machine, on a new line after each error. ``name``: the machine's; ``trouble``: why it did not answer."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._session: Session | None = None
        self.name, self.trouble = context.machine_name or "not here yet", ""

    def __call__(self) -> Seen:
        from hotbank.export.metrics import Seen

        self._session = session = self._session or self._context.connect(changing=False)
        snapshot, entries = session.list(), session.history()
        seen = Seen(snapshot, session.reading(), entries, _ledger(snapshot, entries), _governed(session))
        self.name, self.trouble = snapshot.machine, ""
        return seen

    def close(self) -> None:
        """Hang up; the next question is asked on a new line."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def failed(self, error: HotbankError) -> None:
        """Say it once, not at each scrape."""
        self.close()
        if str(error) != self.trouble:
            say(f"hotbank: {error.code}: {error}", err=True)
        self.trouble = str(error)


def _ledger(snapshot: Snapshot, entries: Sequence[Entry]) -> Ledger | None:
    """None where what the machine's board says of its DRAM is not known here."""
    with suppress(BoardError):
        return of_journal(snapshot, entries, time.time(), memspec.named)
    return None


def _governed(session: Session) -> Governed | None:
    with suppress(Refusal):
        return session.auto()
    return None


def _scrape(asking: _Asking) -> Scrape:
    """Raises Refusal without the extra."""
    try:
        from hotbank.export.metrics import Scrape
    except ImportError as e:
        remedy = "pip install 'hotbank[metrics]'"
        raise Refusal(Code.UNSUPPORTED, "metrics need the package prometheus-client", remedy=remedy) from e
    return Scrape(asking, asking.failed)


def _write(scrape: Scrape, asking: _Asking, path: str) -> int:
    from prometheus_client import write_to_textfile

    write_to_textfile(path, scrape.registry)
    say(f"machine {asking.name}", f"wrote     {path}")
    return EXIT_FAILED if asking.trouble else EXIT_DONE


def _keep_writing(scrape: Scrape, asking: _Asking, path: str, every: float) -> int:
    """On one line to the machine, whose journal is read once."""
    from prometheus_client import write_to_textfile

    with suppress(KeyboardInterrupt):
        _write(scrape, asking, path)
        while True:
            time.sleep(max(every, _LEAST))
            write_to_textfile(path, scrape.registry)
    return EXIT_DONE


def _serve(scrape: Scrape, asking: _Asking, host: str, port: int) -> None:
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, host, scrape.registry)
    except OSError as e:
        raise MachineError(
            f"{host}:{port}: {os.strerror(e.errno or 0)}", code=Code.SYSTEM_ERROR, remedy="give another port"
        ) from e
    shown = f"[{host}]" if ":" in host else host
    deque(scrape.collect(), maxlen=0)  # whose name it is
    say(f"machine {asking.name}", f"listening at http://{shown}:{server.server_port}/metrics; Ctrl-C ends it")
    with suppress(KeyboardInterrupt):
        thread.join()
