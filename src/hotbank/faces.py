# SPDX-License-Identifier: Apache-2.0
"""Faces of packages that hand each name on from its file when it is first asked for (PEP 562).

So whoever lists memory blocks does not wait for what carries out transactions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib import import_module


def handing_on(package: str, homes: Mapping[str, Collection[str]]) -> Callable[[str], object]:
    """The ``__getattr__`` of a package. ``homes``: by the file below it, the names that are handed on from there."""
    home = {name: f"{package}.{file}" for file, names in homes.items() for name in names}

    def get(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(import_module(home[name]), name)
        return value

    return get
