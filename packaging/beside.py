# SPDX-License-Identifier: Apache-2.0
"""What is installed beside the program: man pages, completion for three shells, units, their socket's group, examples.

``python packaging/beside.py FOLDER [PROGRAM]`` writes all of it below FOLDER, as it lies below a prefix. Units find
``hotbank`` where systemd looks for programs, or are told that it is PROGRAM. ``--remove FOLDER`` takes it all away.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from click.shell_completion import get_completion_class

from hotbank.cli import COMPLETE, cli

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from man import pages  # noqa: E402  # it lies beside this file, wherever that is run from

_COMPLETIONS = {
    "bash": "share/bash-completion/completions/hotbank",
    "fish": "share/fish/vendor_completions.d/hotbank.fish",
    "zsh": "share/zsh/site-functions/_hotbank",
}
_OURS = re.compile(r"^(Exec\w+=-?)hotbank ", re.MULTILINE)


def files(program: str = "hotbank") -> Iterator[tuple[str, str]]:
    """Where below a prefix, and the text."""
    for name, page in pages().items():
        yield f"share/man/man1/{name}", page
    for shell, place in _COMPLETIONS.items():
        yield place, script(shell)
    for unit in sorted(path for path in (HERE / "systemd").iterdir() if path.is_file()):
        yield f"lib/systemd/system/{unit.name}", _naming(program, unit)
    chosen_from = (*(HERE / "systemd").glob("*.d/*"), *(HERE / "grafana").iterdir(), *(HERE / "prometheus").iterdir())
    for example in sorted(chosen_from):  # which is nobody's until somebody chooses from it
        yield f"share/doc/hotbank/{example.parent.name}/{example.name}", _naming(program, example)
    for group in sorted((HERE / "sysusers.d").iterdir()):
        yield f"lib/sysusers.d/{group.name}", group.read_text(encoding="utf-8")


def _naming(program: str, unit: Path) -> str:
    return _OURS.sub(rf"\1{program} ", unit.read_text(encoding="utf-8"))


def script(shell: str) -> str:
    """What a shell sources to complete our command lines."""
    import_module("hotbank.cli.completion")  # which knows shells better than click alone
    made = get_completion_class(shell)
    assert made is not None
    return made(cli, {}, "hotbank", COMPLETE).source()


def write(folder: Path, program: str = "hotbank") -> list[str]:
    """Write all of it; the places below the folder."""
    places = []
    for place, text in files(program):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text, encoding="utf-8")
        places.append(place)
    return places


def remove(folder: Path) -> None:
    """Take all of it away, and the folders that are empty then."""
    for place, _ in files():
        (folder / place).unlink(missing_ok=True)
        for parent in (folder / place).relative_to(folder).parents[:-1]:
            with suppress(OSError):  # others have files there
                (folder / parent).rmdir()


if __name__ == "__main__":
    if sys.argv[1] == "--remove":
        remove(Path(sys.argv[2]))
    else:
        write(Path(sys.argv[1]), *sys.argv[2:3])
