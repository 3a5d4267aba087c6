# SPDX-License-Identifier: Apache-2.0
"""A guest on the debug kernel, with our driver as it is or with a mistake in it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from hotbank.boards_qemu import Wanted, prepare, start
from hotbank.boards_qemu.leftovers import temporary_folder
from hotbank.boards_qemu.parts import bank_module
from hotbank.boards_qemu.supervisor import QemuMachine

BOARD = Path(__file__).with_name("bank.toml")
BANK = "high"
WALK = Path(__file__).parents[1] / "kernel/guest_walk.py"
# Caches without sheaves (mm/slub.c, calculate_sheaf_capacity): those are arrays that kmemleak reads, and pointers to
# what was taken out stay in them.
CMDLINE = "slab_debug=F"


@dataclass(frozen=True)
class Breach:
    """A mistake: in ``file`` of the driver each first text, which comes there once, becomes the second.

    ``operation``: whose walk finds it, from its allocation ``first`` on; ``seen``: by what word.
    """

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    operation: str
    seen: str
    first: int = 1


BREACHES = (
    Breach(
        "a leak on the way back",
        "hotplug.c",
        (("\tif (rc)\n\t\tbank_take_back(", "\tif (rc && kstrdup(bank->label, GFP_KERNEL))\n\t\tbank_take_back("),),
        "add",
        "leaked: ",
    ),
    Breach(
        "an unlocked list",
        "hotplug.c",
        (
            ("\tmutex_lock(&banks_lock);\n\tbank = bank_of(", "\tbank = bank_of("),
            ("\tmutex_unlock(&banks_lock);\n\treturn notifier_from", "\treturn notifier_from"),
        ),
        "online",
        "WARNING: ",
    ),
    Breach(
        "nothing taken back",
        "hotplug.c",
        (("\tif (rc)\n\t\tbank_take_back(", "\tif (rc == -EEXIST)\n\t\tbank_take_back("),),
        "add",
        "blocks: ",
        150,  # of 251: the first block is there
    ),
    Breach(
        "memory asked for under a lock that running out of memory takes",
        "evacuate.c",
        (
            (
                "\tgive_back(bank, first_pfn(bank), end_pfn(bank));\n",
                "\tmight_alloc(GFP_KERNEL);\n\tgive_back(bank, first_pfn(bank), end_pfn(bank));\n",
            ),
        ),
        "evacuate",
        "circular locking",
    ),
)


@contextlib.contextmanager
def planted(breach: Breach | None, folder: Path) -> Iterator[None]:
    """Guests made meanwhile get a driver with that mistake."""
    if breach is None:
        yield
        return
    copy = folder / "bank"
    shutil.copytree(bank_module.source_folder(), copy)
    text = (copy / breach.file).read_text(encoding="utf-8")
    for old, new in breach.edits:
        assert text.count(old) == 1, f"{breach.file} has {old!r} {text.count(old)} times"
        text = text.replace(old, new)
    (copy / breach.file).write_text(text, encoding="utf-8")
    with mock.patch.object(bank_module, "source_folder", return_value=copy):
        yield


@contextlib.contextmanager
def booted(image: Path, tree: Path, breach: Breach | None = None) -> Iterator[QemuMachine]:
    """One CPU, so that what an operation asks for is the same each time."""
    files = {"opt/walk.py": WALK.read_text(encoding="utf-8")}
    wanted = Wanted(str(BOARD), kernel=str(image), source=str(tree), cpus=1, files=files, cmdline=CMDLINE)
    with temporary_folder("hb-scope-") as folder:
        guest = folder / "guest"
        guest.mkdir()
        with planted(breach, folder):
            prepared = prepare(wanted, guest)
        with start(prepared) as machine:
            yield machine
