# SPDX-License-Identifier: Apache-2.0
"""A governor on a real kernel: banks are dark while nobody needs them and back before anyone does, breath after breath.

The guest is idle, grows by 20 MiB a second until it needs all of its banks, and is idle again. ``make breathe`` has it
breathe ten times, with a pin in one bank, another hand at work, and its owner killed in the middle. In the end a
process eats all but the reserve, and a bank comes in all the same.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import pytest

from hotbank import operate
from hotbank.boards_qemu import Wanted
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.errors import Code, HotbankError
from hotbank.govern.banks import bunches, needed_to_return
from hotbank.govern.settings import EVERY
from hotbank.govern.status import Status
from hotbank.memory import KernelState, Online, Power
from hotbank.memspec import named
from hotbank.operate.journal import GOVERNOR
from hotbank.remote import Remote
from hotbank.serve.client import RemoteOwner
from hotbank.serve.owner import Owner
from hotbank.serve.state import listen
from kernel.kernel_kit import Holder, add, complaints, guest, intact, lean, span_of
from patience import HANG, ended, promised, until

pytestmark = pytest.mark.kernel

HERE = Path(__file__).parent
BANKS = ("high", "top")
TOP, RATE = 660, 20  # MiB, and MiB a second
LESS = 256 << 10  # bytes that the reserve is undershot by, whatever else comes and goes in the guest
SAID = 15.0  # seconds between lines about what is waited for


def wanted() -> Wanted:
    """The board, with what runs in it."""
    programs = {
        f"opt/{name}.py": (HERE.parent / f"guest_{name}.py").read_text(encoding="utf-8") for name in ("breath", "eater")
    }
    return lean(Wanted(str(HERE / "breath.toml"), files=programs))


@dataclass
class Governed:
    """A guest, and the owner that governs it, a process of its own that can be killed and begun anew."""

    guest: QemuMachine
    folder: Path
    owner: subprocess.Popen[bytes] = field(init=False)
    began: float = field(default_factory=time.monotonic)
    breaths: int = 0

    def say(self, what: str) -> None:
        """A line of progress, with the seconds since the beginning."""
        print(f"{time.monotonic() - self.began:6.0f} s  {what}", flush=True)

    def begin(self) -> None:
        """Start the owner."""
        command = [sys.executable, "-m", "kernel.arm64.governed_owner", str(self.folder / "guest"), str(self.folder)]
        self.owner = subprocess.Popen(command, cwd=HERE.parents[1])
        until(self._answers)

    def _answers(self) -> bool:
        assert self.owner.poll() is None
        with suppress(HotbankError):
            self.history()
            return True
        return False

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal."""
        self.owner.send_signal(number)
        self.owner.wait(HANG)

    @contextmanager
    def asked(self) -> Iterator[RemoteOwner]:
        with Remote.unix(str(self.folder / "owner"), timeout=HANG) as machine:
            yield RemoteOwner(machine)

    def history(self) -> list[operate.Entry]:
        """Transactions that the governor ordered."""
        with self.asked() as owner:
            return [entry for entry in owner.history() if entry.before.cause == GOVERNOR and not entry.is_sign]

    def moved(self, bank: str) -> list[str]:
        """What it had done to that bank, in turn."""
        done = [entry.before for entry in self.history() if entry.code is Code.OK]
        return [before.verb for before in done if bank in {status.name for status in before.banks}]

    def status(self) -> Status | None:
        """The governor's last look."""
        with self.asked() as owner:
            return owner.governed().status

    def paused(self) -> str:
        """Why nothing is taken."""
        status = self.status()
        return status.state.paused if status else ""

    def resume(self) -> None:
        with self.asked() as owner:
            owner.resume()

    def dark(self) -> set[str]:
        """Banks that are out and without power."""
        banks = self.guest.snapshot().banks
        return {b.name for b in banks if (b.kernel, b.power) == (KernelState.ABSENT, Power.OFF)}

    def online(self) -> set[str]:
        """Banks that are in the kernel."""
        return {bank.name for bank in self.guest.snapshot().banks if bank.kernel is KernelState.ONLINE}

    def wait_dark(self, *banks: str) -> None:
        """Return when these are, and no others. What keeps a bank in meanwhile is said now and again."""
        said = time.monotonic()

        def are_dark() -> bool:
            nonlocal said
            dark = self.dark()
            if time.monotonic() >= said + SAID:
                said = time.monotonic()
                self.say(f"dark: {', '.join(sorted(dark)) or 'none'}; {self.held()}")
            return dark == set(banks)

        self.say(f"waits until {' and '.join(sorted(banks))} are dark")
        until(are_dark, f"{banks} dark", pause=0.5)

    def held(self) -> str:
        """What keeps each group in."""
        status = self.status()
        return "; ".join(f"{at.group}: {at.why or '-'}" for at in status.groups) if status else "no look yet"

    def returns(self) -> float:
        """Seconds that a return took at most, from the look that missed it."""
        entries = self.history()
        took = [entry.ended - entry.began for entry in entries if entry.before.verb == "add" and entry.ended]
        return EVERY + max(took, default=0.0)

    def breathe(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Once, and everything that is promised of it. ``meanwhile``: what happens as soon as it has begun."""
        self.breaths += 1
        self.say(f"breath {self.breaths} begins")
        before = self.counters()
        job = self.guest.runner.start(f"exec python3 -S /opt/breath.py {TOP} {RATE} {self.reserve()}")
        meanwhile()
        told, returns = json.loads(job.wait(HANG).out), self.returns()
        self.say(f"breath {self.breaths}: {told}; a return takes {returns:.1f} s at most")
        assert self.counters() == before
        assert told["damaged"] == 0
        assert told["below"] <= promised(returns)

    def starve(self) -> None:
        """While nobody governs, a process eats all but the reserve; the next one governs, and a bank comes in."""
        self.end()
        before, dark = self.counters(), self.dark()
        with self.eaten() as left:
            self.say(f"{left} bytes are left for the bank's return; dark: {', '.join(sorted(dark))}")
            assert left <= self.reserve()
            self.begin()
            until(lambda: dark & self.online(), "a bank comes back", pause=0.5)
            after = self.counters()
            self.say(f"online: {', '.join(sorted(self.online()))}; {before} became {after}")
        assert after["oom_kill"] == before["oom_kill"]

    @contextmanager
    def eaten(self) -> Iterator[int]:
        """Bytes that an eater has left, as long as it holds the rest."""
        run = self.guest.runner.run
        run("rm -rf /run/eater; mkdir /run/eater")
        job = self.guest.runner.start(f"exec python3 -S /opt/eater.py /run/eater {self.reserve() - LESS}")
        full = "cat /run/eater/full 2>/dev/null || true"
        until(lambda: run(full) or not job.running, "all is eaten", pause=0.5)
        assert job.running, job.wait(HANG)
        yield int(run(full))
        run("touch /run/eater/enough")
        assert json.loads(job.wait(HANG).out)["damaged"] == 0

    def reserve(self) -> int:
        """Bytes that are to stay free."""
        snapshot = self.guest.snapshot()
        return needed_to_return(snapshot, [bunch.group for bunch in bunches(snapshot, named)], 0)

    def counters(self) -> dict[str, int]:
        """How often the guest's kernel had no page left, and killed for one."""
        rows = dict(line.split() for line in self.guest.runner.run("cat /proc/vmstat").splitlines())
        return {name: int(rows[name]) for name in rows if name.startswith("allocstall") or name == "oom_kill"}


@contextmanager
def governed(folder: Path) -> Iterator[Governed]:
    """A guest with both banks in the kernel, and its governor."""
    with guest(wanted()) as machine, listen(folder / "guest") as listener:
        for bank in BANKS:
            assert add(machine, bank).exit == 0
        outer = Owner(machine)
        serving = Thread(target=outer.serve, args=(listener,), daemon=True)
        serving.start()
        one = Governed(machine, folder)
        one.begin()
        try:
            yield one
        finally:
            one.end()
            outer.stop()
            ended(serving)
        assert complaints(machine) == []


def test_two_breaths(tmp_path: Path) -> None:
    with governed(tmp_path) as one, Holder(one.guest, anon=24, shared=8, tmpfs=8, file=8) as holder:
        for _ in range(2):
            one.wait_dark(*BANKS)
            one.breathe()
            assert intact(holder.damage())
        for bank in BANKS:
            verbs = one.moved(bank)
            # By turns, at least twice: where a busy machine draws a breath out, a bank may leave once more on the way.
            assert verbs == (["remove", "add"] * len(verbs))[: len(verbs)]
            assert verbs.count("add") >= 2


@pytest.mark.slow
def test_ten_breaths_and_what_may_come_between(tmp_path: Path) -> None:
    with governed(tmp_path) as one:
        with Holder(one.guest, anon=24, shared=8, tmpfs=8, file=8, pinned=2) as holder:
            pinned = {bank for bank in BANKS if holder.where(span_of(one.guest, bank))["pinned"]}
            assert pinned
            one.wait_dark(*set(BANKS) - pinned)
            one.breathe()
            assert intact(holder.damage())
            assert not pinned & one.dark()
        with Holder(one.guest, anon=24, shared=8, tmpfs=8, file=8) as holder:
            for how in [Governed.breathe] * 3 + [handed, killed] + [Governed.breathe] * 4:
                one.wait_dark(*BANKS)
                how(one)
                assert intact(holder.damage())
            one.wait_dark(*BANKS)
            one.starve()
            assert intact(holder.damage())


def killed(one: Governed) -> None:
    """The owner dies while the demand grows, and the next one goes on at once."""

    def again() -> None:
        one.end(signal.SIGKILL)
        one.begin()

    one.breathe(again)


def handed(one: Governed) -> None:
    """Somebody brings a block in by hand: it is named, nothing is taken, and what is ours still comes back."""
    one.guest.set_power("ddr-top", Power.ON)
    one.guest.add("top")
    status = one.guest.snapshot().bank("top")
    assert status is not None
    one.guest.online(status.blocks[0], Online.MOVABLE)
    until(lambda: one.paused() == "ddr-top came in by another hand")
    one.breathe()
    assert one.dark() == set()
    one.resume()
