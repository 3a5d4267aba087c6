# SPDX-License-Identifier: Apache-2.0
"""Host: the Machine protocol on a real kernel, or on the captured files of one.

Truth: drivers/base/memory.c (``state_store``, ``probe_store``), mm/memory_hotplug.c.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from hotbank import board as boards
from hotbank import kernels
from hotbank.board import Bank, Board, Domain
from hotbank.errors import CancelPending, Code, Finding, KernelError, MachineError, Refusal, SwitchError
from hotbank.gate import Gate, Switch
from hotbank.host import tree as files
from hotbank.host.ram import Ram
from hotbank.host.tree import Tree
from hotbank.machine import (
    Ability,
    BankStatus,
    Block,
    Clock,
    Clocks,
    DomainStatus,
    NodeStatus,
    Pages,
    Reading,
    Snapshot,
    Survey,
    Vacated,
    WallClock,
    no_such,
)
from hotbank.memory import KIB, BlockState, Online, Power, Range, Zone
from hotbank.room import several, starved
from hotbank.routes import NONE
from hotbank.sysfs import names, vmstat

if TYPE_CHECKING:  # who only reads starts sooner without what writes
    from hotbank.host.evacuation import Evacuation
    from hotbank.host.meters import Meters
    from hotbank.host.routes import Route
    from hotbank.host.views import Look
    from hotbank.host.writer import Waited, Writers

SETTLE = 0.5  # seconds for a cancelled offline to let go of its block; the rest of one is for putting back and telling
LOOK = 0.05  # seconds between two looks at whether there is still room; a full block takes a second and more
# Where a look takes longer, what moves on the same CPU gets this many times as long, up to so many seconds.
_REST, _LONGEST_LOOK = 10, 0.5
_NO_ROOM = "no room is left for its pages"
PATIENCE = 60.0  # seconds after which any other write is given up


class Host:
    """The machine whose files are below ``root``.

    ``board``: its banks; without one that of /etc/hotbank/board.toml below ``root``, and without that each
    memory block is a bank ``memoryN`` with route ``none``. ``switches``: a switch per domain, in place of those
    that the board names. ``writers``: who writes for it, in place of its own. Raises MachineError where there are
    no memory blocks, BoardError for a bad board.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] = "/",
        board: Board | None = None,
        *,
        clock: Clock | None = None,
        switches: Mapping[str, Switch] | None = None,
        writers: Writers | None = None,
    ) -> None:
        self._tree = Tree(root)
        self._clock = clock or WallClock()
        self._block_size = files.block_size(self._tree)
        self._board = board or _own_board(self._tree)
        self._page_size = files.page_size(self._tree) or (self._board.page_size if self._board else 4 * KIB)
        domains = self._board.domains if self._board else ()
        self._switches = {d.name: self._switch_of(d) for d in domains} | dict(switches or {})
        self._writers = writers
        self._under_way: int | None = None
        self._interrupted: tuple[int, float] | None = None  # the offline that is to end: block, deadline
        self._held: list[Waited] = []
        self._at_work: frozenset[int] = frozenset()  # blocks that a write is about which does not name one
        self._asking = threading.Lock()  # those that are held: who is asked by two at once tells one of them nothing
        self._fenced: Evacuation | None = None
        self._gate = Gate()
        self._known: tuple[bytes | None, Ram] | None = None  # what /proc/iomem read, and what it meant

    @property
    def clock(self) -> Clock:
        """The wall clock, unless another was given."""
        return self._clock

    @property
    def may_change(self) -> bool:
        """Whether this user may change its memory."""
        return files.may_change(self._tree, files.blocks(self._tree, self._block_size))

    @property
    def auto(self) -> bool:
        """Whether the board lets a governor change this machine by itself."""
        return self._board is not None and self._board.auto

    @property
    def can(self) -> frozenset[Ability]:
        """All that a machine can do."""
        return frozenset(Ability)

    @property
    def tree(self) -> Tree:
        """The files that this machine is read from."""
        return self._tree

    @property
    def writers(self) -> Writers:
        """The processes that write for this host."""
        if self._writers is None:
            from hotbank.host.writer import Writers

            self._writers = Writers()
        return self._writers

    def snapshot(self) -> Snapshot:
        """Blocks, zones, banks, domains and policies. No page is looked at, so ``used`` is None."""
        return self._snapshot(self._domains(self._power_now))

    def _seen_in_the_dark(self) -> Snapshot:
        return self._snapshot(self._domains(lambda _: Power.UNKNOWN))

    def _snapshot(self, domains: tuple[DomainStatus, ...]) -> Snapshot:
        blocks, arch = files.blocks(self._tree, self._block_size), self._arch()
        bare = Snapshot(
            machine=self._name,
            arch=arch or kernels.ANY,
            page_size=self._page_size,
            block_size=self._block_size,
            boot_id=self._tree.read("proc/sys/kernel/random/boot_id") or "",
            blocks=blocks,
            zones=files.zones(self._tree),
            domains=domains,
            auto_online=self._tree.read(names.AUTO_ONLINE) or "offline",
            policy=files.policy(self._tree, arch),
            boot_memory_leaves=kernels.arch(arch).boot_memory_leaves,
            memmap_per_page=kernels.arch(arch).struct_page,
            pending=self._pending(blocks),
            release=self._tree.read(names.OSRELEASE) or "",
        )
        return replace(bare, banks=self._banks(bare), nodes=self._nodes(bare))

    def _nodes(self, now: Snapshot) -> tuple[NodeStatus, ...]:
        nodes = several(now.zones)
        if not nodes or not self._tree.running:
            return ()
        from hotbank.host.nodes import statuses  # few machines have several

        return statuses(self._tree, nodes, kernels.arch(now.arch))

    @property
    def _name(self) -> str:
        return "host" if self._tree.running else self._tree.root

    def survey(self, block: int) -> Survey:
        """Look at every page of a block, as far as this process may."""
        (found,) = self.surveys((block,))
        return found

    def glance(self, block: int) -> Survey:
        """The same by the flags of its pages alone."""
        (found,) = self.surveys((block,), pins=False)
        return found

    def surveys(self, blocks: Iterable[int], *, pins: bool = True) -> Iterator[Survey]:
        """See ``machine.Surveying``."""
        from hotbank.host.survey import survey  # most commands never look at a page, and start sooner without

        with self._look(pins=pins) as look:
            for block in blocks:
                yield survey(look, files.block(self._tree, self._existing(block), self._block_size), self._clock)

    def count(self, blocks: tuple[int, ...]) -> tuple[Survey, ...]:
        """See Counting: by our driver's own count."""
        from hotbank.host.survey import counted

        with self._look() as look:
            numbers = (number for number in dict.fromkeys(blocks) if number >= 0)
            there = ((number, Range.sized(number * self._block_size, self._block_size)) for number in numbers)
            return tuple(seen for number, span in there if (seen := counted(look, number, span)) is not None)

    def block(self, number: int) -> Block | None:
        """The block as it is now; None also of one that leaves while we look."""
        there = partial(os.path.isdir, self._tree.path(names.block(number)))
        try:
            return files.block(self._tree, number, self._block_size) if there() else None
        except MachineError:
            if there():
                raise
            return None

    def pages(self, block: int) -> Pages:
        """What every page of a block is, as far as this process may see it."""
        from hotbank.host.survey import page_by_page

        with self._look() as look:
            return page_by_page(look, files.block(self._tree, self._existing(block), self._block_size))

    def _look(self, *, pins: bool = True) -> Look:
        from hotbank.host.views import Look

        return Look(self._tree, self._page_size, self._ram(self._arch()), pins=pins)

    def doctor(self, board: str | None = None) -> tuple[Finding, ...]:
        """What about this machine would make a removal fail or hurt."""
        from hotbank.host.doctor import examine

        return examine(self._tree, self._board if board is None else boards.loads(board))

    def online(self, block: int, how: Online) -> None:
        """Write ``how`` to the block's state."""
        name = names.block(self._existing(block), "state")
        self._give_back()  # whoever brings one back wants the others as they were
        span = Range.sized(block * self._block_size, self._block_size)
        with self._working_on(span), _log_with_refusals(self._tree):
            self._write(name, how.value, f"{how.value} of memory{block}")

    def offline(self, block: int, deadline: float, *, spare: int = 0, fence: tuple[int, ...] = ()) -> None:
        """Write ``offline`` to the block's state; at the deadline, or when less than ``spare`` pages are left for what
        moves, the write is cancelled. Where our driver can, all blocks of ``fence`` are emptied beforehand, together,
        and stay empty until they are asked to go or an offline fails."""
        name = names.block(self._existing(block), "state")
        found = files.block(self._tree, block, self._block_size)
        if self._interrupted == (block, deadline):
            raise KernelError(errno.EINTR, f"offline of memory{block}", detail="it was interrupted before it began")
        self._under_way = block
        try:
            with _log_with_refusals(self._tree):
                self._fence_off(found, deadline, spare, fence)
                self._waited_for(self.writers.write(self._tree.path(name), "offline"), found, deadline, spare)
            self._is_out(block)
        except BaseException:
            self._give_back()
            raise
        finally:
            self._under_way = None

    def vacate(self, block: int, deadline: float, *, drop: int = 0, spare: int = 0) -> Vacated:
        """See Vacating; nodes.py says how."""
        from hotbank.host.nodes import Vacancy

        found = files.block(self._tree, self._existing(block), self._block_size)
        node = next((one for one in self.snapshot().nodes if one.number == found.node), None)
        if node is None:
            return Vacated(0, (f"nothing can be done about the node of memory{block} as a whole",))
        if self._interrupted == (block, deadline):
            raise KernelError(errno.EINTR, f"vacating node {node.number}", detail="it was interrupted before it began")
        vacancy = Vacancy(self._tree, node, kernels.arch(self._arch()), self._page_size, self.writers)
        return vacancy.make(drop, lambda what: self._left_off(what, found, deadline, spare))

    def _left_off(self, what: Waited, block: Block, deadline: float, spare: int) -> str | None:
        """Wait for it, or end it: then why. Pages that the kernel has in hand move on by themselves."""
        why = self._why_to_end(what, block, deadline, spare)
        if why is None:
            return None
        what.cancel()
        if not what.wait(self._clock, self._clock.now() + SETTLE):
            self._hold(what)
        if self._interrupted == (block.number, deadline):
            raise KernelError(errno.EINTR, f"vacating node {block.node}", detail=why)
        return why

    def _fence_off(self, block: Block, deadline: float, spare: int, fence: tuple[int, ...]) -> None:
        if self._fenced is not None and block.number in self._fenced.blocks and self._fenced.stay():
            return
        self._give_back()
        self._fenced = self._evacuation({block.number, *fence}) if fence else None
        if self._fenced is not None:
            self._waited_for(self._fenced, block, deadline, spare)

    def _evacuation(self, blocks: set[int]) -> Evacuation | None:
        """Begin to empty these blocks, those that a driver can. None where there are none, and where there is no room
        for one more process: then each goes by itself."""
        from hotbank.host.evacuation import Evacuation

        spans = {number: Range.sized(number * self._block_size, self._block_size) for number in blocks}
        there = {number: (span, path) for number, span in spans.items() if (path := self._way_of_fencing(span))}
        try:
            return Evacuation(there, len(os.sched_getaffinity(0)), self.writers.kept) if there else None
        except OSError:
            return None

    def _is_out(self, block: int) -> None:
        """Of what was held nothing is left once all of its blocks are out."""
        if self._fenced is not None:
            self._fenced.blocks.discard(block)
            if not self._fenced.blocks:
                self._give_back()

    def _give_back(self) -> None:
        """End what is held for blocks that are to leave."""
        fenced, self._fenced = self._fenced, None
        if fenced is not None:
            fenced.give_back()
            self._hold(fenced)  # until the kernel has all of it

    def _way_of_fencing(self, block: Range) -> str | None:
        """The driver's file for the bank of that block; None where there is none."""
        banks = self._board.banks if self._board is not None else ()
        bank = next((b for b in banks if b.range.contains(block)), None)
        return self._route(bank.route).fence(bank.name) if bank is not None else None

    def _waited_for(self, what: Waited, block: Block, deadline: float, spare: int) -> None:
        why = self._why_to_end(what, block, deadline, spare)
        if why is None or not self._cancelled(what, block.number, why):
            _raise_for(what.errno, f"offline of memory{block.number}", "")

    def add(self, bank: str) -> None:
        """Bring the bank into the kernel by its route (routes.py). EOPNOTSUPP where this host can't."""
        span, route = self._bank(bank)
        with self._gate.lock, self._working_on(span):
            self._route(route).add(bank, span)

    def remove(self, bank: str) -> None:
        """Take the bank out of the kernel by its route (routes.py). EOPNOTSUPP where this host can't."""
        span, route = self._bank(bank)
        with self._working_on(span):
            self._route(route).remove(bank, span)

    def interrupt(self, block: int, deadline: float) -> None:
        """End that offline, from another thread; it answers EINTR, or CancelPending."""
        self._interrupted = (block, deadline)

    def power(self, domain: str) -> Power:
        """Ask the domain's switch."""
        return self._switch(domain).status()

    def set_power(self, domain: str, want: Power) -> None:
        """Turn the domain's switch and ask it whether it did. EBUSY where that would darken what is in the kernel."""
        switch = self._switch(domain)
        self._gate.turn(domain, want, self._seen_in_the_dark, switch.turn, partial(self._shut, domain))

    def set_auto_online(self, word: str) -> None:
        """Write ``auto_online_blocks``."""
        self._write(names.AUTO_ONLINE, word, f"{word} to auto_online_blocks")

    def reading(self) -> Reading:
        """/proc/zoneinfo, /proc/vmstat, /proc/pressure/memory and the meters, each read once."""
        now, counters = self._clock.now(), files.counters(self._tree)
        moved = vmstat.refaults(counters), vmstat.migrated(counters)
        clocks = Clocks.now() if self._tree.running else None
        seen = files.zones(self._tree), files.pressure(self._tree), *moved, self._meters.read()
        return Reading(now, *seen, clocks, vmstat.kernels(counters))

    @cached_property
    def _meters(self) -> Meters:
        from hotbank.host.meters import Meters

        return Meters(self._tree)

    def _ram(self, arch: str | None) -> Ram:
        """Where there is memory, and where from, which many files tell: asked again when resources have changed."""
        resources = self._tree.read_bytes(names.IOMEM)
        if self._known is None or self._known[0] != resources:
            self._known = resources, Ram.of(self._tree, arch, resources)
        return self._known[1]

    def _arch(self) -> str | None:
        named = self._board.arch if self._board else kernels.ANY
        return files.arch(self._tree) or (named if named != kernels.ANY else None)

    def _existing(self, block: int) -> int:
        if not os.path.isdir(self._tree.path(names.block(block))):
            raise no_such(self._name, "block", f"memory{block}")
        return block

    def _write(self, name: str, word: str, what: str) -> None:
        writer = self.writers.write(self._tree.path(name), word)
        detail = ""
        if not writer.wait(self._clock, self._clock.now() + PATIENCE):
            writer.cancel()
            detail = f"given up after {PATIENCE:g} s"
            if not writer.wait(self._clock, self._clock.now() + SETTLE):
                writer.blocks = self._at_work
                self._hold(writer)
                raise CancelPending(what, detail=f"{detail} and the kernel has not let go")
        _raise_for(writer.errno, what, detail)

    def _why_to_end(self, writer: Waited, block: Block, deadline: float, spare: int) -> str | None:
        """Wait for the write; None when it returned, else why it is not waited for any longer."""
        pause = LOOK
        while not writer.wait(self._clock, min(deadline, self._clock.now() + pause)):
            began = self._clock.now()
            if self._interrupted == (block.number, deadline):
                return "it was interrupted"
            if began >= deadline:
                return "the deadline passed"
            if spare and starved(files.zones(self._tree), block.zone, block.node, spare):
                return _NO_ROOM
            pause = min(max(LOOK, _REST * (self._clock.now() - began)), _LONGEST_LOOK)
        return None

    def _cancelled(self, writer: Waited, block: int, why: str) -> bool:
        """End a write. True if the block went offline before that, False if the write had returned by itself; raises
        when the block is back online, Refusal(NO_CAPACITY) where room was wanting, else KernelError(EINTR); and
        CancelPending."""
        what = f"offline of memory{block}"
        writer.cancel()
        until = self._clock.now() + SETTLE
        while writer.pending or files.state(self._tree, block) is BlockState.GOING_OFFLINE:
            if self._clock.now() >= until:
                if writer is not self._fenced:
                    self._hold(writer)
                raise CancelPending(what, detail=f"{why} and the kernel has not let go")
            self._clock.sleep(0.01)
        if writer.errno != errno.EINTR:
            return False
        if files.state(self._tree, block) is not BlockState.ONLINE:
            return True
        if why is _NO_ROOM:
            raise Refusal(Code.NO_CAPACITY, f"{what}: {why}; the block is back online")
        raise KernelError(errno.EINTR, what, detail=f"{why}; the block is back online")

    def _pending(self, blocks: tuple[Block, ...]) -> int | None:
        """A block that the kernel holds although no call of ours waits for it; of a bank that it may still add, too."""
        with self._asking:
            self._held = [writer for writer in self._held if writer.pending]
            emptied = [number for held in self._held for number in sorted(held.blocks)]
        going = [b.number for b in blocks if b.state is BlockState.GOING_OFFLINE]
        return next((number for number in (*going, *emptied) if number != self._under_way), None)

    @contextmanager
    def _working_on(self, span: Range) -> Iterator[None]:
        """What a write that the kernel does not let go of meanwhile may still do: bring the blocks in, or take them
        out."""
        self._at_work = frozenset(span.blocks(self._block_size))
        try:
            yield
        finally:
            self._at_work = frozenset()

    def _hold(self, what: Waited) -> None:
        with self._asking:
            self._held.append(what)

    def _bank(self, name: str) -> tuple[Range, str]:
        if self._board is not None:
            bank = self._board.bank(name)
            if bank is None:
                raise no_such(self._name, "bank", name, (b.name for b in self._board.banks))
            return bank.range, bank.route
        number = names.block_number(name)
        if number is None or not os.path.isdir(self._tree.path(names.block(number))):
            raise no_such(self._name, "bank", name)
        return Range.sized(number * self._block_size, self._block_size), NONE.name

    def _route(self, name: str) -> Route:
        from hotbank.host.routes import route_for

        return route_for(name, self._tree, self._write)

    def _switch_of(self, domain: Domain) -> Switch:
        from hotbank.host.switch import switch_for

        banks = [bank for bank in self._board.banks if bank.domain == domain.name] if self._board else []
        return switch_for(domain, banks, self._tree, self._write, lambda: self.writers.kept)

    def _shut(self, domain: str) -> None:
        """Leave no device that could bring a bank of the domain in while it is dark."""
        for bank in self._board.banks if self._board is not None else ():
            if bank.domain == domain:
                self._route(bank.route).shut(bank.name, bank.range)

    def _switch(self, domain: str) -> Switch:
        switch = self._switches.get(domain)
        if switch is None:
            raise no_such(self._name, "domain", domain, self._switches)
        return switch

    def _power_now(self, domain: str) -> Power:
        try:
            return self.power(domain)
        except SwitchError:
            return Power.UNKNOWN

    def _domains(self, power: Callable[[str], Power]) -> tuple[DomainStatus, ...]:
        if self._board is None:
            return ()
        return tuple(self._board.status(domain, power(domain.name)) for domain in self._board.domains)

    def _banks(self, now: Snapshot) -> tuple[BankStatus, ...]:
        if self._board is None:
            ram = self._ram(now.arch if now.arch != kernels.ANY else None)
            return tuple(_block_as_bank(block, ram) for block in now.blocks)
        powers = {d.name: d.power for d in now.domains}
        return tuple(self._status(bank, now, powers.get(bank.domain or "", Power.ON)) for bank in self._board.banks)

    def _status(self, bank: Bank, now: Snapshot, power: Power) -> BankStatus:
        return BankStatus.of(
            bank.name,
            bank.range,
            now.within(bank.range),
            power,
            stuck=self._route(bank.route).stuck(bank.range),
            at_boot=bank.at_boot,
            movable=bank.movable,
            route=bank.route,
            domain=bank.domain,
            node=bank.node,
        )


def _block_as_bank(block: Block, ram: Ram) -> BankStatus:
    movable, at_boot = Zone.MOVABLE in block.valid_zones, ram.at_boot(block.range) is not False
    name = f"memory{block.number}"
    return BankStatus.of(name, block.range, (block,), Power.ON, at_boot=at_boot, movable=movable)


def _own_board(tree: Tree) -> Board | None:
    path = tree.path(boards.SYSTEM_BOARD.lstrip("/"))
    return boards.load(path) if os.path.exists(path) else None


@contextmanager
def _log_with_refusals(tree: Tree) -> Iterator[None]:
    """A refusal from inside says what the kernel logged meanwhile."""
    from hotbank.host.klog import listening

    with listening(tree) as log:
        try:
            yield
        except KernelError as e:
            said = log.telling()
            if not said:
                raise
            detail = "; ".join(filter(None, (e.detail, f"kernel log: {said}")))
            if isinstance(e, CancelPending):
                raise CancelPending(e.what, detail=detail) from e
            raise KernelError(e.errno, e.what, detail=detail, code=e.code) from e


def _raise_for(number: int, what: str, detail: str) -> None:
    if number:
        raise KernelError(number, what, detail=detail)
