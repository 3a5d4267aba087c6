# SPDX-License-Identifier: Apache-2.0
"""The schemas themselves, and a document of each kind; conftest.py holds against them what all other tests print."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from documents import SCHEMAS, documents, kind_of, schemas, wrong
from hotbank import cli
from hotbank.compare import Report
from hotbank.documents import SCHEMA
from hotbank.energy.statistics import Interval
from hotbank.errors import Code, Severity
from hotbank.measure import Measured, Measurement, Windows
from hotbank.memory import BlockState, KernelState, Kind, Power
from hotbank.operate.plan import Action
from hotbank.radar import Cell, Matrix

MODEL = ("-m", "model:arm-2009")
PRINTED: dict[str, tuple[str, ...]] = {
    "list": (*MODEL, "list", "--used"),
    "explain": (*MODEL, "explain", "--all"),
    "plan": (*MODEL, "plan", "--free", "64M"),
    "event": (*MODEL, "remove", "high"),
    "frame": (*MODEL, "top", "--count", "1"),
    "error": (*MODEL, "explain", "nosuch"),
    "history": (*MODEL, "history"),
    "recover": (*MODEL, "recover"),
    "energy": (*MODEL, "energy"),
    "power": (*MODEL, "power", "ddr-high"),
    "zones": ("zones", "--board", "arm-2009", "--cmdline", "mem=foo"),
    "decode": ("decode", str(Path(__file__).parents[1] / "data/field/vim3.dtb")),
    "doctor": ("doctor", "--sysroot", str(Path(__file__).parent)),
    "boards": ("board", "list"),
    "board": ("board", "show", "virt-arm64"),
    "check": ("board", "check", "virt-arm64"),
    "simulate": ("simulate", "arm-2009", "--workload", "camera", "--seconds", "30"),
    "sweep": ("sweep", str(Path(__file__).parents[2] / "docs/sweeps/small.toml"), "--jobs", "1", "-o", "sweep"),
}
ENUMS: dict[str, type[StrEnum]] = {
    "code": Code, "severity": Severity, "kind": Kind, "kernel": KernelState, "power": Power, "state": BlockState,
    "step": Action,
}  # fmt: skip


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., list[Any]]:
    """The documents that a command prints, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> list[Any]:
        cli.run([*words, "--json"])
        return list(documents(capsys.readouterr().out))

    return run


def test_each_document_has_a_schema_of_its_version() -> None:
    told = {kind: schema["properties"]["schema"]["const"] for kind, schema in schemas().items() if kind != "common"}
    assert told == SCHEMA


@pytest.mark.parametrize("kind", [*SCHEMA, "common"])
def test_schemas_are_schemas(kind: str) -> None:
    schema = json.loads((SCHEMAS / f"{kind}.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"{kind}.json"


@pytest.mark.parametrize("name", ENUMS)
def test_words_are_those_of_the_program(name: str) -> None:
    assert schemas()["common"]["$defs"][name]["enum"] == [word.value for word in ENUMS[name]]


@pytest.mark.parametrize("kind", PRINTED)
def test_a_command_prints_what_its_schema_says(kind: str, run: Callable[..., list[Any]]) -> None:
    printed = run(*PRINTED[kind])
    assert {kind_of(document) for document in printed} == {kind}
    assert [fault for document in printed for fault in wrong(document)] == []


def swept() -> Any:
    """With a change that the table does not know, a difference, and a kernel that said nothing."""
    cells = [Cell("leaf", "6.1", "6.1.0", "leaves", "leaves"), Cell("leaf", "7.3", "7.3.4", "EPERM", "leaves")]
    return Matrix(
        [*cells, Cell("types", "7.3", "7.3.4", None, "kept", "it ended")], {"leaf": "vetoes_leaf"}, {"9": "none"}
    ).document()


def test_what_needs_a_kernel_or_a_meter_is_described_too() -> None:
    meter = Measured("rapl", Interval(0.1, 0.2, 0.3, 0.95), Interval(-0.1, 0.0, 0.1, 0.95), 4)
    measured = Measurement("host", "high", Windows(), (meter,), {"cpu": (40.0, 45.0)}).document()
    kernel = {"schema": 1, "arch": "arm", "release": "6.12.1", "image": "a", "modules": "b", "config": "c"}
    compared, series = Report("qemu", 1).document(), {"schema": 1, "arch": "arm", "patches": ["a"]}
    told = {"measure": measured, "compare": compared, "radar": swept(), "kernel": kernel, "series": series}
    for kind, document in told.items():
        assert (kind_of(document), wrong(document)) == (kind, [])


@pytest.mark.parametrize("kind", ["list", "event", "error", "zones", "check"])
def test_a_document_that_is_wrong_is_noticed(kind: str, run: Callable[..., list[Any]]) -> None:
    """A field that is gone, one that no schema names, a version that is none."""
    good = run(*PRINTED[kind])[0]
    for key in good:
        assert wrong({name: value for name, value in good.items() if name != key}), key
        assert wrong({**good, key: object()}), key
    assert wrong({**good, "more": 1})
