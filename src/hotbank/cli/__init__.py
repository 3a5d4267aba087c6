# SPDX-License-Identifier: Apache-2.0
"""The command line: grouped help, one place where errors become a line and an exit status.

Commands are imported when they are called, so that ``hotbank list`` on a small board starts fast.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from importlib import import_module

import click

from hotbank import __version__
from hotbank.cli.context import Context
from hotbank.cli.groups import sentence
from hotbank.cli.terminal import say, say_json, say_text
from hotbank.cli.times import Seconds
from hotbank.documents import EXIT_FAILED, EXIT_INTERRUPTED, SCHEMA
from hotbank.errors import Code, HotbankError

# Section, then command name and the module below hotbank.cli that defines it.
SECTIONS: dict[str, dict[str, str]] = {
    "Operate": {
        "list": "listing",
        "explain": "explain",
        "plan": "plan",
        "remove": "change",
        "add": "change",
        "power": "power",
        "auto": "auto",
        "recover": "journal",
        "history": "journal",
        "energy": "energy",
        "fleet": "fleet",
    },
    "See": {"top": "top", "web": "web", "export": "export", "metrics": "metrics"},
    "Try": {
        "demo": "demo",
        "up": "current",
        "down": "current",
        "console": "current",
        "kernel": "kernel",
        "cache": "cache",
        "capture": "capture",
        "simulate": "simulate",
        "sweep": "sweep",
        "compare": "compare",
        "radar": "radar",
        "trace": "trace",
    },
    "Describe": {"board": "board", "decode": "describe", "encode": "describe", "zones": "describe"},
    "Serve": {"serve": "serve", "mount": "mount", "doctor": "doctor"},
}
COMPLETE = "_HOTBANK_COMPLETE"  # set where a shell started this program to complete a line
_MODULES = {name: module for section in SECTIONS.values() for name, module in section.items()}


class Sections(click.Group):
    """A group whose commands load on demand and whose help is ordered by SECTIONS."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _MODULES:
            return None
        members = vars(import_module(f"hotbank.cli.{_MODULES[cmd_name]}")).values()
        found = next(m for m in members if isinstance(m, click.Command) and m.name == cmd_name)
        _equip_for_completion(found)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches  # for a mistake only

            near = get_close_matches(args[0], _MODULES, 3)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {' or '.join(near)}?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, _MODULES))
        for section, names in SECTIONS.items():
            rows = []
            for name in names:
                command = self.get_command(ctx, name)
                if command is not None:
                    rows.append((name.ljust(width), sentence(command)))
            with formatter.section(section):
                formatter.write_dl(rows)


@click.command(cls=Sections, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="hotbank")
@click.option(
    "-m",
    "--machine",
    metavar="MACHINE",
    envvar="HOTBANK_MACHINE",
    help="host, model:BOARD, model:CAPTURE, up:NAME, ssh:HOST or unix:PATH. Without it: the machine of `hotbank up`; "
    "if there is none, this host, for reading only.",
)
@click.option(
    "--timeout", type=Seconds(), metavar="SECONDS", help="Wait so many seconds for the first word of ssh:HOST (10)."
)
@click.pass_context
def cli(ctx: click.Context, machine: str | None, timeout: float | None) -> None:
    """Take DRAM banks away from a running Linux system, power them off, and give them back.

    Start with `hotbank demo`, or `hotbank up arm-2009` and `hotbank list`.
    """
    if timeout is not None and not (machine or "").startswith("ssh:"):
        raise click.UsageError("--timeout is for -m ssh:HOST")
    ctx.obj = Context(machine, timeout)


def main() -> None:
    """Run the command line of this process, and end it with the exit status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status.

    Prints errors to standard error, and with --json what was refused as a document to standard output, too.
    """
    _equip_for_completion(cli)
    try:
        result = cli.main(arguments, prog_name="hotbank", standalone_mode=False)
        if sys.stdout is not None:  # the caller closed it
            sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except HotbankError as error:
        _tell_programs(arguments, error.code, str(error), error.remedy)
        return _fail(f"{error.code}: {error}", error.remedy)
    except click.ClickException as error:
        wrong = _placed(error)
        where = getattr(wrong, "ctx", None)
        _tell_programs(
            arguments, Code.USAGE, wrong.format_message(), f"{where.command_path if where else 'hotbank'} --help"
        )
        wrong.show(text := io.StringIO())
        say_text(text.getvalue(), err=True)
        return wrong.exit_code
    except (KeyboardInterrupt, click.Abort):
        _fail(f"{Code.INTERRUPTED}: interrupted", "")
        return EXIT_INTERRUPTED
    except OSError as error:
        if error.errno == errno.EPIPE:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_FAILED
        what = f"{error.filename or 'system'}: {error.strerror}"
        _tell_programs(arguments, Code.SYSTEM_ERROR, what, "")
        return _fail(f"{Code.SYSTEM_ERROR}: {what}", "")


def _placed(error: click.ClickException) -> click.ClickException:
    """The error; of an option of all commands that stands behind one of them, where it belongs."""
    ours = {name: option for option in cli.params if isinstance(option, click.Option) for name in option.opts}
    if not isinstance(error, click.NoSuchOption) or error.option_name not in ours:
        return error
    option, command = ours[error.option_name], error.ctx.info_name if error.ctx else ""
    value = "" if option.is_flag else f" {option.metavar} {command}"
    return click.UsageError(
        f"{error.option_name} stands before the command: hotbank {error.option_name}{value}", error.ctx
    )


def _equip_for_completion(command: click.Command) -> None:
    if COMPLETE in os.environ:
        import_module("hotbank.cli.completion").equip(command)


def _tell_programs(arguments: list[str], code: Code, message: str, remedy: str) -> None:
    if sys.stdout is not None and not {"-J", "--json"}.isdisjoint(arguments):
        told = {"code": code.value, "message": message, "remedy": remedy}
        with suppress(OSError):  # it may be standard output that failed
            say_json({"schema": SCHEMA["error"], "error": told})


def _fail(message: str, remedy: str) -> int:
    line = f"hotbank: {message}"
    if sys.stderr is not None:  # the caller closed it
        say(f"{line}; {remedy}" if remedy else line, err=True)
    return EXIT_FAILED
