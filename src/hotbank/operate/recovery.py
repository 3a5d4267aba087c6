# SPDX-License-Identifier: Apache-2.0
"""Settling a transaction that was left open: by a crash, or because the kernel had not let go of a block.

The machine is trusted and not the journal. A bank that a removal got out of the kernel goes forward, into the
dark; everything else goes back to where it was. Rows of an earlier boot say nothing about this one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hotbank.errors import CancelPending, Code, HotbankError, Refusal
from hotbank.machine import Machine, Snapshot
from hotbank.memory import BlockState, KernelState, Power
from hotbank.operate.journal import Entry, Journal, Journaled, busy
from hotbank.operate.outcome import Outcome
from hotbank.operate.plan import Action, domain_of, lowest_power
from hotbank.operate.power import darken
from hotbank.operate.reasons import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PARTLY, remedy
from hotbank.operate.rollback import Rollback, touched_by

_ASK_EVERY = 0.25


def recover(machine: Machine, journal: Journal, *, patience: float | None = None) -> Outcome | None:
    """Settle the open transaction; None when there is none.

    ``patience``: seconds on the machine's clock to wait for a block that the kernel still holds, and for a process
    that can still write to it, None for ever. Afterwards the entry is closed, except with code CANCEL_PENDING
    (``open`` in the outcome). Raises Refusal(BUSY_TRANSACTION) when whoever has it open goes on with it.
    """
    left = journal.unfinished()
    if left is None:
        return None
    if not _wait(machine, patience, journal.claim):
        raise busy(left)
    entry = journal.unfinished()
    if entry is None:  # whoever had it open has ended it
        return None
    outcome = _settled(machine, journal, entry, patience)
    if not outcome.open:
        journal.close(entry.id, outcome.code, outcome.pages)
    return outcome


def _settled(machine: Machine, journal: Journal, entry: Entry, patience: float | None) -> Outcome:
    snapshot = machine.snapshot()
    if snapshot.boot_id != entry.before.boot_id:
        return _end(entry, Code.SUPERSEDED, EXIT_DONE, "the machine has booted since", snapshot)
    if not _let_go(machine, patience):
        fact = f"memory{_held(machine.snapshot())} is still held by an offline"
        return _end(entry, Code.CANCEL_PENDING, EXIT_FAILED, fact, snapshot, open_=True)
    journaled = Journaled(machine, journal, entry.id)
    try:
        return _forward(journaled, entry) or _back(journaled, entry)
    except CancelPending as e:
        return _end(entry, Code.CANCEL_PENDING, EXIT_FAILED, str(e), machine.snapshot(), open_=True)


def _let_go(machine: Machine, patience: float | None) -> bool:
    """Wait until nobody's offline is under way; False when patience is over."""
    return _wait(machine, patience, lambda: _held(machine.snapshot()) is None)


def _held(snapshot: Snapshot) -> int | None:
    """A block that the kernel has not let go of: of a cancelled offline, or of a writer that was left behind."""
    going = (b.number for b in snapshot.blocks if b.state is BlockState.GOING_OFFLINE)
    return snapshot.pending if snapshot.pending is not None else next(going, None)


def _wait(machine: Machine, patience: float | None, done: Callable[[], bool]) -> bool:
    """Ask until it is so; False when patience is over."""
    began = machine.clock.now()
    while not done():
        if patience is not None and machine.clock.now() - began >= patience:
            return False
        machine.clock.sleep(_ASK_EVERY)
    return True


def _forward(journaled: Journaled, entry: Entry) -> Outcome | None:
    """Finish a removal whose bank is out of the kernel already; None when that is not the case."""
    snapshot, before = journaled.machine.snapshot(), entry.before
    bank = snapshot.bank(before.bank) if before.bank is not None else None
    if before.verb != "remove" or bank is None or bank.kernel is not KernelState.ABSENT:
        return None
    domain = domain_of(snapshot, bank)
    want = lowest_power(domain) if domain is not None else Power.ON
    if domain is None or want is Power.ON:
        return _end(entry, Code.OK, EXIT_DONE, f"{bank.name} is out", snapshot)
    return _dark(journaled, entry, domain.name, want)


def _dark(journaled: Journaled, entry: Entry, domain: str, want: Power) -> Outcome:
    step = Action.POWER_OFF if want is Power.OFF else Action.SELF_REFRESH
    code, status, fact = Code.OK, EXIT_DONE, f"{entry.before.bank} is out and domain {domain} is dark"
    try:
        with journaled(step, domain) as machine:
            darken(machine, domain, want)
    except Refusal as e:
        code, fact = e.code, str(e)
        status = EXIT_DONE if e.code is Code.DOMAIN_IN_USE else EXIT_PARTLY
    except HotbankError as e:
        code, status, fact = e.code, EXIT_PARTLY, str(e)
    return _end(entry, code, status, fact, journaled.machine.snapshot())


def _back(journaled: Journaled, entry: Entry) -> Outcome:
    """Put everything back as the transaction found it."""
    before = entry.before
    snapshot = journaled.machine.snapshot()
    touched = set().union(*(touched_by(snapshot, row.step, row.target) for row in entry.rows))
    left = Rollback(journaled, before).run(touched)
    status = EXIT_PARTLY if left else EXIT_FAILED
    fact = f"{before.verb} {before.target} was rolled back"
    return _end(entry, Code.INTERRUPTED, status, fact, journaled.machine.snapshot(), unrestored=left)


def closed(entry: Entry, snapshot: Snapshot) -> Outcome:
    """What the journal tells of a closed transaction whose process died before it could say how it ended. Blocks that
    could not be restored are not in there. Raises ValueError for an open one."""
    before, code = entry.before, entry.code
    if code is None:
        raise ValueError(f"{before.verb} {before.target} is open")
    done = code in (Code.OK, Code.DOMAIN_IN_USE)
    status = EXIT_DONE if done else EXIT_INTERRUPTED if code is Code.INTERRUPTED else EXIT_FAILED
    fact = f"{before.verb} {before.target} {'was done' if done else 'failed'}"
    return replace(_end(entry, code, status, fact, snapshot), pages=entry.pages)


def _end(
    entry: Entry,
    code: Code,
    status: int,
    fact: str,
    snapshot: Snapshot,
    *,
    unrestored: tuple[int, ...] = (),
    open_: bool = False,
) -> Outcome:
    before = entry.before
    bank = snapshot.bank(before.bank) if before.bank is not None else None
    return Outcome(
        before.verb,
        before.target,
        code,
        status,
        fact,
        remedy(code),
        kernel=bank.kernel if bank is not None else None,
        power=bank.power if bank is not None else None,
        unrestored=unrestored,
        open=open_,
    )
