# SPDX-License-Identifier: Apache-2.0
"""Mutated inputs: 2,000 for each codec here, 200,000 with ``python bench/fuzz_codecs.py``; and the fuzzer itself."""

from __future__ import annotations

import time

import pytest

from codec import fuzzing
from hotbank.firmware import atags, fdt


@pytest.mark.parametrize("codec", sorted(fuzzing.CODECS))
def test_values_and_format_errors_only(codec: str) -> None:
    report = fuzzing.run(codec, 2000)
    assert report.findings == ()
    assert report.inputs == 2000
    assert report.decoded > 20  # the mutations do reach what lies behind the first checks
    assert report.decoded < report.inputs


def _index_error(data: bytes) -> None:
    data[len(data)]


def _eager(data: bytes) -> None:
    """What a decoder does that believes a length field of 4 GiB."""
    bytearray(1 << 32)


def _slow(data: bytes) -> None:
    while time.process_time():
        pass


def _forgetful(data: bytes) -> None:
    tags = atags.decode(data)
    assert len(tags) < 2 or atags.decode(atags.encode(tags[:-1])) == tags


@pytest.mark.parametrize(
    ("breach", "what"),
    [(_index_error, "IndexError"), (_eager, "MemoryError"), (_slow, "TimeoutError"), (_forgetful, "AssertionError")],
)
def test_the_fuzzer_notices(breach: object, what: str) -> None:
    report = fuzzing.run("atags", 1 if breach is _slow else 200, decode=breach)  # type: ignore[arg-type]
    assert report.findings
    assert what in report.findings[0].what


def test_length_fields_of_4_gib_allocate_nothing() -> None:
    """The lengths that a format has, each set to all ones."""
    blob = bytearray(fdt.encode(fdt.Tree(fdt.Node("", (("model", b"x\0\0\0"),)))))
    inputs = []
    for at in (4, 8, 12, 16, 32, 36, 68):
        hostile = bytearray(blob)
        hostile[at : at + 4] = b"\xff" * 4
        inputs.append(bytes(hostile))
    tags = bytearray(atags.encode((atags.core(),)))
    tags[0:4] = b"\xff" * 4
    given = iter([*inputs, bytes(tags)])

    def decode(_: bytes) -> None:
        data = next(given)
        fuzzing.CODECS["atags" if data == bytes(tags) else "dtb"](data)

    report = fuzzing.run("atags", 8, decode=decode)
    assert (report.findings, report.decoded) == ((), 0)
