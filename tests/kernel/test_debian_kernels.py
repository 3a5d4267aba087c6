# SPDX-License-Identifier: Apache-2.0
"""Which of Debian's kernels a guest gets, and how it comes out of what it is packed in; no guest, no network."""

from __future__ import annotations

import gzip
import lzma
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank.boards_qemu.parts import compressed, kmodules, packages
from hotbank.boards_qemu.parts.packages import Archive
from hotbank.errors import MachineError

FLAVOURS = ("arm64", "cloud-arm64", "rt-arm64", "arm64-16k")
WHOLE = ("6.1.0-9", "6.1.0-56", "6.12.95+deb12", "6.12.118+deb13", "6.16.3+deb13", "6.16.12+deb13")
SPLIT = ("7.2.6+deb13", "7.2.12+deb13", "7.3.4+deb13")
WITHOUT_MODULES = ("7.1.13+deb13", "7.2.13+deb13")
NAMES = [
    *(
        f"linux-image-{r}-{f}{end}"
        for r in (*WHOLE, *SPLIT, *WITHOUT_MODULES)
        for f in FLAVOURS
        for end in ("", "-dbg")
    ),
    *(f"linux-base-{r}-{f}" for r in (*SPLIT, *WITHOUT_MODULES) for f in FLAVOURS),
    *(f"linux-binary-{r}-{f}" for r in (*SPLIT, *WITHOUT_MODULES) for f in FLAVOURS),
    *(f"linux-modules-{r}-{f}" for r in SPLIT for f in FLAVOURS),
    "linux-image-arm64",
    "linux-image-6.12.118+deb13-arm64-unsigned",
    "linux-binary-unsigned-7.3.4+deb13-arm64",
]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    monkeypatch.setattr(packages, "_run", lambda _environment, argv, *_: "\n".join(NAMES) if "pkgnames" in argv else "")
    monkeypatch.setattr(Archive, "_apt", lambda _: {})
    return Archive("arm64", tmp_path / "cache")


@pytest.mark.parametrize(
    ("debian", "series", "release"),
    [
        ("12", "6.12", "6.12.95+deb12-arm64"),
        ("13", "6.12", "6.12.118+deb13-arm64"),
        ("12", "6.12.118", "6.12.118+deb13-arm64"),
        ("12", "6.1", "6.1.0-56-arm64"),
        ("12", "6.16", "6.16.12+deb13-arm64"),
        ("12", "7.2", "7.2.12+deb13-arm64"),
        ("12", "7.3", "7.3.4+deb13-arm64"),
    ],
)
def test_the_newest_that_can_be_had_whole(
    debian: str, series: str, release: str, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": "debian", "VERSION_ID": debian})
    assert archive.kernel(series, "arm64") == release


@pytest.mark.parametrize("series", ["7.1", "6.14", "6.12.9", "7.2.13"])
def test_what_cannot_be_had_is_refused_with_what_can(series: str, archive: Archive) -> None:
    with pytest.raises(MachineError, match=f"no kernel {series} for arm64") as caught:
        archive.kernel(series, "arm64")
    assert "it has 6.1, 6.12, 6.16, 7.2, 7.3" in caught.value.remedy


def test_an_image_alone_will_do_where_nothing_is_loaded(archive: Archive) -> None:
    assert archive.kernel("7.1", "cloud-arm64", whole=False) == "7.1.13+deb13-cloud-arm64"
    whole, bare = archive.kernels("cloud-arm64"), archive.kernels("cloud-arm64", whole=False)
    assert [r.partition("+")[0] for r in bare if r not in whole] == ["7.1.13", "7.2.13"]
    assert [r.partition("-")[0] for r in bare][:4] == ["6.1.0", "6.1.0", "6.12.95+deb12", "6.12.118+deb13"]


def packed(data: bytes, form: str) -> bytes:
    if form == "zstd":
        return subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout
    return gzip.compress(data) if form == "gzip" else lzma.compress(data)


@pytest.mark.parametrize("form", ["gzip", "xz", "zstd"])
def test_what_was_packed_comes_out(form: str) -> None:
    data = b"\x4d\x5a@\xfa" + bytes(range(256)) * 40
    assert compressed.unpacked(packed(data, form), form, "it") == data
    assert compressed.kernel_image(zboot(packed(data, form), form), "it") == data
    with pytest.raises(MachineError, match=f"it is damaged: no {form} data"):
        compressed.unpacked(b"nonsense", form, "it")


def zboot(payload: bytes, form: str) -> bytes:
    header = struct.pack("<4s4sII8x32s", b"MZ\0\0", b"zimg", 4096, len(payload), form.encode())
    return header.ljust(4096, b"\0") + payload


@given(st.binary(max_size=200))
def test_what_is_not_packed_stays(data: bytes) -> None:
    if data[:2] != b"\x1f\x8b":
        assert compressed.kernel_image(data, "it") is data


def test_a_zboot_image_of_an_unknown_form_is_named() -> None:
    with pytest.raises(MachineError, match="it is packed with lz4") as caught:
        compressed.kernel_image(zboot(b"x", "lz4"), "it")
    assert "gzip, xz, zstd" in caught.value.remedy


def test_modules_that_not_every_kernel_has(tmp_path: Path) -> None:
    (tmp_path / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n", encoding="ascii")
    assert kmodules.collect(tmp_path, ["ext4"], if_there=["crc32c_generic"]) == ()
