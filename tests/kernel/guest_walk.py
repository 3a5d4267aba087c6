# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest with fault injection: one operation of our driver, again and again, with its n-th allocation denied.

``python3 -S guest_walk.py BANK OPERATION FIRST COUNT`` counts n up from FIRST, COUNT times or until the operation asks
for less memory than that, and prints one JSON line for each n: ``errno`` of the attempt (0: it succeeded), ``hit``:
whether an allocation was denied, ``wrong``: what then was not as it must be. The kernel's
Documentation/fault-injection/fault-injection.rst describes ``/proc/thread-self/fail-nth``.

After each attempt the bank must be where it was or where it was to go, and the machine as large as that makes it.
"""

import ctypes
import json
import mmap
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

HOME, MEMORY = "/sys/class/hotbank", "/sys/devices/system/memory"
MODULE = "hotbank_bank"
DEBUG = "/sys/kernel/debug"
# Allocations that may wait or take high memory, and single pages, fail as well; each denial leaves a trace.
SETTINGS = {
    "failslab/ignore-gfp-wait": "N",
    "fail_page_alloc/ignore-gfp-wait": "N",
    "fail_page_alloc/ignore-gfp-highmem": "N",
    "fail_page_alloc/min-order": "0",
    "failslab/verbose": "2",
    "fail_page_alloc/verbose": "2",
}
PAGE, HELD = 4096, 8 << 20  # bytes; HELD: of memory in use that an operation has to move
_FINIT_MODULE, _DELETE_MODULE = 273, 106  # include/uapi/asm-generic/unistd.h
_libc = ctypes.CDLL(None, use_errno=True)


def text(path: str) -> str:
    """A file's content, without the newline."""
    with open(path) as file:
        return file.read().strip()


def put(path: str, word: str) -> None:
    """One write."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, word.encode())
    finally:
        os.close(descriptor)


class Bank:
    """A bank of our driver, and what the kernel says of it."""

    def __init__(self, name: str) -> None:
        self.home = f"{HOME}/{name}"
        self.range = tuple(int(word, 16) for word in text(f"{self.home}/range").split("-"))
        self.block = int(text(f"{MEMORY}/block_size_bytes"), 16)

    def file(self, name: str) -> str:
        """A file of the driver's."""
        return f"{self.home}/{name}"

    def blocks(self) -> list[str]:
        """Folders of its blocks that are there."""
        first, last = (address // self.block for address in self.range)
        return [path for n in range(first, last + 1) if os.path.isdir(path := f"{MEMORY}/memory{n}")]

    def states(self) -> tuple[str, ...]:
        """Of its blocks."""
        return tuple(text(f"{path}/state") for path in self.blocks())

    def resource(self) -> int:
        """Bytes of System RAM of our driver's within it."""
        rows = re.findall(r"([0-9a-f]+)-([0-9a-f]+) : System RAM \(hotbank\)", text("/proc/iomem"))
        spans = [(int(low, 16), int(high, 16)) for low, high in rows]
        return sum(high + 1 - low for low, high in spans if low >= self.range[0] and high <= self.range[1])


@dataclass(frozen=True)
class Look:
    """Where the bank is. ``state`` and ``supply`` as the driver says; empty when it is not loaded."""

    state: str
    supply: str
    blocks: tuple[str, ...]
    resource: int
    total: int


def total() -> int:
    """kB of memory that the kernel manages."""
    with open("/proc/meminfo") as file:
        return int(file.readline().split()[1])


def looked(bank: Bank) -> Look:
    """At the bank now."""
    loaded = os.path.isdir(bank.home)
    state, supply = (text(bank.file(name)) if loaded else "" for name in ("state", "supply"))
    return Look(state, supply, bank.states(), bank.resource(), total())


def impossible(bank: Bank, look: Look, none: int) -> list[str]:
    """What of a look can't be; ``none``: kB of the machine without the bank."""
    size = bank.range[1] + 1 - bank.range[0]
    there = look.state == "present"
    online = sum(state == "online" for state in look.blocks) * bank.block // 1024
    rules = {
        "blocks": len(look.blocks) == (size // bank.block if there else 0),
        "resource": look.resource == (size if there else 0),
        "supply": not there or look.supply in ("on", "unmanaged"),
        "MemTotal": look.total == none + online,
    }
    return [f"{name}: {look}" for name, holds in rules.items() if not holds]


def act_load(bank: Bank) -> None:
    """finit_module(2)."""
    descriptor = os.open(module_file(), os.O_RDONLY)
    try:
        _called(_libc.syscall(_FINIT_MODULE, descriptor, b"", 0))
    finally:
        os.close(descriptor)


def act_unload(bank: Bank) -> None:
    """delete_module(2)."""
    _called(_libc.syscall(_DELETE_MODULE, MODULE.encode(), os.O_NONBLOCK))


def _called(status: int) -> None:
    if status < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def module_file() -> str:
    """The module, as modprobe finds it; one that was brought along comes first."""
    own = f"/opt/{MODULE}.ko"
    return own if os.path.exists(own) else f"/lib/modules/{os.uname().release}/{MODULE}.ko"


def to_block(bank: Bank, word: str) -> None:
    """To the bank's first block."""
    put(f"{bank.blocks()[0]}/state", word)


def read_whole(bank: Bank, name: str) -> None:
    """Of a file that knows each page: the first reads, one of which drains."""
    descriptor = os.open(bank.file(name), os.O_RDONLY)
    try:
        for at in range(0, 8 * 4096, 4096):
            os.pread(descriptor, 4096, at)
    finally:
        os.close(descriptor)


class Held:
    """Memory of this process, which lies in the bank as long as that is online and has room."""

    def __init__(self, size: int) -> None:
        self.page, self.size = os.urandom(PAGE), size
        self.map = mmap.mmap(-1, size or PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for at in range(0, size, PAGE):
            self.map[at : at + PAGE] = self.page

    def damaged(self) -> list[str]:
        """What is not as it was written."""
        bad = sum(self.map[at : at + PAGE] != self.page for at in range(0, self.size, PAGE))
        return [f"damaged: {bad} pages"] if bad else []


def evacuate(bank: Bank) -> None:
    """Take all of the bank behind a fence, read what became of it, and give it back."""
    descriptor = os.open(f"/dev/hotbank/{os.path.basename(bank.home)}", os.O_RDWR)
    try:
        os.write(descriptor, f"{bank.range[0]:#x}-{bank.range[1]:#x}".encode())
        os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def absent(bank: Bank, supply: str) -> None:
    """Out of the kernel, its supply as wanted."""
    loaded(bank)
    if text(bank.file("state")) == "present":
        put(bank.file("state"), "evict")
    if text(bank.file("supply")) != "unmanaged":
        put(bank.file("supply"), supply)


def present(bank: Bank, word: str) -> None:
    """In the kernel, each block offline or online_movable."""
    loaded(bank)
    if text(bank.file("state")) != "present":
        absent(bank, "on")
        put(bank.file("state"), "add")
    for path, state in zip(bank.blocks(), bank.states(), strict=True):
        if state != word.partition("_")[0]:
            put(f"{path}/state", word)


def loaded(bank: Bank) -> None:
    """The driver is there, and has its bank: where a probe was denied memory, the driver loads and has none."""
    if not os.path.isdir(bank.home):
        unloaded(bank)
        act_load(bank)


def unloaded(bank: Bank) -> None:
    """The driver is gone."""
    if os.path.isdir(bank.home):
        absent(bank, "off")
    if os.path.isdir(f"/sys/module/{MODULE}"):
        act_unload(bank)


@dataclass(frozen=True)
class Operation:
    """``before``: brings the bank to where the operation starts; ``act``: the operation, one or a few system calls.
    ``held``: bytes in use that it finds there."""

    before: Callable[[Bank], None]
    act: Callable[[Bank], None]
    held: int = 0


OPERATIONS = {
    "load": Operation(unloaded, act_load),
    "unload": Operation(lambda bank: absent(bank, "off"), act_unload),
    "supply-on": Operation(lambda bank: absent(bank, "off"), lambda bank: put(bank.file("supply"), "on")),
    "supply-off": Operation(lambda bank: absent(bank, "on"), lambda bank: put(bank.file("supply"), "off")),
    "add": Operation(lambda bank: absent(bank, "on"), lambda bank: put(bank.file("state"), "add")),
    "online": Operation(lambda bank: present(bank, "offline"), lambda bank: to_block(bank, "online_movable")),
    "refcounts": Operation(lambda bank: present(bank, "online_movable"), lambda bank: read_whole(bank, "refcounts")),
    "pages": Operation(lambda bank: present(bank, "online_movable"), lambda bank: read_whole(bank, "pages")),
    "counts": Operation(lambda bank: present(bank, "online_movable"), lambda bank: read_whole(bank, "counts")),
    "evacuate": Operation(lambda bank: present(bank, "online_movable"), evacuate, HELD),
    "offline": Operation(lambda bank: present(bank, "online_movable"), lambda bank: to_block(bank, "offline"), HELD),
    "evict": Operation(
        lambda bank: present(bank, "online_movable"), lambda bank: put(bank.file("state"), "evict"), HELD
    ),
    "remove": Operation(lambda bank: present(bank, "offline"), lambda bank: put(bank.file("state"), "remove")),
}


def denied(bank: Bank, operation: Operation, number: int) -> tuple[int, bool]:
    """Attempt it with its ``number``-th allocation denied: errno, and whether it came to that."""
    failing = os.open("/proc/thread-self/fail-nth", os.O_RDWR)
    error = 0
    try:
        os.write(failing, str(number).encode())
        try:
            operation.act(bank)
        except OSError as e:
            error = e.errno or -1
        finally:
            left = int(os.pread(failing, 16, 0))
            os.write(failing, b"0")
    finally:
        os.close(failing)
    return error, left == 0


def walk(name: str, operation: Operation, first: int, count: int) -> None:
    """Print a line for each n."""
    bank = Bank(name)
    absent(bank, "off")
    none = total()
    for number in range(first, first + count):
        operation.before(bank)
        held = Held(operation.held)
        start = looked(bank)
        error, hit = denied(bank, operation, number)
        end = looked(bank)
        wrong = impossible(bank, end, none) + held.damaged()
        if error and (end.state, end.supply, end.blocks) != (start.state, start.supply, start.blocks):
            wrong.append(f"changed by a failure: {start} {end}")
        print(json.dumps({"errno": error, "hit": hit, "wrong": wrong}), flush=True)
        if not hit:
            break
    absent(bank, "off")


def main(words: list[str]) -> None:
    """As the command line says."""
    for file, word in SETTINGS.items():
        with suppress(FileNotFoundError):
            put(f"{DEBUG}/{file}", word)
    walk(words[0], OPERATIONS[words[1]], int(words[2]), int(words[3]))


if __name__ == "__main__":
    main(sys.argv[1:])
