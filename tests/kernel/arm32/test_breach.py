# SPDX-License-Identifier: Apache-2.0
"""The oracle of the linear mapping on a planted breach: a port that takes the entries out of init_mm alone.

It looks right: the kernel runs, data survives, and a process that was forked afterwards faults. Those forked before
still reach the dark bank.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hotbank.boards_qemu.parts import bank_module, kernel_build
from hotbank.errors import SwitchError
from kernel.arm32.test_banks import READER, reading
from kernel.arm32_guests import RELEASE, booted
from kernel.kernel_kit import remove, span_of

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

WALK = "\tlist_for_each_entry(page, &pgds, lru)\n\t\twrite_entries(page_address(page), change);\n"


def test_entries_taken_from_init_mm_alone_are_found(tmp_path: Path) -> None:
    port = tmp_path / "port"
    shutil.copytree(kernel_build.port_folder("arm"), port)
    source = port / "files/arch/arm/mm/memhp.c"
    text = source.read_text(encoding="utf-8")
    assert text.count(WALK) == 1
    source.write_text(text.replace(WALK, "\t(void)page;\n"), encoding="utf-8")
    built = kernel_build.build("arm", release=RELEASE, port=port, modules=[bank_module.source_folder()])
    files = {"opt/reader.py": READER.read_text(encoding="utf-8")}
    with booted("arm-2009", built=built, files=files, cpus=2) as machine, reading(machine) as see:
        at = span_of(machine).start + 8 * (1 << 20)
        see(at)
        assert remove(machine).exit == 0
        seen = see(at)
        assert seen["fresh"] == "EFAULT"
        assert {seen["0"], seen["1"]} == {"00000000"}
        with pytest.raises(SwitchError, match="touched while dark"):
            machine.power("ddr-high")
