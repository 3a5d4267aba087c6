# SPDX-License-Identifier: Apache-2.0
"""What a machine is, as far as a plan or a transaction depends on it, and what of that has changed. Pure functions.

How many pages a block holds is left aside: that changes all the time, and each step looks at it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from hotbank.errors import Code, FormatError, ProtocolError, Refusal
from hotbank.machine import Block, Snapshot
from hotbank.memory import BlockState, Power
from hotbank.operate.journal import BankBefore, Before, BlockBefore, DomainBefore
from hotbank.operate.reasons import may_go, remedy
from hotbank.operate.targets import Target, resolve_all
from hotbank.wire import decode, encode

_FEW = 4  # differences that are named one by one
_FIELDS = ("boot_id", "banks", "domains", "blocks")


def find(snapshot: Snapshot, verb: str, targets: Sequence[Target], power: Callable[[str], Power]) -> Before:
    """What is there now, as far as a transaction on these targets can change it. ``power``: of a domain by name."""
    banks = [b for name in _banks(targets) if (b := snapshot.bank(name)) is not None]
    domains = dict.fromkeys(b.domain for b in banks if b.domain is not None)
    there = {n: snapshot.block(n) for target in targets for n in target.blocks}
    return Before(
        verb,
        tuple(t.name for t in targets),
        snapshot.boot_id,
        snapshot.machine,
        tuple(BankBefore(b.name, b.kernel, b.domain) for b in banks),
        tuple(DomainBefore(name, power(name)) for name in domains),
        tuple(_block_before(block) for block in there.values() if block is not None),
    )


def _banks(targets: Sequence[Target]) -> Iterable[str]:
    return dict.fromkeys(t.bank.name for t in targets if t.bank is not None)


def _block_before(block: Block) -> BlockBefore:
    return BlockBefore(block.number, block.state, block.zone if block.state is BlockState.ONLINE else None)


def changed(planned: Before, now: Before) -> str:
    """What is not as it was when the plan was made, in words; empty when nothing is.

    Power that one of them could not learn is no difference.
    """
    changes = list(_changes(planned, now))
    more = f", and {len(changes) - _FEW} more" if len(changes) > _FEW else ""
    return ", ".join(changes[:_FEW]) + more


def as_found(before: Before, snapshot: Snapshot) -> bool:
    """True if every bank and block is as it was, whatever the power."""
    now = _now(before, snapshot, lambda _domain: Power.UNKNOWN)
    return now is not None and (now.banks, now.blocks) == (before.banks, before.blocks)


def differences(before: Before, snapshot: Snapshot) -> str:
    """What is not as it was, power too, in words: ``high was online and is absent``."""
    powers = {domain.name: domain.power for domain in snapshot.domains}
    now = _now(before, snapshot, lambda domain: powers.get(domain, Power.UNKNOWN))
    return "banks that are gone from the board" if now is None else changed(before, now)


def _now(before: Before, snapshot: Snapshot, power: Callable[[str], Power]) -> Before | None:
    """The same as it is now; None where banks or blocks of it are gone altogether."""
    try:
        targets = resolve_all(snapshot, before.targets)
    except Refusal:
        return None
    return find(snapshot, before.verb, targets, power)


def since(planned: Before | None, now: Before | None) -> str:
    """The same as a sentence's end, where there is an earlier plan at all."""
    changes = changed(planned, now) if planned is not None and now is not None else ""
    return f"since the plan was made: {changes}" if changes else ""


def _changes(planned: Before, now: Before) -> Iterator[str]:
    if planned.machine != now.machine:
        yield f"the plan is for {planned.machine}, this is {now.machine}"
    elif planned.boot_id != now.boot_id:
        yield f"{now.machine} has booted since"
    yield from _differences({b.name: str(b.kernel) for b in planned.banks}, {b.name: str(b.kernel) for b in now.banks})
    yield from _differences(_powers(planned, now), _powers(now, planned))
    yield from _differences(_blocks(planned), _blocks(now))


def _powers(before: Before, other: Before) -> dict[str, str]:
    unknown = {d.name for d in (*before.domains, *other.domains) if d.power is Power.UNKNOWN}
    return {f"domain {d.name}": str(d.power) for d in before.domains if d.name not in unknown}


def _blocks(before: Before) -> dict[str, str]:
    return {f"memory{b.number}": f"{b.state} in {b.zone}" if b.zone else str(b.state) for b in before.blocks}


def _differences(was: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in dict.fromkeys((*was, *now)):
        if was.get(name) != now.get(name):
            yield f"{name} was {was.get(name, 'not there')} and is {now.get(name, 'gone')}"


# As a document.


def document(found: Before) -> dict[str, Any]:
    """The part of a plan's JSON that says what it was made of."""
    return {field: encode(getattr(found, field)) for field in _FIELDS}


def of_plan(plan: object) -> Before:
    """What the plan was made of whose JSON document this is. Raises FormatError for what is no such document, and the
    plan's own refusal where it found nothing that could be done."""
    _check_said_yes(plan)
    if not isinstance(plan, dict) or not isinstance(plan.get("found"), dict):
        raise FormatError("plan", 0, "found", "not what `hotbank plan --json` printed")
    there = plan["found"]
    strange = sorted(there.keys() - set(_FIELDS))
    if strange:
        raise FormatError("plan", 0, f"found.{strange[0]}", f"no part of what is found, which is {', '.join(_FIELDS)}")
    values = {"verb": plan.get("verb"), "targets": plan.get("targets"), "machine": plan.get("machine")}
    values |= {"planned": plan.get("pages"), "cause": "", "keep_partial": False}
    try:
        return decode(Before, {**values, **there}, "plan")
    except ProtocolError as e:
        raise FormatError("plan", 0, "found", str(e)) from e


def _check_said_yes(plan: object) -> None:
    """A choice that frees too little was made of nothing, and says why in what it gave up."""
    document = plan if isinstance(plan, dict) and plan.get("found") is None else {}
    code = next((known for known in Code if known == document.get("code")), Code.OK)
    if not may_go(code):
        given_up = document.get("given_up")
        why = [
            entry.get("why") for entry in (given_up if isinstance(given_up, list) else ()) if isinstance(entry, dict)
        ]
        fact = "; ".join(["the plan said no", *(text for text in why[:_FEW] if isinstance(text, str))])
        raise Refusal(code, fact, remedy=remedy(code))
