# SPDX-License-Identifier: Apache-2.0
"""``Model``: the simulated kernel and its DRAM as a Machine: its primitives, routes and power.

What can be seen of it is in view.py, what a workload calls in syscalls.py. Power switches of every sort are played by
the model, unless it is given real ones, which its memory then follows. Below the interlock of ``set_power`` its DRAM
forgets as real DRAM does: ``off`` destroys what the bank holds, whoever uses it, and ``check_contents`` finds the loss.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypedDict, Unpack

from hotbank import kernels
from hotbank.board import Bank, Board, Domain
from hotbank.errors import CancelPending, Code, KernelError, SwitchError
from hotbank.firmware import describe, memory_map
from hotbank.gate import Gate, Switch
from hotbank.machine import Ability, Pages, Reading, Snapshot, Survey, Vacated, no_such
from hotbank.memory import BlockState, KernelState, Online, Power, Range, merge
from hotbank.model.backend import check_room
from hotbank.model.boot import BootSource, boot_memory
from hotbank.model.capture import Capture
from hotbank.model.clock import Costs, ModelClock
from hotbank.model.frames import DARK
from hotbank.model.nodes import Node
from hotbank.model.parts import Parts
from hotbank.model.resume import Restored, captured_board
from hotbank.model.syscalls import SystemCalls
from hotbank.model.validate import validate
from hotbank.model.view import View
from hotbank.model.zoning import POLICIES, group_of
from hotbank.room import starved
from hotbank.routes import route

_UNPLUG_LIMIT = 5.0  # seconds that virtio-mem gives a block; its allocations give up by themselves


class ModelOptions(TypedDict, total=False):
    """What every way to make a Model takes; see there."""

    clock: ModelClock | None
    costs: Costs | None
    seed: int
    boot_id: str | None
    kcore: bool
    backend: str | None
    memory: int | None
    switches: Mapping[str, Switch] | None


class Model(SystemCalls):
    """A running simulated machine; make one with ``boot`` or ``restore``.

    ``tasks`` is everything that uses memory, ``hotplug`` the memory blocks, ``allocator`` the zones, ``frames`` the
    page frames, ``geometry`` where they are, ``view`` what can be seen. ``seed`` gives the boot id. ``kcore``: False
    hides pins from surveys, as on a machine whose reference counts can't be read. ``backend``: who keeps the frames,
    ``memory``: bytes that this host has for them (backend.py). ``switch_faults``: domain → ``fails`` or ``lies``.
    ``switches``: of domains that something real switches, which the model's memory follows.
    Public methods may be called from any thread.
    """

    def __init__(
        self,
        board: Board,
        source: BootSource,
        *,
        clock: ModelClock | None = None,
        costs: Costs | None = None,
        seed: int = 0,
        boot_id: str | None = None,
        kcore: bool = True,
        backend: str | None = None,
        memory: int | None = None,
        switches: Mapping[str, Switch] | None = None,
    ) -> None:
        check_room(source.geometry.shape.frames, backend, memory)
        parts = Parts(
            board,
            source,
            clock=clock,
            costs=costs,
            seed=seed,
            boot_id=boot_id,
            backend=backend,
            switches=switches or {},
        )
        super().__init__(parts)
        self.board, self.arch, self.costs = board, parts.arch, parts.costs
        self.frames, self.allocator, self.contents = parts.frames, parts.allocator, parts.contents
        self.hotplug, self.geometry = parts.hotplug, parts.geometry
        self.view = View(parts, kcore=kcore)
        self.switch_faults: dict[str, str] = {}
        self._gate = Gate(parts.lock)

    @classmethod
    def boot(
        cls,
        board: Board,
        *,
        description: bytes | None = None,
        cmdline: str | None = None,
        kernel: str = kernels.DEFAULT,
        **options: Unpack[ModelOptions],
    ) -> Model:
        """Boot a board from what its firmware says; ``description`` None: what the board file would have it say.

        ``cmdline`` replaces the description's own. Raises FormatError, BoardError, Refusal.
        """
        firmware = memory_map(describe(board, _form(board)).data if description is None else description)
        line = cmdline if cmdline is not None else firmware.cmdline or board.cmdline
        described = (*(region.range for region in firmware.regions), *(bank.range for bank in board.banks))
        _check_room(described, board.page_size, options)
        return cls(board, boot_memory(board, firmware, line, kernel), **options)

    @classmethod
    def restore(cls, capture: Capture, **options: Unpack[ModelOptions]) -> Model:
        """A model in the state of a captured machine (capture.py): the same blocks, zones, banks, power and pages."""
        snapshot = capture.snapshot
        board = captured_board(snapshot)
        places = (*(block.range for block in snapshot.blocks), *(bank.range for bank in board.banks))
        _check_room(places, snapshot.page_size, options)
        options.setdefault("boot_id", snapshot.boot_id)
        model = cls(board, Restored(capture), **options)
        model._parts.stuck.update(bank.name for bank in snapshot.banks if bank.kernel is KernelState.STUCK)
        for domain in snapshot.domains:
            if domain.power is not Power.UNKNOWN:
                model._turn(domain.name, domain.power)
        return model

    # Machine

    @property
    def clock(self) -> ModelClock:
        """The clock that deadlines and costs are on."""
        return self._parts.clock

    @property
    def can(self) -> frozenset[Ability]:
        """It has no files of its own that could be examined."""
        return frozenset({Ability.INTERRUPT, Ability.PAGES, Ability.VACATE})

    def snapshot(self) -> Snapshot:
        """Everything at one moment."""
        return self.view.snapshot()

    def reading(self) -> Reading:
        """How it feels now; no page is walked."""
        return self.view.reading()

    def survey(self, block: int) -> Survey:
        """The kinds of all pages of the block, and which of them stand in the way. Raises Refusal(NO_SUCH_BANK)."""
        self._check_block(block)
        return self.view.survey(block)

    def pages(self, block: int) -> Pages:
        """What every page of the block is. Raises Refusal(NO_SUCH_BANK)."""
        self._check_block(block)
        return self.view.pages(block)

    def online(self, block: int, how: Online) -> None:
        """Put a block online. Raises KernelError, Refusal(NO_SUCH_BANK)."""
        self._check_block(block)
        self.hotplug.online(block, how)

    def offline(self, block: int, deadline: float, *, spare: int = 0, fence: tuple[int, ...] = ()) -> None:
        """Evacuate a block and take it offline; meanwhile nothing lands in blocks of ``fence``, where a route fences.

        Raises KernelError, CancelPending, Refusal(NO_SUCH_BANK), and Refusal(NO_CAPACITY) when less than ``spare``
        pages are left for what moves; looked at between passes, where a kernel looks at signals.
        """
        self._check_block(block)
        fenced = tuple(number for number in fence if self._fences(number))
        self.hotplug.offline(block, deadline, starved=lambda: bool(spare) and self._starved(block, spare), fence=fenced)

    def vacate(self, block: int, deadline: float, *, drop: int = 0, spare: int = 0) -> Vacated:
        """See Vacating. A kernel that has no nodeX/reclaim drops nothing."""
        self._check_block(block)
        node = Node(self._parts, self.hotplug.block(block).node)
        self._check_signal(node, block, deadline)
        dropped = node.drop(drop)
        for pid in node.processes():
            self._check_signal(node, block, deadline)
            if self.clock.now() >= deadline or (spare and self._starved(block, spare)):
                break
            node.move(pid)
        return Vacated(dropped)

    def _check_signal(self, node: Node, block: int, deadline: float) -> None:
        if self.hotplug.signalled(block, deadline):
            raise KernelError(errno.EINTR, f"vacate node {node.number}")

    def _fences(self, block: int) -> bool:
        bank = next((bank for bank in self.board.banks if block in self.board.blocks(bank)), None)
        return bank is not None and route(bank.route).fences

    def _starved(self, block: int, spare: int) -> bool:
        """As a host would find out, from the counters of the zones."""
        held = self.hotplug.block(block)
        zones = tuple(self.view.zones())
        return starved(zones, held.zone.name.value if held.zone is not None else None, held.node, spare)

    def interrupt(self, block: int, deadline: float) -> None:
        """A signal for whoever writes to the block's state: that offline ends with EINTR, or is left pending."""
        with self._parts.lock:
            self.hotplug.interrupt(block, deadline)

    def add(self, bank: str) -> None:
        """Hot-add a bank.

        Raises KernelError: EOPNOTSUPP (no route in), EEXIST, ENOMEM, EBUSY (stuck); Refusal(NO_SUCH_BANK).
        """
        found = self._known_bank(bank)
        if not route(found.route).enters:
            raise _no_way(found, "add")
        self._check_not_stuck(bank, "add")
        self._bring_in(found, self.board.blocks(found))
        self.clock.sleep(self.costs.add_bank)

    def remove(self, bank: str) -> None:
        """Hot-remove a bank.

        Where its driver sticks (``kmem``) it unbinds all the same when a block is online, and the bank is stuck until
        the next boot, with every block offline as well: nobody is left who would remove them. ``virtio-mem`` takes
        blocks offline by itself; EAGAIN when one can't go, and then the whole bank is back.
        Raises KernelError: EOPNOTSUPP (no route out), EBUSY (a block is online); Refusal(NO_SUCH_BANK).
        """
        found = self._known_bank(bank)
        if not route(found.route).removes:
            raise _no_way(found, "remove")
        self._check_not_stuck(bank, "remove")
        (self._unplug if route(found.route).offlines else self._take_out)(found)
        self.clock.sleep(self.costs.remove_bank)

    def power(self, domain: str) -> Power:
        """What the domain's switch says. Raises Refusal(NO_SUCH_BANK)."""
        with self._parts.lock:
            return self._parts.power_of(self._known_domain(domain).name)

    def set_power(self, domain: str, want: Power) -> None:
        """Turn the switch: ``off`` destroys what every bank of the domain holds.

        Raises KernelError(EBUSY) for less than ``on`` while a block that touches the domain is in the kernel,
        SwitchError, Refusal(NO_SUCH_BANK).
        """
        self._known_domain(domain)
        self._gate.turn(domain, want, self.snapshot, partial(self._switch, domain))
        self.clock.sleep(self.costs.switch_power)

    # What else an administrator sets

    @property
    def auto_online(self) -> str:
        """The content of ``auto_online_blocks``."""
        return self._parts.auto_online

    def set_auto_online(self, word: str) -> None:
        """Write ``auto_online_blocks``. Raises KernelError(EINVAL) for a word that it does not take."""
        if word not in (BlockState.OFFLINE, *Online):
            raise KernelError(errno.EINVAL, "auto_online_blocks", detail=f"no policy is called {word!r}")
        self._parts.auto_online = word

    def set_policy(self, online: str, ratio: int) -> None:
        """Write ``online_policy`` and ``auto_movable_ratio``, in percent (/sys/module/memory_hotplug/parameters); the
        others are read-only there. Raises KernelError(EINVAL) for an unknown policy."""
        if online not in POLICIES:
            raise KernelError(errno.EINVAL, "online_policy", detail=f"{online!r} is none of {', '.join(POLICIES)}")
        with self._parts.lock:
            zoning = self.hotplug.zoning
            zoning.rules = replace(zoning.rules, policy=replace(zoning.rules.policy, online=online, ratio=ratio))

    # Routes

    def _bring_in(self, bank: Bank, numbers: Sequence[int]) -> None:
        self.hotplug.add(
            numbers,
            node=bank.node or 0,
            group=group_of(bank, self.board.block_size),
            policy=self.auto_online,
            memmap_on_memory=route(bank.route).own_memmap,
        )

    def _take_out(self, bank: Bank) -> None:
        try:
            self.hotplug.remove(self.board.blocks(bank))
        except KernelError:
            if not route(bank.route).sticks:
                raise
            self._parts.stuck.add(bank.name)
            self._check_not_stuck(bank.name, "remove")

    def _unplug(self, bank: Bank) -> None:
        """drivers/virtio/virtio_mem.c, ``virtio_mem_sbm_unplug_request``, and a hypervisor that takes its wish back."""
        gone: list[int] = []
        there = [number for number in self.board.blocks(bank) if number in self.hotplug.blocks]
        for number in reversed(there):
            try:
                self.hotplug.offline_and_remove([number], self.clock.now() + _UNPLUG_LIMIT)
                gone.append(number)
            except CancelPending:  # the kernel is still in there, and nobody else can do anything
                raise
            except KernelError:
                continue
        if len(gone) < len(there):
            self._bring_in(bank, sorted(gone))
            raise KernelError(errno.EAGAIN, f"remove {bank.name}", detail="the guest keeps some of it")

    # Power

    def _switch(self, domain: str, want: Power) -> None:
        if self._known_domain(domain).switch == "none" and want is not Power.ON:
            raise SwitchError(f"{domain} has no switch")
        if domain in self._parts.switches:
            self._parts.switches[domain].turn(want)
        fault = self.switch_faults.get(domain)
        if fault == "fails":
            raise SwitchError(f"{domain} did not go {want}")
        if fault != "lies":
            self._turn(domain, want)

    def _turn(self, domain: str, want: Power) -> None:
        geometry, contents = self.geometry, self.contents
        runs = [run for bank in self.board.banks if bank.domain == domain for run in geometry.runs(bank.range)]
        self._parts.power[domain] = want
        contents.dark = [run for run in contents.dark if run not in runs]
        if want is Power.OFF:
            contents.dark += runs
            for start, end in runs:
                self.frames.fill(start, end, DARK)

    # What callers name

    def _known_domain(self, name: str) -> Domain:
        domain = self.board.domain(name)
        if domain is None:
            raise no_such(self._parts.name, "domain", name, (known.name for known in self.board.domains))
        return domain

    def _known_bank(self, name: str) -> Bank:
        bank = self.board.bank(name)
        if bank is None:
            raise no_such(self._parts.name, "bank", name, (known.name for known in self.board.banks))
        return bank

    def _check_block(self, number: int) -> None:
        if number not in self.hotplug.blocks:
            raise no_such(self._parts.name, "block", f"memory{number}")

    def _check_not_stuck(self, bank: str, verb: str) -> None:
        if bank in self._parts.stuck:
            detail = "its driver let go of it with blocks still there"
            raise KernelError(errno.EBUSY, f"{verb} {bank}", detail=detail, code=Code.STUCK)

    # Checks

    def validate(self) -> None:
        """Check every invariant of the model's own books. Raises AssertionError that names the first breach."""
        with self._parts.lock:
            validate(self._parts)

    def check_contents(self) -> tuple[int, ...]:
        """The pfns whose page does not read as it was written, none on a sound machine."""
        with self._parts.lock:
            return tuple(self.geometry.pfn(self.contents.frame(handle)) for handle in self.contents.damaged())


def _check_room(places: Iterable[Range], page_size: int, options: ModelOptions) -> None:
    """For what a description speaks of, before anything is made of it."""
    frames = sum(place.size for place in merge(places)) // page_size
    check_room(frames, options.get("backend"), options.get("memory"))


def _form(board: Board) -> str:
    """Outside 32-bit ARM a command line can't say where memory is: such a board has a device tree as well."""
    return "dtb" if board.describe == "cmdline" and not kernels.arch(board.arch).mem_has_start else board.describe


def _no_way(bank: Bank, verb: str) -> KernelError:
    detail = f"route {bank.route} can't {verb} a bank"
    return KernelError(errno.EOPNOTSUPP, f"{verb} {bank.name}", detail=detail)
