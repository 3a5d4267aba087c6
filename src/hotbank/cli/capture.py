# SPDX-License-Identifier: Apache-2.0
"""``hotbank capture``: a machine with the kind of every page, as a file that ``-m model:FILE`` starts from."""

from __future__ import annotations

from collections import Counter

import click

from hotbank.cli.context import Context
from hotbank.cli.terminal import say
from hotbank.memory import Kind


@click.command("capture", short_help="Write a machine's state to a file that a model can start from.")
@click.option(
    "-o", "--output", "path", type=click.Path(dir_okay=False), required=True, help="The file; FILE.gz is compressed."
)
@click.pass_obj
def capture(context: Context, path: str) -> None:
    """Write what the machine is and what each of its pages holds, so that a model can start from it.

    Reads only. On a host it takes root to see the pages. The file has kinds of pages, no content. Then try:
    hotbank -m model:FILE list, or hotbank -m model:FILE remove BANK.
    """
    from hotbank.model import capture as captures

    machine = context.machine(changing=False)
    say(f"machine   {machine.snapshot().machine}")
    taken = captures.take(machine)
    size = captures.save(taken, path)
    kinds = Counter[Kind]()
    for block in taken.blocks:
        for kind, pages in block.pages.runs:
            kinds[kind] += pages
    say(f"pages     {', '.join(f'{kind} {pages}' for kind, pages in kinds.most_common())}")
    unknown = sorted({view for block in taken.blocks for view in block.unknown})
    if unknown:
        say(f"unknown   {', '.join(unknown)}")
    say(f"captured  {len(taken.blocks)} blocks in {path}, {size} bytes")
