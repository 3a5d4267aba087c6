# SPDX-License-Identifier: Apache-2.0
"""Groups of commands, whose help tells of each in a whole sentence."""

from __future__ import annotations

import click

_ALL = 1 << 16  # characters; click cuts a sentence at what is left of a line


def sentence(command: click.Command) -> str:
    """The first sentence of a command's help, or what stands for it."""
    return command.get_short_help_str(limit=_ALL)


class Group(click.Group):
    """A group whose help cuts no sentence of its commands."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = [command for name in self.list_commands(ctx) if (command := self.get_command(ctx, name))]
        with formatter.section("Commands"):
            formatter.write_dl([(command.name or "", sentence(command)) for command in found])
