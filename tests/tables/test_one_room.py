# SPDX-License-Identifier: Apache-2.0
"""What a table knows is asked of the table: nobody else compares versions, or tells a route or an architecture by name.

Each rule is a function from a module's syntax tree to the lines that break it, tried on planted breaches first.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotbank.kernels import ANY, ARCHES
from hotbank.routes import NONE, ROUTES

SOURCE = Path(__file__).resolve().parents[2] / "src" / "hotbank"
Rule = Callable[[ast.Module], Iterator[int]]

_RELEASE = re.compile(r"[2-9]\.[0-9]{1,2}([.-].*)?")
_VERSION_NAMES = re.compile(r"(^|_)(release|series|kernel_version)$")
_ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
# Debian's and GCC's names of the two ARMs are names of them as well.
_ARCH_NAMES = (
    {name for name in ARCHES if name != ANY} | {m for row in ARCHES.values() for m in row.machines} | {"armhf"}
)
_ROUTE_NAMES = {name for name in ROUTES if name != NONE.name}

PORTS = {
    "boards_qemu/arm32.py",
    "boards_qemu/arm64.py",
    "boards_qemu/parts/kernel_build.py",
}
SCRIPTED = {"testing.py"}  # a scripted machine has to be of some architecture and some route
ROOMS: dict[str, set[str]] = {
    "versions": {"kernels.py"},
    "releases": {"kernels.py"},
    "routes": {"routes.py", "host/routes.py", "host/devices.py", "boards_qemu/arm64.py", "load/script.py"}
    | SCRIPTED,  # script: a load's word
    "architectures": {"kernels.py"} | PORTS | SCRIPTED,
}


def compared_versions(tree: ast.Module) -> Iterator[int]:
    """Order between anything and a tuple of numbers, or what is called a release; a literal release compared."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = (node.left, *node.comparators)
            ordered = any(isinstance(op, _ORDER) for op in node.ops)
            by_order = ordered and any(_is_numbers(side) or _is_version_name(side) for side in sides)
            if by_order or any(_is_release(side) for side in sides):
                yield node.lineno
        elif isinstance(node, ast.Call) and _is_prefix_test(node):
            yield node.lineno


def named_releases(tree: ast.Module) -> Iterator[int]:
    """A release as a word of its own, such as a default."""
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and _is_release(node):
            yield node.lineno


def named_routes(tree: ast.Module) -> Iterator[int]:
    """A route's name as a word of its own, and any word that ``.route`` is compared with."""
    yield from _words(tree, _ROUTE_NAMES)
    yield from _compared(tree, "route")


def named_architectures(tree: ast.Module) -> Iterator[int]:
    """An architecture's name as a word of its own, and any word that ``.arch`` is compared with."""
    yield from _words(tree, _ARCH_NAMES)
    yield from _compared(tree, "arch")


RULES: dict[str, Rule] = {
    "versions": compared_versions,
    "releases": named_releases,
    "routes": named_routes,
    "architectures": named_architectures,
}


def _is_numbers(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Tuple)
        and len(node.elts) > 1
        and all(isinstance(part, ast.Constant) and isinstance(part.value, int) for part in node.elts)
    )


def _is_version_name(node: ast.expr) -> bool:
    node = node.func if isinstance(node, ast.Call) else node
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return _VERSION_NAMES.search(name) is not None


def _is_release(node: ast.expr) -> bool:
    parts = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
    return any(isinstance(p, ast.Constant) and isinstance(p.value, str) and _RELEASE.fullmatch(p.value) for p in parts)


def _is_prefix_test(call: ast.Call) -> bool:
    asks = isinstance(call.func, ast.Attribute) and call.func.attr == "startswith"
    return asks and any(isinstance(a, ast.Constant) and re.match(r"[2-9]\.[0-9]", str(a.value)) for a in call.args)


def _words(tree: ast.Module, names: set[str]) -> Iterator[int]:
    return (n.lineno for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value in names)


def _compared(tree: ast.Module, attribute: str) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = (node.left, *node.comparators)
            asked = any(isinstance(side, ast.Attribute) and side.attr == attribute for side in sides)
            if asked and any(isinstance(side, ast.Constant) and isinstance(side.value, str) for side in sides):
                yield node.lineno


@pytest.mark.parametrize("what", RULES)
def test_nobody_else(what: str) -> None:
    found = [
        f"{name}:{line}"
        for path in sorted(SOURCE.rglob("*.py"))
        if (name := path.relative_to(SOURCE).as_posix()) not in ROOMS[what]
        for line in RULES[what](ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize("what", RULES)
def test_the_rooms_are_needed(what: str) -> None:
    """A room that breaks no rule any more needs no leave to."""
    for name in ROOMS[what]:
        assert list(RULES[what](ast.parse((SOURCE / name).read_text(encoding="utf-8")))), name


@pytest.mark.parametrize(
    ("what", "breach"),
    [
        ("versions", "new = boot.release >= (7, 0)"),
        ("versions", "old = (6, 12) > release(kernel)"),
        ("versions", 'known = kernel == "6.12"'),
        ("versions", 'known = kernel in ("6.1", "6.12.95")'),
        ("versions", 'old = kernel.startswith("6.1")'),
        ("versions", "new = wanted.series > other"),
        ("releases", 'def boot(kernel: str = "6.12") -> None: ...'),
        ("releases", 'known = ["6.12.95"]'),
        ("routes", 'group = bank.route == "kmem"'),
        ("routes", 'nothing = bank.route != "none"'),
        ("routes", 'table = {"virtio-mem": 1}'),
        ("routes", 'way = route("probe")'),
        ("routes", 'if bank.route in ("cxl",) or "cxl" == bank.route: pass'),
        ("architectures", 'veto = snapshot.arch == "arm64"'),
        ("architectures", 'any_ = board.arch != "any"'),
        ("architectures", 'digits = {"armv7l": 8}'),
        ("architectures", 'archive = Archive.open("armhf")'),
    ],
)
def test_a_planted_breach_is_found(what: str, breach: str) -> None:
    assert set(RULES[what](ast.parse(breach))) == {1}


@pytest.mark.parametrize(
    ("what", "fine"),
    [
        ("versions", "between = (1, 2) == pair and low < high"),
        ("versions", 'text = "since 6.12"'),
        ("routes", "way = route(bank.route).group and bank.route == other.route"),
        ("architectures", 'same = one.arch == other.arch and "arm64 kernels" in text'),
    ],
)
def test_what_is_no_breach(what: str, fine: str) -> None:
    assert list(RULES[what](ast.parse(fine))) == []
