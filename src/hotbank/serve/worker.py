# SPDX-License-Identifier: Apache-2.0
"""The worker: a child of the owner that carries out one order, speaking Machine and Journal over a socket pair.

Run as ``python -m hotbank.serve.worker FD``. It dies with the thread that started it (prctl(2),
PR_SET_PDEATHSIG), so that nothing is changed behind the back of an owner that is gone.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from hotbank.calls import asked
from hotbank.errors import Code, HotbankError, ProtocolError
from hotbank.operate import Journal, Outcome, add, recover, remove, switch
from hotbank.remote import AtOwner, Remote, SocketStream
from hotbank.serve.children import die_with_parent
from hotbank.serve.protocol import JOB, JOURNAL, JobCalls, Order


def main(fd: int) -> None:
    """Take the order, carry it out, report; stay until nothing is left open.

    An error that is none of ours ends the process: the owner settles what it left, and tells its last words.
    """
    die_with_parent()
    with Remote(SocketStream(socket.socket(fileno=fd))) as owner:
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
    main(int(sys.argv[1]))
