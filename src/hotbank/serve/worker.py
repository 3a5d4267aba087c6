# SPDX-License-Identifier: Apache-2.0
"""The worker: a child of the owner that carries out one order, speaking Machine and Journal over a socket pair.

Run as ``python -m hotbank.serve.worker FD``. It dies with the thread that started it (prctl(2),
PR_SET_PDEATHSIG), so that nothing is changed behind the back of an owner that is gone.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from hotbank.errors import Code, HotbankError
from hotbank.operate import Before, Entry, Event, Outcome, add, recover, remove
from hotbank.remote import Remote, SocketStream
from hotbank.serve.children import die_with_parent
from hotbank.serve.order import Order


def main(fd: int) -> None:
    """Take the order, carry it out, report; stay until nothing is left open."""
    die_with_parent()
    with Remote(SocketStream(socket.socket(fileno=fd))) as owner:
        order: Order = owner.call(Order, "job.order")
        try:
            outcome = carry_out(owner, order)
        except HotbankError as e:
            owner.call(None, "job.failed", code=e.code, message=e.message, remedy=e.remedy)
            return
        owner.call(None, "job.done", outcome=outcome)
        if outcome is not None and outcome.open and outcome.code is Code.CANCEL_PENDING:
            recover(owner, RemoteJournal(owner))


def carry_out(owner: Remote, order: Order) -> Outcome | None:
    """The verb itself, on the owner's machine and with the owner's journal. Its deadline counts from the order."""
    journal = RemoteJournal(owner)
    if order.verb == "recover":
        return recover(owner, journal, patience=order.limits.total)

    def tell(event: Event) -> None:
        owner.call(None, "job.event", event=event)

    def interrupted() -> bool:
        return bool(owner.call(bool, "job.interrupted"))

    options: dict[str, Any] = {"journal": journal, "limits": order.limits, "keep_partial": order.keep_partial}
    options |= {"interrupted": interrupted, "on_event": tell, "began": owner.call(float, "job.began")}
    if order.verb == "add":
        return add(owner, order.target, **options)
    return remove(owner, order.target, force=order.force, **options)


class RemoteJournal:
    """The owner's journal."""

    def __init__(self, owner: Remote) -> None:
        self._owner = owner

    def begin(self, before: Before) -> int:
        """See Journal."""
        return int(self._owner.call(int, "journal.begin", before=before))

    def intend(self, entry: int, step: str, target: str) -> int:
        """See Journal."""
        return int(self._owner.call(int, "journal.intend", entry=entry, step=step, target=target))

    def result(self, entry: int, row: int, code: Code, errno: int | None) -> None:
        """See Journal."""
        self._owner.call(None, "journal.result", entry=entry, row=row, code=code, errno=errno)

    def close(self, entry: int, code: Code, pages: int) -> None:
        """See Journal."""
        self._owner.call(None, "journal.close", entry=entry, code=code, pages=pages)

    def unfinished(self) -> Entry | None:
        """See Journal."""
        return self._owner.call(Entry | None, "journal.unfinished")  # type: ignore[no-any-return]

    def claim(self) -> bool:
        """See Journal."""
        return bool(self._owner.call(bool, "journal.claim"))

    def entries(self) -> tuple[Entry, ...]:
        """See Journal."""
        return self._owner.call(tuple[Entry, ...], "journal.entries")  # type: ignore[no-any-return]


if __name__ == "__main__":
    main(int(sys.argv[1]))
