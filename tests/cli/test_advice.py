# SPDX-License-Identifier: Apache-2.0
"""Advice that can be followed: an option that a message names is one that some command has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click

import hotbank
from hotbank.cli import cli

SOURCES = Path(hotbank.__file__).parent
OF_OTHERS = frozenset({"--system", "--install", "--library-path"})  # of groupadd, BusyBox and ld.so
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


@cache
def options() -> frozenset[str]:
    """The long options of all commands."""
    return OF_OTHERS.union(_options(cli), {"--help"})


def _options(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _options(found)


def advised(tree: ast.AST) -> Iterator[str]:
    """The options in texts of more than one word, docstrings included; a word alone is another program's argument."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield from OPTION.findall(node.value)


def strays(source: str) -> set[str]:
    """Options that the source advises and no command has."""
    return set(advised(ast.parse(source))) - options()


def test_messages_name_options_that_exist() -> None:
    found = {path: strays(path.read_text(encoding="utf-8")) for path in sorted(SOURCES.rglob("*.py"))}
    assert {str(path): words for path, words in found.items() if words} == {}


def test_a_stray_is_found() -> None:
    assert strays('raise Error("no room", remedy="give a folder with --banks")') == {"--banks"}
    assert strays('argv = ["chmem", "--banks"]\nError(f"{name} with --json or --bonk")') == {"--bonk"}
