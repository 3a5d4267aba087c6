# SPDX-License-Identifier: Apache-2.0
"""What a kernel's log says of mistakes in it, and of the faults that were injected on purpose.

Truth: kernel/locking/lockdep.c, kernel/panic.c, lib/bug.c, mm/kasan/report.c, mm/kmemleak.c, mm/debug.c,
kernel/sched/core.c (``__might_resched``), lib/fault-inject.c (``fail_dump``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

_STAMP = re.compile(r"^(<\d+>)?\[\s*\d+\.\d+\](\[\s*[TC]\d+\])? ?")
_MISTAKE = re.compile(
    r"WARNING:|\bBUG\b|Oops|Unable to handle kernel|Internal error:|Kernel panic|suspicious RCU usage"
    r"|possible recursive locking|circular locking|inconsistent lock state|\*\*\* DEADLOCK \*\*\*"
    r"|turning off the locking correctness validator|list_(add|del) corruption|Bad page state"
    r"|page dumped because(?!: (migration failure|isolation failed|unmovable page))"  # what an offline meets
    r"|kmemleak: (\d+ new suspected|Kernel memory leak detector disabled)|refcount_t: |Trying to vfree"
    r"|INFO: trying to register non-static key|Out of memory|oom-kill|invoked oom-killer"
)
_INJECTED = "FAULT_INJECTION: forcing a failure"
_FRAME = re.compile(r"^\s+(?:\? )?([\w.]+)\+0x[0-9a-f]+/0x[0-9a-f]+")
# What stands above the caller that asked for memory: dump, decision, allocators.
_ALLOCATOR = re.compile(
    r"(show_stack|dump_stack|dump_backtrace|should_fail|should_failslab|_*kmalloc|_*kvmalloc|_*kzalloc|kmem_cache_alloc"
    r"|_*alloc_pages|_*alloc_frozen_pages|alloc_pages_bulk|__get_free_page|get_zeroed_page|get_free_pages"
    r"|_*folio_alloc|prepare_alloc_pages|slab_alloc|___slab_alloc|__slab_alloc|new_slab|allocate_slab|kasan_|stack_depot"
    r"|set_track|__?create_object|kmemleak|mem_pool_alloc|kstrdup|kvasprintf|kasprintf|kmemdup|vmemdup|devm_k)"
)


@dataclass(frozen=True)
class Read:
    """``mistakes``: their first lines, each once. ``faults``: who asked for the memory that was denied, in order."""

    mistakes: tuple[str, ...]
    faults: tuple[str, ...]


def read(log: str) -> Read:
    """Read what ``dmesg`` prints. That something took long is no mistake: an emulated CPU may have to wait."""
    lines = [_STAMP.sub("", line) for line in log.splitlines()]
    mistakes = dict.fromkeys(line.strip() for line in lines if _MISTAKE.search(line))
    return Read(tuple(mistakes), tuple(_asking(lines)))


def _asking(lines: list[str]) -> Iterator[str]:
    """The first function below the allocators in the trace of each injected fault."""
    at = [number for number, line in enumerate(lines) if line.startswith(_INJECTED)]
    for begin, end in pairwise([*at, len(lines)]):
        frames = [match[1] for line in lines[begin:end] if (match := _FRAME.match(line))]
        yield next((frame for frame in frames if not _ALLOCATOR.match(frame)), "?")
