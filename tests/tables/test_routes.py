# SPDX-License-Identifier: Apache-2.0
"""The table of routes: what each can reach, and a pretend route that is one row and one class."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotbank import board, routes
from hotbank.errors import BoardError, Code, KernelError
from hotbank.host import Host
from hotbank.host import routes as ways
from hotbank.host.doctor import examine
from hotbank.host.tree import Tree
from hotbank.machine import BankStatus
from hotbank.memory import KernelState, Online, Power, Range
from hotbank.model import Model
from hotbank.operate import Action, plan_remove, remove
from hotbank.routes import ROUTES, Route, route

TEXT = Path("boards/virt-arm64.toml").read_text(encoding="utf-8").replace('"driver"', '"cxl"')


def test_a_bank_is_dark_only_out_of_the_kernel() -> None:
    for row in ROUTES.values():
        for kernel in KernelState:
            for power in (Power.SELF_REFRESH, Power.OFF):
                assert not row.reaches(kernel, power) or kernel is KernelState.ABSENT
            assert not row.reaches(kernel, Power.UNKNOWN)


def test_what_each_route_can_reach() -> None:
    absent = {name for name, row in ROUTES.items() if row.reaches(KernelState.ABSENT, Power.OFF)}
    stuck = {name for name, row in ROUTES.items() if row.reaches(KernelState.STUCK, Power.ON)}
    assert absent == set(routes.removing()) == {"kmem", "virtio-mem", "driver"}
    assert stuck == {"kmem"}
    assert all(row.reaches(KernelState.ONLINE, Power.ON) for row in ROUTES.values())


def test_an_unknown_route_leads_nowhere() -> None:
    unknown = route("teleport")
    assert (unknown.name, unknown.enters, unknown.removes) == ("teleport", False, False)
    with pytest.raises(BoardError, match="must be one of none"):
        board.loads(TEXT)


def test_what_probe_added_ends_at_offline() -> None:
    """Nothing takes it out again, on a host or on a model, so a plan does not say so, and the domain stays on."""
    model = Model.boot(board.loads(TEXT.replace('"cxl"', '"probe"')), backend="reference", seed=1)
    model.add("high")
    for number in _bank(model).blocks:
        model.online(number, Online.MOVABLE)
    assert {step.action for step in plan_remove(model, "high").steps} == {Action.OFFLINE}
    assert remove(model, "high").code is Code.OK
    assert (_bank(model).kernel, _bank(model).power) == (KernelState.OFFLINE, Power.ON)
    with pytest.raises(KernelError, match="route probe can't remove"):
        model.remove("high")


class Cxl(ways.Driver):
    """A class in host/routes.py."""

    NAME = "cxl"

    def add(self, bank: str, span: Range) -> None:
        raise KernelError(5, f"cxl {bank}")


@pytest.fixture
def cxl(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Route("cxl", group=True, offlines=True, resource="cxl", modules=("cxl_mem",))
    monkeypatch.setitem(ROUTES, "cxl", row)
    monkeypatch.setitem(ways._WAYS, "cxl", Cxl)


@pytest.mark.usefixtures("cxl")
def test_a_pretend_route_is_one_row() -> None:
    """Board, model and plan know it by its row: its group is static, and its removal takes blocks offline itself."""
    its = board.loads(TEXT)
    model = Model.boot(its, backend="reference", seed=1)
    model.add("high")
    numbers = list(its.blocks(next(b for b in its.banks if b.name == "high")))
    for number in numbers:
        model.online(number, Online.MOVABLE)
    assert _bank(model).kernel is KernelState.ONLINE
    assert {block.group.dynamic for n in numbers if (block := model.hotplug.block(n)) and block.group} == {False}
    assert Action.REMOVE in [step.action for step in plan_remove(model, "high").steps]
    model.remove("high")
    assert _bank(model).kernel is KernelState.ABSENT


def _bank(model: Model) -> BankStatus:
    found = model.snapshot().bank("high")
    assert found is not None
    return found


@pytest.mark.usefixtures("cxl")
def test_a_pretend_route_acts_by_its_class(tmp_path: Path) -> None:
    memory = tmp_path / "sys/devices/system/memory"
    (memory / "memory8").mkdir(parents=True)
    (memory / "block_size_bytes").write_text("8000000\n")
    for name, text in {"state": "online", "valid_zones": "Normal", "removable": "1"}.items():
        (memory / "memory8" / name).write_text(f"{text}\n")
    with pytest.raises(KernelError, match="cxl high"):
        Host(tmp_path, board.loads(TEXT)).add("high")
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/arch").write_text("aarch64\n")
    (tmp_path / "proc/iomem").write_text("40000000-47ffffff : System RAM\n")
    remedies = [finding.remedy for finding in examine(Tree(tmp_path))]
    assert any("cxl" in remedy for remedy in remedies)
