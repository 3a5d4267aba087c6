# SPDX-License-Identifier: Apache-2.0
"""``hotbank mount``: a machine as a folder with ``sys`` and ``proc``, for programs that know nothing of hotbank."""

from __future__ import annotations

import click

from hotbank.cli.context import Context
from hotbank.cli.terminal import say
from hotbank.errors import Code, MachineError
from hotbank.machine import Machine


@click.command("mount", short_help="Show a machine below a folder as /sys and /proc.")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False))
@click.option("--read-only", is_flag=True, help="Let no write through.")
@click.pass_obj
def mount(context: Context, folder: str, read_only: bool) -> None:
    """Show a machine below DIR as /sys and /proc, until Ctrl-C, SIGTERM or umount: all three are its normal end.

    What is written to a block's state reaches the machine, and its errno the writer: lsmem --sysroot DIR, echo
    offline > DIR/sys/devices/system/memory/memory4/state. Needs mfusepy (pip install 'hotbank[mount]') and libfuse 3.
    """
    try:
        from hotbank.mount import fuse
    except (ImportError, OSError) as e:
        raise MachineError(
            f"FUSE is not there: {e}", code=Code.UNSUPPORTED, remedy="pip install 'hotbank[mount]', apt install fuse3"
        ) from e
    reader, writer = _machines(context, read_only)
    name = reader.snapshot().machine
    fuse.mount(reader, writer, folder, lambda: say(f"{name} is mounted at {folder}; Ctrl-C or umount ends it"))


def _machines(context: Context, read_only: bool) -> tuple[Machine, Machine | None]:
    """One to read from and one to change, so that reads stay instant during a change; a model is both."""
    kind, _, board = (context.machine_name or "").partition(":")
    if kind == "model" and board:
        from hotbank.serve import ModelSpec
        from hotbank.serve.daemon import boot

        model = boot(ModelSpec(board))
        return model, None if read_only else model
    writer = None if read_only else context.machine(changing=True)
    return context.machine(changing=False), writer
