# SPDX-License-Identifier: Apache-2.0
"""Settling a transaction that was left open: by a crash, or because the kernel had not let go of a block.

The machine is trusted and not the journal. A removal that got all of its banks out of the kernel goes forward, into the
dark; everything else goes back to where it was, halfway too, unless it was to keep what was done. Rows of an earlier
boot say nothing about this one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hotbank.documents import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PARTLY
from hotbank.errors import CancelPending, Code, HotbankError, Refusal
from hotbank.machine import Machine, Snapshot
from hotbank.memory import BlockState, KernelState, Power
from hotbank.operate.found import as_found, differences
from hotbank.operate.journal import Before, Entry, Journal, Journaled, busy
from hotbank.operate.onlining import Aside, doubtful
from hotbank.operate.outcome import Outcome, standing
from hotbank.operate.plan import SWITCHING, Action
from hotbank.operate.power import darken
from hotbank.operate.reasons import remedy, still_held
from hotbank.operate.rollback import Rollback, touched_by

_ASK_EVERY = 0.25
_FEW = 4  # names that are told one by one


def recover(
    machine: Machine, journal: Journal, *, patience: float | None = None, forget: int | None = None
) -> Outcome | None:
    """Settle the open transaction; None when there is none.

    ``patience``: seconds on the machine's clock to wait for a block that the kernel still holds, and for a process
    that can still write to it, None for ever. Afterwards the entry is closed, except with code CANCEL_PENDING
    (``open`` in the outcome). Raises Refusal(BUSY_TRANSACTION) when whoever has it open goes on with it.

    An entry that can't be read is closed (DAMAGED) when nothing on the machine is half-way, and stays open otherwise.
    ``forget``: the id of one to close all the same; what it left half-way stays so, and is for ``add`` or ``remove``.
    Raises Refusal(UNSUPPORTED) when that one is not open.
    """
    left = journal.unfinished()
    if forget is not None and (left is None or left.id != forget):
        raise Refusal(Code.UNSUPPORTED, f"no transaction {forget} is open", remedy="hotbank history lists them")
    if left is None:
        return None
    if not _wait(machine, patience, journal.claim):
        raise busy(left)
    entry = journal.unfinished()
    if entry is None:  # whoever had it open has ended it
        return None
    outcome = _settled(machine, journal, entry, patience, forget)
    if not outcome.open:
        journal.close(entry.id, outcome.code, outcome.moved)
    return outcome


def _settled(machine: Machine, journal: Journal, entry: Entry, patience: float | None, forget: int | None) -> Outcome:
    snapshot = machine.snapshot()
    if _has_booted(entry, snapshot.boot_id):
        return _end(entry, Code.SUPERSEDED, EXIT_DONE, "the machine has booted since", snapshot)
    if not _let_go(machine, patience):
        held = _held(machine.snapshot())
        fact = still_held(held) if held is not None else "the kernel has just let go"
        return _end(entry, Code.CANCEL_PENDING, EXIT_FAILED, fact, snapshot, open_=True)
    if entry.damage:
        return _unreadable(machine.snapshot(), entry, forget)
    journaled, aside = Journaled(machine, journal, entry.id), Aside.of(entry.rows)
    try:
        return _forward(journaled, entry, aside) or _back(journaled, entry, aside)
    except CancelPending as e:
        return _end(entry, Code.CANCEL_PENDING, EXIT_FAILED, str(e), machine.snapshot(), open_=True)


def _has_booted(entry: Entry, boot: str) -> bool:
    """Whether the machine has since; not where it doesn't say, or a damaged entry."""
    was = entry.before.boot_id
    return bool(boot) and was != boot and bool(was or not entry.damage)


def _unreadable(snapshot: Snapshot, entry: Entry, forget: int | None) -> Outcome:
    what = f"transaction {entry.id} can't be read ({entry.damage}){doubtful(snapshot)}"
    halfway = _halfway(snapshot)
    if not halfway:
        return _end(entry, Code.DAMAGED, EXIT_DONE, f"{what}; nothing is half-way: every bank is in or out", snapshot)
    if forget == entry.id:
        return _end(entry, Code.DAMAGED, EXIT_DONE, f"{what} and is forgotten; {halfway} stays as it is", snapshot)
    help_ = f"hotbank recover --forget {entry.id}, then hotbank add or remove what is half-way"
    return replace(_end(entry, Code.DAMAGED, EXIT_FAILED, f"{what}, and {halfway}", snapshot, open_=True), remedy=help_)


def _halfway(snapshot: Snapshot) -> str:
    """Banks and blocks that are neither in use nor out, in words; empty where there are none."""
    settled = (KernelState.ONLINE, KernelState.ABSENT)
    parts = [f"{bank.name} is {bank.kernel}" for bank in snapshot.banks if bank.kernel not in settled]
    parts += [
        f"memory{block.number} is {block.state}"
        for block in snapshot.blocks
        if block.state is not BlockState.ONLINE and snapshot.bank_at(block.number) is None
    ]
    return ", ".join(parts[:_FEW]) + (f" and {len(parts) - _FEW} more" if len(parts) > _FEW else "")


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


def _forward(journaled: Journaled, entry: Entry, aside: Aside) -> Outcome | None:
    """Finish a removal whose banks are all out of the kernel; None when that is not the case: all or nothing."""
    snapshot, before = journaled.machine.snapshot(), entry.before
    if before.verb != "remove" or not _all_out(snapshot, before):
        return None
    ends = [end for domain in before.domains if (end := _dark(journaled, snapshot, domain.name)) is not None]
    ends += [end for end in [_policy_back(journaled, aside)] if end is not None]
    worst = max(ends, key=lambda end: end.status, default=_End(Code.OK, EXIT_DONE, ""))
    code = next((end.code for end in ends if end.code is not Code.OK and end.status == worst.status), Code.OK)
    fact = "; ".join([f"{before.target} out of the kernel", *(end.fact for end in ends)])
    return _end(entry, code, worst.status, fact, journaled.machine.snapshot())


def _policy_back(journaled: Journaled, aside: Aside) -> _End | None:
    """Put back the policy that was set aside; None where nothing is to be said of it."""
    try:
        said = aside.resume(journaled)
    except Refusal as e:
        return _End(e.code, EXIT_PARTLY, f"{e} ({e.remedy})")
    return _End(Code.OK, EXIT_DONE, said) if said else None


def _all_out(snapshot: Snapshot, before: Before) -> bool:
    """True if no bank that was to leave is in the kernel, and no block that was to go offline is anything else."""
    named = [bank for bank in before.banks if bank.name in before.targets]
    banks = [snapshot.bank(bank.name) for bank in named or before.banks]
    blocks = [block for was in before.blocks if (block := snapshot.block(was.number)) is not None]
    out = all(bank is not None and bank.kernel is KernelState.ABSENT for bank in banks)
    return bool(banks) and out and all(block.state is BlockState.OFFLINE for block in blocks)


@dataclass(frozen=True, slots=True)
class _End:
    """How it ended for one domain."""

    code: Code
    status: int
    fact: str


def _dark(journaled: Journaled, snapshot: Snapshot, name: str) -> _End | None:
    """Take a domain as dark as the board allows; None where that is on."""
    domain = snapshot.domain(name)
    want = domain.darkest if domain is not None else Power.ON
    if want is Power.ON:
        return None
    try:
        with journaled(SWITCHING[want], name) as machine:
            reached = darken(machine, name, want)
        journaled.settled_for(reached, want, name)
    except HotbankError as e:
        return _End(e.code, EXIT_DONE if e.code is Code.DOMAIN_IN_USE else EXIT_PARTLY, str(e))
    return _End(Code.OK, EXIT_DONE, f"domain {name} is dark")


def _back(journaled: Journaled, entry: Entry, aside: Aside) -> Outcome:
    """Put everything back as the transaction found it; with ``keep_partial`` only what must not stay."""
    before = entry.before
    snapshot = journaled.machine.snapshot()
    touched = {number for row in entry.rows for number in touched_by(snapshot, row.step, row.target)}
    back = Rollback(journaled, before, aside)
    left = back.run(touched)
    kept = before.keep_partial and not as_found(before, journaled.machine.snapshot())
    if kept:
        _darken_what_is_out(journaled, before)
    status = EXIT_PARTLY if left or kept or back.policy_left else EXIT_FAILED
    snapshot = journaled.machine.snapshot()
    end = f"stays as far as it was done: {differences(before, snapshot)}" if kept else "was rolled back"
    by_hand = f" ({back.policy_left})" if back.policy_left else ""
    fact = "; ".join(filter(None, (f"{before.verb} {before.target} {end}", back.policy + by_hand)))
    return _end(entry, Code.INTERRUPTED, status, fact, snapshot, unrestored=left, open_=back.policy_unknown)


def _darken_what_is_out(journaled: Journaled, before: Before) -> None:
    """Of what a removal leaves out, the domains whose banks are all out; one that can't go dark stays on."""
    snapshot = journaled.machine.snapshot()
    for domain in before.domains if before.verb == "remove" else ():
        banks = [snapshot.bank(bank.name) for bank in before.banks if bank.domain == domain.name]
        if all(bank is not None and bank.kernel is KernelState.ABSENT for bank in banks):
            _dark(journaled, snapshot, domain.name)


def was_done(entry: Entry) -> bool:
    """True of a transaction that did what it was about, if not all that goes with it: a domain stayed on for others, or
    the onlining policy did not go back."""
    policy = any(row.step == Action.RESUME_POLICY and row.code is not Code.OK for row in entry.rows)
    return entry.code in (Code.OK, Code.DOMAIN_IN_USE) or (entry.code is Code.AUTO_ONLINE and policy)


def closed(entry: Entry, snapshot: Snapshot) -> Outcome:
    """What the journal tells of a closed transaction whose process died before it could say how it ended. Blocks that
    could not be restored are not in there. Raises ValueError for an open one."""
    before, code = entry.before, entry.code
    if code is None:
        raise ValueError(f"{before.verb} {before.target} is open")
    done, by_hand = was_done(entry), code is Code.AUTO_ONLINE
    failed = EXIT_INTERRUPTED if code is Code.INTERRUPTED else EXIT_FAILED
    status = failed if not done else EXIT_PARTLY if by_hand else EXIT_DONE
    fact = f"{before.verb} {before.target} {'was done' if done else 'failed'}"
    return replace(_end(entry, code, status, fact, snapshot), moved=entry.moved)


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
    kernel, power = standing(snapshot, _banks(before, snapshot))
    return Outcome(
        before.verb,
        before.targets,
        code,
        status,
        fact,
        remedy(code),
        planned=before.planned,
        kernel=kernel,
        power=power,
        unrestored=unrestored,
        open=open_,
    )


def _banks(before: Before, snapshot: Snapshot) -> list[str]:
    """Those it is about; of a domain that is switched alone, all that are in it."""
    domains = (status for was in before.domains if (status := snapshot.domain(was.name)) is not None)
    return [bank.name for bank in before.banks] or [name for status in domains for name in status.banks]
