# SPDX-License-Identifier: Apache-2.0
"""``explain`` and ``plan`` as a user meets them: on models, on captured trees, on this host, and what they cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from counted import BARE, calls_of_a_program
from host.captured_trees import DUMPS, Made, MadeBlock, from_dump, kcore, words
from hotbank.cli import run
from hotbank.cli.explain import evidence_lines
from hotbank.errors import Code
from hotbank.machine import Evidence, Owner
from hotbank.memory import MIB, Kind

Hotbank = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hotbank(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hotbank:
    """Runs a command line in this process: exit status, output, errors."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("HOTBANK_MACHINE", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run(list(arguments))
        return (status, *capsys.readouterr())

    return call


def test_neighbours_that_are_alike_are_one_line() -> None:
    who = Owner(7, "cam", "/user.slice")
    pages = [
        *(Evidence(pfn, Kind.SLAB, Code.UNMOVABLE) for pfn in (16, 17, 18)),
        Evidence(19, Kind.RESERVED, Code.UNMOVABLE),
        Evidence(21, Kind.RESERVED, Code.UNMOVABLE),
        *(Evidence(pfn, Kind.ANON, Code.PINNED, who) for pfn in (22, 23)),
        Evidence(24, Kind.ANON, Code.PINNED, Owner(8)),
    ]
    assert list(evidence_lines(pages)) == [
        "pfn 0x10-0x12  slab  UNMOVABLE",
        "pfn 0x13  reserved  UNMOVABLE",
        "pfn 0x15  reserved  UNMOVABLE",
        "pfn 0x16-0x17  anon  PINNED  pid 7 (cam) in /user.slice",
        "pfn 0x18  anon  PINNED  pid 8",
    ]


def test_explain_all_ranks_by_what_it_costs(hotbank: Hotbank) -> None:
    status, out, _ = hotbank("-m", "model:arm-2009", "explain", "--all", "--json")
    ranked = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert sorted(r["target"] for r in ranked) == [f"memory{n}" for n in range(16, 24)]
    costs = [(r["code"] not in ("OK", "PINS_UNKNOWN"), r["needs"]) for r in ranked]
    assert costs == sorted(costs)
    lines = hotbank("-m", "model:arm-2009", "explain", "--all")[1].splitlines()
    assert [line.split()[0] for line in lines[1:9]] == [r["target"] for r in ranked]


def test_plan_free_on_a_model(hotbank: Hotbank) -> None:
    document = json.loads(hotbank("-m", "model:arm-2009", "plan", "--free", "1M", "--json")[1])
    keys = ["schema", "machine", "verb", "targets", "banks", "blocks", "pages", "again", "seconds", "between", "steps"]
    keys += ["code", "found"]
    assert list(document)[: len(keys)] == keys
    assert (document["banks"], document["freed"], document["code"]) == (["high"], 256 * MIB, "OK")
    assert [g["name"] for g in document["given_up"]] == ["low"]
    status, out, _ = hotbank("-m", "model:arm-2009", "plan", "--free", "512M")
    assert status == 0
    assert "only 256M can leave" in out


def test_what_can_leave_and_saves_nothing_is_not_said_to_stay(hotbank: Hotbank, tmp_path: Path) -> None:
    shipped = (Path(__file__).parents[2] / "boards/arm-2009.toml").read_text()
    words = {'["on", "self-refresh", "off"]': '["on"]', 'switch = "machine"': 'switch = "none"'}
    for was, now in words.items():
        assert was in shipped
        shipped = shipped.replace(was, now)
    board = tmp_path / "lit.toml"
    board.write_text(shipped)
    assert "OK: high can leave" in hotbank("-m", f"model:{board}", "explain", "high")[1]
    out = hotbank("-m", f"model:{board}", "plan", "--free", "128M")[1]
    assert "nothing here can leave and save power" in out
    assert "domain ddr-high of 256M: UNSUPPORTED: never off: no switch" in out


def test_several_banks_are_one_plan(hotbank: Hotbank) -> None:
    document = json.loads(hotbank("-m", "model:arm-2009", "plan", "21", "memory20", "21", "--json")[1])
    assert sorted(document["blocks"]) == [20, 21]
    assert [s["step"] for s in document["steps"]] == ["offline", "offline"]
    back = json.loads(hotbank("-m", "model:virt-arm64", "plan", "--add", "high", "high", "--json")[1])
    assert [s["step"] for s in back["steps"]][:2] == ["power-on", "add"]
    assert len(back["steps"]) == 2 + len(back["blocks"])


@pytest.mark.parametrize(
    "wrong",
    [
        ["plan"],
        ["plan", "high", "--free", "1M"],
        ["plan", "--free", "some"],
        ["plan", "--free", "0"],
        ["plan", "--free", "1M", "--add"],
        ["explain"],
        ["explain", "high", "--all"],
        ["-m", "host", "explain", "--all", "--sysroot", "/"],
    ],
    ids=" ".join,
)
def test_usage(wrong: list[str], hotbank: Hotbank) -> None:
    assert hotbank(*wrong)[0] == 2


@pytest.mark.parametrize("dump", DUMPS, ids=lambda d: d.stem)
def test_captured_trees_are_explained_and_planned(dump: Path, hotbank: Hotbank, tmp_path: Path) -> None:
    tree = str(from_dump(dump, tmp_path / "tree"))
    out = hotbank("explain", "--all", "--sysroot", tree)[1]
    assert "0 of 8 blocks can leave; 0 pages seen" in out
    assert "unknown   kinds: what pages hold (/proc/kpageflags)" in out
    plan = hotbank("plan", "--free", "128M", "--sysroot", tree)[1]
    assert "BOOT_MEMORY: nothing here can leave" in plan


def test_nothing_is_chosen_that_could_not_be_seen(hotbank: Hotbank, tmp_path: Path) -> None:
    """Blocks 1 and 2 are alike but for their pages; without kpageflags neither can be said to be cheap."""
    made = Made(tuple(MadeBlock(n, zones="Movable") for n in (1, 2)), block_size=4 * MIB)
    bare = str(made.at(tmp_path / "bare"))
    refused = json.loads(hotbank("plan", "--free", "4M", "--sysroot", bare, "--json")[1])
    assert (refused["code"], refused["blocks"]) == ("PINS_UNKNOWN", [])
    anon, buddy = 1 << 5 | 1 << 12 | 1 << 14, 1 << 10
    flags = words([buddy] * 1024 + [anon] * 1024 + [buddy] * 2048)
    seen = Made(made.blocks, block_size=4 * MIB, files={**_ZONES, "proc/kpageflags": flags})
    chosen = json.loads(hotbank("plan", "--free", "4M", "--sysroot", str(seen.at(tmp_path / "seen")), "--json")[1])
    assert (chosen["code"], chosen["blocks"], chosen["pages"]) == ("PINS_UNKNOWN", [2], 0)
    counts = words([0] * 1024 + [1] * 1024 + [0] * 2048)
    refs = kcore(dict.fromkeys(range(1024, 2048), 1), pages=4096)
    files: dict[str, str | bytes] = {**_ZONES, "proc/kpageflags": flags, "proc/kpagecount": counts, "proc/kcore": refs}
    full = Made(made.blocks, block_size=4 * MIB, files=files)
    sure = json.loads(hotbank("plan", "--free", "8M", "--sysroot", str(full.at(tmp_path / "full")), "--json")[1])
    assert (sure["code"], sure["blocks"], sure["pages"]) == ("OK", [1, 2], 1024)
    assert [step["target"] for step in sure["steps"]] == ["memory2", "memory1"], "the empty one first"


_ZONES: dict[str, str | bytes] = {
    "proc/zoneinfo": "Node 0, zone   Movable\n  pages free     5000\n        min      10\n        low      20\n"
    "        high     30\n        spanned  9000\n        present  9000\n        managed  9000\n"
    "      nr_inactive_file 0\n      nr_active_file 0\n  start_pfn:           1024\n",
    "proc/iomem": "00400000-00bfffff : System RAM\n",
    "proc/sys/kernel/arch": "x86_64\n",
}

_COST = """
import sys
from hotbank.cli import run
status = run(["-m", "host", *sys.argv[1:]])
heavy = sorted({m.split(".")[0] for m in sys.modules} & {"numpy", "numba", "rich", "sqlite3", "asyncio"})
print(status, heavy, sep="|", file=sys.stderr)
"""


@pytest.mark.skipif(not os.path.isdir("/sys/devices/system/memory"), reason="this kernel shows no memory blocks")
def test_explaining_one_block_of_this_host_costs_little() -> None:
    """Nothing heavy is loaded, and at most six times the calls are made that an interpreter makes anyway."""
    first = next(p.name for p in sorted(Path("/sys/devices/system/memory").glob("memory[0-9]*")))
    command = [sys.executable, "-c", _COST, "explain", first]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.strip().split("|") == ["0", "[]"]
    explain = f"from hotbank.cli import run; run(['-m', 'host', 'explain', '{first}'])"
    assert calls_of_a_program(explain) <= 6 * calls_of_a_program(BARE)


_PROGRESS = """
from hotbank.cli import looking, run
looking._PATIENCE = 0
run(["-m", "model:arm-2009", "explain", "--all"])
"""


def test_progress_is_for_terminals_only() -> None:
    """On a terminal a line says how far it is and is wiped again; into a pipe nothing is written."""
    command = [sys.executable, "-c", _PROGRESS]
    piped = subprocess.run(command, capture_output=True, text=True, check=True)
    assert piped.stderr == ""
    master, slave = os.openpty()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=slave, text=True, check=True)
    os.close(slave)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert "looked at 7 of 8 blocks" in shown
    assert shown.endswith("\r\033[K")
    assert done.stdout == piped.stdout
