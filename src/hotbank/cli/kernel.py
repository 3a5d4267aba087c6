# SPDX-License-Identifier: Apache-2.0
"""``hotbank kernel build``: the kernel of our 32-bit ARM port."""

from __future__ import annotations

import time
from pathlib import Path

import click

from hotbank import kernels
from hotbank.cli.terminal import say, say_json
from hotbank.documents import SCHEMA


@click.group("kernel")
def kernel() -> None:
    """Build the kernel that 32-bit ARM boards need: upstream has no memory hotplug there."""


@kernel.command("build")
@click.option(
    "--arch",
    type=click.Choice(kernels.ported()),
    default=kernels.ported()[0],
    show_default=True,
    help="Architecture of the port.",
)
@click.option(
    "--source",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="An unmodified kernel tree, which is copied; without it Debian's linux-source-6.1 is fetched.",
)
@click.option("-J", "--json", "as_json", is_flag=True, help="One JSON document with the paths.")
def build(arch: str, source: Path | None, as_json: bool) -> None:
    """Fetch the source, apply the port, configure, cross-compile, and print where the image is.

    The same source and port are answered from the cache. The first build takes a few minutes and 3 GB.
    """
    from hotbank.boards_qemu.parts import bank_module, kernel_build

    begun = time.monotonic()

    def progress(text: str) -> None:
        say(f"{time.monotonic() - begun:7.1f} s  {text}", err=True)

    built = kernel_build.build(arch, source=source, modules=[bank_module.source_folder()], progress=progress)
    if as_json:
        paths = {"image": str(built.image), "modules": str(built.modules), "config": str(built.config)}
        say_json({"schema": SCHEMA["kernel"], "arch": arch, "release": built.release, **paths})
    else:
        say(f"Linux {built.release} for {arch}", f"  image    {built.image}", f"  modules  {built.modules}")
