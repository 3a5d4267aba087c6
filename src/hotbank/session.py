# SPDX-License-Identifier: Apache-2.0
"""One object for a machine, here or far away, and what is done with it: ``connect``.

    with connect("host", change=True) as machine:
        print(machine.explain("high").fact)
        outcome = machine.remove("high", on_event=print)

What changes goes through the machine's owner, with its lock, its journal and a worker that outlives a lost link: the
owner that is there (``hotbank serve``, ``hotbank up``), else this process. There is no other way in, so the short call
is the safe one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from hotbank import operate, serve
from hotbank.errors import Code, HotbankError, MachineError, Refusal, Severity
from hotbank.machine import Machine, Reading, Snapshot, Survey, is_examinable
from hotbank.memory import Power

if TYPE_CHECKING:  # what only some verbs need is imported by them, so that a listing starts fast
    from hotbank.errors import Finding
    from hotbank.govern.settings import Settings
    from hotbank.govern.status import Governed
    from hotbank.model.capture import Capture
    from hotbank.operate import Before, Choice, Entry, Event, Limits, Outcome, Plan, Verdict
    from hotbank.operate.onlined import Onlined
    from hotbank.operate.pace import Pace
    from hotbank.remote import Remote
    from hotbank.serve.client import RemoteOwner
    from hotbank.serve.governing import Governing
    from hotbank.serve.owner import Owner
    from hotbank.serve.protocol import News

_SERVED = "see what became of its owner: hotbank serve, of this host systemctl status hotbank"
Again = Callable[[bool | None], "Session"]  # a line to the same machine; whether to change it, None as usual
_ASK_EVERY = 0.25  # seconds of wall time


def connect(where: str | Machine | None = None, *, change: bool = False, timeout: float | None = None) -> Session:
    """The machine at ``host``, ``model:BOARD``, ``model:CAPTURE``, ``up:NAME``, ``ssh:HOST``,
    ``unix:PATH``; or that machine.

    Nothing said: the machine of ``hotbank up``; where none is up this host, for reading only. ``change``: to change it
    too. ``timeout``: seconds of wall time for the first word over ssh, 10 where not said.

    Raises MachineError when it does not answer, Refusal(NO_MACHINE) when nothing was said and nothing is up that may be
    changed, Refusal(NOT_PERMITTED) for a host that this user may not change, BoardError and FormatError for what
    is no board and no capture.
    """
    if not isinstance(where, str | None):
        return _own(where, change)
    return _dialed(where or None, timeout, change)


def visit(where: str | None = None, *, timeout: float | None = None) -> Session:
    """The same machine to be watched, and to be changed by the owner that it has.

    A model is owned by this process, a host that nobody serves is read: to change that, ``again(change=True)``.
    """
    if where == "host":
        return _visited_host(timeout)
    return _dialed(where, timeout, bool(where) or serve.current() is not None)


def _visited_host(timeout: float | None, change: bool | None = None) -> Session:
    """By its owner as long as it has one."""
    change = _host_is_served() if change is None else change
    return _reached("host", timeout, change, partial(_visited_host, timeout))


def _host_is_served() -> bool:
    """To this user: who may not ask its owner may still read its files."""
    from hotbank.serve import local

    try:
        served = local.served_host()
    except MachineError:
        return False
    if served is not None:
        served.close()
    return served is not None


def _dialed(where: str | None, timeout: float | None, usual: bool, change: bool | None = None) -> Session:
    change = usual if change is None else change
    return _reached(where, timeout, change, partial(_dialed, where, timeout, usual))


def _reached(where: str | None, timeout: float | None, change: bool, again: Again) -> Session:
    if where is None:
        return _current(change, again)
    kind, _, rest = where.partition(":")
    if where == "host":
        return _host(change, again)
    if kind == "model" and rest:
        return _model(rest, change)
    if kind == "up" and rest:
        return _named(rest, change, again)
    if kind in ("unix", "ssh") and rest:
        from hotbank import ssh
        from hotbank.remote import Remote

        remote = (
            Remote.unix(rest, gone=_SERVED) if kind == "unix" else ssh.connect(rest, patience=timeout or ssh.PATIENCE)
        )
        return Session(remote, remote, change=change, again=again)
    remedy = "use host, model:BOARD, model:CAPTURE, up:NAME, ssh:HOST or unix:PATH"
    raise MachineError(f"no machine is called {where!r}", remedy=remedy)


def _current(change: bool, again: Again) -> Session:
    record = serve.current()
    if record is not None:
        remote = serve.connect(record)
        return Session(remote, remote, change=change, again=again)
    if not change:
        return _host(change, again)
    what = "no machine is up, and this host is changed only when it is named"
    remedy = "start one with `hotbank up BOARD`, or name the host with -m host"
    raise Refusal(Code.NO_MACHINE, what, remedy=remedy)


def _named(name: str, change: bool, again: Again) -> Session:
    remote = serve.connect(serve.recorded(name), name)
    return Session(remote, remote, change=change, again=again)


def _host(change: bool, again: Again) -> Session:
    """To read, its files; to change, its owner, which is this process where nobody serves it."""
    from hotbank.host import Host

    if not change:
        return Session(Host(), None, change=False, history=_history_of_host, again=again, here=True)
    from hotbank.remote import Remote, SocketStream
    from hotbank.serve import local

    served = local.served_host()
    if served is not None:
        remote = Remote(SocketStream(served))
        return Session(remote, remote, change=True, again=again, here=True)
    host = Host()
    if not host.may_change:
        what = "this user may not change this host's memory"
        raise Refusal(
            Code.NOT_PERMITTED, what, remedy="run it as root, or ask an owner that root started: hotbank serve"
        )
    return _attached(local.owner_of(host), True, here=True)


def _history_of_host() -> tuple[Entry, ...]:
    from hotbank.serve.local import history_of_host

    return history_of_host()


def _model(name: str, change: bool) -> Session:
    """A fresh model: of a board, or in the state of a machine that was captured."""
    from hotbank.model import named

    source = named.find(name)
    return _own(named.start(source, **named.given(source, os.environ)), change)


def _own(machine: Machine, usual: bool, change: bool | None = None) -> Session:
    """A machine at hand; to change it, this process owns it as long as the session lasts."""
    if not (usual if change is None else change):
        return Session(machine, None, change=False, again=partial(_own, machine, False))
    from hotbank.host import Host
    from hotbank.serve import local
    from hotbank.serve.owner import Owner

    owner, here = Owner(machine), isinstance(machine, Host) and machine.tree.running
    if isinstance(machine, Host) and here:
        owner = local.owner_of(machine)  # whose journal is one, whoever asks
    return _attached(owner, True, here=here)


def _attached(owner: Owner, usual: bool, change: bool | None = None, *, here: bool = False) -> Session:
    """A line to an owner in this process."""
    from hotbank.serve import local

    remote, change = local.attached(owner), usual if change is None else change
    return Session(remote, remote, change=change, again=partial(_attached, owner, usual, here=here), here=here)


class Session:
    """A machine, and what is done with it. ``machine``: its primitives, see hotbank.machine. ``here``:
    it is the one that this process runs on.

    Names are those of banks, or of blocks (``memory4``, ``4``). Raises MachineError when the machine is gone, or the
    session closed.
    """

    def __init__(
        self,
        machine: Machine,
        owner: Remote | None,
        *,
        change: bool,
        again: Again,
        history: Callable[[], tuple[Entry, ...]] = tuple,
        here: bool = False,
    ) -> None:
        self.here = here
        self._machine, self._remote, self._change, self._history = machine, owner, change, history
        self._closed = False
        self._again = again
        self._known: tuple[Entry, ...] = ()  # of the journal, which only grows

    @property
    def machine(self) -> Machine:
        """Its primitives. Raises MachineError once the session is closed."""
        self._refuse_if_closed()
        return self._machine

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise MachineError("this session was closed", remedy="session.again() is another one")

    @cached_property
    def name(self) -> str:
        """The machine's own name. Looked up when it is asked for: on a large host that is a look at every block."""
        return self._remote.hello.machine if self._remote is not None else self.machine.snapshot().machine

    def again(self, *, change: bool | None = None) -> Session:
        """Another line to the same machine: one line carries one call at a time. ``change``: None as this one.

        Also when this one is gone: to the owner that is there now. Raises what ``connect`` does, and MachineError when
        another machine is there in its place.
        """
        fresh = self._again(change)
        if self._remote is None or fresh.name == self.name:
            return fresh
        fresh.close()
        raise MachineError(f"{fresh.name} is there in the place of {self.name}", remedy="name the machine with -m")

    def __repr__(self) -> str:
        return f"<Session with {self.name}, {'to change it' if self._change else 'for reading'}>"

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up: every call raises MachineError from then on. A transaction that an owner elsewhere carries out goes
        on; one of this process's own ends with the process, and whoever owns the machine next settles it."""
        self._closed = True
        if self._remote is not None:
            self._remote.close()

    # Looking: nothing is changed.

    def list(self) -> Snapshot:
        """Banks, blocks, zones, power domains, policies as they are now."""
        return self.machine.snapshot()

    def reading(self) -> Reading:
        """How the machine feels: free memory, pressure, refaults, pages moved so far. Cheap."""
        return self.machine.reading()

    def survey(self, block: int) -> Survey:
        """What the pages of a block are."""
        return self.machine.survey(block)

    def explain(self, target: str | int) -> Verdict:
        """What would happen if the bank or block were taken away now. Raises Refusal(NO_SUCH_BANK)."""
        return operate.explain(self.machine, target)

    def plan(self, *targets: str | int, add: bool = False, found: Before | None = None) -> Plan:
        """One plan that takes all of these out, or brings them in. ``found``: of an earlier plan; CHANGED when the
        machine is not that any more. Raises Refusal(NO_SUCH_BANK), Refusal(CHANGED)."""
        made = operate.plan_again(self.machine, "add" if add else "remove", targets, found)
        return self._pace().applied(made)

    def choose(self, size: int) -> Choice:
        """The banks, or blocks where no board names banks, that free ``size`` bytes by moving the fewest pages."""
        choice = operate.plan_free(self.machine, size)
        return replace(choice, plan=self._pace().applied(choice.plan))

    def _pace(self) -> Pace:
        from hotbank.operate.pace import Pace

        return Pace.of(self.history())

    def capture(self, path: str | os.PathLike[str] | None = None) -> Capture:
        """What the machine is and what each of its pages holds, written to ``path`` if one is given; a model starts
        from it. Raises Refusal where pages can't be seen."""
        from hotbank.model import capture

        taken = capture.take(self.machine)
        if path is not None:
            capture.save(taken, path)
        return taken

    def doctor(self, board: str | None = None) -> tuple[Finding, ...]:
        """What about the machine would make a removal fail or hurt, the worst first.

        ``board``: a shipped board or a file to hold it against, in place of its own. Raises BoardError, and
        Refusal(UNSUPPORTED) where there are no files to look at, as in a model.
        """
        if not is_examinable(self.machine):
            what = f"{self.name} has no files to look at: doctor reads those of a running kernel"
            raise Refusal(Code.UNSUPPORTED, what, remedy="hotbank explain --all says what keeps its blocks")
        if board is None:
            found = (*self.machine.doctor(), *self._turned())
            return tuple(sorted(found, key=lambda finding: list(Severity).index(finding.severity)))
        from hotbank import board as boards

        boards.load(board)  # here its mistakes are told with the file's name
        return self.machine.doctor(boards.read(board))

    def _turned(self) -> Iterator[Finding]:
        """What the journal knows better than the machine's files. A journal that can't be read knows nothing."""
        from hotbank.report.states import turned

        with suppress(HotbankError):
            yield from turned(self.machine.snapshot(), self.history())

    def onlined_by(self, block: int) -> Onlined | None:
        """Who brought the block online: the kernel's policy, a rule of udev, hotbank, or unknown; None for a block that
        is not online or was there at boot. Raises KernelError(ENOENT)."""
        boot = self.machine.survey(block).boot
        if boot:
            return None  # as is most memory: the rest is not looked at
        from hotbank.operate.onlined import onlined_by

        snapshot = self.machine.snapshot()
        found = snapshot.block(block)
        return None if found is None else onlined_by(snapshot, found, boot, self._entries(), self._findings())

    def _entries(self) -> Iterator[Entry]:
        """The journal, not read before somebody asks for the first of it."""
        yield from self.history()

    def _findings(self) -> Iterator[Finding]:
        """What the doctor says, who is not called before somebody asks for the first of it."""
        if is_examinable(self.machine):
            yield from self.machine.doctor()

    def history(self) -> tuple[Entry, ...]:
        """The journal of the machine's owner, oldest transaction first; none where nobody owns it."""
        owner = self._answering()
        self._known = self._history() if owner is None else owner.history(self._known)
        return self._known

    def events(self, since: int | None = None, wait: float = 0.0) -> News:
        """What happens on the machine, whoever ordered it, from number ``since`` on (None: from now on).

        ``wait``: seconds of wall time for something to happen, 30 at most; then the answer is that there is nothing.

        Raises Refusal(UNSUPPORTED) where nobody owns the machine.
        """
        owner = self._answering()
        if owner is None:
            what = f"nobody owns {self.name}, so nobody tells what happens"
            raise Refusal(Code.UNSUPPORTED, what, remedy="serve it, or connect to change it")
        return owner.events(since, wait)

    # Changing: by the machine's owner.

    def remove(
        self,
        *targets: str | int,
        limits: Limits | None = None,
        force: bool = False,
        keep_partial: bool = False,
        found: Before | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Outcome:
        """Take banks out of the kernel and their domains as dark as the board allows, or put everything back.

        ``force``: try although a verdict says no, under the same limits. ``keep_partial``: on failure leave out what is
        out (exit status 64). ``found``: of a plan, which is refused (CHANGED) when the machine is not that any more.
        Raises Refusal(NO_SUCH_BANK), Refusal(BUSY_TRANSACTION), Refusal(NOT_PERMITTED). KeyboardInterrupt asks for a
        rollback.
        """
        options = {"limits": limits, "force": force, "keep_partial": keep_partial, "found": found}
        return self._transact(serve.remove, targets, on_event, options)

    def add(
        self,
        *targets: str | int,
        limits: Limits | None = None,
        keep_partial: bool = False,
        found: Before | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Outcome:
        """Bring banks back: power on, into the kernel, every block Movable; or put everything back. See ``remove``."""
        options = {"limits": limits, "keep_partial": keep_partial, "found": found}
        return self._transact(serve.add, targets, on_event, options)

    def power(self, domain: str, want: Power | None = None) -> Power:
        """The power of a domain; ``want``: after the owner switched it there, or as near as its switch can go.

        Raises Refusal(DOMAIN_IN_USE) for less than ``on`` while anything of it is in the kernel,
        Refusal(BUSY_TRANSACTION), SwitchError.
        """
        from hotbank.operate.power import ask

        reached = None if want is None else serve.power(self._owner(), domain, want).power
        return ask(self.machine, domain) if reached is None else reached

    def recover(self, *, limits: Limits | None = None, forget: int | None = None) -> Outcome | None:
        """Settle a transaction that a crash or a stubborn kernel left open; None when there is none. ``forget``: the id
        of one that can't be read (DAMAGED), to be closed although something is half-way, which stays so."""
        return serve.recover(self._owner(), limits=limits, forget=forget)

    def auto(self) -> Governed:
        """What is known of the machine's governor. Raises Refusal(UNSUPPORTED) without an owner."""
        owner = self._answering()
        if owner is None:
            what = f"nobody owns {self.name}, so nobody governs it"
            raise Refusal(Code.UNSUPPORTED, what, remedy="serve it, or connect to change it")
        return owner.governed()

    def pause_auto(self, why: str = "asked for") -> None:
        """Have the governor take nothing until ``resume_auto``, also after a restart. What it took comes back when it
        is needed."""
        self._desk().pause(why)

    def resume_auto(self) -> None:
        """Have the governor go on, whatever paused it."""
        self._desk().resume()

    def governing(
        self, settings: Settings, *, dry: bool = False, pressed: Callable[[], bool] = lambda: False
    ) -> Governing:
        """A governor for this machine, to be run by whoever asks; ``dry``: one that does nothing. ``pressed``: whether
        the kernel has said since it was asked before that tasks wait for memory."""
        from hotbank.serve.client import RemoteOwner
        from hotbank.serve.governing import Governing

        owner = None if dry else RemoteOwner(self._owner())
        return Governing(self.machine, owner, settings, inside=self.here, pressed=pressed)

    def _desk(self) -> RemoteOwner:
        from hotbank.serve.client import RemoteOwner

        return RemoteOwner(self._owner())

    def interrupt(self) -> None:
        """Ask for a rollback of the transaction that runs; from any thread, or from a signal handler."""
        self._owner().cancel()

    def settle(self) -> None:
        """Return once no transaction is open any more that this process itself carries out: the kernel may hold a block
        whose offline was cancelled. At once where the owner is another process, which sees to it by itself."""
        while self.is_ours and self._is_open():
            time.sleep(_ASK_EVERY)

    def wait(self, seconds: float) -> bool:
        """Return once no transaction is open, whoever carries it out: True; or after so many seconds of wall time."""
        until = time.monotonic() + seconds
        while self._is_open():
            if (left := until - time.monotonic()) <= 0:
                return False
            time.sleep(min(left, _ASK_EVERY))
        return True

    def _is_open(self) -> bool:
        owner = self._answering()
        newest = self._history()[-1:] if owner is None else tuple(islice(owner.newest(), 1))
        return any(entry.code is None for entry in newest)

    @property
    def is_ours(self) -> bool:
        """True where this process is the machine's owner: what is open when it ends is left to the next one."""
        return self._remote is not None and self.pid == os.getpid()

    @property
    def pid(self) -> int:
        """The process of the machine's owner; this one where nobody owns it."""
        return os.getpid() if self._remote is None else self._remote.hello.pid

    def _answering(self) -> RemoteOwner | None:
        from hotbank.serve.client import RemoteOwner

        self._refuse_if_closed()
        return None if self._remote is None else RemoteOwner(self._remote)

    def _transact(
        self,
        verb: Callable[..., Outcome],
        targets: tuple[str | int, ...],
        on_event: Callable[[Event], None] | None,
        options: dict[str, Any],
    ) -> Outcome:
        owner, told = self._owner(), {} if on_event is None else {"on_event": on_event}
        try:
            return verb(owner, *targets, **told, **options)
        except KeyboardInterrupt:
            with suppress(MachineError):
                owner.cancel()
            raise

    def _owner(self) -> Remote:
        self._refuse_if_closed()
        if self._remote is None or not self._change:
            what, remedy = f"{self.name} was connected to for reading", "connect(..., change=True)"
            raise Refusal(Code.NOT_PERMITTED, what, remedy=remedy)
        return self._remote
