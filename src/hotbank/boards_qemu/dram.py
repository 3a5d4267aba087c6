# SPDX-License-Identifier: Apache-2.0
"""Banks of emulated DRAM: one file each, which is the bank's content and its power.

Power off takes the content away: the file is punched empty (fallocate(2), FALLOC_FL_PUNCH_HOLE) and this host's memory
is free again. While a bank is dark its file must keep no block: a single access from the guest makes one, and is
found. Power on fills the file with random bytes before anybody may use it, because DRAM comes up with anything
but zeros, and zeros can hide a stale read.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from hotbank.board import Board
from hotbank.boards_qemu.leftovers import held
from hotbank.errors import Code, MachineError, SwitchError
from hotbank.memory import KIB, MIB, Power

_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01
_CHUNK = 8 * MIB


class BankFile:
    """The file behind one bank, in a folder that is in use as long as the file is open (leftovers.py).

    ``power``: what it was last switched to; a fresh bank is on and full of zeros.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self.power = Power.ON
        self._in_use = ExitStack()
        self._in_use.enter_context(held(path.parent))
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._file, size)

    @property
    def resident(self) -> int:
        """Bytes of this host that the bank occupies."""
        return os.fstat(self._file).st_blocks * 512

    def switch_off(self) -> None:
        """Destroy the content and give its memory back. Raises SwitchError when the file does not become empty."""
        _punch(self._file, self.size)
        self.power = Power.OFF
        self.check_dark()

    def switch_on(self) -> None:
        """Fill a dark bank with random bytes; nothing when it is on. Raises SwitchError when there is no room."""
        if self.power is Power.ON:
            return
        noise = os.urandom(_CHUNK)
        try:
            for at in range(0, self.size, _CHUNK):
                os.pwrite(self._file, noise[: self.size - at], at)
        except OSError as e:
            self.switch_off()
            raise SwitchError(f"bank {self.path.name} can't be filled: {e.strerror}") from e
        self.power = Power.ON

    def check_dark(self) -> None:
        """Raise SwitchError when a dark bank was touched."""
        if self.power is Power.OFF and self.resident:
            raise SwitchError(f"bank {self.path.name} was touched while dark: {self.resident // KIB} KiB are there")

    def close(self) -> None:
        """Close the file, and remove it."""
        os.close(self._file)
        self.path.unlink(missing_ok=True)
        self._in_use.close()


def home() -> tuple[Path, str]:
    """Where folders of banks are, in memory where there is room for that, and how their names begin."""
    shared = Path("/dev/shm")
    base = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    return base, f"hotbank-{os.getuid()}-banks-"


def create(board: Board, folder: Path) -> dict[str, BankFile]:
    """A file for each bank of the board, by its name. Raises MachineError when there is no room for all of them."""
    total = sum(bank.range.size for bank in board.banks)
    room = os.statvfs(folder)
    if room.f_bavail * room.f_frsize < total:
        raise MachineError(
            f"{folder} has room for {room.f_bavail * room.f_frsize // MIB} MiB, the board's banks need {total // MIB}",
            code=Code.SYSTEM_ERROR,
            remedy="free some there, or take a board with smaller banks",
        )
    return {bank.name: BankFile(folder / bank.name, bank.range.size) for bank in board.banks}


def discard(files: Mapping[str, BankFile]) -> None:
    """Close and remove the files, and their folder."""
    for file in files.values():
        file.close()
    for folder in {file.path.parent for file in files.values()}:
        with suppress(OSError):
            folder.rmdir()


class BankSwitch:
    """The switch of one domain: all its banks' files go dark and come back together."""

    def __init__(self, domain: str, files: Iterable[BankFile]) -> None:
        self._domain, self._files = domain, tuple(files)

    def status(self) -> Power:
        """On, off, or unknown after a switch that failed half way. Raises SwitchError when a dark bank was touched."""
        for file in self._files:
            file.check_dark()
        powers = {file.power for file in self._files}
        return powers.pop() if len(powers) == 1 else Power.UNKNOWN

    def turn(self, want: Power) -> None:
        """Switch all of them. Raises SwitchError for a state that a file can't have."""
        if want is Power.SELF_REFRESH:
            raise SwitchError(f"domain {self._domain} of an emulated board has no self-refresh")
        for file in self._files:
            (file.switch_off if want is Power.OFF else file.switch_on)()


def _punch(file: int, size: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_int(file), ctypes.c_int(_PUNCH_HOLE_KEEP_SIZE), ctypes.c_int64(0), ctypes.c_int64(size))
    if libc.fallocate64(*arguments) != 0:
        raise SwitchError(f"a bank's file can't be emptied: {os.strerror(ctypes.get_errno())}")
