# SPDX-License-Identifier: Apache-2.0
"""``hotbank kernel``: our 32-bit ARM port, as a kernel or as patches to send."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click

from hotbank import kernels
from hotbank.cli.groups import Group
from hotbank.cli.releases import Architecture
from hotbank.cli.terminal import say, say_json
from hotbank.documents import SCHEMA

_ARCH = click.option(
    "--arch",
    type=Architecture(kernels.ported()),
    default=kernels.ported()[0],
    show_default=True,
    help="Architecture of the port.",
)
_KERNEL = click.option(
    "--kernel", metavar="RELEASE", help="A release that the port is for, as docs/arm32.md has them; else the first."
)
_SOURCE = click.option(
    "--source",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="An unmodified kernel tree, which is copied; without it Debian's linux-source of that release is fetched.",
)


@click.group("kernel", cls=Group)
def kernel() -> None:
    """Build the kernel that 32-bit ARM boards need: upstream has no memory hotplug there."""


@kernel.command("build")
@_ARCH
@_KERNEL
@_SOURCE
@click.option("-J", "--json", "as_json", is_flag=True, help="One JSON document with the paths.")
def build(arch: str, kernel: str | None, source: Path | None, as_json: bool) -> None:
    """Fetch the source, apply the port, configure, cross-compile, and print where the image is.

    The same source and port are answered from the cache. The first build takes a few minutes and 3 GB.
    """
    from hotbank.boards_qemu.parts import bank_module, kernel_build

    _check(kernel, source)
    driver = [bank_module.source_folder()]
    built = kernel_build.build(arch, release=kernel, source=source, modules=driver, progress=_progress())
    if as_json:
        paths = {"image": str(built.image), "modules": str(built.modules), "config": str(built.config)}
        say_json({"schema": SCHEMA["kernel"], "arch": arch, "release": built.release, **paths})
    else:
        say(f"Linux {built.release} for {arch}", f"  image    {built.image}", f"  modules  {built.modules}")


@kernel.command("series")
@_ARCH
@_KERNEL
@_SOURCE
@click.option("-J", "--json", "as_json", is_flag=True, help="One JSON document with the paths.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def series(arch: str, kernel: str | None, source: Path | None, as_json: bool, folder: Path) -> None:
    """Write the port as a series of patches into FOLDER, with a cover letter, for git am and git send-email.

    They are from you, as git knows you, and signed off by you.
    """
    from hotbank.boards_qemu.parts import kernel_series

    _check(kernel, source)
    made = kernel_series.series(arch, folder, release=kernel, source=source, progress=_progress())
    if as_json:
        say_json({"schema": SCHEMA["series"], "arch": arch, "patches": [str(path) for path in made]})
    else:
        say(*map(str, made))


def _check(kernel: str | None, source: Path | None) -> None:
    if kernel and source:
        raise click.UsageError(f"--kernel {kernel}: has no effect beside --source, which is of one release")


def _progress() -> Callable[[str], None]:
    begun = time.monotonic()
    return lambda text: say(f"{time.monotonic() - begun:7.1f} s  {text}", err=True)
