# SPDX-License-Identifier: Apache-2.0
"""The real kernel of a comparison: a guest in QEMU with a holder in it (guest/holder.py), and operations done to it.

What moves or merges pages by itself is switched off in the guest, so that a page stays where it was seen: khugepaged,
KSM, NUMA balancing, proactive compaction.
"""

from __future__ import annotations

import contextlib
import errno
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from hotbank import board as boards
from hotbank.board import Board
from hotbank.boards_qemu import Wanted, leftovers, prepare, start
from hotbank.boards_qemu.launch import PORTS, port_of
from hotbank.boards_qemu.parts.packages import Progress, no_progress
from hotbank.boards_qemu.port import Disk
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.compare.operations import Operation, Verb
from hotbank.compare.outcome import Outcome, seen
from hotbank.errors import BoardError, CancelPending, Code, KernelError, MachineError
from hotbank.machine import Pages, Snapshot
from hotbank.memory import MIB, BlockState, Online, Range
from hotbank.sysfs.names import MEMORY, PARAMETERS

_GUEST = "hb-cmp-"  # how the names of guests' folders on this host begin
_FOLDER = "/run/holder"
_FAULTS = "/sys/kernel/debug/notifier-error-inject/memory/actions"
_DISK_LIMIT = 30  # seconds until a disk is there, on a busy host
_ANSWER_LIMIT = 120.0  # seconds; filling its memory takes some
_SIZE = 160 * MIB  # room for the page cache that the holder holds
_QUIET = f"""set -e
for setting in kernel/mm/transparent_hugepage/enabled:never kernel/mm/ksm/run:0; do
    if [ -e /sys/${{setting%:*}} ]; then echo ${{setting#*:}} >/sys/${{setting%:*}}; fi
done
for setting in kernel/numa_balancing vm/compaction_proactiveness; do
    if [ -e /proc/sys/$setting ]; then echo 0 >/proc/sys/$setting; fi
done
for module in memory_notifier_error_inject virtio_blk ext4; do
    modprobe $module 2>/dev/null || true  # it may be built in
done
for _ in $(seq {_DISK_LIMIT}0); do if [ -e $DISK ]; then break; fi; sleep 0.1; done
mke2fs $DISK >/dev/null
mount -t ext4 $DISK /mnt
mkdir -p {_FOLDER}
mkfifo {_FOLDER}/in {_FOLDER}/out
if [ -e {_FAULTS} ]; then echo vetoes; fi
"""


@contextlib.contextmanager
def booted(wanted: Wanted, progress: Progress = no_progress) -> Iterator[Real]:
    """The board of ``wanted`` in QEMU, ended afterwards. Raises BoardError, MachineError."""
    with leftovers.temporary_folder(_GUEST) as folder:
        disk, file = disk_of(boards.load(boards.find(wanted.board))), folder / "disk"
        drive = ("-drive", f"file={file},if=none,id=disk,format=raw", "-device", f"{disk.device},drive=disk")
        complete = replace(wanted, qemu_arguments=(*wanted.qemu_arguments, *drive))
        with open(file, "wb") as content:
            content.truncate(_SIZE)
        with start(prepare(complete, folder, progress)) as machine:
            yield Real(machine, disk)


def disk_of(board: Board) -> Disk:
    """What its guest has for a disk. Raises BoardError where that has none."""
    disk = port_of(board).DISK
    if disk is None:
        able = " or ".join(port.ARCH for port in PORTS.values() if port.DISK)
        raise BoardError("arch", board.arch, f"must be {able}: the guest needs a disk")
    return disk


class Real:
    """A running guest. Make one with ``booted``. ``vetoes``: its kernel's notifiers can be told to say no."""

    def __init__(self, machine: QemuMachine, disk: Disk) -> None:
        self.machine = machine
        self.vetoes = machine.runner.run(f"DISK={disk.path}; {_QUIET}").endswith("vetoes\n")
        self._job = machine.runner.start(f"exec python3 -S -m hotbank.guest.holder {_FOLDER}")

    def snapshot(self) -> Snapshot:
        """The machine as it stands."""
        return self.machine.snapshot()

    def pages(self, block: int) -> Pages:
        """What every page of an online block is."""
        return self.machine.pages(block)

    def holes(self, block: int) -> bool:
        """True if there is not memory everywhere in it."""
        return bool(self.machine.survey(block).holes)

    def perform(self, operation: Operation, patience: float) -> Outcome:
        """Do it, with a limit of ``patience`` seconds for an evacuation; how it ended."""
        before = self._migrated(operation)
        code = self._perform(operation, patience)
        return seen(self.snapshot(), code, self._migrated(operation) - before)

    def _migrated(self, operation: Operation) -> int:
        return int(self.ask("migrated")) if operation.evacuates else 0

    def ask(self, do: str, **arguments: object) -> Any:
        """One question to the holder. Raises KernelError with the errno that it met."""
        question = json.dumps({"do": do, **arguments})
        asked = self.machine.runner.start(f"cat >{_FOLDER}/in; cat {_FOLDER}/out", input=question)
        until = time.monotonic() + _ANSWER_LIMIT
        while asked.running and self._job.running and time.monotonic() < until:
            asked.wait_for(0.5)
        if asked.running:
            asked.kill()
            raise MachineError(f"the holder in the guest does not answer {do}: {self._how_it_is()}")
        answer = json.loads(asked.wait(0).out)
        if "errno" in answer:
            raise KernelError(answer["errno"], do, detail=answer["error"])
        return answer["answer"]

    def _how_it_is(self) -> str:
        if self._job.running:
            return "it is still at it"
        ended = self._job.wait(0)
        return f"it ended with {ended.status}, {ended.out.strip()[-300:] or 'without a word'}"

    def _perform(self, operation: Operation, patience: float) -> int:
        if operation.veto:
            self._have_notifiers_say(operation.veto)
        try:
            return self._attempt(operation, patience)
        except CancelPending as e:
            self._wait_until_let_go()
            return e.errno
        except KernelError as e:
            return e.errno
        finally:
            if operation.veto:
                self._have_notifiers_say(0)

    def _wait_until_let_go(self) -> None:
        """On a busy host one pass of an emulated kernel may take longer than the machine waits for it."""
        until = time.monotonic() + _ANSWER_LIMIT
        while any(block.state is BlockState.GOING_OFFLINE for block in self.snapshot().blocks):
            if time.monotonic() > until:
                raise MachineError(f"the guest still holds a cancelled offline after {_ANSWER_LIMIT:g} s")
            time.sleep(0.2)

    def _attempt(self, operation: Operation, patience: float) -> int:
        machine, block, bank = self.machine, operation.block, operation.bank
        if operation.verb is Verb.STATE and block is not None:
            return self._set_state(block, operation.word, patience)
        if operation.verb is Verb.SWITCH:
            return self._write(f"/{MEMORY}/memory{block}/online", operation.word, patience)
        if operation.verb is Verb.AUTO_ONLINE:
            return self._write(f"/{MEMORY}/auto_online_blocks", operation.word, patience)
        if operation.verb is Verb.POLICY:
            return self._write(f"/{PARAMETERS}/online_policy", operation.word, patience)
        if operation.verb is Verb.ADD and bank is not None:
            machine.add(bank)
        elif operation.verb is Verb.REMOVE and bank is not None:
            machine.remove(bank)
        else:
            self._load(operation)
        return 0

    def _set_state(self, block: int, word: str, patience: float) -> int:
        """By the Machine protocol where it has a word for it, past it where it has none, and where there is no such
        block, of which the kernel's own word is wanted."""
        there = self.snapshot().block(block) is not None
        if there and word == "offline":
            self.machine.offline(block, self.machine.clock.now() + patience)
        elif there and word in set(Online):
            self.machine.online(block, Online(word))
        else:
            return self._write(f"/{MEMORY}/memory{block}/state", word, patience)
        return 0

    def _load(self, operation: Operation) -> None:
        if operation.verb is Verb.HOLD:
            self.ask("hold", kind=operation.word, chunks=operation.chunks)
        elif operation.verb is Verb.UNPIN:
            self.ask("unpin")
        else:
            span, page = self._range(operation.bank), self.machine.board.page_size
            self.ask(operation.verb.value, low=span.start // page, high=span.end // page)

    def _range(self, name: str | None) -> Range:
        bank = self.machine.board.bank(name or "")
        assert bank is not None, "pages are pinned and poisoned in banks"
        return bank.range

    def _write(self, path: str, word: str, seconds: float) -> int:
        return self._written([(path, word)], seconds)[0]

    def _have_notifiers_say(self, number: int) -> None:
        actions = ("MEM_GOING_ONLINE", "MEM_GOING_OFFLINE")
        codes = self._written([(f"{_FAULTS}/{action}/error", str(-number)) for action in actions], 10)
        if any(codes):
            raise MachineError(f"memory_notifier_error_inject: {errno.errorcode[max(codes)]}", code=Code.SYSTEM_ERROR)

    def _written(self, words: Sequence[tuple[str, str]], seconds: float) -> list[int]:
        codes: list[int] = self.ask("write", words=list(words), seconds=seconds)
        return codes
