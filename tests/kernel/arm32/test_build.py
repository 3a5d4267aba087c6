# SPDX-License-Identifier: Apache-2.0
"""The kernel build's cache and its errors, without a compiler: a stand-in takes make's place."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from hotbank.boards_qemu.parts import kernel_build
from hotbank.boards_qemu.parts.kernel_build import build
from hotbank.errors import MachineError, Refusal

EDITS = """
releases = ["6.1", "6.12"]
[[patch]]
subject = "arm: ours"
text = "A line."
files = ["own.c"]
[[patch.edit]]
file = "arch/arm/Kconfig"
after = "config ARM"
text = "# ours\\n"
"""


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every compilation leaves here what the edited file looked like."""
    seen: list[str] = []

    def stand_in(tree: kernel_build.Tree, arch: str, port: object, modules: Sequence[Path], kernel: Path) -> None:
        seen.append((tree.source / "arch/arm/Kconfig").read_text())
        kernel.mkdir(parents=True)
        (kernel / "release").write_text("6.1.0\n")

    monkeypatch.setattr(kernel_build, "_compile", stand_in)
    monkeypatch.setattr(kernel_build, "_check_tools", lambda arch: None)
    return seen


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """As much of a kernel's source as the port edits."""
    (tmp_path / "linux/arch/arm").mkdir(parents=True)
    (tmp_path / "linux/arch/arm/Kconfig").write_text("config ARM\n\tbool\n")
    return tmp_path / "linux"


@pytest.fixture
def port(tmp_path: Path) -> Path:
    """A port with one edit and one file."""
    (tmp_path / "port/files").mkdir(parents=True)
    (tmp_path / "port/files/own.c").write_text("int own;\n")
    (tmp_path / "port/edits.toml").write_text(EDITS)
    (tmp_path / "port/config").write_text("CONFIG_MMU=y\n")
    return tmp_path / "port"


def test_the_same_content_is_compiled_once(
    compiled: list[str], source: Path, port: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of the port, its configuration, a module or the source is another kernel; going back is none."""
    module = tmp_path / "module"
    module.mkdir()

    def built() -> int:
        kernel = build("arm", source=source, port=port, modules=[module], cache=tmp_path / "cache")
        assert (kernel.release, kernel.image.name) == ("6.1.0", "zImage")
        return len(compiled)

    assert [built(), built()] == [1, 1]
    (port / "edits.toml").write_text(EDITS.replace("# ours", "# theirs"))
    assert [built(), built()] == [2, 2]
    (port / "edits.toml").write_text(EDITS)
    assert built() == 2
    (port / "config").write_text("CONFIG_SMP=y\n")
    assert built() == 3
    (module / "m.c").write_text("int m;\n")
    assert built() == 4
    (source / "arch/arm/Kconfig").write_text("config ARM\n\tdef_bool y\n")
    assert built() == 5
    monkeypatch.setenv("PATH", "")
    assert built() == 5  # without any tool
    assert compiled[0] == "config ARM\n# ours\n\tbool\n"
    assert compiled[1] == "config ARM\n# theirs\n\tbool\n"


def test_the_given_source_is_not_touched(compiled: list[str], source: Path, port: Path, tmp_path: Path) -> None:
    build("arm", source=source, port=port, cache=tmp_path / "cache")
    assert [path.name for path in source.rglob("*") if path.is_file()] == ["Kconfig"]
    assert (source / "arch/arm/Kconfig").read_text() == "config ARM\n\tbool\n"


def test_what_is_no_kernel_or_no_fit_is_refused(compiled: list[str], source: Path, port: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="is no kernel source"):
        build("arm", source=tmp_path, port=port, cache=tmp_path / "cache")
    (source / "arch/arm/Kconfig").write_text("config MIPS\n")
    with pytest.raises(Refusal, match="has 0 lines 'config ARM'"):
        build("arm", source=source, port=port, cache=tmp_path / "cache")
    assert compiled == []


def test_a_release_that_the_port_is_not_for_is_refused(port: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"our port is of 6\.1 and 6\.12, not of 6\.16"):
        build("arm", release="6.16", port=port, cache=tmp_path / "cache")


def test_missing_tools_are_named_with_their_packages(
    source: Path, port: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = ("flex", "arm-linux-gnueabihf-gcc")
    there = shutil.which
    monkeypatch.setattr(shutil, "which", lambda program: None if program in absent else there(program) or program)
    with pytest.raises(MachineError, match=r"needs flex gcc-arm-linux-gnueabihf") as caught:
        build("arm", source=source, port=port, cache=tmp_path / "cache")
    assert caught.value.remedy == "on Debian: apt-get install flex gcc-arm-linux-gnueabihf"


def test_an_option_that_kconfig_drops_is_named() -> None:
    config = "CONFIG_A=y\n# CONFIG_B is not set\n"
    kernel_build._check_config("# words\nCONFIG_A=y\n", config)
    with pytest.raises(MachineError, match=r"did not take CONFIG_B=y, CONFIG_C=4$"):
        kernel_build._check_config("CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=4\n", config)


def test_there_is_no_port_for_another_architecture() -> None:
    with pytest.raises(MachineError, match="no kernel port for mips"):
        kernel_build.port_folder("mips")
