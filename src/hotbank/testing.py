# SPDX-License-Identifier: Apache-2.0
"""For tests of programs that use hotbank, and of hotbank itself; nothing else in the package imports it.

    machine = ScriptedMachine()            a Machine simple enough to be obviously right, on a clock that stands still
    machine.slots[22].why = Code.PINNED    what speaks against a block
    faulty = Faulty(machine)               any Machine, some of whose calls go wrong
    watched = Watched(machine)             any Machine, and everything that was done to it against DESIGN's invariants
    breaches(before, machine, watched, outcome)

``before`` is what ``places(machine)`` said before a transaction, ``outcome`` how it ended. An oracle is worth something
once it was tried on a planted breach: ``ScriptedMachine(interlock=False)`` obeys where a machine should refuse, and
writes down in ``lost`` which memory it lost by that.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hotbank.documents import EXIT_PARTLY
from hotbank.errors import CancelPending, Code, KernelError, SwitchError
from hotbank.gate import Gate
from hotbank.machine import (
    Ability,
    BankStatus,
    Block,
    DomainStatus,
    Evidence,
    Machine,
    Migrated,
    Owner,
    Pages,
    Reading,
    Snapshot,
    Survey,
    Vacated,
    ZoneInfo,
    is_interruptible,
    no_such,
)
from hotbank.memory import INTO_KERNEL_ZONE, MIB, BlockState, KernelState, Kind, Online, Power, Range
from hotbank.operate import Outcome
from hotbank.routes import route

BLOCK, PAGE = 64 * MIB, 4096
PAGES = BLOCK // PAGE
SPARE = 30  # pages of the room in Normal that are the kernel's own
CALLS = ("snapshot", "survey", "online", "offline", "add", "remove", "power", "set_power", "set_auto_online")


class ManualClock:
    """Seconds that pass only when someone sleeps, or ``per_look`` at a time when someone looks."""

    def __init__(self, per_look: float = 0.0) -> None:
        self.time, self.per_look = 0.0, per_look

    def now(self) -> float:
        self.time += self.per_look
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@dataclass
class Slot:
    """One block: where it is, how many pages of it move, and what speaks against moving them."""

    number: int
    bank: str
    state: BlockState = BlockState.ONLINE
    zone: str = "Movable"
    pages: int = 100
    why: Code | None = None
    boot: bool = True
    holes: bool = False
    unknown: tuple[str, ...] = ()
    pending: bool = False


@dataclass
class ScriptedMachine:
    """Banks ``low`` (blocks 16 to 19, Normal, stays) and ``high`` (blocks 20 to 23, Movable, in domain ``ddr``).

    ``others``: more banks like ``high``, each of one block, and the domain that each is in. ``interlock``: refuse to
    switch power off under memory, as every machine has to. ``counts``: tell how many pages moved. ``lost``: banks that
    were in the kernel when their power went off; a test that sees one has found a breach. ``free``: pages that there is
    room for in Normal. ``spared``: what each offline was told to keep free, SPARE of an orderly one;
    ``fenced``: which blocks leave after it. ``at_switch``: what happens when a switch was turned, before anybody looks.
    """

    clock: ManualClock = field(default_factory=ManualClock)
    states: tuple[Power, ...] = (Power.ON, Power.SELF_REFRESH, Power.OFF)
    others: Mapping[str, str] = field(default_factory=dict)
    interlock: bool = True
    counts: bool = True
    free: int = 10_000
    auto_online: str = "offline"
    boot_memory_leaves: bool | None = True
    route: str = "driver"
    movable: bool = True
    boot_id: str = "boot-1"
    stuck: bool = False
    at_switch: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.ranges = {"low": Range.sized(0x40000000, 4 * BLOCK), "high": Range.sized(0x50000000, 4 * BLOCK)}
        for at, name in enumerate(self.others):
            self.ranges[name] = Range.sized(0x60000000 + at * BLOCK, BLOCK)
        self.domain_of = {"high": "ddr", **self.others}
        self.slots = {n: slot for bank in self.ranges for n, slot in self._fresh(bank, BlockState.ONLINE)}
        self.levels = dict.fromkeys(self.domain_of.values(), Power.ON)
        self.moved = 0
        self.lost: list[str] = []
        self.spared: list[int] = []
        self.fenced: list[tuple[int, ...]] = []
        self.held: int | None = None
        self._gate = Gate()

    def _fresh(self, bank: str, state: BlockState) -> Iterator[tuple[int, Slot]]:
        area = self.ranges[bank]
        for number in range(area.start // BLOCK, area.end // BLOCK):
            yield number, Slot(number, bank, state, "Normal" if bank == "low" else "Movable")

    @property
    def level(self) -> Power:
        """The power of high's domain."""
        return self.levels["ddr"]

    # What every Machine does.

    @property
    def can(self) -> frozenset[Ability]:
        return frozenset()

    def snapshot(self) -> Snapshot:
        blocks = tuple(self._block(slot) for slot in sorted(self.slots.values(), key=lambda s: s.number))
        online = [slot for slot in self.slots.values() if slot.state is BlockState.ONLINE and slot.bank != "low"]
        normal = self.free + SPARE + 50 + sum(PAGES - slot.pages for slot in online if slot.zone == "Normal")
        movable = sum(PAGES - slot.pages for slot in online if slot.zone == "Movable")
        sizes = (4 * PAGES, 4 * PAGES, 4 * PAGES)
        zones = (
            ZoneInfo(0, "Normal", 0x40000, *sizes, free=normal, min=50, high=50 + SPARE),
            ZoneInfo(0, "Movable", 0x50000, *sizes, free=movable, min=10),
        )
        return Snapshot(
            "scripted",
            "arm",
            PAGE,
            BLOCK,
            self.boot_id,
            blocks,
            zones,
            tuple(self._bank(name) for name in self.ranges),
            tuple(self._domain(name) for name in self.levels),
            self.auto_online,
            self.boot_memory_leaves,
            pending=self.held,
        )

    def _block(self, slot: Slot) -> Block:
        zones = (slot.zone,) if slot.state is BlockState.ONLINE else ("Normal", "Movable")
        state = BlockState.GOING_OFFLINE if slot.number == self.held else slot.state
        return Block(slot.number, Range.sized(slot.number * BLOCK, BLOCK), state, zones, 0, slot.pages)

    def _domain(self, name: str) -> DomainStatus:
        banks = tuple(bank for bank, domain in self.domain_of.items() if domain == name)
        return DomainStatus(name, self.levels[name], self.states, banks, "machine")

    def _bank(self, name: str) -> BankStatus:
        blocks = [self._block(slot) for _, slot in sorted(self.slots.items()) if slot.bank == name]
        area, domain = self.ranges[name], self.domain_of.get(name)
        if domain is None:
            return BankStatus.of(name, area, blocks, Power.ON)
        stuck, level = self.stuck and name == "high", self.levels[domain]
        return BankStatus.of(
            name, area, blocks, level, stuck=stuck, movable=self.movable, route=self.route, domain=domain
        )

    def survey(self, block: int) -> Survey:
        slot = self._slot(block)
        kinds = {Kind.ANON: slot.pages, Kind.FREE: PAGES - slot.pages}
        if slot.why is Code.POISONED:
            kinds = {**kinds, Kind.FREE: PAGES - slot.pages - 1, Kind.POISONED: 1}
        blocking = (
            (Evidence(block * PAGES + 7, Kind.ANON, slot.why, Owner(42, "stubborn")),) if slot.why is not None else ()
        )
        return Survey(block, kinds, blocking, len(blocking), slot.unknown, slot.boot, slot.holes)

    def online(self, block: int, how: Online) -> None:
        slot = self._slot(block)
        if slot.state is BlockState.ONLINE:
            raise KernelError(errno.EINVAL, f"memory{block}")
        slot.state, slot.zone = BlockState.ONLINE, "Movable" if how is Online.MOVABLE else "Normal"

    def offline(self, block: int, deadline: float, *, spare: int = 0, fence: tuple[int, ...] = ()) -> None:
        slot = self._slot(block)
        self.spared.append(spare)
        self.fenced.append(fence)
        if slot.state is BlockState.OFFLINE or slot.holes:
            raise KernelError(errno.EINVAL, f"memory{block}")
        if slot.why is Code.UNMOVABLE:
            raise KernelError(errno.EBUSY, f"memory{block}")
        if self.boot_memory_leaves is False and slot.boot:
            raise KernelError(errno.EPERM, f"memory{block}")
        self.clock.time += 0.01
        if slot.why is Code.PINNED or slot.pending:
            self.clock.time = max(self.clock.time, deadline)
            if slot.pending:
                self.held = block
                raise CancelPending(f"memory{block}")
            raise KernelError(errno.EINTR, f"memory{block}")
        slot.state = BlockState.OFFLINE
        self.moved += slot.pages

    def let_go(self) -> None:
        """The kernel lets go of the block whose cancelled offline it held."""
        assert self.held is not None
        self.slots[self.held].pending = False
        self.held = None

    def add(self, bank: str) -> None:
        self._check_bank(bank)
        if any(s.bank == bank for s in self.slots.values()):
            raise KernelError(errno.EEXIST, bank)
        domain = self.domain_of.get(bank)
        if domain is not None and self.levels[domain] is not Power.ON:
            self.lost.append(f"{bank} added in the dark")
        into_kernel = self.auto_online in INTO_KERNEL_ZONE
        vetoed = into_kernel and route(self.route).movable_only
        state = BlockState.OFFLINE if vetoed or self.auto_online == "offline" else BlockState.ONLINE
        self.slots.update(self._fresh(bank, state))
        for slot in self.slots.values():
            if slot.bank == bank and into_kernel:
                slot.zone = "Normal"

    def remove(self, bank: str) -> None:
        self._check_bank(bank)
        if any(s.bank == bank and s.state is BlockState.ONLINE for s in self.slots.values()):
            raise KernelError(errno.EBUSY, bank)
        self.slots = {n: s for n, s in self.slots.items() if s.bank != bank}

    def power(self, domain: str) -> Power:
        self._check_domain(domain)
        return self.levels[domain]

    def set_power(self, domain: str, want: Power) -> None:
        self._check_domain(domain)
        if self.interlock:
            self._gate.turn(domain, want, self.snapshot, partial(self._switch, domain))
        else:
            self._switch(domain, want)

    def _switch(self, domain: str, want: Power) -> None:
        if want is not Power.ON:
            self.lost += sorted({s.bank for s in self.slots.values() if self.domain_of.get(s.bank) == domain})
        self.levels[domain] = want
        self.at_switch()

    def set_auto_online(self, word: str) -> None:
        if word not in {"offline", *Online}:
            raise KernelError(errno.EINVAL, "auto_online_blocks")
        self.auto_online = word

    def reading(self) -> Reading:
        """Migration that succeeds at once: every page that left its block."""
        return Reading(
            self.clock.now(), self.snapshot().zones, migrated=Migrated(self.moved, 0) if self.counts else None
        )

    def _check_bank(self, name: str) -> None:
        if name not in self.ranges:
            raise no_such("scripted", "bank", name, self.ranges)

    def _check_domain(self, name: str) -> None:
        if name not in self.levels:
            raise no_such("scripted", "domain", name, self.levels)

    def _slot(self, block: int) -> Slot:
        if block not in self.slots:
            raise no_such("scripted", "block", f"memory{block}")
        return self.slots[block]


Fault = Callable[[], None]


def raising(error: BaseException) -> Fault:
    """A fault that raises the error."""

    def fail() -> None:
        raise error

    return fail


class Faulty:
    """Any machine, some of whose calls go wrong.

    ``fail(call, nth, fault)``: before the nth ``call`` (0 is the next one), ``fault`` runs and may raise; with
    ``forever`` before each one from there on. ``lie(call, answer)``: the call is not made, and answers that.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.calls: list[str] = []
        self._faults: list[tuple[str, int, bool, Fault]] = []
        self._lies: dict[str, Any] = {}

    @property
    def clock(self) -> Any:
        return self.machine.clock

    def fail(self, call: str, nth: int, fault: Fault, *, forever: bool = False) -> None:
        self._faults.append((call, self.calls.count(call) + nth, forever, fault))

    def lie(self, call: str, answer: Any) -> None:
        self._lies[call] = answer

    @property
    def can(self) -> frozenset[Ability]:
        return self.machine.can - {Ability.DOCTOR}

    def interrupt(self, block: int, deadline: float) -> None:
        """Reaches the machine behind, if that can be interrupted."""
        if is_interruptible(self.machine):
            self.machine.interrupt(block, deadline)

    def heal(self) -> None:
        """From here on everything works."""
        self._faults.clear()
        self._lies.clear()

    def _do(self, call: str, *args: Any, **more: Any) -> Any:
        nth = self.calls.count(call)
        self.calls.append(call)
        for name, at, forever, fault in self._faults:
            if name == call and (nth == at or (forever and nth > at)):
                fault()
        if call in self._lies:
            return self._lies[call]
        return getattr(self.machine, call)(*args, **more)

    def snapshot(self) -> Snapshot:
        return self._do("snapshot")  # type: ignore[no-any-return]

    def survey(self, block: int) -> Survey:
        return self._do("survey", block)  # type: ignore[no-any-return]

    def pages(self, block: int) -> Pages:
        return self._do("pages", block)  # type: ignore[no-any-return]

    def glance(self, block: int) -> Survey:
        return self._do("glance", block)  # type: ignore[no-any-return]

    def count(self, blocks: tuple[int, ...]) -> tuple[Survey, ...]:
        return self._do("count", blocks)  # type: ignore[no-any-return]

    def block(self, number: int) -> Block | None:
        return self._do("block", number)  # type: ignore[no-any-return]

    def online(self, block: int, how: Online) -> None:
        self._do("online", block, how)

    def offline(self, block: int, deadline: float, *, spare: int = 0, fence: tuple[int, ...] = ()) -> None:
        self._do("offline", block, deadline, spare=spare, fence=fence)

    def vacate(self, block: int, deadline: float, *, drop: int = 0, spare: int = 0) -> Vacated:
        return self._do("vacate", block, deadline, drop=drop, spare=spare)  # type: ignore[no-any-return]

    def add(self, bank: str) -> None:
        self._do("add", bank)

    def remove(self, bank: str) -> None:
        self._do("remove", bank)

    def power(self, domain: str) -> Power:
        return self._do("power", domain)  # type: ignore[no-any-return]

    def set_power(self, domain: str, want: Power) -> None:
        self._do("set_power", domain, want)

    def set_auto_online(self, word: str) -> None:
        self._do("set_auto_online", word)

    def reading(self) -> Reading:
        return self._do("reading")  # type: ignore[no-any-return]


class Watched(Faulty):
    """A machine whose owner looks on: every order against invariants 1 and 6 is written into ``breaches``. ``policy``:
    what ``auto_online_blocks`` was when it was last set aside."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.breaches: list[str] = []
        self.policy: str | None = None
        self._asked_since_change = False

    def _do(self, call: str, *args: Any, **more: Any) -> Any:
        if call == "set_power" and args[1] is not Power.ON:
            self._check_dark(args[0])
        if call == "add":
            self._check_lit(args[0])
            self._check_policy(args[0])
        if call == "set_auto_online" and args[0] == Online.MOVABLE:
            self.policy = self.machine.snapshot().auto_online
        if call in ("snapshot", "survey", "reading"):
            self._asked_since_change |= call == "snapshot"
        elif call != "power":
            self._asked_since_change = False
        return super()._do(call, *args, **more)

    def _check_dark(self, domain: str) -> None:
        snapshot = self.machine.snapshot()
        status = snapshot.domain(domain)
        banks = [snapshot.bank(name) for name in status.banks] if status is not None else []
        self.breaches += [f"{b.name} in the kernel" for b in banks if b and b.kernel is not KernelState.ABSENT]
        if not self._asked_since_change:
            self.breaches.append("power off without asking again")

    def _check_lit(self, bank: str) -> None:
        status = self.machine.snapshot().bank(bank)
        if status is not None and status.domain is not None and self.machine.power(status.domain) is not Power.ON:
            self.breaches.append(f"{bank} added in the dark")

    def _check_policy(self, bank: str) -> None:
        snapshot = self.machine.snapshot()
        status = snapshot.bank(bank)
        vetoes = status is not None and route(status.route).movable_only
        if snapshot.auto_online in INTO_KERNEL_ZONE and not vetoes:
            self.breaches.append(f"{bank} added while auto_online_blocks is {snapshot.auto_online}")


Places = dict[int, tuple[str, tuple[str, ...]]]


def places(machine: Machine) -> Places:
    """Each block's state and zone: what invariant 2 is about."""
    return {
        b.number: (b.state.value, b.valid_zones if b.state is BlockState.ONLINE else ())
        for b in machine.snapshot().blocks
    }


def switch_error(what: str = "ddr") -> SwitchError:
    """What a machine raises when its switch does not do it."""
    return SwitchError(f"{what}: the switch did not answer")


_CHANGES = {"online", "offline", "add", "remove", "set_power", "set_auto_online"}


def breaches(before: Places, machine: Machine, watched: Watched, outcome: Outcome | None) -> list[str]:
    """What the transaction did that it must never do. ``machine``: the one below all wrappers."""
    ends = _in_the_dark(machine) + _not_restored(before, machine, outcome) + _policy_left(machine, watched, outcome)
    return watched.breaches + ends


def acted(watched: Watched) -> bool:
    """True if anything was asked for that changes the machine (invariant 3 is about that)."""
    return any(call in _CHANGES for call in watched.calls)


def _in_the_dark(machine: Machine) -> list[str]:
    """Banks in the kernel whose domain is not on."""
    snapshot = machine.snapshot()
    return [
        f"{bank.name} is {bank.kernel} while {domain.name} is {domain.power}"
        for domain in snapshot.domains
        if domain.power is not Power.ON
        for bank in snapshot.banks
        if bank.domain == domain.name and bank.kernel is not KernelState.ABSENT
    ]


def _policy_left(machine: Machine, watched: Watched, outcome: Outcome | None) -> list[str]:
    """After the end: an onlining policy that is not what it was, and of which nothing was said."""
    now = machine.snapshot().auto_online
    if outcome is None or outcome.open or watched.policy in (None, now) or "auto_online_blocks" in outcome.fact:
        return []
    return [f"auto_online_blocks was {watched.policy} and is {now}"]


def _not_restored(before: Places, machine: Machine, outcome: Outcome | None) -> list[str]:
    """After a failure: blocks that are not as they were and that the outcome does not name."""
    if outcome is None or outcome.exit == 0 or outcome.open or _all_but_the_policy(outcome):
        return []
    now = places(machine)
    wrong = {n for n in before.keys() | now.keys() if before.get(n) != now.get(n)}
    named = set(outcome.unrestored)
    missed = [f"memory{n} was {before.get(n)}, is {now.get(n)}, and is not named" for n in sorted(wrong - named)]
    return missed + [f"memory{n} is named and was restored" for n in sorted(named - wrong)]


def _all_but_the_policy(outcome: Outcome) -> bool:
    """True if everything was done that was ordered, and only the onlining policy did not go back."""
    asked = KernelState.ABSENT if outcome.verb == "remove" else KernelState.ONLINE
    return (outcome.code, outcome.exit, outcome.kernel) == (Code.AUTO_ONLINE, EXIT_PARTLY, asked)
