# SPDX-License-Identifier: Apache-2.0
"""Some inputs for each decoder, what was ever found, and the fuzzer itself; at length ``make fuzz``."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from fuzz.driver import MAX_MEMORY, Target, examine, run
from fuzz.targets import ALL
from hotbank.errors import FormatError
from hotbank.firmware import atags, fdt

CORPUS = sorted(path for target in ALL.values() for path in target.corpus.glob("*"))
NEVER_REFUSES = ("requests", "udev")  # a line answers with errors, a rule that is none is left out


@pytest.mark.parametrize("target", ALL.values(), ids=ALL)
def test_values_and_errors_that_say_where(target: Target) -> None:
    report = run(target, 1000)
    assert report.findings == ()
    assert report.inputs == 1000
    assert report.decoded >= 3  # the grammar does reach what lies behind the first checks
    assert report.decoded < report.inputs or target.name in NEVER_REFUSES


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_once_is_not_found_again(path: Path) -> None:
    assert examine(ALL[path.parent.name], path.read_bytes())[0] in ("", "refused")


def test_every_folder_of_the_corpus_is_of_a_decoder() -> None:
    folders = {path.name for path in (Path(__file__).parents[1] / "data" / "corpus").iterdir() if path.is_dir()}
    assert folders <= set(ALL)


# The fuzzer on breaches


def _index_error(data: bytes) -> None:
    data[len(data)]


def _eager(data: bytes) -> None:
    """What a decoder does that believes a length field of 4 GiB."""
    bytearray(2 * MAX_MEMORY)


def _quadratic(data: bytes) -> None:
    for _ in data:
        for byte in data:
            abs(byte)


def _forgetful(data: bytes) -> None:
    tags = atags.decode(data)
    assert len(tags) < 2 or data.startswith(atags.encode(tags[:-1] + tags[:1])), "a tag did not survive"


def _vague(data: bytes) -> None:
    raise FormatError("tags", 0, "", "something is wrong")


@pytest.mark.parametrize(
    ("breach", "what"),
    [
        (_index_error, "IndexError"),
        (_eager, "MemoryError"),
        (_forgetful, "AssertionError"),
        (_vague, "does not say where"),
    ],
)
def test_the_fuzzer_notices(breach: object, what: str) -> None:
    atag_list = ALL["atags"]
    report = run(Target("atags", breach, lambda rng: atag_list.make(rng) * 3), 200)  # type: ignore[arg-type]
    assert report.findings
    assert what in report.findings[0].what


def test_work_that_grows_faster_than_the_input_is_noticed() -> None:
    target = Target("atags", _quadratic, lambda rng: b"")
    assert examine(target, bytes(10))[0] == ""
    assert "calls for 700 bytes" in examine(target, bytes(700))[0]


def test_a_decoder_that_does_not_come_back_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def for_ever(data: bytes) -> None:
        while True:
            pass

    monkeypatch.setattr("fuzz.driver.MAX_SECONDS", 0.05)
    assert "TimeoutError" in examine(Target("atags", for_ever, lambda rng: b""), b"")[0]


@pytest.mark.parametrize("target", ALL.values(), ids=ALL)
def test_a_seed_repeats_its_inputs(target: Target) -> None:
    once, again = ([target.make(rng) for _ in range(5)] for rng in (Random(3), Random(3)))
    assert once == again


def test_length_fields_of_4_gib_allocate_nothing() -> None:
    """The lengths that a format has, each set to all ones."""
    blob = bytearray(fdt.encode(fdt.Tree(fdt.Node("", (("model", b"x\0\0\0"),)))))
    for at in (4, 8, 12, 16, 32, 36, 68):
        hostile = bytearray(blob)
        hostile[at : at + 4] = b"\xff" * 4
        assert examine(ALL["dtb"], bytes(hostile))[0] == "refused"
    tags = atags.encode((atags.core(),))
    assert examine(ALL["atags"], b"\xff" * 4 + tags[4:])[0] == "refused"


LARGE: dict[str, bytes] = {
    "a property that doubles": b'ENV{a}="xx"\n' + b'ENV{a}="$env{a}$env{a}"\n' * 60,
    "a line that asks for itself": b'ENV{a}="' + b"x" * 400 + b'"\nENV{b}="' + b"$env{a}" * 200_000 + b'"\n',
    "a script of one word": b'RUN+="/sbin/on"\n\n----\n' + b"chmem " * 100_000,
    "a script of ones": b'RUN+="/sbin/on"\n\n----\n' + b"1 " * 300_000,
    "a script that many run": b'RUN+="/sbin/on"\n' * 2000 + b"\n----\n" + b"x\n" * 20_000,
    "continued without end": b"a\\\n" * 300_000,
    "a property of many values": b"".join(b'PROGRAM=="x", ENV{a}="%d"\n' % n for n in range(3000))
    + b'ENV{a}=="x"\n' * 3000,
}


@pytest.mark.parametrize("name", LARGE)
def test_rules_of_udev_without_end_have_one(name: str) -> None:
    assert examine(ALL["udev"], LARGE[name])[0] == ""
