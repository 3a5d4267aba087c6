# SPDX-License-Identifier: Apache-2.0
"""The Debian package under a real systemd: ``python packaging/trial/run.py hotbank_VERSION_all.deb``.

Debian 12 from debootstrap, kept in build/trial, boots in QEMU with half a gigabyte that firmware calls persistent
memory: a bank by route kmem, with a switch of its own. guest.sh says what is tried there, and ``last-step`` how systemd
finds the bank when all units are stopped. All that the guest says is in build/trial/console.log. It must run as root.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "trial"
_SUITE, _MIRROR = "bookworm", "http://deb.debian.org/debian"
_PACKAGES = (
    *("systemd-sysv", "dbus", "udev", "kmod", "initramfs-tools", "linux-image-amd64"),
    *("python3", "python3-click", "python3-rich"),
)
_BANK = "memmap=514M!0x11fe00000"  # 2 MiB before it for the info block: docs/arm64.md
_LINE = f"root=/dev/vda rw console=ttyS0 {_BANK} systemd.show_status=1 systemd.mask=serial-getty@ttyS0.service"
_MODULES = "nd_e820\nnd_pmem\ndax_pmem\ndevice_dax\nkmem\n"  # docs/arm64.md, route kmem; firmware names no driver here
_PROGRAMS = {"guest.sh": "root", "bank-power": "usr/local/sbin", "last-step": "usr/lib/systemd/system-shutdown"}
_PATIENCE = 1200.0  # seconds of wall time without a word: an emulated machine is slow, a hang is slower
_BROUGHT_IN = "trial: last step (reboot): power on, bank of 4 blocks: 4 online"


def run(package: Path) -> bool:
    """Boot, try, print what was tried; True if all of it went well."""
    root = _debian()
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        image = _image(root, package, Path(folder))
        told = [line for line in _boots(root, image) if line.startswith("trial: ")]
    failed = [line for line in told if "FAILED" in line]
    in_first = any(line.startswith(_BROUGHT_IN) for line in told)
    print(f"the bank that was out came in before the last step of the reboot: {'yes' if in_first else 'NO'}")
    return not failed and in_first and "trial: the end" in told


def _debian() -> Path:
    """A folder with a fresh Debian, made once."""
    root = BUILD / "debian"
    if not root.is_dir():
        print(f"making {root}: a few minutes, once", flush=True)
        half = root.with_name("debian.half")
        shutil.rmtree(half, ignore_errors=True)
        half.parent.mkdir(parents=True, exist_ok=True)
        words = ["debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", _SUITE, str(half), _MIRROR]
        subprocess.run(["unshare", "--mount", *words], check=True, stdout=subprocess.DEVNULL)
        half.rename(root)
    return root


def _image(root: Path, package: Path, folder: Path) -> Path:
    """A disk with that Debian, the package, and what is tried with it."""
    stage = folder / "stage"
    subprocess.run(["cp", "-al", root, stage], check=True)
    shutil.copy(package, stage / "root/hotbank.deb")
    shutil.copy(HERE / "board.toml", stage / "root")
    for name, place in _PROGRAMS.items():
        _program(name, stage / place)
    (stage / "etc/modules-load.d/trial.conf").write_text(_MODULES, encoding="utf-8")
    units = stage / "etc/systemd/system"
    shutil.copy(HERE / "trial.service", units)
    (units / "multi-user.target.wants/trial.service").symlink_to("../trial.service")
    image = folder / "disk.img"
    subprocess.run(["mkfs.ext4", "-q", "-d", stage, image, "3G"], check=True, stdout=subprocess.DEVNULL)
    return image


def _program(name: str, folder: Path) -> None:
    shutil.copy(HERE / name, folder)
    (folder / name).chmod(0o755)


def _boots(root: Path, image: Path) -> Iterator[str]:
    """What the machine says on its console until it is off, line by line; what concerns us is printed."""
    boot = root / "boot"
    command = [
        *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-M", "q35", "-smp", "2", "-m", "3G"),
        *("-object", "memory-backend-ram,id=ram,size=3G", "-numa", "node,memdev=ram"),
        *("-kernel", str(next(boot.glob("vmlinuz-*"))), "-initrd", str(next(boot.glob("initrd.img-*")))),
        *("-append", _LINE, "-drive", f"file={image},format=raw,if=virtio,cache=unsafe"),
        *("-nic", "none", "-vga", "none", "-display", "none", "-monitor", "none", "-serial", "stdio"),
    ]
    with open(BUILD / "console.log", "w", encoding="utf-8") as log:
        machine = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
        )
        limit = _limit(machine)
        assert machine.stdout is not None
        for line in map(str.strip, machine.stdout):
            limit.cancel()
            limit = _limit(machine)
            print(line, file=log, flush=True)
            if "trial: " in line:
                yield (ours := line[line.index("trial: ") :])
                print(ours, flush=True)
        machine.wait()
        limit.cancel()


def _limit(machine: subprocess.Popen[str]) -> threading.Timer:
    limit = threading.Timer(_PATIENCE, machine.kill)
    limit.start()
    return limit


if __name__ == "__main__":
    sys.exit(not run(Path(sys.argv[1])))
