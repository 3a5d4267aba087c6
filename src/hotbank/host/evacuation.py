# SPDX-License-Identifier: Apache-2.0
"""Blocks of banks that are emptied together, behind a fence, before they go offline: our driver's evacuation.

Truth: kernel/bank/evacuate.c. A program of its own holds the driver's files open and has a process for each CPU
(evacuating.py); what it took is given back when it ends, and it ends with this process at the latest. Who takes over a
transaction waits for that, as for a write (writer.py, ``keep``).
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from hotbank.host import evacuating
from hotbank.host.parent import readable
from hotbank.host.writer import Waited
from hotbank.memory import Range
from hotbank.sysfs.bank import RANGE

_MOMENT = 1.0  # seconds; freeing takes a fraction of one
_PAUSE = 0.01  # seconds between two looks at whether a process is gone
HOLD = 60.0  # seconds after the last word from here: who holds memory for nobody gives it back


class Evacuation(Waited):
    """One under way, or what it holds. ``blocks``: numbers of those that are emptied, with where they lie and the
    driver's file for their bank. ``kept``: descriptors that whoever changes something inherits. Raises OSError where no
    process is to be had."""

    def __init__(self, blocks: Mapping[int, tuple[Range, str]], workers: int, kept: tuple[int, ...] = ()) -> None:
        self.blocks: set[int] = set(blocks)
        spans = [f"{path}:{RANGE.show(span).strip()}" for span, path in shares(sorted(blocks.values()), workers)]
        argv = [sys.executable, "-I", "-S", evacuating.__file__, f"{HOLD:g}", *spans]
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=kept,
        )
        self._said = b""
        self._ended = self._cancelled = False

    @property
    def pending(self) -> bool:
        """True until it has told what came of all ranges, and once it was cancelled until the kernel has let go."""
        self._listen(0.0)
        gone = self._process.poll() is not None
        if self._cancelled:
            return not (self._ended and gone)
        return not self._ended and (gone or not self._told)

    def listen(self, seconds: float | None) -> None:
        """It tells what came of it, and hangs up when all of it is gone; its own end comes a moment later."""
        assert self._process.stdout is not None
        if not self._ended:
            readable(self._process.stdout.fileno(), seconds)
        else:
            time.sleep(_PAUSE if seconds is None else min(seconds, _PAUSE))

    def _listen(self, seconds: float) -> None:
        """Hear what it says, at most for so long after its last word."""
        assert self._process.stdout is not None
        while not self._ended and readable(self._process.stdout.fileno(), seconds):
            word = os.read(self._process.stdout.fileno(), 65536)
            self._said += word
            if not word:
                self._process.stdout.close()
                self._ended = True

    @property
    def _told(self) -> bool:
        return b"\n\n" in self._said

    def cancel(self) -> None:
        """Send SIGKILL to all of it. The kernel acts on it when it looks, and frees what is held: ``pending`` tells."""
        self._cancelled = True
        self._process.send_signal(signal.SIGKILL)

    def stay(self) -> bool:
        """Have it hold for another ``HOLD`` seconds. False when it is over, and all is given back."""
        assert self._process.stdin is not None
        try:
            os.write(self._process.stdin.fileno(), b".")
        except BrokenPipeError:
            return False
        return True

    def give_back(self) -> None:
        """End it, and wait a moment for what it holds to be the kernel's again; not again if it was cancelled."""
        assert self._process.stdin is not None
        patience = 0.0 if self._cancelled else _MOMENT
        self.cancel()
        self._process.stdin.close()
        self._listen(patience)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)

    @property
    def errno(self) -> int:
        """0 when it is the offline's turn, ENOMEM when nothing has room for what leaves, EINTR when it was ended from
        outside. What stays for another reason, the offline tries again, without a fence."""
        if self._cancelled or not self._told:
            return errno.EINTR
        ends = (int(line.split()[1]) for line in self._said.decode().splitlines() if line.startswith("0x"))
        return errno.ENOMEM if errno.ENOMEM in ends else 0


def shares(spans: Sequence[tuple[Range, str]], workers: int) -> list[tuple[Range, str]]:
    """About as many equal parts, whole blocks each, none across a gap or of two files: they are to begin together, so
    that between them nothing is left unfenced."""
    size = -(-len(spans) // workers)
    parts = [spans[at : at + size] for at in range(0, len(spans), size)]
    return [run for part in parts for run in _runs(part)]


def _runs(spans: Sequence[tuple[Range, str]]) -> list[tuple[Range, str]]:
    runs: list[tuple[Range, str]] = []
    for span, path in spans:
        last, of = runs[-1] if runs else (None, "")
        if last is not None and (last.end, of) == (span.start, path):
            runs[-1] = (Range(last.start, span.end), path)
        else:
            runs.append((span, path))
    return runs
