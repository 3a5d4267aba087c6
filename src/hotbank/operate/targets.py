# SPDX-License-Identifier: Apache-2.0
"""Names to targets: what a verdict, a plan or a transaction is about. Pure functions of a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hotbank.errors import Code, Refusal
from hotbank.machine import BankStatus, Snapshot, no_such
from hotbank.memory import KernelState, address, block_named
from hotbank.operate.reasons import remedy


@dataclass(frozen=True, slots=True)
class Target:
    """What a verdict or a plan is about: a bank, or one block. ``blocks``: numbers, as far as the kernel has them."""

    name: str
    bank: BankStatus | None
    blocks: tuple[int, ...]

    @property
    def whole(self) -> bool:
        """True for a bank, False for a block of one."""
        return self.bank is not None and self.name == self.bank.name


Names = str | int | Sequence[str | int]  # one bank or block, or several


def resolve_all(snapshot: Snapshot, names: Names) -> tuple[Target, ...]:
    """Each bank and block once, and no block of a bank that is named too.

    Raises Refusal(NO_SUCH_BANK), also where none is named.
    """
    each = [names] if isinstance(names, str | int) else names
    if not each:
        raise Refusal(Code.NO_SUCH_BANK, "no bank or block was named", remedy=remedy(Code.NO_SUCH_BANK))
    found = {target.name: target for name in each for target in (resolve(snapshot, name),)}
    whole = {target.name for target in found.values() if target.whole}
    return tuple(t for t in found.values() if t.whole or t.bank is None or t.bank.name not in whole)


def resolve(snapshot: Snapshot, name: str | int) -> Target:
    """The bank of that name, or the block: ``4``, ``"4"``, ``"memory4"``, or an address in it, ``"0x50000000"``.

    Raises Refusal(NO_SUCH_BANK).
    """
    bank = snapshot.bank(str(name))
    if bank is not None:
        return bank_target(snapshot, bank)
    number = block_named(str(name)) if (at := address(str(name))) is None else at // snapshot.block_size
    if number is None or snapshot.block(number) is None:
        known = (b.name for b in snapshot.banks) if number is None else (f"memory{b.number}" for b in snapshot.blocks)
        raise no_such(snapshot.machine, "bank or block", repr(name), known)
    return block_target(snapshot, number)


def bank_target(snapshot: Snapshot, bank: BankStatus) -> Target:
    """A whole bank."""
    return Target(bank.name, bank, tuple(block.number for block in snapshot.present(bank)))


def block_target(snapshot: Snapshot, number: int) -> Target:
    """One block that the kernel has, whatever bank it lies in."""
    return Target(f"memory{number}", snapshot.bank_at(number), (number,))


def of_domain(snapshot: Snapshot, name: str) -> tuple[str, ...]:
    """All banks of a power domain. Raises Refusal(NO_SUCH_BANK), also for one that has none."""
    domain = snapshot.domain(name)
    if domain is None:
        raise no_such(snapshot.machine, "domain", repr(name), [d.name for d in snapshot.domains])
    if not domain.banks:
        raise Refusal(Code.NO_SUCH_BANK, f"domain {name} has no banks", remedy=remedy(Code.NO_SUCH_BANK))
    return domain.banks


def everything(snapshot: Snapshot, verb: str) -> tuple[tuple[str, ...], ...]:
    """All that may leave, or come back, one transaction each.

    Banks of one domain leave together, because half of a domain saves nothing; each comes back by itself, because one
    that can't must not keep the others out.
    """
    there = KernelState.ABSENT if verb == "remove" else KernelState.ONLINE
    banks = [b for b in snapshot.banks if (b.movable or not b.at_boot) and b.kernel is not there]
    if verb == "add":
        return tuple((bank.name,) for bank in banks)
    groups: dict[tuple[str, str], list[str]] = {}
    for bank in banks:
        groups.setdefault(("domain", bank.domain) if bank.domain else ("bank", bank.name), []).append(bank.name)
    return tuple(tuple(names) for names in groups.values())
