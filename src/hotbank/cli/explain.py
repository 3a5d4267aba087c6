# SPDX-License-Identifier: Apache-2.0
"""``hotbank explain``: can this bank or block leave, and if not, which page stands in the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import click

from hotbank.cli.context import Context
from hotbank.cli.looking import exit_code_option, look, machine_of, not_seen, short, sysroot_option
from hotbank.cli.terminal import say, say_json
from hotbank.documents import EXIT_DONE, EXIT_FAILED
from hotbank.errors import Code
from hotbank.machine import Evidence, Machine, Snapshot
from hotbank.memory import Kind, block_named, format_size
from hotbank.operate.reasons import INTERLEAVED, may_go
from hotbank.operate.targets import block_target, resolve
from hotbank.operate.verdict import Verdict, verdict

if TYPE_CHECKING:
    from hotbank.session import Session


@click.command("explain")
@click.argument("target", metavar="BANK|BLOCK", required=False)
@click.option("--all", "everything", is_flag=True, help="Every block, the cheapest to take away first.")
@click.option("-J", "--json", "as_json", is_flag=True, help="One JSON document (with --all: one a line).")
@exit_code_option
@sysroot_option
@click.pass_obj
def explain(
    context: Context, target: str | None, everything: bool, as_json: bool, strict: bool, sysroot: str | None
) -> int:
    """Say whether a bank or block can leave, and what stops it.

    Looks at every page and changes nothing. A "no" is an answer: the exit status is 0
    without --exit-code, which with --all wants that everything may leave.
    BLOCK is a number as in /sys/devices/system/memory/memoryN, with or without the word.
    """
    if (target is None) is not everything:
        raise click.UsageError("name a bank or block, or give --all")
    session = context.session(changing=False) if sysroot is None else None
    machine = session.machine if session is not None else machine_of(context, sysroot)
    snapshot = machine.snapshot()
    answers = _ranked(machine, snapshot) if target is None else [_judged(machine, snapshot, target)]
    if as_json:
        for answer in answers:
            say_json(answer.document(snapshot.machine))
    else:
        say(*_text(snapshot, answers, everything))
        say(*_onlined(session, target))
    return EXIT_FAILED if strict and not all(may_go(answer.code) for answer in answers) else EXIT_DONE


def _text(snapshot: Snapshot, answers: list[Verdict], everything: bool) -> Iterator[str]:
    return _ranking(snapshot, answers) if everything else _page(snapshot, answers[0])


def _onlined(session: Session | None, target: str | None) -> Iterator[str]:
    """Who brought a block online, where one block is asked about and that can be told."""
    block = block_named(target) if target is not None else None
    by = session.onlined_by(block) if session is not None and block is not None else None
    if by is not None:
        yield f"online    by {by}"


def _judged(machine: Machine, snapshot: Snapshot, name: str) -> Verdict:
    target = resolve(snapshot, name)
    return verdict(snapshot, look(machine, snapshot, target.blocks), target)


def _ranked(machine: Machine, snapshot: Snapshot) -> list[Verdict]:
    """Every block by what it costs to take it away: first those that can leave, the fewest pages to move first, a page
    of unknown contents counting as one."""
    surveys = look(machine, snapshot, [b.number for b in snapshot.blocks])
    answers = []
    for number in (b.number for b in snapshot.blocks):
        own = {number: surveys[number]} if number in surveys else {}
        answers.append(verdict(snapshot, own, block_target(snapshot, number)))
    return sorted(answers, key=lambda a: (a.impossible, a.may_move))


def evidence_lines(evidence: Iterable[Evidence]) -> Iterator[str]:
    """What stands in the way, neighbours that are alike in one line: ``pfn 0x51234-0x51237  slab  UNMOVABLE``."""
    runs = groupby(enumerate(evidence), key=lambda e: (e[1].pfn - e[0], e[1].kind, e[1].why, e[1].owner))
    for _, run in runs:
        pages = [page for _, page in run]
        yield evidence_line(pages[0], pages[-1].pfn)


def evidence_line(evidence: Evidence, last: int | None = None) -> str:
    """Pages up to ``last`` that stand in the way: ``pfn 0x51234  slab  UNMOVABLE  pid 12 (worker) in /user.slice``."""
    owner = evidence.owner
    words = []
    if owner is not None:
        if owner.pid is not None:
            words.append(f"pid {owner.pid}" + (f" ({owner.comm})" if owner.comm else ""))
        elif owner.comm:
            words.append(owner.comm)
        if owner.cgroup:
            words.append(f"in {owner.cgroup}")
    pages = f"{evidence.pfn:#x}" if last in (None, evidence.pfn) else f"{evidence.pfn:#x}-{last:#x}"
    return f"pfn {pages}  {evidence.kind}  {evidence.why}" + ("  " + " ".join(words) if words else "")


def kinds_line(answer: Verdict) -> str:
    """Pages by kind, most first: ``51200 free, 8100 anon, 740 file``."""
    counts = sorted(((pages, kind) for kind, pages in answer.kinds.items() if pages), reverse=True)
    return ", ".join(f"{pages} {kind}" for pages, kind in counts) or "none online"


def _page(snapshot: Snapshot, answer: Verdict) -> Iterator[str]:
    yield f"machine   {snapshot.machine}"
    yield f"target    {_whereabouts(snapshot, answer.target)}"
    yield f"verdict   {answer.code}: {answer.fact}"
    yield f"pages     {kinds_line(answer)}"
    for line in evidence_lines(answer.evidence):
        yield f"evidence  {line}"
    if answer.blocked > len(answer.evidence):
        yield f"          and {answer.blocked - len(answer.evidence)} pages more"
    for line in not_seen(answer.unknown, snapshot.machine):
        yield f"unknown   {line}"
    if answer.remedy:
        yield f"remedy    {answer.remedy}"
    yield from _in_vain(snapshot, answer.target)


def _in_vain(snapshot: Snapshot, name: str) -> Iterator[str]:
    """Of a bank that may leave for nothing."""
    bank = snapshot.bank(name)
    domain = snapshot.domain_of(bank) if bank is not None else None
    if domain is not None and domain.interleaved:
        yield f"power     domain {domain.name} is {INTERLEAVED}"


def _whereabouts(snapshot: Snapshot, name: str) -> str:
    target = resolve(snapshot, name)
    blocks = [b for b in snapshot.blocks if b.number in target.blocks]
    bank = snapshot.bank(name)
    place = bank.range if bank is not None else blocks[0].range
    zones = sorted({b.zone for b in blocks if b.zone is not None})
    state = bank.kernel if bank is not None else blocks[0].state
    return f"{name}  {place}  {format_size(place.size)}  {state}  {' '.join(zones)}".rstrip()


def _ranking(snapshot: Snapshot, answers: list[Verdict]) -> Iterator[str]:
    yield f"{'BLOCK':<12}{'VERDICT':<18}{'TO MOVE':>11}{'BLOCKED':>9}  WHY"
    for a in answers:
        to_move = f"{a.to_move}" if a.may_move == a.to_move else f"{a.to_move}–{a.may_move}"
        yield f"{a.target:<12}{a.code:<18}{to_move:>11}{a.blocked:>9}  {short(a.target, a.fact)}"
    pages = sum(sum(a.kinds.values()) for a in answers if "kinds" not in a.unknown)
    free = sum(a.kinds.get(Kind.FREE, 0) for a in answers)
    codes = [a.code for a in answers]
    doubtful = codes.count(Code.PINS_UNKNOWN)
    perhaps = f", {doubtful} more perhaps" if doubtful else ""
    yield f"{codes.count(Code.OK)} of {len(answers)} blocks can leave{perhaps}; {pages} pages seen, {free} of them free"
    for line in not_seen(sorted({view for a in answers for view in a.unknown}), snapshot.machine):
        yield f"unknown   {line}"
