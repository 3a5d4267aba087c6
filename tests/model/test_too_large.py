# SPDX-License-Identifier: Apache-2.0
"""A board larger than this host's memory is refused before anything is laid out."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from counted import calls, lines
from hotbank import board
from hotbank.errors import Code, Refusal
from hotbank.memory import GIB, TIB
from hotbank.model import Model, backend
from hotbank.model.frames import Shape

BOARD = 'name = "large"\narch = "arm64"\nblock_size = "128M"\n[bank.all]\nstart = "1G"\nsize = "SIZE"\n'


@pytest.mark.parametrize("size", ["5T", "1P", "1E"])
def test_a_board_that_no_model_can_have(size: str) -> None:
    large = board.loads(BOARD.replace("SIZE", size))

    def boot() -> None:
        with pytest.raises(Refusal) as caught:
            Model.boot(large)
        assert caught.value.code is Code.NO_CAPACITY

    tracemalloc.start()
    assert lines(boot) < 5000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_the_estimate_is_held_against_available_memory() -> None:
    backend.check_room(GIB // 9, "compiled", GIB)
    with pytest.raises(Refusal, match="are available here"):
        backend.check_room(GIB // 9 + 1, "compiled", GIB)
    with pytest.raises(Refusal) as caught:
        backend.check_room(GIB // 18 + 1, "reference", GIB)
    assert "hotbank[fast]" in caught.value.remedy


@pytest.mark.parametrize("name", backend.BACKENDS)
def test_a_boot_is_measured_by_the_backend_it_was_asked_for(name: str) -> None:
    """1 GiB of frames of 4 KiB, and a byte less than that backend needs for them."""
    needed, wanted = backend.BYTES_PER_FRAME[name] * (GIB >> 12), board.loads(BOARD.replace("SIZE", "1G"))
    Model.boot(wanted, backend=name, memory=needed)
    with pytest.raises(Refusal) as caught:
        Model.boot(wanted, backend=name, memory=needed - 1)
    assert caught.value.code is Code.NO_CAPACITY


class Counted(int):
    """A block number that counts how often it is compared."""

    times = 0

    def __eq__(self, other: object) -> bool:
        Counted.times += 1
        return int(self) == other

    def __lt__(self, other: int) -> bool:
        Counted.times += 1
        return int(self) < other

    def __hash__(self) -> int:
        return hash(int(self))


def test_a_snapshot_of_a_tebibyte_looks_at_each_block_a_few_times() -> None:
    model = Model.boot(board.loads(BOARD.replace("SIZE", "1T")))
    for block in model.hotplug.blocks.values():
        block.number = Counted(block.number)
    model.hotplug.blocks = {block.number: block for block in model.hotplug.blocks.values()}
    Counted.times = 0
    bank = model.snapshot().banks[0]
    assert len(bank.blocks) == TIB // (128 << 20)
    assert Counted.times <= 8 * len(bank.blocks)


def calls_of_a_snapshot(size: str) -> int:
    """Of a machine whose added memory is all offline, under a policy that looks at groups."""
    text = (
        BOARD.replace("SIZE", "1G") + f'[bank.more]\nstart = "8G"\nsize = "{size}"\nat_boot = false\nroute = "kmem"\n'
    )
    model = Model.boot(board.loads(text), cmdline="memory_hotplug.online_policy=auto-movable")
    model.add("more")
    return calls(model.snapshot)


def test_a_snapshot_counts_groups_once() -> None:
    """Four times the blocks, four times the work; it was sixteen times."""
    assert calls_of_a_snapshot("16G") <= 5 * calls_of_a_snapshot("4G")


def test_available_memory_is_what_the_kernel_says(tmp_path: Path) -> None:
    assert 64 << 20 < (backend.resources({})["memory"] or 0) < 1024 * TIB
    assert backend.resources({}, tmp_path)["memory"] is None, "nobody says"
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:  9 kB\nMemAvailable:   7 kB\n")
    assert backend.resources({}, tmp_path)["memory"] == 7 << 10


def test_the_estimate_is_what_the_backend_takes() -> None:
    """Arrays of the compiled backend, for frames of 4 KiB; at most 12 bytes a frame were allowed."""
    frames = 64 << 20 >> 2
    made = backend.new_frames(Shape(frames), "compiled")
    arrays = [a for a in made._a if hasattr(a, "nbytes") and hasattr(a, "shape") and a.shape]  # type: ignore[attr-defined]
    taken = sum(a.nbytes for a in arrays) / frames
    assert taken == pytest.approx(backend.BYTES_PER_FRAME["compiled"], rel=0.02)
