# SPDX-License-Identifier: Apache-2.0
"""What holds the house together besides its arrows: packages name their modules; messages name options that exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from hotbank.cli import cli

SOURCE = Path(__file__).parents[1] / "src" / "hotbank"
PACKAGES = sorted(path.parent for path in SOURCE.rglob("__init__.py"))
_ENTRY = re.compile(r"(?:\| )?`{0,2}(\w+)(?:\.py|/|`)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
OTHERS = ("groupadd --system", "busybox --install")  # of programs that are not ours


def modules_of(package: Path) -> set[str]:
    """What a package is made of."""
    files = {path.stem for path in package.glob("*.py") if not path.stem.startswith("__")}
    return files | {path.parent.name for path in package.glob("*/__init__.py")}


def missing(text: str, modules: set[str]) -> set[str]:
    """Modules that a table does not name, and names in it that are no module; nothing where there is no table."""
    rows = [line for line in text.splitlines() if _ENTRY.match(line)]
    first = {entry[1] for entry in map(_ENTRY.match, rows) if entry}
    named = {name for row in rows for name in re.findall(r"(\w+)(?:\.py|/|`)", row)}
    return (modules - named) | (first - modules) if len(first & modules) > 1 else set()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.relative_to(SOURCE.parent).as_posix())
def test_a_package_that_lists_its_modules_lists_them_all(package: Path) -> None:
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8"))) or ""
    assert missing(text, modules_of(package)) == set()


def test_a_module_that_is_not_listed_is_noticed() -> None:
    assert missing("one.py   first\ntwo.py   second", {"one", "two", "three"}) == {"three"}
    assert missing("``one``  first\n``two``  second", {"one"}) == set()
    assert missing("``one``  first\n``two``  second\n``gone``  third", {"one", "two"}) == {"gone"}


# Options in messages


def options_of(command: click.Command) -> set[str]:
    """Every option of a command and of those below it."""
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return own.union(*map(options_of, below(command)), {"--help"})


def below(command: click.Command) -> list[click.Command]:
    """The commands of a group."""
    if not isinstance(command, click.Group):
        return []
    context = click.Context(command)
    return [found for name in command.list_commands(context) if (found := command.get_command(context, name))]


def sentences(source: str) -> Iterator[tuple[int, str]]:
    """String constants that are sentences and no docstrings, with their lines."""
    tree = ast.parse(source)
    docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            yield from [(node.lineno, node.value)] * (" " in node.value.strip())


def strays(source: str, known: set[str]) -> list[str]:
    """Options that sentences name and no command has."""
    known = known | {word for phrase in OTHERS for word in phrase.split()}
    return [f"{line}: {o}" for line, text in sentences(source) for o in _OPTION.findall(text) if o not in known]


def test_an_option_that_a_message_names_is_one_of_a_command() -> None:
    known = options_of(cli)
    found = {p.relative_to(SOURCE).as_posix(): strays(p.read_text("utf-8"), known) for p in SOURCE.rglob("*.py")}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_an_option_that_nobody_has_is_noticed() -> None:
    source = '"""--docstring"""\nraise Refusal(code, f"no room for {x}: give a folder with --banks")'
    assert strays(source, {"--force"}) == ["2: --banks"]
