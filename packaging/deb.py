# SPDX-License-Identifier: Apache-2.0
"""A Debian package of this checkout, by dpkg-deb: ``python packaging/deb.py FOLDER`` writes hotbank_VERSION_all.deb.

The module is what the wheel has, so that both install the same; man pages, completions, units and the group are
beside.py's. Nothing is fetched. What the package does as it comes and goes is in packaging/deb.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT / "src")]

import beside  # noqa: E402  # it lies beside this file, wherever that is run from

_MODULES = "usr/lib/python3/dist-packages"
_START = "#!/usr/bin/python3\nfrom hotbank.__main__ import main\n\nmain()\n"
_SCRIPTS = ("postinst", "prerm", "postrm")


def build(folder: Path) -> Path:
    """Make the package in that folder; where it is. Raises CalledProcessError where hatchling or dpkg-deb fails."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    made = folder.resolve() / f"hotbank_{project['version']}_all.deb"
    made.parent.mkdir(parents=True, exist_ok=True)
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as top:
        root = Path(top, "root")
        root.mkdir(mode=0o755)
        _lay_out(root)
        _describe(root, project)
        subprocess.run(["dpkg-deb", "--root-owner-group", "--build", root, made], check=True, stdout=subprocess.DEVNULL)
    return made


def _lay_out(root: Path) -> None:
    """All that the package installs, as it lies below /."""
    _unpack_wheel(root / _MODULES)
    beside.write(root / "usr")
    program = root / "usr/bin/hotbank"
    program.parent.mkdir()
    program.write_text(_START, encoding="utf-8")
    program.chmod(0o755)
    for page in (root / "usr/share/man/man1").iterdir():
        _squeeze(page)
    completions = root / "usr/share/zsh"
    (completions / "site-functions").rename(completions / "vendor-completions")  # where Debian's zsh looks
    documents = root / "usr/share/doc/hotbank"
    shutil.copy(HERE / "deb/copyright", documents)
    shutil.copy(ROOT / "CHANGELOG.md", documents / "changelog")
    _squeeze(documents / "changelog")
    (root / "etc/hotbank").mkdir(parents=True)


def _unpack_wheel(modules: Path) -> None:
    """What is installed beside the module goes elsewhere, and dpkg has a record of its own."""
    with tempfile.TemporaryDirectory() as folder:
        hatchling = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
        subprocess.run(hatchling, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            ours = [name for name in wheel.namelist() if ".data/" not in name and not name.endswith("/RECORD")]
            wheel.extractall(modules, ours)


def _squeeze(file: Path) -> None:
    file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))
    file.unlink()


def _describe(root: Path, project: dict[str, Any]) -> None:
    """The folder DEBIAN: what dpkg has to know, and does."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    sums = (f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n" for path in files)
    about = root / "DEBIAN"
    about.mkdir()
    (about / "md5sums").write_text("".join(sums), encoding="utf-8")
    size = sum(path.stat().st_size for path in files) // 1024
    facts = {"version": project["version"], "description": project["description"], "size": size}
    control = (HERE / "deb/control").read_text(encoding="utf-8")
    (about / "control").write_text(control.format(depends=_depends(project), **facts), encoding="utf-8")
    for script in _SCRIPTS:
        shutil.copy(HERE / "deb" / script, about / script)
        (about / script).chmod(0o755)


def _depends(project: dict[str, Any]) -> str:
    """What pyproject asks for, by Debian's names."""
    wanted = [f"python{project['requires-python']}", *project["dependencies"]]
    return ", ".join(_debian(line) for line in wanted)


def _debian(requirement: str) -> str:
    name, version = re.fullmatch(r"(\w+)>=([\d.]+)", requirement).groups()  # type: ignore[union-attr]
    return f"{'python3' if name == 'python' else f'python3-{name}'} (>= {version})"


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
