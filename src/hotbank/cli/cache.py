# SPDX-License-Identifier: Apache-2.0
"""``hotbank cache``: what boards in QEMU have fetched and built, and room on the disk again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from hotbank.cli import table
from hotbank.cli.groups import Group
from hotbank.cli.lsmem import human
from hotbank.cli.terminal import say, say_json
from hotbank.documents import SCHEMA

if TYPE_CHECKING:
    from hotbank.boards_qemu.kept import Kept

_json_option = click.option("-J", "--json", "as_json", is_flag=True, help="One JSON document.")


@click.group("cache", cls=Group, short_help="What boards in QEMU have fetched and built.")
def cache() -> None:
    """What boards in QEMU have fetched and built: gigabytes, made again when they are missing."""


@cache.command("list")
@_json_option
def list_(as_json: bool) -> None:
    """List what is kept, with its size on the disk."""
    from hotbank.boards_qemu.kept import kept

    found = kept()
    if as_json:
        say_json(_document(found, ()))
    else:
        say(*_lines(found))


@cache.command("clean")
@click.argument("kinds", metavar="[KIND]...", nargs=-1)
@_json_option
def clean(kinds: tuple[str, ...], as_json: bool) -> None:
    """Remove what is kept; with KIND only that, such as linux or packages.

    A guest that is up stays up: it has read what it needs.
    """
    from hotbank.boards_qemu import kept

    found = kept.kept()
    _check_kinds(kinds, found)
    gone = [item for item in found if not kinds or item.kind in kinds]
    kept.finish()
    for item in gone:
        say(f"removing {item.kind}/{item.name}, {human(item.size)}", err=True)
        kept.clean(item)
    if as_json:
        say_json(_document(kept.kept(), gone))
    else:
        say(f"removed   {human(sum(item.size for item in gone))}" if gone else "nothing to remove")


def _check_kinds(kinds: Sequence[str], found: Sequence[Kept]) -> None:
    known = sorted({item.kind for item in found})
    if strange := [kind for kind in kinds if kind not in known]:
        there = ", ".join(known) or "nothing"
        raise click.UsageError(f"{', '.join(strange)}: nothing of that kind is kept; kept: {there}")


def _lines(found: Sequence[Kept]) -> Iterator[str]:
    from hotbank.boards_qemu.parts.packages import cache_folder

    yield from table.lines(
        ("KIND", "NAME", "SIZE"), [(item.kind, item.name, human(item.size)) for item in found], right=("SIZE",)
    )
    total = human(sum(item.size for item in found)) if found else "nothing"
    yield f"{total} in {cache_folder()}"


def _document(found: Sequence[Kept], gone: Sequence[Kept]) -> dict[str, Any]:
    from hotbank.boards_qemu.parts.packages import cache_folder

    there, removed = ([asdict(item) for item in items] for items in (found, gone))
    return {"schema": SCHEMA["cache"], "folder": str(cache_folder()), "kept": there, "removed": removed}
