# SPDX-License-Identifier: Apache-2.0
"""/proc/sys/kernel/arch: kernel/utsname_sysctl.c. The machine's name as uname(2) says it."""

from __future__ import annotations

from hotbank import kernels
from hotbank.sysfs.form import Form


def _parse(text: str) -> str:
    return kernels.arch_of_machine(text.strip())


def _show(arch: str) -> str:
    return f"{next(iter(kernels.arch(arch).machines), arch)}\n"


ARCH: Form[str] = Form(_parse, _show)
"""The architecture by the name of its folder in the kernel where hotbank knows it, else as uname says."""
