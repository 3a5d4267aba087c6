# SPDX-License-Identifier: Apache-2.0
"""``hotbank explain``: can this bank or block leave, and if not, which page stands in the way."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from hotbank.cli.context import Context
from hotbank.machine import Evidence, Snapshot
from hotbank.memory import Kind, format_size
from hotbank.operate import Verdict, resolve
from hotbank.operate import explain as judge


@click.command("explain")
@click.argument("target", metavar="BANK|BLOCK", required=False)
@click.option("--all", "everything", is_flag=True, help="Every block, the cheapest to take away first.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document (with --all: one a line).")
@click.pass_obj
def explain(context: Context, target: str | None, everything: bool, as_json: bool) -> None:
    """Say whether a bank or block can leave, and what stops it.

    Looks at every page and changes nothing. A "no" is an answer: the exit status is 0.
    BLOCK is a number as in /sys/devices/system/memory/memoryN, with or without the word.
    """
    if (target is None) is not everything:
        raise click.UsageError("name a bank or block, or give --all")
    machine = context.machine(changing=False)
    snapshot = machine.snapshot()
    if target is not None:
        answer = judge(machine, target)
        lines = [json.dumps(answer.document(snapshot.machine))] if as_json else _page(snapshot, answer)
    else:
        answers = sorted((judge(machine, b.number) for b in snapshot.blocks), key=_cost)
        lines = _documents(snapshot, answers) if as_json else _ranking(answers)
    for line in lines:
        click.echo(line)


def evidence_line(evidence: Evidence) -> str:
    """One page that stands in the way: ``pfn 0x51234  slab  UNMOVABLE  pid 12 (worker)``."""
    owner = evidence.owner
    who = ""
    if owner is not None:
        name = f" ({owner.comm})" if owner.comm else ""
        who = f"  pid {owner.pid}{name}" if owner.pid is not None else f"  {owner.comm or owner.cgroup or ''}"
    return f"pfn {evidence.pfn:#x}  {evidence.kind}  {evidence.why}{who}"


def kinds_line(answer: Verdict) -> str:
    """Pages by kind, most first: ``51200 free, 8100 anon, 740 file``."""
    counts = sorted(((pages, kind) for kind, pages in answer.kinds.items() if pages), reverse=True)
    return ", ".join(f"{pages} {kind}" for pages, kind in counts) or "none online"


def _cost(answer: Verdict) -> tuple[bool, int, str]:
    return answer.impossible, answer.needs, answer.target


def _page(snapshot: Snapshot, answer: Verdict) -> Iterator[str]:
    yield f"machine   {snapshot.machine}"
    yield f"target    {_whereabouts(snapshot, answer.target)}"
    yield f"verdict   {answer.code}: {answer.fact}"
    yield f"pages     {kinds_line(answer)}"
    for evidence in answer.evidence:
        yield f"evidence  {evidence_line(evidence)}"
    if answer.blocked > len(answer.evidence):
        yield f"          and {answer.blocked - len(answer.evidence)} pages more"
    if answer.unknown:
        yield f"unknown   {', '.join(answer.unknown)}"
    if answer.remedy:
        yield f"remedy    {answer.remedy}"


def _whereabouts(snapshot: Snapshot, name: str) -> str:
    target = resolve(snapshot, name)
    blocks = [b for b in snapshot.blocks if b.number in target.blocks]
    bank = snapshot.bank(name)
    place = bank.range if bank is not None else blocks[0].range
    zones = sorted({b.valid_zones[0] for b in blocks if b.valid_zones})
    state = bank.kernel if bank is not None else blocks[0].state
    return f"{name}  {place}  {format_size(place.size)}  {state}  {' '.join(zones)}".rstrip()


def _ranking(answers: list[Verdict]) -> Iterator[str]:
    yield f"{'BLOCK':<12}{'VERDICT':<18}{'TO MOVE':>9}{'BLOCKED':>9}  WHY"
    for a in answers:
        yield f"{a.target:<12}{a.code:<18}{a.needs:>9}{a.blocked:>9}  {a.fact}"
    pages = sum(sum(a.kinds.values()) for a in answers)
    free = sum(a.kinds.get(Kind.FREE, 0) for a in answers)
    leave = sum(not a.impossible for a in answers)
    yield f"{leave} of {len(answers)} blocks can leave; {pages} pages seen, {free} of them free"


def _documents(snapshot: Snapshot, answers: list[Verdict]) -> Iterator[str]:
    return (json.dumps(a.document(snapshot.machine)) for a in answers)
