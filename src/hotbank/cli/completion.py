# SPDX-License-Identifier: Apache-2.0
"""What a shell offers at TAB: boards, machines, banks, blocks, domains, columns, workloads, policies, releases; files.

``OFFERS`` goes by what help calls a value, so that a new command completes without a word of its own. ``equip`` is for
a process that a shell started to complete a line; no other imports this. The scripts that start it are click's
(``_HOTBANK_COMPLETE=bash_source hotbank``).
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, add_completion_class

from hotbank import board, kernels
from hotbank.errors import HotbankError
from hotbank.keys import shipped

if TYPE_CHECKING:  # an item is no generic at run time before click 8.4
    Items = list[CompletionItem[str]]
Offer: TypeAlias = "Callable[[click.Context, str], Items]"


@dataclass(frozen=True, slots=True)
class _Names:
    """What the machine of a command line has that can be named."""

    banks: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()


def equip(command: click.Command) -> None:
    """Have the parameters of a command, and of those below it, offer what they are about."""
    for parameter in command.params:
        if (offer := offer_of(parameter)) is not None:
            parameter.shell_complete = offer  # type: ignore[assignment,method-assign]
    for below in vars(command).get("commands", {}).values():
        equip(below)


def offer_of(parameter: click.Parameter) -> Offer | None:
    """By its name, or else by what help calls its value; None where its type knows, or nobody does."""
    metavar = (parameter.metavar or "").strip("[].")
    return OFFERS.get((parameter.name or "").upper()) or OFFERS.get(metavar)


def _plain(known: Iterable[str], incomplete: str) -> Items:
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]


def _or_file(known: Iterable[str], incomplete: str) -> Items:
    """Names, and the files that begin alike; where no name does, the shell's own files, which it knows best."""
    names = _plain(known, incomplete)
    if not names:
        return [CompletionItem(incomplete, type="file")]
    return names + [CompletionItem(path) for path in sorted(glob.glob(glob.escape(incomplete) + "*"))]


def _stems(folder: str) -> list[str]:
    return sorted({file.stem for home in shipped(folder) for file in home.glob("*.toml")})


def _boards(_: click.Context, incomplete: str) -> Items:
    return _or_file((file.stem for file in board.shipped()), incomplete)


def _workloads(_: click.Context, incomplete: str) -> Items:
    return _or_file(_stems("workloads"), incomplete)


def _policies(_: click.Context, incomplete: str) -> Items:
    from hotbank.govern.settings import SHIPPED

    return _or_file(SHIPPED, incomplete)


def _releases(_: click.Context, incomplete: str) -> Items:
    return _or_file((row.release for row in kernels.KERNELS), incomplete)


def _machines(_: click.Context, incomplete: str) -> Items:
    """Whole names, which a shell puts a space behind. Who begins ``model:`` or ``unix:`` may mean a file."""
    kind, colon, rest = incomplete.partition(":")
    names = [f"model:{file.stem}" for file in board.shipped()]
    files = sorted(glob.glob(glob.escape(rest) + "*")) if colon and kind in ("model", "unix") else []
    up = [f"up:{name}" for name in _up()]
    return _plain(("host", *names, *up, *(f"{kind}:{file}" for file in files)), incomplete)


def _running(_: click.Context, incomplete: str) -> Items:
    return _plain(_up(), incomplete)


def _up() -> tuple[str, ...]:
    from hotbank import serve

    with suppress(HotbankError, OSError):
        return serve.names()
    return ()


def _targets(context: click.Context, incomplete: str) -> Items:
    names = _names(context)
    return _plain(dict.fromkeys((*names.banks, *names.blocks)), incomplete)


def _banks(context: click.Context, incomplete: str) -> Items:
    return _plain(_names(context).banks, incomplete)


def _domains(context: click.Context, incomplete: str) -> Items:
    return _plain(_names(context).domains, incomplete)


def _kinds(_: click.Context, incomplete: str) -> Items:
    from hotbank.boards_qemu.kept import kinds

    return _plain(kinds(), incomplete)


def _columns(context: click.Context, incomplete: str) -> Items:
    """The last of a list: what stands before it stays, and is not offered again."""
    from hotbank.cli import listing, lsmem

    before, comma, last = incomplete.rpartition(",")
    known = lsmem.ALL_COLUMNS if context.params.get("like_lsmem") else listing.ALL_COLUMNS
    lower = last == last.lower()
    left = [name.lower() if lower else name for name in known if name not in before.upper().split(",")]
    return [CompletionItem(f"{before}{comma}{name}") for name in left if name.startswith(last)]


def _names(context: click.Context) -> _Names:
    """Nothing where the machine does not answer. A key that is pressed by the way opens no connection to elsewhere."""
    where = context.find_root().params.get("machine") or ""
    with suppress(HotbankError, OSError):
        if where.startswith("model:"):
            return _of_model(where.removeprefix("model:"))
        if not where.startswith("ssh:"):
            return _of_machine(where)
    return _Names()


def _of_model(name: str) -> _Names:
    """Of the board's file: a model need not boot to tell its banks."""
    from hotbank.model import named

    its = named.find(name)
    if not isinstance(its, board.Board):
        return _of_machine(f"model:{name}")
    blocks = (number for bank in its.banks for number in (its.blocks(bank) if its.block_size else ()))
    return _Names(
        tuple(bank.name for bank in its.banks),
        tuple(f"memory{number}" for number in blocks),
        tuple(domain.name for domain in its.domains),
    )


def _of_machine(where: str) -> _Names:
    from hotbank.session import connect

    with connect(where) as machine:
        there = machine.list()
    return _Names(
        tuple(bank.name for bank in there.banks),
        tuple(f"memory{block.number}" for block in there.blocks),
        tuple(domain.name for domain in there.domains),
    )


def _words(*known: str) -> Offer:
    return lambda _, incomplete: _plain(known, incomplete)


OFFERS: Mapping[str, Offer] = {
    "ARCH": _words(*kernels.ARCHES),
    "BANK": _banks,
    "BANK|BLOCK": _targets,
    "BOARD": _boards,
    "BOARD|CAPTURE": _boards,
    "COLUMNS": _columns,
    "DESCRIBE": _words(*board.DESCRIPTIONS),
    "DOMAIN": _domains,
    "KERNEL": _releases,
    "KIND": _kinds,
    "MACHINE": _machines,
    "PAGE_SIZE": _words("4K", "16K", "64K"),
    "POLICY": _policies,
    "RUNNING": _running,
    "SPLIT": _columns,
    "WORKLOAD": _workloads,
}


class _Bash(BashComplete):
    """readline ends a word at a colon; the name of a machine is one word all the same."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the cursor, and the one at it."""
        args, incomplete = super().get_completion_args()
        *before, last = _joined([*args, incomplete])
        self._hidden = len(last) - len(last.rpartition(":")[2])
        return before, last

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Without what readline has already behind it."""
        return f"{item.type},{item.value[self._hidden :]}"


def _joined(words: Iterable[str]) -> Iterator[str]:
    glued: list[str] = []
    for word in words:
        if glued and (word == ":" or glued[-1].endswith(":")):
            glued[-1] += word
        else:
            glued.append(word)
    return iter(glued)


class _Fish(FishComplete):
    """A value may have a comma: columns do."""

    source_template = FishComplete.source_template.replace("string split", "string split -m1")


add_completion_class(_Bash)
add_completion_class(_Fish)
