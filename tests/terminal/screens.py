# SPDX-License-Identifier: Apache-2.0
"""A command on a pseudo-terminal, and what a person sees of it: pyte, an emulator that is not ours, is the judge."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from contextlib import closing

import pyte

_LINES = 200  # higher than anything that is printed, so that nothing scrolls away
COMMANDS = {
    "demo": ("demo",),
    "remove": ("-m", "model:arm-2009", "remove", "high"),
    "map": ("-m", "model:arm-2009", "list", "--map"),
    "list": ("-m", "model:arm-2009", "list", "--used"),
    "zones": ("zones", "--board", "arm-2009"),
    "energy": ("-m", "model:arm-2009", "energy"),
    "refused": ("-m", "model:arm-2009", "remove", "low"),
    "add": ("-m", "model:virt-arm64", "add", "high"),
    "board": ("board", "show", "arm-2009"),
    "simulate": ("simulate", "arm-2009", "--workload", "inodes", "--seconds", "5"),
}


def seen(words: Sequence[str], columns: int, changes: Mapping[str, str] = {}) -> tuple[list[str], bytes]:
    """The lines of a terminal of that width after ``hotbank WORDS``, and the bytes that came."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, columns, 0, 0))
    env = {**os.environ, "TERM": "xterm-256color", **changes}
    env.pop("COLUMNS", None)
    with open(ours, "rb", buffering=0) as end, closing(_Screen(columns)) as screen:
        command = [sys.executable, "-m", "hotbank", *words]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env):
            os.close(theirs)
            while data := _read(end.fileno()):
                screen.feed(data)
        return screen.lines(), screen.came


def pressed(words: Sequence[str], word: str, key: bytes, changes: Mapping[str, str] = {}) -> bytes:
    """All bytes of a command that is given a key as soon as that word stands on its screen. It has to end well."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, 80, 0, 0))
    with open(ours, "r+b", buffering=0) as end, closing(_Screen(80)) as screen:
        command, env = [sys.executable, "-m", "hotbank", *words], {**os.environ, "TERM": "xterm-256color", **changes}
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env) as running:
            os.close(theirs)
            waits = True
            while data := _read(end.fileno()):
                screen.feed(data)
                if waits and any(word in line for line in screen.lines()):
                    waits = not end.write(key)
        assert running.returncode == 0
        return screen.came


def piped(words: Sequence[str], columns: int) -> list[str]:
    """The lines of the same command through a pipe, for a reader with so many columns."""
    command, env = [sys.executable, "-m", "hotbank", *words], {**os.environ, "COLUMNS": str(columns)}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=env)
    return done.stdout.splitlines()


def is_whole(line: str, screen: Sequence[str], at: int) -> int:
    """How many of the screen's lines from ``at`` on are this line, whole or broken between words; 0: they are not."""
    words = line.split()
    told: list[str] = []
    for more, shown in enumerate(screen[at:], 1):
        told += shown.split()
        if told == words:
            return more
        if told != words[: len(told)]:
            return 0
    return 0


def missing(lines: Sequence[str], screen: Sequence[str]) -> list[str]:
    """What of a pipe's lines does not stand on the screen, in order and with nothing between."""
    at, wrong = 0, []
    for line in lines:
        taken = is_whole(line, screen, at)
        if not taken:
            wrong.append(line)
        at += taken
    return wrong + [f"more than the pipe has: {line}" for line in screen[at:] if line]


def steady(lines: Sequence[str]) -> list[str]:
    """Without what differs from run to run, the clock and the date."""
    dated = (re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z", "DATE", line) for line in lines)
    return [re.sub(r"\d+\.\d+( s\b|  )", r"T\1", line) for line in dated]


class _Screen:
    def __init__(self, columns: int) -> None:
        self._screen = pyte.Screen(columns, _LINES)
        self._stream = pyte.ByteStream(self._screen)
        self.came = b""

    def feed(self, data: bytes) -> None:
        self.came += data
        self._stream.feed(data)

    def lines(self) -> list[str]:
        shown = [line.rstrip() for line in self._screen.display]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    def close(self) -> None:
        self._stream.detach(self._screen)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the far end is closed
        return b""
