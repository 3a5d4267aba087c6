# SPDX-License-Identifier: Apache-2.0
"""A kernel of the user's own and the tree it was built in: what is missing is named before anything is fetched."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hotbank.boards_qemu import Wanted, arm32, arm64, prepare
from hotbank.boards_qemu.parts import own_kernel
from hotbank.boards_qemu.parts.own_kernel import Tree
from hotbank.errors import Code, MachineError

NEEDED = (*own_kernel.GUEST, *arm64.OPTIONS, *own_kernel.DRIVER)
RELEASE = "7.3.4-mine"


def configuration(*without: str) -> str:
    """All that a guest of ours needs, apart from some."""
    return "".join(f"CONFIG_{name}=y\n" for name in ("ARM64", *NEEDED) if name not in without)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder as ``make`` leaves it, as far as we look at it."""
    files = {
        ".config": configuration(),
        "Makefile": "",
        "Module.symvers": "",
        "include/config/kernel.release": f"{RELEASE}\n",
        "include/generated/autoconf.h": "",
        "modules.builtin": "kernel/drivers/char/virtio_console.ko\n",
    }
    for name, text in files.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "tree"


MAGIC = b"\0" * 56 + b"ARM\x64" + b"\0" * 4


def image(folder: Path, release: str = RELEASE, config: str | None = None) -> str:
    """What in a kernel says which it is."""
    packed = b"" if config is None else b"IKCFG_ST" + gzip.compress(config.encode()) + b"IKCFG_ED"
    path = folder / "Image"
    path.write_bytes(MAGIC + packed + b"\0Linux version " + release.encode() + b" (me@here)\0")
    return str(path)


def refusal(tmp_path: Path, **options: Any) -> MachineError:
    """Of a guest of the shipped board, whose banks our driver drives."""
    with pytest.raises(MachineError) as caught:
        prepare(Wanted("virt-arm64", **options), tmp_path / "guest")
    return caught.value


def without(*names: str) -> Callable[[Path], object]:
    """Configured without some options."""
    return lambda tree: (tree / ".config").write_text(configuration(*names))


def missing(*names: str) -> Callable[[Path], object]:
    """Without some of what a build leaves."""
    return lambda tree: subprocess.run(["rm", *names], cwd=tree, check=True)


@pytest.mark.parametrize(
    ("breach", "code", "words"),
    [
        (missing(".config"), Code.BAD_FORMAT, ("no tree of a kernel for arm64", "O= of make")),
        (without("ARM64"), Code.BAD_FORMAT, ("no tree of a kernel for arm64",)),
        (
            missing("Module.symvers", "include/config/kernel.release"),
            Code.SYSTEM_ERROR,
            ("no include/config/kernel.release, Module.symvers", "ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- all"),
        ),
        (
            without("MEMORY_HOTREMOVE", "VIRTIO_CONSOLE", "MODULES"),
            Code.UNSUPPORTED,
            ("lacks CONFIG_MEMORY_HOTREMOVE, CONFIG_VIRTIO_CONSOLE, CONFIG_MODULES",),
        ),
    ],
)
def test_what_a_tree_lacks_is_named_at_once(
    tree: Path, tmp_path: Path, breach: Callable[[Path], object], code: Code, words: tuple[str, ...]
) -> None:
    breach(tree)
    told = refusal(tmp_path, kernel=image(tmp_path), source=str(tree))
    assert told.code == code
    assert all(word in f"{told.message}: {told.remedy}" for word in words), told


@pytest.mark.parametrize("name", NEEDED)
def test_every_option_that_is_needed_is_looked_for(tree: Path, tmp_path: Path, name: str) -> None:
    without(name)(tree)
    told = refusal(tmp_path, kernel=image(tmp_path), source=str(tree))
    assert f"lacks CONFIG_{name}, without" in told.message


def test_an_image_of_another_tree_is_refused(tree: Path, tmp_path: Path) -> None:
    told = refusal(tmp_path, kernel=image(tmp_path, "6.12.1"), source=str(tree))
    assert "Image is 6.12.1, and" in told.message
    assert told.message.endswith(f"was built as {RELEASE}")


def test_a_tree_whose_release_is_no_text_is_of_another_image(tree: Path, tmp_path: Path) -> None:
    (tree / "include/config/kernel.release").write_bytes(b"\xff\xfe\n")
    assert "Image is 7.3.4-mine, and" in refusal(tmp_path, kernel=image(tmp_path), source=str(tree)).message


def test_modules_are_found_whatever_they_are_called(tree: Path, tmp_path: Path) -> None:
    (tree / "modules.order").write_bytes(b"drivers/\xe9.o\n")
    (link,) = Tree(tree, arm64.NAMES).modules(tmp_path).glob("*.ko")
    assert link.readlink() == tree / os.fsdecode(b"drivers/\xe9.ko")


def test_an_image_that_carries_its_configuration_is_held_to_it(tmp_path: Path) -> None:
    told = refusal_of_kmem(tmp_path, configuration("DEVTMPFS", "VIRTIO_PCI"))
    assert "lacks CONFIG_DEVTMPFS, CONFIG_VIRTIO_PCI" in told.message


def test_a_module_that_nobody_can_load_is_missing(tmp_path: Path) -> None:
    told = refusal_of_kmem(tmp_path, configuration().replace("VIRTIO_CONSOLE=y", "VIRTIO_CONSOLE=m"))
    assert ("lacks CONFIG_VIRTIO_CONSOLE, without" in told.message, "modules" in told.remedy) == (True, True)


def refusal_of_kmem(tmp_path: Path, config: str) -> MachineError:
    """Of a guest that no driver of ours is built for."""
    with pytest.raises(MachineError) as caught:
        prepare(Wanted("virt-arm64-kmem", kernel=image(tmp_path, config=config)), tmp_path / "guest")
    return caught.value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x7fELF" + b"\0" * 600, "is no kernel for arm64"),
        (b"", "is no kernel for arm64"),
        (b"\0" * 36 + b"\x18\x28\x6f\x01", "is no kernel for arm64, but one for arm"),
        (gzip.compress(b"\0" * 0x202 + b"HdrS"), "is no kernel for arm64, but one for x86_64"),
    ],
)
@pytest.mark.parametrize("board", ["virt-arm64", "virt-arm64-kmem"])
def test_an_image_of_another_architecture_is_refused(tmp_path: Path, board: str, content: bytes, words: str) -> None:
    (tmp_path / "Image").write_bytes(content)
    with pytest.raises(MachineError) as caught:
        prepare(Wanted(board, kernel=str(tmp_path / "Image")), tmp_path / "guest")
    assert (caught.value.code, caught.value.message) == (Code.BAD_FORMAT, f"{tmp_path / 'Image'} {words}")


@pytest.mark.parametrize("missing", ["make", "aarch64-linux-gnu-gcc"])
def test_a_compiler_that_is_missing_is_named(
    tree: Path, tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or make, which a machine without any compiler lacks as well."""
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == missing else real(name))
    told = refusal(tmp_path, kernel=image(tmp_path), source=str(tree))
    assert told.message == f"{missing} is not installed"
    assert told.remedy == "apt-get install make gcc-aarch64-linux-gnu"


CARRIED = {
    "nothing": b"",
    "nonsense": b"IKCFG_STnonsenseIKCFG_ED",
    "without an end": b"IKCFG_ST" + gzip.compress(b"CONFIG_A=y"),
}


@pytest.mark.parametrize("carried", CARRIED.values(), ids=CARRIED)
def test_nothing_is_known_of_an_image_that_does_not_tell(tmp_path: Path, carried: bytes) -> None:
    path = tmp_path / "Image"
    path.write_bytes(carried)
    assert own_kernel.options_of(path) == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": "."}, "--source belongs to an Image of your own"),
        ({"kernel": "Image", "source": ".", "modules": "."}, "--modules has no effect beside --source"),
        ({"kernel": "Image", "source": ".", "initrd": "Image"}, "--source has no effect beside --initrd"),
        ({"kernel": "Image", "modules": ".", "initrd": "Image"}, "--modules has no effect beside --initrd"),
        ({"kernel": "Image", "source": "nowhere"}, "--source nowhere: there is no such folder"),
        ({"kernel": "Image"}, "built for Debian's kernels and in the tree of one's own"),
    ],
)
def test_options_without_effect_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    image(tmp_path)
    assert words in refusal(tmp_path, **options).message


def test_modules_that_a_tree_compiled_are_found(tree: Path, tmp_path: Path) -> None:
    (tree / "modules.order").write_text("fs/ext4/ext4.o\nlib/old.ko\n")
    at = Tree.opened(tree, arm64.NAMES).modules(tmp_path / "guest")
    assert at == tmp_path / "guest/lib/modules" / RELEASE
    assert {path.name: path.readlink() for path in at.iterdir() if path.is_symlink()} == {
        "ext4.ko": tree / "fs/ext4/ext4.ko",
        "old.ko": tree / "lib/old.ko",
    }
    assert (at / "modules.builtin").read_text() == "kernel/drivers/char/virtio_console.ko\n"


def test_a_tree_of_another_architecture_is_refused(tree: Path) -> None:
    with pytest.raises(MachineError, match="no tree of a kernel for arm:"):
        Tree.opened(tree, arm32.NAMES)
