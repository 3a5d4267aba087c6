# SPDX-License-Identifier: Apache-2.0
"""What an offline comes to, kernel by kernel: frozen slabs, empty ones, migratetypes, leaves of arm64's maps."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from hotbank import board, kernels, operate
from hotbank.errors import Code, KernelError
from hotbank.kernels import KERNELS
from hotbank.memory import BlockState, Kind, Online
from hotbank.model import Model, capture
from hotbank.model.alloc import GFP_KERNEL
from hotbank.model.frames import MigrateType

ROWS = [row.release for row in KERNELS]


def running(kernel: str) -> Model:
    """The arm64 board with its bank in a kernel zone."""
    words = "memhp_default_state=offline"
    model = Model.boot(board.load(board.find("virt-arm64")), kernel=kernel, cmdline=words, backend="reference")
    model.hotplug.movable_only_blocks = frozenset()
    model.add("high")
    return model


def filled(kernel: str, *, single: bool) -> tuple[Model, int]:
    """With slabs in the bank's first block, which is in zone Normal; and its number."""
    model = running(kernel)
    (number, *_) = model.board.blocks(model.board.banks[1])
    model.online(number, Online.KERNEL)
    model.tasks.kernel_alloc("slabs", 1000, kind=Kind.SLAB, single=single)
    assert model.survey(number).kinds[Kind.SLAB] == 1000
    return model, number


def answer(model: Model, number: int) -> int:
    """The errno of an offline that is given 3 s."""
    try:
        model.offline(number, model.clock.now() + 3)
    except KernelError as e:
        return e.errno
    return 0


@pytest.mark.parametrize("kernel", ROWS)
@pytest.mark.parametrize("single", [True, False])
def test_slabs_of_one_page_are_tried_until_a_signal(kernel: str, single: bool) -> None:
    """As measured on 6.12.117, 6.16.12 and 7.3.4; and what is said of it beforehand."""
    model, number = filled(kernel, single=single)
    endless = single and kernels.kernel(kernel).frozen_slab
    survey, told = model.survey(number), operate.explain(model, number)
    assert (survey.endless, survey.blocked) == (endless, 1000)
    assert (told.code, "until a signal" in told.fact) == (Code.UNMOVABLE, endless)
    assert ("likely stays" in told.fact) is (endless and not kernels.kernel(kernel).keeps_slab)
    assert answer(model, number) == (errno.EINTR if endless else errno.EBUSY)
    block = model.snapshot().block(number)
    assert block is not None
    assert block.state is BlockState.ONLINE
    model.validate()


@pytest.mark.parametrize("kernel", ROWS)
def test_a_captured_model_goes_on_by_the_rules_of_its_kernel(kernel: str) -> None:
    model, number = filled(kernel, single=True)
    again = Model.restore(capture.loads(capture.dumps(capture.take(model))), backend="reference")
    assert again.snapshot().release == kernel
    assert again.pages(number) == model.pages(number)
    assert answer(again, number) == answer(model, number)


@pytest.mark.parametrize("kernel", ROWS)
def test_empty_slabs_go_where_an_offline_shrinks_all_caches(kernel: str) -> None:
    row = kernels.kernel(kernel)
    model, number = filled(kernel, single=True)
    model.tasks.empty_slabs("slabs")
    stays = errno.EINTR if row.frozen_slab and row.keeps_slab else 0 if row.frozen_slab else errno.EBUSY
    assert answer(model, number) == stays
    model.validate()


@pytest.mark.parametrize("kernel", ROWS)
def test_empty_slabs_go_with_the_last_memory_of_a_node(kernel: str) -> None:
    """Whoever leaves other blocks' slabs alone (mm/slub.c, ``slab_memory_callback``)."""
    model = running(kernel)
    (number, *_) = model.board.blocks(model.board.banks[1])
    model.hotplug.blocks[number].node = 1
    model.online(number, Online.KERNEL)
    model.tasks.kernel_alloc("slabs", 1000, kind=Kind.SLAB, gfp=replace(GFP_KERNEL, node=1), single=True)
    model.tasks.empty_slabs("slabs")
    assert model.survey(number).kinds[Kind.SLAB] == 1000
    refused = not kernels.kernel(kernel).frozen_slab
    assert answer(model, number) == (errno.EBUSY if refused else 0)
    assert ("slabs" in model.tasks.caches) is refused
    model.validate()


@pytest.mark.parametrize("kernel", ROWS)
def test_migratetypes_survive_an_offline_that_fails(kernel: str) -> None:
    """The first pageblock was isolated before the second turned out to hold what can't move."""
    model = running(kernel)
    (number, *_) = model.board.blocks(model.board.banks[1])
    model.online(number, Online.KERNEL)
    start, _ = model.geometry.frames(number)
    size = model.frames.shape.pageblock
    model.tasks.kernel_alloc("first", size)
    model.tasks.kernel_alloc("second", 10)
    model.tasks.kernel_free("first")
    assert [model.frames.migratetype(f) for f in (start, start + size)] == [MigrateType.UNMOVABLE] * 2
    assert answer(model, number) == errno.EBUSY
    kept = MigrateType.UNMOVABLE if kernels.kernel(kernel).keeps_types else MigrateType.MOVABLE
    assert [model.frames.migratetype(f) for f in (start, start + size)] == [kept, MigrateType.UNMOVABLE]
    model.validate()


@pytest.mark.parametrize("kernel", ROWS)
def test_a_block_with_its_own_memmap_stays_where_arm64_looks_at_leaves(kernel: str) -> None:
    made = board.load(board.find("virt-arm64-kmem"))
    model = Model.boot(made, kernel=kernel, cmdline="memory_hotplug.memmap_on_memory=1", backend="reference")
    model.add("high")
    number = model.snapshot().present(next(b for b in model.snapshot().banks if b.name == "high"))[0].number
    if model.snapshot().auto_online == "offline":
        model.online(number, Online.MOVABLE)
    vetoed = kernels.kernel(kernel).vetoes_leaf
    told = operate.explain(model, number)
    assert (told.code, "memmap" in told.fact) == ((Code.VETO, True) if vetoed else (Code.OK, False))
    assert answer(model, number) == (errno.EPERM if vetoed else 0)
