# SPDX-License-Identifier: Apache-2.0
"""What a kernel's log says of mistakes is read, and nothing else."""

from __future__ import annotations

import pytest

from kernel import splats

# One line of each report, as kernels from 6.1 to 7.3 print it.
MISTAKES = (
    "WARNING: CPU: 0 PID: 71 at mm/memory_hotplug.c:1157 online_pages+0x2b4/0x3a0",
    "WARNING: mm/page_alloc.c:5180 at __alloc_frozen_pages_noprof+0x2a4/0x2f8, CPU#0: sh/131",
    "WARNING: possible circular locking dependency detected",
    "WARNING: possible recursive locking detected",
    "WARNING: suspicious RCU usage",
    "WARNING: bad unlock balance detected!",
    "BUG: KASAN: slab-use-after-free in bank_of+0x54/0x90 [hotbank_bank]",
    "BUG: sleeping function called from invalid context at kernel/locking/mutex.c:580",
    "BUG: MAX_LOCKDEP_CHAINS too low!",
    "BUG kmalloc-64 (Tainted: G    B  ): Poison overwritten",
    "kernel BUG at arch/arm64/mm/mmu.c:479!",
    "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000008",
    "Internal error: Oops: 0000000096000004 [#1] PREEMPT SMP",
    "list_del corruption. prev->next should be ffff000002c3a008, but was ffff000002c3a108",
    "INFO: trying to register non-static key.",
    "turning off the locking correctness validator.",
    "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
    "kmemleak: Kernel memory leak detector disabled",
    "refcount_t: underflow; use-after-free.",
    "page dumped because: VM_BUG_ON_PAGE(page_ref_count(page) == 0)",
    "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
)
HARMLESS = (
    "kmemleak: Cannot allocate a scan area, scanning the full object",
    "page dumped because: migration failure",
    "page dumped because: unmovable page",
    "hotbank_bank: loading out-of-tree module taints kernel.",
    "Built 1 zonelists, mobility grouping on.  Total pages: 262144",
    "DEBUG_LOCKS is on",
    "python3: page allocation failure: order:0, mode:0xcc0(GFP_KERNEL), nodemask=(null)",
    "hotbank-bank 80000000.bank: bank high is not added at start: -12",
    "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
)
FAULT = """\
[   30.105211][   T83] FAULT_INJECTION: forcing a failure.
[   30.105211][   T83] name failslab, interval 1, probability 0, space 0, times 0
[   30.105520][   T83] CPU: 0 UID: 0 PID: 83 Comm: python3 Tainted: G           O        7.3.4 #1 PREEMPT
[   30.105601][   T83] Call trace:
[   30.105611][   T83]  show_stack+0x18/0x24 (C)
[   30.105630][   T83]  dump_stack_lvl+0x7c/0xa0
[   30.105650][   T83]  should_fail_ex+0x1d4/0x210
[   30.105670][   T83]  __kmalloc_cache_noprof+0x3c/0x2f0
[   30.105700][   T83]  register_memory_resource+0x44/0x1d0
[   30.105720][   T83]  bank_add+0x60/0x100 [hotbank_bank]
"""


@pytest.mark.parametrize("line", MISTAKES)
@pytest.mark.parametrize("stamp", ["", "[   12.345678] ", "[   12.345678][   T83] ", "<4>[   12.345678] "])
def test_a_mistake_is_read_once(line: str, stamp: str) -> None:
    log = "\n".join(f"{stamp}{text}" for text in (*HARMLESS, line, "Call trace:", line))
    assert splats.read(log).mistakes == (line.strip(),)


def test_a_healthy_log_with_faults_has_no_mistakes() -> None:
    seen = splats.read("\n".join(HARMLESS) + f"\n{FAULT}{FAULT}")
    assert (seen.mistakes, seen.faults) == ((), ("register_memory_resource",) * 2)
