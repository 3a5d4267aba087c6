# SPDX-License-Identifier: Apache-2.0
"""The worker: a child of the owner that carries out orders, speaking Machine and Journal over a socket pair.

Run as ``python -m hotbank.serve.worker FD [firm]`` (workers.py). It dies with the thread that started it (prctl(2),
PR_SET_PDEATHSIG), so that nothing is changed behind the back of an owner that is gone.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from typing import Any

from hotbank.calls import asked
from hotbank.errors import Code, HotbankError, ProtocolError
from hotbank.operate import Journal, Outcome, add, recover, remove, switch
from hotbank.remote import AtOwner, Remote, SocketStream
from hotbank.serve.children import FIRM, die_with_parent
from hotbank.serve.firm import locked, spared
from hotbank.serve.protocol import JOB, JOURNAL, JobCalls, Order

_LINE = 1  # bytes that come with a line


def main(fd: int, *, firm: bool = False) -> None:
    """Take orders until nobody gives any more, each on a line of its own that comes with a message on that socket.

    ``firm``: hold out while memory is short; what can't be done about that is told on the socket.
    """
    die_with_parent()
    with socket.socket(fileno=fd) as orders:
        if firm and (trouble := [what for what in (spared(), locked()) if what]):
            with suppress(BrokenPipeError):  # nobody governs any more
                orders.send("\n".join(trouble).encode())
        while (line := _next(orders)) is not None:
            take(line)


def _next(orders: socket.socket) -> socket.socket | None:
    _, files, _, _ = socket.recv_fds(orders, _LINE, 1, socket.MSG_CMSG_CLOEXEC)
    return socket.socket(fileno=files[0]) if files else None


def take(line: socket.socket) -> None:
    """Take the order, carry it out, report; stay until nothing is left open.

    An error that is none of ours ends the process: the owner settles what it left, and tells its last words.
    """
    with Remote(SocketStream(line)) as owner:
        job = RemoteJob(owner)
        try:
            outcome = carry_out(owner, job, job.order())
        except HotbankError as e:
            job.failed(e)
            return
        job.done(outcome)
        if outcome is not None and outcome.open and outcome.code is Code.CANCEL_PENDING:
            recover(owner, RemoteJournal(owner))


def carry_out(owner: Remote, job: RemoteJob, order: Order) -> Outcome | None:
    """The verb itself, on the owner's machine and with the owner's journal. Its deadline counts from the order."""
    journal = RemoteJournal(owner)
    if order.verb == "recover":
        return recover(owner, journal, patience=order.limits.total, forget=order.forget)
    options: dict[str, Any] = {"journal": journal, "limits": order.limits, "keep_partial": order.keep_partial}
    options |= {"interrupted": job.interrupted, "on_event": job.event, "began": job.began(), "found": order.found}
    if order.verb == "power":
        return _switched(owner, journal, job, order)
    options["cause"] = order.cause
    if order.verb == "add":
        return add(owner, order.targets, **options)
    return remove(owner, order.targets, force=order.force, **options)


def _switched(owner: Remote, journal: RemoteJournal, job: RemoteJob, order: Order) -> Outcome:
    """Raises ProtocolError for an order that does not say what is to be switched, and to what."""
    if order.want is None or len(order.targets) != 1:
        raise ProtocolError(f"order: {order} names no one domain and state")
    return switch(owner, order.targets[0], order.want, journal=journal, on_event=job.event, began=job.began())


class RemoteJob(AtOwner):
    """The job that started this worker."""

    order = asked(JOB, JobCalls.order)
    began = asked(JOB, JobCalls.began)
    interrupted = asked(JOB, JobCalls.interrupted)
    event = asked(JOB, JobCalls.event)
    done = asked(JOB, JobCalls.done)
    failed = asked(JOB, JobCalls.failed)


class RemoteJournal(AtOwner):
    """The owner's journal."""

    begin = asked(JOURNAL, Journal.begin)
    intend = asked(JOURNAL, Journal.intend)
    result = asked(JOURNAL, Journal.result)
    close = asked(JOURNAL, Journal.close)
    unfinished = asked(JOURNAL, Journal.unfinished)
    claim = asked(JOURNAL, Journal.claim)
    entries = asked(JOURNAL, Journal.entries)


if __name__ == "__main__":
    main(int(sys.argv[1]), firm=FIRM in sys.argv[2:])
