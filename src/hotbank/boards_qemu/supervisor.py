# SPDX-License-Identifier: Apache-2.0
"""The machine that is a guest: its agent's answers, QEMU's monitor, and the power of its banks.

The guest's kernel does what it can do by itself (online, offline, the routes ``driver`` and ``kmem``), through two
``Remote``s, so that reads stay instant during a change. What is outside of it happens here: the size of a
virtio-mem device, and the power of a bank. Deadlines count on this host's clock.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from hotbank.board import Board, Domain
from hotbank.boards_qemu.dram import BankFile, BankSwitch, discard
from hotbank.boards_qemu.gpio import GpioSwitch, line_is_high
from hotbank.boards_qemu.qemu import Qemu
from hotbank.boards_qemu.shell import Runner, ShellPort
from hotbank.errors import Finding, KernelError, MachineError, SwitchError
from hotbank.gate import Beside, Gate, Switch
from hotbank.guest import serial
from hotbank.machine import (
    Ability,
    Block,
    Clock,
    DomainStatus,
    Pages,
    Reading,
    Snapshot,
    Survey,
    Vacated,
    WallClock,
    no_such,
)
from hotbank.memory import Online, Power
from hotbank.remote import Remote, SocketStream
from hotbank.routes import route

PATIENCE = 300.0  # seconds for a boot, and for an agent to be back: 10 on an idle host, minutes on a busy one
_PLUG_LIMIT, _POLL = 60.0, 0.02  # seconds


class AgentPort:
    """One of the agent's ports: a Remote that is made again after the agent was."""

    def __init__(self, qemu: Qemu, port: str) -> None:
        self._qemu, self._port = qemu, port
        self._turn = threading.Lock()
        self._remote: Remote | None = None
        self._stream: socket.socket | None = None

    def machine(self) -> Remote:
        """The connected agent. Raises MachineError when there is none in ``PATIENCE`` seconds."""
        with self._turn:
            if self._remote is None or self._remote.closed or not self._qemu.carries(self._port, self._stream):
                self.close()
                self._qemu.wait_open(self._port, PATIENCE)
                self._stream = self._qemu.connect(self._port)
                self._remote = Remote(SocketStream(self._stream), timeout=PATIENCE)
            return self._remote

    def close(self) -> None:
        """Hang up."""
        if self._remote is not None:
            self._remote.close()


class QemuMachine:
    """A board in QEMU as a Machine.

    ``files``: the file behind each bank. ``power`` and ``set_power`` act on these. ``lines``: the GPIO line that feeds
    a bank, by its name; the guest's driver switches those. ``real``: switches of domains that the files are to follow.
    ``close`` ends QEMU and takes the files away.
    """

    def __init__(
        self,
        board: Board,
        qemu: Qemu,
        files: Mapping[str, BankFile],
        lines: Mapping[str, int] | None = None,
        clock: Clock | None = None,
        real: Mapping[str, Switch] | None = None,
    ) -> None:
        self.board, self.qemu, self.files, self._lines = board, qemu, files, lines or {}
        self._clock = clock or WallClock()
        self._real = real or {}
        self._changes, self._reads = AgentPort(qemu, serial.CHANGE), AgentPort(qemu, serial.READ)
        self._switches = {domain.name: self._switch_of(domain) for domain in board.domains}
        self._shell = ShellPort(qemu)
        self._gate = Gate()
        self._interrupted: tuple[int, float] | None = None  # the offline that is to end: block, deadline
        self._offlining: tuple[int, float, float] | None = None  # the last one, and its deadline on the guest's clock

    @property
    def clock(self) -> Clock:
        """This host's clock."""
        return self._clock

    @property
    def can(self) -> frozenset[Ability]:
        """All that a machine can do: the guest's agent is ours."""
        return frozenset(Ability)

    @property
    def runner(self) -> Runner:
        """Shell commands in the guest. Raises MachineError when nobody there takes them in ``PATIENCE`` seconds."""
        return self._shell.runner(PATIENCE)

    def wait_until_up(self) -> None:
        """Return when the guest's agent has answered. Raises MachineError with the guest's last words."""
        self._shell.connect()
        try:
            self.snapshot()
        except MachineError as e:
            raise MachineError(f"{self.board.name} did not come up: {e}", remedy=self.qemu.last_lines(5)) from e

    def snapshot(self) -> Snapshot:
        """The guest's, with the power that its banks really have."""
        seen = self._reads.machine().snapshot()
        powers = {domain.name: self._power_now(domain) for domain in seen.domains}
        return replace(
            seen,
            machine=self.board.name,
            banks=tuple(replace(b, power=powers.get(b.domain or "", Power.ON)) for b in seen.banks),
            domains=tuple(replace(d, power=powers[d.name]) for d in seen.domains),
        )

    def survey(self, block: int) -> Survey:
        """See Machine."""
        return self._reads.machine().survey(block)

    def pages(self, block: int) -> Pages:
        """See PageByPage."""
        return self._reads.machine().pages(block)

    def glance(self, block: int) -> Survey:
        """See Glancing."""
        return self._reads.machine().glance(block)

    def count(self, blocks: tuple[int, ...]) -> tuple[Survey, ...]:
        """See Counting."""
        return self._reads.machine().count(blocks)

    def block(self, number: int) -> Block | None:
        """See BlockByBlock."""
        return self._reads.machine().block(number)

    def doctor(self, board: str | None = None) -> tuple[Finding, ...]:
        """See Examinable: the guest's own files."""
        return self._reads.machine().doctor(board)

    def online(self, block: int, how: Online) -> None:
        """See Machine."""
        self._changes.machine().online(block, how)

    def offline(self, block: int, deadline: float, *, spare: int = 0, fence: tuple[int, ...] = ()) -> None:
        """See Machine."""
        guest, until = self._begun(f"offline of memory{block}", block, deadline)
        guest.offline(block, until, spare=spare, fence=fence)

    def vacate(self, block: int, deadline: float, *, drop: int = 0, spare: int = 0) -> Vacated:
        """See Vacating."""
        guest, until = self._begun(f"vacating the node of memory{block}", block, deadline)
        return guest.vacate(block, until, drop=drop, spare=spare)

    def _begun(self, what: str, block: int, deadline: float) -> tuple[Remote, float]:
        """The guest, and its deadline: it gets the time that is left, on its own clock."""
        guest = self._changes.machine()
        until = guest.clock.now() + max(0.0, deadline - self._clock.now())
        self._offlining = (block, deadline, until)
        if self._interrupted == (block, deadline):
            raise KernelError(errno.EINTR, what, detail="it was interrupted before it began")
        return guest, until

    def interrupt(self, block: int, deadline: float) -> None:
        """End that offline, from another thread."""
        self._interrupted = (block, deadline)
        *there, until = self._offlining or (None, None, 0.0)
        if there == [block, deadline]:
            self._reads.machine().interrupt(block, until)

    def add(self, bank: str) -> None:
        """By virtio-mem through QEMU, by any other route in the guest."""
        with self._gate.lock:
            self._add(bank)

    def remove(self, bank: str) -> None:
        """By virtio-mem through QEMU, by any other route in the guest."""
        if self._is_plugged(bank):
            self._resize(bank, 0, f"remove of {bank}")
        else:
            self._changes.machine().remove(bank)

    def power(self, domain: str) -> Power:
        """Whether the domain's banks have content, and their supply is there; SwitchError when a dark one was
        touched."""
        return self._switch(domain).status()

    def set_power(self, domain: str, want: Power) -> None:
        """Switch the supply of the domain's banks where they have one, and destroy their content, or give them random
        content."""
        look, shut = partial(self._vouched_for, domain), partial(self._check_unasked, domain)
        self._gate.turn(domain, want, look, self._switch(domain).turn, shut)

    def set_auto_online(self, word: str) -> None:
        """See Machine."""
        self._changes.machine().set_auto_online(word)

    def reading(self) -> Reading:
        """The guest's, on this host's clock; its kernel's clocks are told half-way between question and answer."""
        asked = time.time()
        found = self._reads.machine().reading()
        clocks = found.clocks and replace(found.clocks, real=(asked + time.time()) / 2)
        return replace(found, at=self._clock.now(), clocks=clocks)

    def close(self) -> None:
        """End QEMU and drop the banks."""
        self.qemu.stop()
        for link in (self._changes, self._reads):
            link.close()
        self._shell.close()
        discard(self.files)

    def __enter__(self) -> QemuMachine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _switch_of(self, domain: Domain) -> Switch:
        banks = [bank.name for bank in self.board.banks if bank.domain == domain.name]
        files = BankSwitch(domain.name, (self.files[name] for name in banks))
        if domain.name in self._real:
            return Beside(self._real[domain.name], files)
        if not banks or not all(name in self._lines for name in banks):
            return files
        lines = {line: partial(line_is_high, self.qemu.qmp, line) for line in {self._lines[name] for name in banks}}
        return GpioSwitch(domain.name, files, self._reads.machine, self._changes.machine, lines)

    def _switch(self, domain: str) -> Switch:
        if domain not in self._switches:
            raise no_such(self.board.name, "domain", domain, self._switches)
        return self._switches[domain]

    def _vouched_for(self, domain: str) -> Snapshot:
        """What the guest's kernel has now; a guest with another board's file can't vouch."""
        seen = self._reads.machine().snapshot()
        if seen.domain(domain) is None:
            raise SwitchError(f"the guest knows no power domain {domain}: its board is another one")
        return seen

    def _check_unasked(self, domain: str) -> None:
        """A guest that is asked for a size adds memory when it likes. KernelError(EBUSY)."""
        plugged = [b.name for b in self.board.banks if b.domain == domain and self._is_plugged(b.name)]
        for bank in plugged:
            asked = self._size_of(bank, "requested-size")
            if asked:
                detail = f"the guest is asked for {asked} bytes of {bank}, and may add them at any moment"
                raise KernelError(errno.EBUSY, f"power of {domain}", detail=detail)

    def _power_now(self, domain: DomainStatus) -> Power:
        """As ``power``, with what the guest has just said of the domain."""
        switch = self._switches.get(domain.name)
        if switch is None:
            return Power.UNKNOWN
        try:
            return switch.agreed(domain.power) if isinstance(switch, GpioSwitch) else switch.status()
        except SwitchError:
            return Power.UNKNOWN

    def _add(self, bank: str) -> None:
        if self._is_plugged(bank):
            what, size = f"add of {bank}", self.files[bank].size
            if self._plugged_size(bank) == size:
                raise KernelError(errno.EEXIST, what)
            self._resize(bank, size, what)
        else:
            self._changes.machine().add(bank)

    def _is_plugged(self, name: str) -> bool:
        bank = self.board.bank(name)
        if bank is None:
            raise no_such(self.board.name, "bank", name, (bank.name for bank in self.board.banks))
        return not route(bank.route).in_guest

    def _resize(self, bank: str, size: int, what: str) -> None:
        """Ask the guest for a size and wait until it has it, and its memory blocks are there or gone, which comes a
        moment later (drivers/virtio/virtio_mem.c, ``virtio_mem_sbm_plug_and_add_mb``). The guest never says no: at the
        limit the wish is taken back, and the guest gets as long to follow that (Documentation: qemu virtio-mem,
        ``requested-size`` and ``size``)."""
        before = self._plugged_size(bank)
        if not self._reaches(bank, size):
            detail = f"the guest did not reach {size} bytes in {_PLUG_LIMIT:g} s"
            if not self._reaches(bank, before):
                detail += f", nor did it come back to {before}: it has {self._plugged_size(bank)}"
            raise KernelError(errno.EAGAIN, what, detail=detail)

    def _reaches(self, bank: str, size: int) -> bool:
        """Wish it; True once the guest has it, False at the limit."""
        self._request(bank, size)
        until = self._clock.now() + _PLUG_LIMIT
        while self._plugged_size(bank) != size or self._blocks_of(bank) != size // self.board.block_size:
            if self._clock.now() >= until:
                return False
            self._clock.sleep(_POLL)
        return True

    def _blocks_of(self, bank: str) -> int:
        status = self._reads.machine().snapshot().bank(bank)
        return len(status.blocks) if status is not None else 0

    def _plugged_size(self, bank: str) -> int:
        return self._size_of(bank, "size")

    def _size_of(self, bank: str, which: str) -> int:
        return int(self.qemu.qmp.execute("qom-get", path=f"/machine/peripheral/bank-{bank}", property=which))

    def _request(self, bank: str, size: int) -> None:
        path = f"/machine/peripheral/bank-{bank}"
        self.qemu.qmp.execute("qom-set", path=path, property="requested-size", value=size)
