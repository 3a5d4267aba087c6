# SPDX-License-Identifier: Apache-2.0
"""The device tree codec: its law, its errors, and two referees (dtc, pylibfdt) on real blobs."""

from __future__ import annotations

import gzip
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec import debian_blobs, libfdt_tree
from hotbank.errors import FormatError
from hotbank.firmware import fdt
from hotbank.firmware.fdt import Node, Tree

PADDED = Path(__file__).resolve().parents[1] / "data" / "zones" / "padded-1MiB.dtb.gz"

_latin = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=12)
_properties = st.lists(st.tuples(_latin.filter(bool), st.binary(max_size=20)), max_size=4).map(tuple)
_nodes = st.recursive(
    st.builds(Node, _latin, _properties),
    lambda inner: st.builds(Node, _latin, _properties, st.lists(inner, max_size=3).map(tuple)),
    max_leaves=12,
)
_u64 = st.integers(0, (1 << 64) - 1)
_trees = st.builds(
    Tree,
    _nodes,
    st.lists(st.tuples(_u64, _u64).filter(any), max_size=3).map(tuple),
    st.integers(0, (1 << 32) - 1),
    st.sampled_from((16, 17)),
    st.just(16),
    st.binary(max_size=40),
)


@given(_trees)
def test_decode_inverts_encode(tree: Tree) -> None:
    assert fdt.decode(fdt.encode(tree)) == tree


@given(_trees, st.data())
def test_a_blob_cut_anywhere_is_a_format_error(tree: Tree, data: st.DataObject) -> None:
    blob = fdt.encode(tree)
    cut = data.draw(st.integers(0, len(blob) - 1))
    with pytest.raises(FormatError):
        fdt.decode(blob[:cut])


def test_a_real_blob_cut_at_every_byte_is_a_format_error() -> None:
    blob = gzip.decompress(PADDED.read_bytes())
    tree = replace(fdt.decode(blob), padding=b"")
    small = fdt.encode(tree)
    for cut in range(0, len(small), 7):
        # The header's own size must not be what saves us: claim that the cut blob is whole.
        shorter = bytearray(small[:cut])
        shorter[4:8] = cut.to_bytes(4, "big")
        with pytest.raises(FormatError):
            fdt.decode(bytes(shorter[:cut]))


def test_padding_and_trailing_bytes() -> None:
    blob = gzip.decompress(PADDED.read_bytes())
    tree = fdt.decode(blob)
    assert len(blob) == 1 << 20
    assert len(tree.padding) > 1_000_000
    assert len(fdt.encode(tree)) == len(blob)
    assert fdt.decode(fdt.encode(tree)) == fdt.decode(blob + b"\xff" * 100) == tree


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ((0, b"\xd0\x0d\xfe\xee"), "magic"),
        ((4, b"\xff\xff\xff\xff"), "totalsize"),
        ((8, b"\xff\xff\xff\x00"), "off_dt_struct"),
        ((8, b"\x00\x00\x00\x41"), "off_dt_struct"),
        ((12, b"\x7f\xff\xff\xff"), "off_dt_strings"),
        ((16, b"\x7f\xff\xff\xff"), "off_mem_rsvmap"),
        ((20, b"\x00\x00\x00\x03"), "version"),
        ((36, b"\xff\xff\xff\xff"), "off_dt_struct"),
        ((56, b"\x00\x00\x00\x07"), "token"),
        ((64, b"\x00\x00\x00\x02\x00\x00\x00\x02"), "FDT_END_NODE"),
        ((68, b"\xff\xff\xff\xff"), "property length"),
        ((72, b"\x00\xff\xff\xff"), "property name"),
    ],
)
def test_errors_name_the_field(change: tuple[int, bytes], field: str) -> None:
    blob = bytearray(fdt.encode(Tree(Node("", (("model", b"x\0\0\0"),)))))
    at, raw = change
    blob[at : at + len(raw)] = raw
    with pytest.raises(FormatError) as caught:
        fdt.decode(bytes(blob))
    assert caught.value.field == field


def test_depth_and_names_have_limits() -> None:
    node = Node("leaf")
    for _ in range(fdt.MAX_DEPTH):
        node = Node("n", (), (node,))
    with pytest.raises(FormatError, match="deeper than 64"):
        fdt.encode(Tree(node))
    deep = b"\0\0\0\1\0\0\0\0" * 100_000
    blob = bytearray(fdt.encode(Tree(Node(""))))
    blob[4:8] = (len(blob) + len(deep)).to_bytes(4, "big")
    blob[36:40] = len(deep).to_bytes(4, "big")
    blob[8:12] = len(blob).to_bytes(4, "big")
    with pytest.raises(FormatError, match="deeper than 64"):
        fdt.decode(bytes(blob) + deep)
    with pytest.raises(FormatError, match="at most 255"):
        fdt.encode(Tree(Node("", (("x" * 256, b""),))))


def test_names_share_tails_as_in_dtc() -> None:
    blob = fdt.encode(Tree(Node("", (("interrupts", b""), ("rupts", b""), ("model", b"")))))
    assert blob.endswith(b"interrupts\0model\0")


def _same_as_libfdt(blob: bytes, tree: Tree) -> None:
    assert (tree.root.name or "/", tree.root.properties, tree.root.children) == _as_nodes(libfdt_tree.nested(blob))
    assert tree.reservations == libfdt_tree.reservations(blob)
    memory = [c for c in tree.root.children if c.get("device_type") == b"memory\0"]
    assert [(c.name, c.get("reg") or b"") for c in memory] == libfdt_tree.memory_nodes(blob)


def _as_nodes(nested: libfdt_tree.Nested) -> tuple[str, object, tuple[Node, ...]]:
    name, properties, children = nested
    return name or "/", properties, tuple(Node(n, p, _as_nodes((n, p, c))[2]) for n, p, c in children)


def _dtc(blob: bytes) -> bytes:
    command = ["dtc", "-q", "-I", "dtb", "-O", "dts", "-"]
    return subprocess.run(command, input=blob, capture_output=True, check=True).stdout


def _same_source(blob: bytes, tree: Tree) -> None:
    """dtc gives one source for the blob and for its re-encoding with a strings block made anew."""
    assert _dtc(fdt.encode(replace(tree, strings=b""))) == _dtc(blob)


@pytest.mark.parametrize("arch", ["arm64", "armhf"])
def test_sample_equals_pylibfdt(arch: str) -> None:
    blobs = {name: blob for name, blob in debian_blobs.sample().items() if name.startswith(f"{arch}/")}
    assert len(blobs) == 50
    for blob in blobs.values():
        _same_as_libfdt(blob, fdt.decode(blob))


@pytest.mark.referee
def test_sample_has_the_same_source_for_dtc() -> None:
    blobs = [*debian_blobs.sample().values(), gzip.decompress(PADDED.read_bytes())]
    assert len(blobs) == 101
    for blob in blobs:
        tree = fdt.decode(blob)
        assert fdt.decode(fdt.encode(tree)) == tree
        _same_source(blob, tree)


@pytest.mark.referee
def test_dtc_notices_a_lost_property() -> None:
    blob = next(iter(debian_blobs.sample().values()))
    tree = fdt.decode(blob)
    lost = replace(tree, root=replace(tree.root, properties=tree.root.properties[:-1]))
    swapped = replace(tree, root=replace(tree.root, children=tree.root.children[::-1]))
    for breach in (lost, swapped, replace(tree, reservations=((1 << 20, 4096),))):
        assert _dtc(fdt.encode(breach)) != _dtc(blob)


@pytest.mark.referee
@pytest.mark.slow
def test_every_blob_of_debians_kernels() -> None:
    blobs = debian_blobs.fetch()
    assert len(blobs) > 1000
    for blob in blobs.values():
        tree = fdt.decode(blob)
        _same_as_libfdt(blob, tree)
        _same_source(blob, tree)
