# SPDX-License-Identifier: Apache-2.0
"""A port as a series of patches for the kernel's mailing list, which ``git am`` takes.

Nothing of it is kept: git writes the series from the port's edits and texts and from the source it is for, so that
patches and compiled tree can't differ (Documentation/process/submitting-patches.rst).
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hotbank.boards_qemu.parts.kernel_build import Tree, package_of, port_folder
from hotbank.boards_qemu.parts.kernel_port import KernelPort
from hotbank.boards_qemu.parts.packages import Progress, cache_folder, no_progress
from hotbank.errors import Code, MachineError

_PREFIX = "RFC PATCH"
_BRANCH = "series"
_PLACES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_NAMESPACE")
_SETTINGS = ("-c", "core.autocrlf=false", "-c", "diff.noprefix=false", "-c", "user.useConfigOnly=true")
_WHO = "does git know who you are? set user.name and user.email in your ~/.gitconfig"


def series(
    arch: str,
    into: Path,
    *,
    release: str | None = None,
    source: Path | None = None,
    cache: Path | None = None,
    progress: Progress = no_progress,
) -> tuple[Path, ...]:
    """Write our port for ``arch`` into the folder ``into``: a cover letter and its patches, in order.

    They are from whom git takes the caller for, who signs them off. ``release``, ``source``, ``cache`` and
    ``progress`` as for ``kernel_build.build``. Raises MachineError (git or the package is missing, or git does not
    know who you are) and Refusal (the port does not fit the source).
    """
    folder = port_folder(arch)
    port, cover = KernelPort.load(folder), (folder / "cover").read_text(encoding="utf-8")
    tree = Tree.of(source or package_of(port, release), cache or cache_folder(), progress)
    with tree.locked():
        tree.unpack()
        return written(port, cover, tree.source, tree.originals, into)


def written(port: KernelPort, cover: str, source: Path, originals: Path, into: Path) -> tuple[Path, ...]:
    """The series of a port for the tree ``source``, with ``originals`` as for ``KernelPort.apply``.

    ``cover``: the cover letter; its first paragraph is its subject. Only the files that the port touches go through
    git: the patches are the same as from the whole tree.
    """
    into.mkdir(parents=True, exist_ok=True)
    before, *steps = port.steps(source, originals)
    with tempfile.TemporaryDirectory(prefix="hb-series-") as temporary:
        repository = Path(temporary)
        _git(repository, "init", "-q", "-b", _BRANCH)
        _commit(repository, before, "the source\n")
        for patch, texts in zip(port.patches, steps, strict=True):
            _commit(repository, texts, f"{patch.subject}\n\n{patch.text}", "--signoff")
        _git(repository, "config", f"branch.{_BRANCH}.description", cover)
        made = _git(repository, *_format(len(port.patches)), "-o", str(into.resolve()))
    return tuple(Path(line) for line in made.splitlines())


def _format(count: int) -> tuple[str, ...]:
    cover = ("--cover-letter", "--cover-from-description=subject")
    usual = ("--no-renames", "--no-base", "--src-prefix=a/", "--dst-prefix=b/")  # whatever the caller's git does else
    return ("format-patch", *usual, f"-{count}", f"--subject-prefix={_PREFIX}", *cover)


def _commit(repository: Path, files: Mapping[str, str], message: str, *options: str) -> None:
    for file, text in files.items():
        path = repository / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    _git(repository, "add", "--all", "--force")
    _git(repository, "commit", "-q", "--no-gpg-sign", "--no-verify", *options, "-m", message)


def _git(repository: Path, *arguments: str) -> str:
    """Run git there, whatever repository the caller is in."""
    environment = {name: value for name, value in os.environ.items() if name not in _PLACES}
    argv = ["git", *_SETTINGS, *arguments]
    try:
        return subprocess.run(argv, cwd=repository, env=environment, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError as e:
        raise MachineError(
            "git is not installed", code=Code.SYSTEM_ERROR, remedy="on Debian: apt-get install git"
        ) from e
    except subprocess.CalledProcessError as e:
        remedy = _WHO if arguments[0] == "commit" else ""
        raise MachineError(f"git {arguments[0]}: {_complaint(e.stderr)}", code=Code.SYSTEM_ERROR, remedy=remedy) from e


def _complaint(stderr: str) -> str:
    fatal = [line.removeprefix("fatal: ") for line in stderr.splitlines() if line.startswith("fatal: ")]
    return (fatal or stderr.strip().splitlines() or ["failed without a word"])[0]
