# SPDX-License-Identifier: Apache-2.0
"""The guest of an experiment: QEMU's arm64 board with UEFI and two DIMMs, under one of Debian's cloud kernels.

Its kernel maps memory by leaves as large as they get (``rodata=off``, and kfence from the start, so that it needs no
single pages; arch/arm64/mm/pageattr.c, ``can_set_direct_map``), and its slabs are as small as they get. Half of
what is there at boot is in Movable.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from hotbank.boards_qemu import Wanted, leftovers, prepare, start
from hotbank.boards_qemu.parts.packages import Progress
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.memory import GIB, MIB
from hotbank.sysfs import names, vmstat

BOARD = """
name = "radar"
arch = "arm64"
page_size = "4K"
block_size = "128M"
describe = "srat"

[bank.low]
start = 0x40000000
size = "1G"

[bank.large]
start = 0x80000000
size = "1G"
movable = true
at_boot = false

[bank.small]
start = 0xc0000000
size = "512M"
movable = true
at_boot = false
"""
LARGE = range(2 * GIB // (128 * MIB), 3 * GIB // (128 * MIB))
SMALL = range(LARGE.stop, LARGE.stop + 4)
FOLDER = "/run/radar"  # of ramfs
_CMDLINE = (
    "mitigations=off init_on_alloc=0 rodata=off kfence.sample_interval=100 slub_max_order=0 slab_max_order=0 "
    "cgroup_disable=memory movablecore=512M"
)
_GUEST = "hb-rad-"  # how the names of guests' folders on this host begin
_PATIENCE = 120.0  # seconds for a command, on a busy host
LIMIT = 5.0  # seconds that an offline of a nearly empty block is given
_FILES, _KEPT, _PIPES = 12_000, 2_000, 200  # some 10 MiB of slabs, of which a sixth stays


class Subject:
    """A running guest. Make one with ``booted``."""

    def __init__(self, machine: QemuMachine) -> None:
        self.machine = machine
        self._made: set[str] = set()
        self.run(f"mkdir -p {FOLDER} && mount -t ramfs ramfs {FOLDER}")

    @property
    def release(self) -> str:
        """Its kernel's, as ``uname -r`` has it."""
        return self.machine.snapshot().release

    def once(self, make: Callable[[Subject], None]) -> None:
        """Make what several experiments start from, unless it is there."""
        if make.__name__ not in self._made:
            make(self)
            self._made.add(make.__name__)

    def run(self, text: str) -> str:
        """What a shell command printed. Raises MachineError when it fails."""
        return self.machine.runner.run(text, timeout=_PATIENCE)

    def slab_pages(self) -> int:
        """Pages that are slabs."""
        counters = vmstat.COUNTERS.parse(self.run(f"cat /{names.VMSTAT}"))
        return sum(count for name, count in counters.items() if name.startswith("nr_slab_"))

    def shrink_slabs(self) -> None:
        """Every cache lets go of its empty slabs."""
        self.run("for cache in /sys/kernel/slab/*/shrink; do echo 1 >$cache; done 2>/dev/null; true")

    @cached_property
    def slabs(self) -> Mapping[str, Any]:
        """What a block came to that was filled with slabs (guest/slabs.py)."""
        words = f"{SMALL[0]} {FOLDER} {_FILES} {_KEPT} {_PIPES} {LIMIT:.0f}"
        found: dict[str, Any] = json.loads(self.run(f"PYTHONMALLOC=malloc python3 -S -m hotbank.guest.slabs {words}"))
        return found


@contextlib.contextmanager
def booted(series: str, progress: Progress) -> Iterator[Subject]:
    """A guest under a kernel of that series or release, ended afterwards. Raises MachineError."""
    with leftovers.temporary_folder(_GUEST) as folder:
        board = folder / "radar.toml"
        board.write_text(BOARD, encoding="ascii")
        guest = _prepared_folder(folder)
        wanted = Wanted(str(board), series=series, cpus=1, cmdline=_CMDLINE)
        with start(prepare(wanted, guest, progress)) as machine:
            yield Subject(machine)


def _prepared_folder(folder: Path) -> Path:
    guest = folder / "g"
    guest.mkdir(mode=0o700)
    return guest
