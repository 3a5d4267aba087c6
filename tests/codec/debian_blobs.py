# SPDX-License-Identifier: Apache-2.0
"""Device tree blobs of real boards: a fixed sample of 100 in the repository, all of Debian's on request.

``fetch`` needs apt and a mirror. It works in a cache folder of its own and leaves the system's package lists alone.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
from functools import cache
from pathlib import Path

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "blobs" / "debian-sample.tar.xz"
PACKAGES = {"arm64": "linux-image-arm64", "armhf": "linux-image-armmp"}


@cache
def sample() -> dict[str, bytes]:
    """The 100 blobs by name."""
    with tarfile.open(SAMPLE) as tar:
        return {m.name: file.read() for m in tar if (file := tar.extractfile(m)) is not None}


def fetch() -> dict[str, bytes]:
    """Every blob of Debian's arm64 and armhf kernel packages, by name. Raises CalledProcessError without a mirror."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hotbank" / "debian-blobs"
    found: dict[str, bytes] = {}
    for arch, package in PACKAGES.items():
        deb = _package(folder / arch, arch, package)
        unpack = subprocess.Popen(["dpkg", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
        with unpack, tarfile.open(fileobj=unpack.stdout, mode="r|") as tar:
            for member in tar:
                file = tar.extractfile(member) if member.name.endswith(".dtb") else None
                if file is not None:
                    found[f"{arch}/{member.name.partition('/usr/lib/')[2]}"] = file.read()
    return found


def _package(folder: Path, arch: str, package: str) -> Path:
    have = sorted(folder.glob("*.deb"))
    if have:
        return have[-1]
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    own = {
        "APT::Architecture": arch,
        "APT::Architectures": arch,
        "Dir::State::Lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder,
    }
    options = [f"-o{key}={value}" for key, value in own.items()]
    # Sources without this architecture make the update as a whole fail; what matters is whether the package is found.
    _apt(["apt-get", *options, "-qq", "update"], folder, check=False)
    depends = _apt(["apt-cache", *options, "depends", package], folder)
    image = next(line.split()[-1] for line in depends.splitlines() if "Depends: linux-image" in line)
    _apt(["apt-get", *options, "-qq", "download", image], folder)
    return max(folder.glob("*.deb"))


def _apt(command: list[str], folder: Path, *, check: bool = True) -> str:
    return subprocess.run(command, cwd=folder, check=check, capture_output=True, text=True).stdout
