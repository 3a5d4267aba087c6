# SPDX-License-Identifier: Apache-2.0
"""Nodes of ``numa=fake=`` against the kernel's own mm/numa_emulation.c, compiled here as a program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from hotbank.memory import GIB, MIB, Range
from hotbank.zones.emulation import emulated
from hotbank.zones.memblock import Memblock, Region
from kernel.kernel_source import from_source

pytestmark = pytest.mark.slow

SOURCE, SHIM = "mm/numa_emulation.c", Path(__file__).with_name("numa_emulation.h")
HEADERS = ("kernel", "errno", "topology", "memblock", "numa_memblks")
WORDS = st.builds(
    str.format,
    st.sampled_from(["{}", "{}U", "{}M", "{}G", "{:#x}", "{}m", "{}K", "{}MU", "x{}", "-{}", "0{}"]),
    st.integers(0, 40) | st.integers(0, 5000) | st.integers(0, 1 << 70),
)


@pytest.fixture(scope="module", params=["6.12", "7.3"])
def theirs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program."""
    folder, source = tmp_path_factory.mktemp("numa"), from_source(SOURCE, series=request.param) / SOURCE
    for name in (*(f"linux/{name}" for name in HEADERS), "asm/numa", "acpi/acpi_numa"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.h").touch()
    program = folder / "numa"
    warnings = ["-w", "-fwrapv", "-fno-strict-aliasing"]
    subprocess.run(["gcc", *warnings, "-I", folder, "-include", SHIM, "-o", program, source], check=True)
    return program


@st.composite
def machines(draw: st.DrawFn) -> tuple[list[tuple[Range, int]], list[Range]]:
    """What firmware says of nodes, each of one range or two, and the memory that is really in them."""
    named, there, at = list[tuple[Range, int]](), list[Range](), draw(st.sampled_from([0, GIB, 6 * GIB]))
    for node in draw(st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True).map(sorted)):
        size = draw(st.integers(1, 5000)) * MIB
        named.append((Range.sized(at, size), node))
        hole = draw(st.integers(0, size // MIB - 1)) * MIB
        first = draw(st.integers(1, (size - hole) // MIB)) * MIB
        parts = [Range.sized(at, first), Range(at + first + hole, at + size)]
        there += [part for part in parts if part.size]
        at += size + draw(st.sampled_from([0, 64, 1000, 5000])) * MIB
    return named, there


@examples(300)
@given(machines(), WORDS)
def test_the_nodes_are_those_of_the_kernels_own_code(
    theirs: Path, machine: tuple[list[tuple[Range, int]], list[Range]], words: str
) -> None:
    named, there = machine
    memory = Memblock([Region(part) for part in there])
    own = [f"{value:d}" for part, node in named for value in (node, part.start, part.end)]
    present = [str(edge) for part in there for edge in (part.start, part.end)]
    said = subprocess.run([theirs, words, *own, "--", *present], capture_output=True, text=True, check=True).stdout
    wanted = [tuple(map(int, line.split())) for line in said.splitlines()]
    made = emulated(named, memory, words, 4096) or named
    assert [(node, part.start, part.end) for part, node in made] == wanted
