# SPDX-License-Identifier: Apache-2.0
"""Kernel modules for a guest: the ones wanted and those they depend on, with the tables that modprobe reads.

A module names what it needs in its own ``.modinfo`` (``depends``, ``softdep``), so that no depmod for a foreign
architecture is needed; modules.builtin lists those the kernel has inside (kmod: libkmod, modules.dep(5)).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hotbank.boards_qemu.parts import compressed, elf
from hotbank.errors import Code, MachineError

_FILE = re.compile(r"(?P<name>[^.]+)\.ko(?P<packed>\.xz|\.zst)?")
_FORMS = {".xz": "xz", ".zst": "zstd"}


@dataclass(frozen=True, slots=True)
class Module:
    """One module: its name with underscores, its bytes unpacked, the names it depends on, its aliases."""

    name: str
    data: bytes
    depends: tuple[str, ...]
    aliases: tuple[str, ...]


def collect(
    folder: Path, names: Iterable[str], extra: Sequence[Path] = (), *, if_there: Iterable[str] = ()
) -> tuple[Module, ...]:
    """The named modules and all they depend on, each after those it needs.

    ``folder``: ``lib/modules/VERSION``. ``extra``: module files from elsewhere, taken as well. ``if_there``: names that
    not every kernel has. Names that the kernel has built in are passed over. Raises MachineError for a name that is
    nowhere.
    """
    paths = {_plain(match["name"]): path for path in folder.rglob("*.ko*") if (match := _FILE.fullmatch(path.name))}
    paths |= {_plain(path.name.split(".")[0]): path for path in extra}
    builtin = _builtin(folder)
    found: dict[str, Module] = {}

    def take(name: str, wanted_by: str) -> None:
        if name in found or name in builtin:
            return
        if name not in paths:
            raise MachineError(
                f"no kernel module {name}, which {wanted_by} needs, below {folder}", code=Code.SYSTEM_ERROR
            )
        module = _read(name, paths[name])
        for needed in module.depends:
            take(needed, name)
        found[name] = module

    some = [name for name in if_there if name in paths]
    for name in [*names, *some, *(path.name.split(".")[0] for path in extra)]:
        take(_plain(name), "the guest")
    return tuple(found.values())


def tables(modules: Iterable[Module]) -> dict[str, str]:
    """modules.dep and modules.alias for modules that lie as ``NAME.ko`` in one folder."""
    modules = tuple(modules)
    by_name = {module.name: module for module in modules}
    dep = "".join(f"{m.name}.ko:{''.join(f' {n}.ko' for n in _closure(m, by_name))}\n" for m in modules)
    alias = "".join(f"alias {alias} {m.name}\n" for m in modules for alias in m.aliases)
    return {"modules.dep": dep, "modules.alias": alias}


def _closure(module: Module, by_name: dict[str, Module]) -> list[str]:
    """All that a module needs, the nearest first, as depmod writes it."""
    order: dict[str, None] = {}
    for name in module.depends:
        if name in by_name:
            order |= dict.fromkeys([name, *_closure(by_name[name], by_name)])
    return list(order)


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _builtin(folder: Path) -> set[str]:
    try:
        lines = (folder / "modules.builtin").read_text(encoding="ascii").splitlines()
    except OSError:
        return set()
    return {_plain(Path(line).name.removesuffix(".ko")) for line in lines}


def _read(name: str, path: Path) -> Module:
    data = _unpacked(path)
    info = list(elf.modinfo(data))
    depends = [n for key, value in info if key == "depends" for n in value.split(",") if n]
    return Module(name, data, tuple(map(_plain, depends)), tuple(value for key, value in info if key == "alias"))


def _unpacked(path: Path) -> bytes:
    form = _FORMS.get(path.suffix)
    data = path.read_bytes()
    return data if form is None else compressed.unpacked(data, form, path.name)
