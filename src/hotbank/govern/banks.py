# SPDX-License-Identifier: Apache-2.0
"""Which banks of a machine could go dark together, and what that costs; a look made of a reading."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hotbank.energy import Dram, Work, break_even
from hotbank.govern.view import Group, Kernel, View
from hotbank.machine import PRESSED, BankStatus, DomainStatus, Reading, Snapshot
from hotbank.memory import GIB, BlockState, KernelState
from hotbank.memspec import Part
from hotbank.room import KERNEL_ZONES
from hotbank.routes import route

_ENTRY = 8  # bytes of a page table's entry
_OUT = {KernelState.ABSENT, KernelState.OFFLINE}  # nothing of the bank is in use

Parts = Callable[[str | None], Sequence[Part]]
"""The devices that a name may mean: memspec.named."""


@dataclass(frozen=True, slots=True)
class Bunch:
    """The banks of one power domain, or one that has none: they leave together. ``why``: it can't go dark at all.
    ``stands_by``: some of it is offline, and nothing of it is in use."""

    group: Group
    banks: tuple[str, ...]
    why: str = ""
    stands_by: bool = False


def bunches(snapshot: Snapshot, parts: Parts) -> tuple[Bunch, ...]:
    """Every domain of the board that has banks, as it stands now. Raises BoardError for an unknown part."""
    return tuple(_bunch(snapshot, domain, parts) for domain in snapshot.domains if domain.banks)


def _bunch(snapshot: Snapshot, domain: DomainStatus, parts: Parts) -> Bunch:
    banks = [bank for name in domain.banks if (bank := snapshot.bank(name)) is not None]
    size = sum(bank.range.size for bank in banks)
    why = _stays(domain, banks)
    states = {bank.kernel for bank in banks}
    out = states <= _OUT
    whole = out or states == {KernelState.ONLINE}
    cost = math.inf if why else _cost(snapshot, domain, banks, size, parts)
    group = Group(domain.name, size, out, cost, None if whole else _online(snapshot, banks))
    return Bunch(group, tuple(bank.name for bank in banks), why, out and KernelState.OFFLINE in states)


def _online(snapshot: Snapshot, banks: Iterable[BankStatus]) -> int:
    """Bytes of the blocks of these banks that are online."""
    numbers = {number for bank in banks for number in bank.blocks}
    return snapshot.block_size * sum(b.state is not BlockState.OFFLINE for b in snapshot.blocks if b.number in numbers)


def _stays(domain: DomainStatus, banks: Iterable[BankStatus]) -> str:
    """Why the domain never goes dark; empty where it may."""
    if domain.interleaved:
        return "interleaved: dark it would save nothing"
    if not domain.darkest.dark:
        return "its switch only knows on"
    for bank in banks:
        if not bank.movable:
            return f"the board does not call {bank.name} movable"
        if not route(bank.route).removes:
            return f"{bank.name} has no route out of the kernel"
    return ""


def _cost(snapshot: Snapshot, domain: DomainStatus, banks: Iterable[BankStatus], size: int, parts: Parts) -> float:
    """Seconds in the dark that pay for moving what is in use there, all where that is unknown, and for the wake."""
    pages = sum(size_of(bank, snapshot) if bank.used is None else bank.used for bank in banks)
    gib = size / GIB
    dram = Dram.of(domain.dram, tuple(parts(domain.dram.part)), gib, gib, interleaved=False)
    seconds = break_even(dram, Work(pages=pages, wakes=1), domain.darkest)
    return math.inf if seconds is None else seconds


def needed_to_return(snapshot: Snapshot, groups: Sequence[Group], owner: int) -> int:
    """Bytes that have to be free for the largest group to come back: what each zone keeps from everybody (up to its
    high watermark, where reclaim sleeps), the memory map of what is added and page tables that map both page by page
    (arch/arm64/mm/mmu.c, ``arch_add_memory``), and ``owner``: what adding it takes at most.
    """
    kept = sum(zone.high for zone in snapshot.zones) * snapshot.page_size
    largest = max((group.size for group in groups), default=0)
    memmap = largest // snapshot.page_size * snapshot.memmap_per_page
    return kept + memmap + (largest + memmap) // snapshot.page_size * _ENTRY + owner


def size_of(bank: BankStatus, snapshot: Snapshot) -> int:
    """Pages of a bank."""
    return bank.range.size // snapshot.page_size


def view(reading: Reading, page_size: int, groups: Sequence[Group], refaulted: int = 0) -> View:
    """One look. ``groups``: as the last snapshot had them; ``refaulted``: pages since the look before."""
    managed = reading.managed * page_size
    inside = sum(group.inside for group in groups)
    pressed = None if reading.pressure is None else reading.pressure.some_avg10 >= PRESSED
    fixed, used = max(0, managed - inside), reading.demand * page_size
    lent, kernel = reading.lent * page_size, _kernel(reading, page_size)
    return View(reading.at, fixed, tuple(groups), used, refaulted * page_size, pressed, lent, kernel)


def _kernel(reading: Reading, page_size: int) -> Kernel | None:
    if reading.kernel is None:
        return None
    zones = (zone for zone in reading.zones if zone.zone in KERNEL_ZONES)
    room = sum(max(0, zone.free - zone.cma_free) + zone.reclaimable for zone in zones)
    return Kernel(reading.kernel * page_size, room * page_size)
