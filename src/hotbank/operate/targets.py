# SPDX-License-Identifier: Apache-2.0
"""Names to targets: what a verdict, a plan or a transaction is about. Pure functions of a snapshot."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hotbank.errors import Code, Refusal
from hotbank.machine import BankStatus, Snapshot
from hotbank.operate.reasons import remedy

_BLOCK_NAME = re.compile(r"(?:memory)?([0-9]+)")


@dataclass(frozen=True, slots=True)
class Target:
    """What a verdict or a plan is about: a bank, or one block. ``blocks``: numbers, as far as the kernel has them."""

    name: str
    bank: BankStatus | None
    blocks: tuple[int, ...]


def resolve(snapshot: Snapshot, name: str | int) -> Target:
    """The bank of that name, or the block (``4``, ``"4"``, ``"memory4"``). Raises Refusal(NO_SUCH_BANK)."""
    bank = snapshot.bank(str(name))
    if bank is not None:
        present = {b.number for b in snapshot.blocks}
        return Target(bank.name, bank, tuple(n for n in block_numbers(snapshot, bank) if n in present))
    match = _BLOCK_NAME.fullmatch(str(name))
    if match is not None and snapshot.block(int(match[1])) is not None:
        number = int(match[1])
        owner = next((b for b in snapshot.banks if number in block_numbers(snapshot, b)), None)
        return Target(f"memory{number}", owner, (number,))
    known = ", ".join(b.name for b in snapshot.banks) or "none"
    code = Code.NO_SUCH_BANK
    raise Refusal(code, f"{snapshot.machine} has no bank or block {name!r}; banks: {known}", remedy=remedy(code))


def block_numbers(snapshot: Snapshot, bank: BankStatus) -> range:
    """Numbers of all blocks that the bank touches, in the kernel or not: physical address / block size."""
    return range(bank.range.start // snapshot.block_size, -(-bank.range.end // snapshot.block_size))
