# SPDX-License-Identifier: Apache-2.0
"""The Debian package, by dpkg-deb: what is in it, what it says of itself. ``make packaging`` installs it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tomllib
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = "usr/lib/python3/dist-packages"

pytestmark = [pytest.mark.referee, pytest.mark.long]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = [sys.executable, str(ROOT / "packaging/deb.py"), str(tmp_path_factory.mktemp("deb"))]
    return Path(subprocess.run(build, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())


@pytest.fixture(scope="module")
def unpacked(package: Path) -> Path:
    folder = package.parent / "unpacked"
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder], check=True)
    return folder


def fields(package: Path) -> Message:
    return message_from_string(subprocess.check_output(["dpkg-deb", "--field", package], text=True))


def test_it_asks_for_what_the_project_asks_for(package: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = fields(package)
    assert (found["Version"], found["Architecture"]) == (project["version"], "all")
    assert len(project["dependencies"]) == found["Depends"].count("python3-")
    assert found["Depends"].startswith("python3 (>= 3.11), python3-click (>= 8.1), python3-rich (>= 13), ")


def test_what_it_installs_runs(unpacked: Path) -> None:
    """By the module in it and no other."""
    code = "import sys, runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    words = [sys.executable, "-c", code, str(unpacked / "usr/bin/hotbank"), "board", "list"]
    env = {"PYTHONPATH": str(unpacked / MODULES), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
    assert "arm-2009" in done.stdout
    begins, _ = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["hotbank"].split(":")
    assert f"from {begins} import" in (unpacked / "usr/bin/hotbank").read_text(), "as the other ways to install it do"
    assert (unpacked / MODULES / "hotbank/boards/arm-2009.toml").is_file()


def test_everything_lies_where_debian_looks(unpacked: Path) -> None:
    there = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    for place in (
        "usr/lib/systemd/system/hotbank.socket",
        "usr/lib/sysusers.d/hotbank.conf",
        "usr/share/bash-completion/completions/hotbank",
        "usr/share/zsh/vendor-completions/_hotbank",
        "usr/share/doc/hotbank/copyright",
        "usr/share/doc/hotbank/hotbank.service.d/auto.conf",
        "usr/share/man/man1/hotbank.1.gz",
    ):
        assert place in there
    assert (unpacked / "etc/hotbank").is_dir()
    assert not [place for place in there if "__pycache__" in place or place.endswith("/RECORD")]


def test_every_file_has_its_sum(unpacked: Path) -> None:
    """Which `dpkg --verify` holds an installation against."""
    lines = (unpacked / "DEBIAN/md5sums").read_text().splitlines()
    said = {place: digest for digest, place in (line.split("  ") for line in lines)}
    files = (path for path in unpacked.rglob("*") if path.is_file() and path.parent.name != "DEBIAN")
    assert said == {path.relative_to(unpacked).as_posix(): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


def test_scripts_name_every_unit_that_can_be_enabled(unpacked: Path) -> None:
    units = (unpacked / "usr/lib/systemd/system").iterdir()
    enabled = {unit.name for unit in units if "[Install]" in unit.read_text()}
    for script, left_alone in (("postinst", {"hotbank-metrics.timer"}), ("postrm", set[str]())):
        text = (unpacked / "DEBIAN" / script).read_text()
        line = next(line for line in text.splitlines() if line.strip().startswith("for unit in"))
        assert set(line.partition(" in ")[2].partition(";")[0].split()) == enabled - left_alone
        subprocess.run(["sh", "-n", unpacked / "DEBIAN" / script], check=True)
