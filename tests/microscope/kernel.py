# SPDX-License-Identifier: Apache-2.0
"""The kernels of the microscope: small, and with everything that looks for mistakes (kernel/microscope)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from hotbank.boards_qemu.parts import kernel_build
from hotbank.boards_qemu.parts.kernel_port import KernelPort

FOLDER = Path(__file__).parents[2] / "kernel/microscope"
RELEASE = "7.3"  # the newest, and the first whose arm64 answers a page table that it can't have with ENOMEM
_VARIANT = "-microscope"


def built(progress: Callable[[str], None]) -> tuple[Path, Path]:
    """An unmodified kernel for arm64: its image, and the folder that it was built in."""
    port = KernelPort((), {}, (FOLDER / "arm64.config").read_text(encoding="utf-8"), (RELEASE,))
    kernel = kernel_build.build("arm64", port=port, variant=_VARIANT, progress=progress)
    return kernel.image, kernel.objects


def built_port(release: str | None, modules: Sequence[Path], source: Path | None = None) -> kernel_build.BuiltKernel:
    """Our 32-bit port, with what can look for mistakes there. The arguments: see ``kernel_build.build``."""
    ours = KernelPort.load(kernel_build.port_folder("arm"))
    config = f"{ours.config}\n{(FOLDER / 'arm.config').read_text(encoding='utf-8')}"
    port = replace(ours, config=config)
    return kernel_build.build("arm", release=release, source=source, port=port, variant=_VARIANT, modules=modules)
