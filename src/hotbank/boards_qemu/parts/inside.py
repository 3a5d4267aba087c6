# SPDX-License-Identifier: Apache-2.0
"""How much of this package goes into a guest: the modules of ``hotbank.guest``, and what these import.

Imports are read from the source, those inside of functions too, and a module's whole name in a string counts as one:
that is how a child is started with ``python -m``. The face of the package is carried and not followed: it hands on
whatever is asked for, and nobody in a guest asks it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

_HOME = Path(__file__).resolve().parents[2]
_PACKAGE = _HOME.name


def package_files() -> Iterator[tuple[str, bytes]]:
    """Path (``hotbank/…``) and content of every file that a guest needs of this package."""
    for path in sorted(_reached(_HOME.glob("guest/*.py"))):
        yield str(path.relative_to(_HOME.parent)), path.read_bytes()


def _reached(start: Iterator[Path]) -> set[Path]:
    reached, to_read = set(), list(start)
    while to_read:
        path = to_read.pop()
        if path not in reached:
            reached.add(path)
            to_read += _imported(path)
    return reached


def _imported(path: Path) -> Iterator[Path]:
    yield from (folder / "__init__.py" for folder in path.parents if folder.is_relative_to(_HOME))
    if path != _HOME / "__init__.py":
        for node in ast.walk(ast.parse(path.read_bytes())):
            for name in _names(node):
                yield from _files(name)


def _names(node: ast.AST) -> Iterator[str]:
    """What a node may name as a module; many a name is something else, and has no file."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module is not None:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def _files(name: str) -> Iterator[Path]:
    package, *inside = name.split(".")
    if package == _PACKAGE and all(part.isidentifier() for part in inside):
        at = _HOME.joinpath(*inside)
        yield from (path for path in (at.with_suffix(".py"), at / "__init__.py") if path.is_file())
