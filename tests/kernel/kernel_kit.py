# SPDX-License-Identifier: Apache-2.0
"""What the tests on real kernels share: a guest with a disk, memory held in it, and a few things to ask it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hotbank import operate
from hotbank.boards_qemu import Wanted, arm64, prepare, start
from hotbank.boards_qemu.leftovers import temporary_folder
from hotbank.boards_qemu.parts import bank_module
from hotbank.boards_qemu.parts.packages import cache_folder
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.memory import KIB, MIB, BlockState, Online, Range
from hotbank.operate import Limits, Outcome
from kernel import splats
from patience import HANG, until

HOLDER = Path(__file__).with_name("guest_holder.py")
EVACUATION = {"opt/evacuation.py": Path(__file__).with_name("guest_evacuation.py").read_text(encoding="utf-8")}
LIMITS = Limits(total=240.0, block=120.0)  # an emulated CPU on a busy host is slow
DISK_SIZE = 192 * MIB
KERNEL = os.environ.get("KERNEL")  # a series or release, for wide runs on other kernels than the usual one
# Pages are not cleared before they are used; the kernel maps memory by the 2 MiB instead of by the page.
LEAN = "mitigations=off init_on_alloc=0 rodata=on"


def lean(wanted: Wanted, cpus: int = 1) -> Wanted:
    """The same guest for half of what it takes to emulate with Debian's own settings and two CPUs."""
    return replace(wanted, cpus=cpus, cmdline=f"{LEAN} {wanted.cmdline}".strip())


@contextlib.contextmanager
def guest(wanted: Wanted) -> Iterator[QemuMachine]:
    """The board of ``wanted``, booted, with an ext4 disk on /mnt and the holder in /opt; ended afterwards."""
    with temporary_folder("hb-test-") as folder:
        disk = folder / "disk"
        with open(disk, "wb") as file:
            file.truncate(DISK_SIZE)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal,^metadata_csum", str(disk)], check=True)
        drive = (
            "-drive",
            f"file={disk},if=none,id=disk,format=raw,cache=writeback",
            "-device",
            "virtio-blk-pci,drive=disk",
        )
        files = {**wanted.files, "opt/holder.py": HOLDER.read_text(encoding="utf-8")}
        complete = replace(_other_kernel(wanted), files=files, qemu_arguments=(*wanted.qemu_arguments, *drive))
        with start(prepare(complete, folder)) as machine:
            wait = "until [ -e /dev/vda ]; do sleep 0.1; done"
            machine.runner.run(f"modprobe virtio_blk; modprobe ext4; {wait}; mount -t ext4 /dev/vda /mnt")
            yield machine


def headers_of(machine: QemuMachine) -> Path:
    """What modules of its kernel are built against."""
    if tree := _named("SOURCE"):
        return Path(tree)
    return bank_module.kernel_headers(machine.runner.run("uname -r").strip(), arm64.NAMES, cache_folder())


def _other_kernel(wanted: Wanted) -> Wanted:
    """On the kernel that the environment names instead of Debian's."""
    image = _named("KERNEL")
    return replace(wanted, kernel=image, source=_named("SOURCE")) if image and wanted.series is None else wanted


def _named(what: str) -> str | None:
    """By make microscope."""
    return os.environ.get(f"HOTBANK_TEST_{what}")


def plug(machine: QemuMachine, size: int, how: Online = Online.MOVABLE) -> list[int]:
    """Have virtio-mem plug that much of its bank, in bytes; the bank's blocks, online."""
    path = "/machine/peripheral/bank-high"
    machine.qemu.qmp.execute("qom-set", path=path, property="requested-size", value=size)
    until(lambda: machine.qemu.qmp.execute("qom-get", path=path, property="size") == size, f"a bank of {size} bytes")
    snapshot = machine.snapshot()
    bank = snapshot.bank("high")
    assert bank is not None
    for number in bank.blocks:
        block = snapshot.block(number)
        if block is not None and block.state is BlockState.OFFLINE:
            machine.online(number, how)
    return sorted(bank.blocks)


class Holder:
    """Memory held in a guest, see guest_holder.py. Kinds in MiB."""

    def __init__(self, machine: QemuMachine, **kinds: int) -> None:
        self._runner = machine.runner
        words = " ".join(f"{kind}={size}" for kind, size in kinds.items())
        self._runner.run("rm -rf /run/holder; mkdir -p /run/holder; mkfifo /run/holder/in /run/holder/out")
        self._job = self._runner.start(f"exec python3 -S /opt/holder.py /run/holder {words}")
        assert intact(self.damage())  # answers when everything is there

    def ask(self, command: str) -> dict[str, int]:
        """One command, one answer."""
        talk = f"echo {command} > /run/holder/in; cat /run/holder/out"
        answer: dict[str, int] = json.loads(self._runner.run(talk, timeout=HANG))
        return answer

    def where(self, span: Range) -> dict[str, int]:
        """Pages of each kind that lie in ``span``."""
        return self.ask(f"where {span.start:x} {span.end:x}")

    def damage(self) -> dict[str, int]:
        """Pages of each kind whose content is not what was written."""
        return self.ask("verify")

    def rewrite(self) -> dict[str, int]:
        """New content for every page; the damage right afterwards."""
        return self.ask("write")

    def end(self) -> None:
        """Let go of everything."""
        self.ask("end")
        self._job.wait(HANG)

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._job.running:
            self._job.kill()
            self._job.wait(HANG)
        self._runner.run("rm -f /tmp/held /mnt/held")


def intact(damage: dict[str, int]) -> bool:
    """True if no page of any kind is damaged."""
    return not any(damage.values())


def add(machine: QemuMachine, bank: str = "high") -> Outcome:
    """Bring a bank in, under generous limits."""
    return operate.add(machine, bank, limits=LIMITS)


def remove(machine: QemuMachine, bank: str = "high") -> Outcome:
    """Take a bank out, under generous limits."""
    return operate.remove(machine, bank, limits=LIMITS)


def evacuated(machine: QemuMachine, way: str, number: int = 0) -> dict[str, Any]:
    """What guest_evacuation.py finds in a guest that has it (EVACUATION); printed as well."""
    span = span_of(machine)
    line = machine.runner.run(f"python3 -S /opt/evacuation.py {span.start:x} {span.end:x} {way} {number}", timeout=HANG)
    print(machine.runner.run("uname -r").strip(), way, line)
    found: dict[str, Any] = json.loads(line)
    return found


def span_of(machine: QemuMachine, bank: str = "high") -> Range:
    """Where a bank lies."""
    found = machine.board.bank(bank)
    assert found is not None
    return found.range


def guest_memory(machine: QemuMachine) -> dict[str, int]:
    """The guest's /proc/meminfo, in bytes."""
    return _meminfo(machine.runner.run("cat /proc/meminfo"))


def complaints(machine: QemuMachine) -> list[str]:
    """Lines of the guest's kernel log that no healthy run has."""
    return list(splats.read(machine.runner.run("dmesg")).mistakes)


def _meminfo(text: str) -> dict[str, int]:
    rows = (line.split() for line in text.splitlines())
    return {row[0].rstrip(":"): int(row[1]) * KIB for row in rows if len(row) > 1}


def children_of(owner: int) -> set[int]:
    """The processes that it started (proc(5): ppid in ``stat``)."""
    fields = {pid: _stat(pid) for pid in map(int, filter(str.isdigit, os.listdir("/proc")))}
    return {pid for pid, words in fields.items() if words[1:2] == [str(owner)]}


def alive(pid: int) -> bool:
    """True while the process is there and no zombie."""
    return _stat(pid)[:1] not in ([], ["Z"])


def _stat(pid: int) -> list[str]:
    """The fields after the name; nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []
