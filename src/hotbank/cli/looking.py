# SPDX-License-Identifier: Apache-2.0
"""What the commands that look at pages share: which machine, progress while they look, what they could not see."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from hotbank.cli.context import Context
from hotbank.cli.terminal import say_over
from hotbank.errors import Code
from hotbank.machine import Machine, Snapshot, Survey
from hotbank.operate.look import How, surveys_of

_PATIENCE = 1.0  # seconds without a word
_VIEWS = {
    "kinds": "what pages hold (/proc/kpageflags)",
    Code.PINS_UNKNOWN: "pins (/proc/kpagecount, /proc/kcore)",
    "owners": "who maps a page (/proc/PID/pagemap)",
    "holes": "where there is no memory (/proc/iomem)",
    "boot": "what was there at boot (/proc/iomem, /sys/firmware)",
    "cma": "where CMA areas lie (/sys/kernel/debug/cma)",
    "leaf": "the kernel's own page tables (/proc/kcore)",
}

sysroot_option: Callable[[Any], Any] = click.option(
    "-s",
    "--sysroot",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Read the captured tree at DIR instead of a machine.",
)
exit_code_option: Callable[[Any], Any] = click.option(
    "--exit-code", "strict", is_flag=True, help="Exit with status 1 when the answer is no."
)


def machine_of(context: Context, sysroot: str | None) -> Machine:
    """The machine that a reading command is about. Raises MachineError, and UsageError where two are named."""
    if sysroot is None:
        return context.machine(changing=False)
    if context.machine_name is not None:
        raise click.UsageError("-m names a machine and --sysroot another")
    from hotbank.host import Host

    return Host(sysroot)


def look(machine: Machine, snapshot: Snapshot, blocks: Iterable[int], how: How = surveys_of) -> Mapping[int, Survey]:
    """Surveys of the blocks that are online, or glances at them; on a terminal, how far it is, once that takes over a
    second."""
    return how(machine, snapshot, _telling(list(blocks)))


def _telling(blocks: Sequence[int]) -> Iterator[int]:
    begun, shown = time.monotonic(), False
    for done, number in enumerate(blocks):
        if sys.stderr.isatty() and time.monotonic() - begun > _PATIENCE:
            say_over(f"looked at {done} of {len(blocks)} blocks")
            shown = True
        yield number
    if shown:
        say_over("")


def not_seen(unknown: Collection[str], machine: str) -> Iterator[str]:
    """What the surveys could not see, a line for each, and what would show more."""
    for name in unknown:
        yield f"{name}: {_VIEWS.get(name, 'not shown here')}"
    if unknown and machine == "host" and os.geteuid() != 0:
        yield "you are not root, who sees more"


def short(name: str, fact: str) -> str:
    """A fact beside the name that it begins with."""
    return fact.removeprefix(name).lstrip(": ")
