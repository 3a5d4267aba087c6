# SPDX-License-Identifier: Apache-2.0
"""How much of this package goes into a guest: the modules of ``hotbank.guest``, and what these import.

Imports are read from the source, those inside of functions too, and a module's whole name in a string counts as one:
that is how a child is started with ``python -m``. A face that imports late (faces.py) is followed for the names that
are asked of it, which it lists for type checkers; what else only these read is not needed in a guest.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from hotbank import keys

_HOME = Path(__file__).resolve().parents[2]
_PACKAGE = _HOME.name


def package_files() -> Iterator[tuple[str, bytes]]:
    """Path (``hotbank/…``) and content of every file that a guest needs of this package."""
    for path in sorted(_reached(_HOME.glob("guest/*.py"))):
        yield str(path.relative_to(_HOME.parent)), path.read_bytes()
    for path in sorted(keys.shipped("memspecs")[0].glob("*.toml")):  # boards name parts
        yield f"{_PACKAGE}/memspecs/{path.name}", path.read_bytes()


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
    for name in _named(path.read_bytes()):
        yield from _files(name)


@cache
def _named(source: bytes) -> tuple[str, ...]:
    """All that this source may name as a module."""
    return tuple(dict.fromkeys(name for node in _executed(ast.parse(source)) for name in _names(node)))


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if not _is_for_checkers(node):
            yield node
            yield from _executed(node)


def _is_for_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _homes(package: str, name: str) -> Iterator[str]:
    """The modules from which a package's face hands on a name late."""
    for face in _files(package):
        yield from (module for module, handed in _late(face.read_bytes()) if handed == name)


@cache
def _late(source: bytes) -> tuple[tuple[str, str], ...]:
    """Module and name of each import that only type checkers read."""
    blocks = [node for node in ast.parse(source).body if _is_for_checkers(node)]
    imports = (n for block in blocks for n in ast.walk(block) if isinstance(n, ast.ImportFrom))
    return tuple((node.module, alias.name) for node in imports if node.module for alias in node.names)


def _names(node: ast.AST) -> Iterator[str]:
    """What a node may name as a module; many a name is something else, and has no file."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module is not None:
        yield node.module
        for alias in node.names:
            yield f"{node.module}.{alias.name}"
            yield from _homes(node.module, alias.name)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def _files(name: str) -> Iterator[Path]:
    package, *inside = name.split(".")
    if package == _PACKAGE and all(part.isidentifier() for part in inside):
        at = _HOME.joinpath(*inside)
        yield from (path for path in (at.with_suffix(".py"), at / "__init__.py") if path.is_file())
