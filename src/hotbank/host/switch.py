# SPDX-License-Identifier: Apache-2.0
"""Power switches of a host: none, a command, a regulator, the supply of our bank driver.

A switch is asked again after it was turned, and what it then says counts, whatever an exit status said.
Truth for regulators: drivers/regulator/core.c (``/sys/class/regulator/*/state``, read only) and
drivers/regulator/userspace-consumer.c (``state`` of a ``reg-userspace-consumer``, ``enabled`` or ``disabled``).
Truth for the driver: kernel/bank/power.c, ``bank_power_name``.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hotbank.board import Bank, Board, Domain
from hotbank.errors import Code, KernelError, SwitchError, brief
from hotbank.gate import Switch
from hotbank.host.routes import Write
from hotbank.host.tree import Tree
from hotbank.memory import Power
from hotbank.routes import route
from hotbank.sysfs import bank as banks
from hotbank.sysfs import names

_CLASS = "sys/class/regulator"
_MOST = 4096  # bytes that a command may say: a word is enough
_LOOK = 0.05  # seconds of wall time between two looks whether processes that were killed have ended
_MOMENT = 1.0  # seconds of wall time in which they have, unless the kernel holds them
_CONSUMERS = "sys/bus/platform/drivers/reg-userspace-consumer"
_REGULATOR = {"enabled": Power.ON, "disabled": Power.OFF}


Kept = Callable[[], tuple[int, ...]]
"""The descriptors that a process which changes something for this host must inherit (writer.py, ``Writers.keep``)."""


def switch_for(domain: Domain, banks: Sequence[Bank], tree: Tree, write: Write, kept: Kept = tuple) -> Switch:
    """The switch that the board names for the domain with these banks. ``kept``: see Kept.

    ``machine`` is our driver, where all of the banks go by it. A captured tree has no power to switch: commands never
    run there, and what is a file in it is what it was.
    """
    if domain.switch == "regulator":
        return Regulator(domain, tree)
    if domain.switch == "machine" and banks and all(route(bank.route).switches for bank in banks):
        return Supply(domain.name, [bank.name for bank in banks], tree, write)
    if domain.switch == "none":
        return AlwaysOn(domain.name)
    if not tree.running:
        return Absent(domain.name, f"{tree.root} is a captured tree")
    return (
        Command(domain, kept) if domain.switch == "command" else Absent(domain.name, "this host has no driver for it")
    )


def commands(board: Board) -> dict[str, Switch]:
    """The programs that the board names, by domain: for machines that play every other switch."""
    return {domain.name: Command(domain) for domain in board.domains if domain.switch == "command"}


def regulators(tree: Tree) -> tuple[str, ...]:
    """The names of regulators that a ``reg-userspace-consumer`` lets programs switch."""
    there = {tree.read(f"{_CLASS}/{entry}/name") for entry in tree.names(_CLASS)}
    consumers = {tree.read(f"{_CONSUMERS}/{entry}/name") for entry in tree.names(_CONSUMERS)}
    return tuple(sorted(name for name in there & consumers if name))


class AlwaysOn:
    """A domain that nothing switches."""

    def __init__(self, name: str) -> None:
        self._name = name

    def status(self) -> Power:
        """Always on."""
        return Power.ON

    def turn(self, want: Power) -> None:
        """Refuses everything but on."""
        if want is not Power.ON:
            raise SwitchError(f"domain {self._name} has no switch: it can't go {want}")


class Absent:
    """A domain whose switch is somewhere else."""

    def __init__(self, name: str, why: str) -> None:
        self._message = f"domain {name} can't be asked: {why}"

    def status(self) -> Power:
        """Raises SwitchError."""
        raise SwitchError(self._message)

    def turn(self, want: Power) -> None:
        """Raises SwitchError."""
        raise SwitchError(f"{self._message}; not turned {want}")


class Command:
    """A domain switched by programs: one argv list per state, and one that prints the state."""

    def __init__(self, domain: Domain, kept: Kept = tuple) -> None:
        self._domain, self._kept = domain, kept
        self._left: subprocess.Popen[bytes] | None = None  # a status command that was killed, and that the kernel held

    def status(self) -> Power:
        """What the status command prints: ``on``, ``self-refresh`` or ``off``. One that the kernel holds after it was
        killed turns nothing and is not waited for; until it has ended there is no other."""
        if self._left is not None and _goes_on(self._left):
            raise SwitchError(f"{' '.join(self._domain.status)} was killed and has not ended yet")
        end = self._run(self._domain.status, turns=False)
        word = end.said.strip()
        if end.code or word not in (Power.ON, Power.SELF_REFRESH, Power.OFF):
            raise SwitchError(f"{' '.join(self._domain.status)} {end} and said {word!r}, which is no power state")
        return Power(word)

    def turn(self, want: Power) -> None:
        """Run the command for ``want``, then believe the status command."""
        argv = self._domain.argv(want)
        if not argv:
            raise SwitchError(f"domain {self._domain.name} has no command for {want}")
        end, now = self._run(argv), self.status()
        if now is not want:
            raise SwitchError(f"{' '.join(argv)} {end}, and domain {self._domain.name} is {now}")

    def _run(self, argv: tuple[str, ...], *, turns: bool = True) -> _End:
        """Run it to its end. A command that hangs is ended with all that it started.

        One that outlives us may still turn the power, so nobody can take over before it ends (``Kept``).
        """
        try:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=self._kept(),
            )
        except (OSError, ValueError) as e:  # ValueError: no program's argument can have a NUL or half a character
            raise SwitchError(f"{argv[0]!r} can't be run: {getattr(e, 'strerror', e)}") from e
        assert child.stdout is not None
        assert child.stderr is not None
        with child.stdout, child.stderr:
            try:
                said, complaint = _heard(child, time.monotonic() + self._domain.timeout)
            except subprocess.TimeoutExpired as e:
                self._end(child, turns=turns)
                raise SwitchError(f"{' '.join(argv)} did not end within {self._domain.timeout:g} s") from e
            if len(said) > _MOST:
                self._end(child, turns=turns)
                raise SwitchError(f"{' '.join(argv)} says more than {_MOST} bytes")
        return _End(child.returncode, said.decode("utf-8", "replace"), complaint.decode("utf-8", "replace"))

    def _end(self, child: subprocess.Popen[bytes], *, turns: bool) -> None:
        """Kill all that it started, and return when none of it is left. One that the kernel holds, at a bus that does
        not answer, or that became somebody else's, as by sudo, may still turn the power, and nothing must have come in
        by then. One that turns nothing has a moment."""
        with suppress(PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        until = time.monotonic() + _MOMENT
        while _goes_on(child):
            if not turns and time.monotonic() >= until:
                self._left = child
                return
            time.sleep(_LOOK)


@dataclass(frozen=True, slots=True)
class _End:
    """How a program ended: its exit status, what it said, and the end of what it complained of."""

    code: int
    said: str
    complaint: str

    def __str__(self) -> str:
        last = self.complaint.strip().rpartition("\n")[2].strip()
        return f"exited with {self.code}" + (f" ({brief(last)})" if last else "")


def _goes_on(child: subprocess.Popen[bytes]) -> bool:
    """Whether anything of its process group has not ended. It is reaped last: until then nobody else gets its id."""
    there = any(_is_of(process, child.pid) for process in os.listdir("/proc") if process.isdigit())
    return there or child.poll() is None


def _is_of(process: str, group: int) -> bool:
    """Whether it is of the group and has not ended (proc(5), ``stat``: what follows the name)."""
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError), open(f"/proc/{process}/stat", "rb") as file:
        state, _, its = file.read().rpartition(b")")[2].split()[:3]
        return its == b"%d" % group and state not in (b"Z", b"X")
    return False


def _heard(child: subprocess.Popen[bytes], until: float) -> tuple[bytes, bytes]:
    """All that it says before it ends, or more than ``_MOST`` bytes; and the last that it complained of by then, since
    what it leaves running may hold that end open. Raises TimeoutExpired, at ``until`` of the wall clock."""
    assert child.stdout is not None
    assert child.stderr is not None
    output, errors = child.stdout.fileno(), child.stderr.fileno()
    said, complaint = b"", b""
    with selectors.DefaultSelector() as ready:
        ready.register(output, selectors.EVENT_READ)
        ready.register(errors, selectors.EVENT_READ)
        while len(said) <= _MOST:
            there = [key.fd for key, _ in ready.select(max(0.0, until - time.monotonic()))]
            if not there or time.monotonic() >= until:
                raise subprocess.TimeoutExpired(child.args, until)
            if errors in there:
                part = os.read(errors, _MOST)
                complaint = (complaint + part)[-_MOST:]
                if not part:
                    ready.unregister(errors)
            elif part := os.read(output, _MOST):
                said += part
            else:
                child.wait(max(0.0, until - time.monotonic()))
                break
    return said, complaint


class Regulator:
    """A domain behind a regulator with a ``reg-userspace-consumer``."""

    def __init__(self, domain: Domain, tree: Tree) -> None:
        self._name, self._tree = domain.regulator or "", tree

    def status(self) -> Power:
        """The state of the regulator itself, which other consumers may keep on."""
        for entry in self._tree.names(_CLASS):
            if self._tree.read(f"{_CLASS}/{entry}/name") == self._name:
                state = self._tree.read(f"{_CLASS}/{entry}/state")
                if state in _REGULATOR:
                    return _REGULATOR[state]
                raise SwitchError(f"regulator {self._name} reads {state!r}, which is no power state")
        raise SwitchError(f"there is no regulator {self._name}")

    def turn(self, want: Power) -> None:
        """Enable or disable through the consumer, then look at the regulator."""
        word = next((word for word, power in _REGULATOR.items() if power is want), None)
        if word is None:
            raise SwitchError(f"regulator {self._name} can't go {want}")
        path = self._tree.path(f"{self.consumer()}/state")
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(word)
        except OSError as e:
            raise SwitchError(f"{path} refused {word!r}: {e.strerror}") from e
        now = self.status()
        if now is not want:
            raise SwitchError(f"regulator {self._name} was told {word} and is {now}")

    def consumer(self) -> str:
        """The folder of its ``reg-userspace-consumer``. Raises SwitchError where there is none."""
        for entry in self._tree.names(_CONSUMERS):
            if self._tree.read(f"{_CONSUMERS}/{entry}/name") == self._name:
                return f"{_CONSUMERS}/{entry}"
        raise SwitchError(f"regulator {self._name} has no reg-userspace-consumer")


class Supply:
    """A domain whose banks our driver feeds: it holds their supply and power domain, and lets go when told to.

    ``released`` is not off: the driver let go, and somebody else may hold the same supply or power domain.
    """

    def __init__(self, domain: str, banks: Sequence[str], tree: Tree, write: Write) -> None:
        self._domain, self._banks, self._tree, self._write = domain, tuple(banks), tree, write

    def status(self) -> Power:
        """On or off when the driver says so of every bank; unknown when one is released, or they differ."""
        powers = {word.power for word in self._words().values()}
        return powers.pop() if len(powers) == 1 else Power.UNKNOWN

    def turn(self, want: Power) -> None:
        """Tell the driver, bank by bank, then see what it says of all of them. It refuses to darken a bank that is in
        the kernel.

        Raises SwitchError, with code POWER_UNKNOWN where the driver let go of a bank and can't say that it is off.
        """
        if want not in (Power.ON, Power.OFF):
            raise SwitchError(f"domain {self._domain} is fed by the bank driver, which can't go {want}")
        self._words()
        for bank in self._banks:
            self._tell(bank, want.value)
        words = self._words()
        wrong = ", ".join(f"bank {bank} is {word}" for bank, word in words.items() if word.power is not want)
        if wrong:
            code = Code.POWER_UNKNOWN if banks.Supply.RELEASED in words.values() else Code.SWITCH_FAILED
            raise SwitchError(f"domain {self._domain} was told {want}, and {wrong}", code=code)

    def _tell(self, bank: str, word: str) -> None:
        try:
            self._write(names.bank(bank, "supply"), word, f"supply of {bank} {word}")
        except KernelError as e:
            raise SwitchError(f"domain {self._domain} was not turned {word}: {e}") from e

    def _words(self) -> dict[str, banks.Supply]:
        """What the driver says of each bank. Raises SwitchError when it says nothing, or has no switch for it."""
        return {bank: self._word(bank) for bank in self._banks}

    def _word(self, bank: str) -> banks.Supply:
        name = names.bank(bank, "supply")
        text = self._tree.read(name)
        if text is None:
            raise SwitchError(f"{self._tree.path(name)} is missing: load hotbank_bank")
        word = next((known for known in banks.Supply if known == text), None)
        if word is None:
            raise SwitchError(f"{self._tree.path(name)} reads {text!r}, which is no power state")
        if word is banks.Supply.UNMANAGED:
            raise SwitchError(f"bank {bank} has neither a supply nor a power domain: this host has no switch for it")
        return word
