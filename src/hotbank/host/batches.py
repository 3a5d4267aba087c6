# SPDX-License-Identifier: Apache-2.0
"""Per-CPU batches of pages on their way between LRU lists: each page in one has a reference more than it should.

Truth: mm/swap.c (``struct cpu_fbatches``, ``__lru_add_drain_all``). An idle CPU keeps its batches for as long as it
is idle, so that such a reference looks like a pin. Offlining empties them by itself (``lru_cache_disable``). No call
does only that, but two do it on the way to doing nothing:

* ``move_pages`` with no page to move (mm/migrate.c, ``do_pages_move``), in milliseconds, where the kernel has NUMA;
* the seal against writes on a file in memory that a pipe still refers to (mm/memfd.c, ``memfd_wait_for_pins``): the
  kernel empties the batches, waits 0.15 s for the reference to go, and answers EBUSY.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys
from contextlib import ExitStack, suppress

from hotbank import kernels

_MPOL_MF_MOVE = 2


def drain() -> None:
    """Have every CPU put the pages of its batches where they belong; nothing where this process may not ask."""
    if not _by_move_pages():
        _by_seal()


def _by_move_pages() -> bool:
    number = _move_pages()
    if number is None or sys.maxsize < 1 << 32:  # a 32-bit process has other numbers than its kernel
        return False
    nodes = ctypes.byref(ctypes.c_int())
    arguments = (ctypes.c_long(0), ctypes.c_ulong(0), None, nodes, nodes, ctypes.c_long(_MPOL_MF_MOVE))
    return bool(ctypes.CDLL(None).syscall(ctypes.c_long(number), *arguments) == 0)


def _move_pages() -> int | None:
    return kernels.arch(kernels.arch_of_machine(os.uname().machine)).move_pages


def _by_seal() -> None:
    with ExitStack() as stack, suppress(OSError):
        file = os.memfd_create("hotbank", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        stack.callback(os.close, file)
        os.write(file, b"\0")
        reader, writer = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, reader)
        stack.callback(os.close, writer)
        os.splice(file, writer, 1, offset_src=0)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
