# SPDX-License-Identifier: Apache-2.0
"""From what a machine said to a reason code, and from a reason code to what helps.

The errno of each refusal: drivers/base/memory.c (``state_store``), mm/memory_hotplug.c (``offline_pages``,
``add_memory_resource``, ``try_remove_memory``), mm/page_isolation.c. docs/reasons.md has the paragraphs.
"""

from __future__ import annotations

import errno

from hotbank.errors import EHWPOISON, Code, HotbankError, KernelError
from hotbank.gate import AFTER_LOSS
from hotbank.machine import Vacated
from hotbank.memory import format_size
from hotbank.room import Pool
from hotbank.routes import removing

MAY_GO = frozenset({Code.OK, Code.PINS_UNKNOWN, Code.DOMAIN_IN_USE})

_BY_ERRNO = {
    errno.EINVAL: Code.RACED,  # holes and zones were looked at before: the state changed under us
    errno.EBUSY: Code.RACED,  # an unmovable page that the survey before did not show
    errno.ENOENT: Code.RACED,
    errno.ENODEV: Code.RACED,
    errno.EPERM: Code.VETO,
    errno.EINTR: Code.INTERRUPTED,
    EHWPOISON: Code.POISONED,
    errno.ENOMEM: Code.NO_CAPACITY,
    errno.EEXIST: Code.OVERLAP,
    errno.E2BIG: Code.UNSUPPORTED,
    errno.EOPNOTSUPP: Code.UNSUPPORTED,
    errno.ENOSYS: Code.UNSUPPORTED,
}

_REMEDIES = {
    Code.BOOT_MEMORY: "keep the bank out of the boot description (at_boot = false, mem=) and add it after boot",
    Code.NOT_MOVABLE_ZONE: "describe the bank as movable at boot, or online its blocks with online_movable",
    Code.UNMOVABLE: "the owner must free the page; a bank described as movable at boot never gets such pages",
    Code.PINNED: "end or ask the owner that pins the page; --force tries anyway, until the deadline",
    Code.PINS_UNKNOWN: "allow /proc/kcore (root, CONFIG_PROC_KCORE) to see pins; a deadline guards the attempt",
    Code.NO_CAPACITY: "free memory elsewhere, or choose a smaller bank",
    Code.HOLES: "choose a bank whose blocks are all memory",
    Code.MULTI_ZONE: "align the zone boundary to a memory block (movablecore=, kernelcore=), or choose another block",
    Code.CMA: "move the CMA area out of the bank (cma=size@start, or linux,cma in the device tree)",
    Code.VETO: "the kernel log names the driver that refused; unload it or ask its owner",
    Code.HUGETLB: "free a huge page of that size on another node, grow the pool there (nr_hugepages), or end its user;"
    " before 6.14, on one node, take the free ones out of the pool",
    Code.POISONED: "leave the bank in: a bad page is forgotten when its block leaves and returns",
    Code.DEADLINE: "explain says what did not move; a longer --deadline helps only if it will",
    Code.INTERRUPTED: "run it again",
    Code.CANCEL_PENDING: "wait: it settles when the kernel lets go of the block; power stays on",
    Code.RACED: "run it again: something else changed the memory at the same time",
    Code.AUTO_ONLINE: "echo offline > /sys/devices/system/memory/auto_online_blocks, then run it again",
    Code.DOMAIN_IN_USE: "remove the other banks of the domain too",
    Code.POWER_UNKNOWN: "look at the switch: nothing is added before the domain's power is known to be on",
    Code.SWITCH_FAILED: "look at the switch and at its status command",
    Code.LOST: AFTER_LOSS,
    Code.STUCK: "reboot: this route can't take the bank out any more",
    Code.BUSY_TRANSACTION: "wait for the other transaction, or hotbank recover if its process is gone",
    Code.SUPERSEDED: "nothing to do: the machine has booted since",
    Code.NO_SUCH_BANK: "hotbank list shows the banks and blocks",
    Code.NOT_ALIGNED: "make start and size multiples of the memory block size",
    Code.OVERLAP: "choose ranges that do not overlap",
    Code.CHANGED: "make the plan again",
    Code.NOT_PERMITTED: "become root, or the user who owns the machine",
    Code.DAMAGED: "hotbank history lists it; hotbank list shows what the machine is",
    Code.UNSUPPORTED: f"give the bank a route that can do it ({', '.join(removing())})",
    Code.NO_MACHINE: "its owner settles it once the machine answers; hotbank recover does it at once",
}


def may_go(code: Code) -> bool:
    """True for the reasons that do not prove that it fails: what has one of them is carried out without force."""
    return code in MAY_GO


# Lines that several rooms say.


def leaf(block: str, cut: str) -> str:
    """Of a block that arm64 lets go only if it need not split its own page tables (``can_unmap_without_split``)."""
    how = "without memmap_on_memory" if cut == "memmap" else "block by block, as our driver does"
    return f"{block}: a leaf of the kernel's {cut} crosses its edge, and arm64 splits none; memory added {how} leaves"


INTERLEAVED = "interleaved: its ranges are spread over all chips, so their leaving saves nothing"
"""Of a domain whose banks may leave for nothing."""

UNSEEN = "pages that do not show what they hold, as explain counts them, may be some that can't move; else run it again"
"""Of a refusal that the look does not explain."""

GOES_ROUND = "this kernel would try until a signal"
"""Of pages that isolation passes over although nothing moves them."""

LIKELY_STAYS = "it shrinks its slab caches before, so that the block only likely stays"
"""Of slabs, some of which may be empty."""


def stuck(bank: str) -> str:
    """Of a bank that its route took half out."""
    return f"{bank} is stuck: half out of the kernel until the next boot"


def still_held(block: int) -> str:
    """Of a block whose offline was cancelled, or of a bank whose coming or leaving was given up."""
    return f"the kernel has not let go of memory{block}"


def no_room(needs: int, room: int) -> str:
    """Pages that need a place, and the places that there are."""
    return f"{needs} pages have to move and the memory that stays has room for {room}"


def block_by_block(node: int) -> str:
    """Of a node that loses its last memory, on a machine that may not empty it as a whole."""
    return f"node {node} is emptied block by block alone: to move pages of processes takes CAP_SYS_NICE and _PTRACE"


def vacated(node: str, found: Vacated, asked: int) -> str:
    """What became of a node's pages before its blocks went; empty where nothing needs saying."""
    dropped = "" if not asked else f"{node}: {_counted(found.dropped)} pages of {asked} of clean cache were dropped"
    return "; ".join(filter(None, (dropped, *found.left)))


def _counted(pages: int | None) -> str:
    return "an unknown number of" if pages is None else str(pages)


def no_huge_page(pool: Pool, page_size: int) -> str:
    """Of gigantic pages, which can only go to free ones of their pool."""
    size, where = format_size(pool.pages * page_size), f"{pool.free} free where they could go"
    return f"{len(pool.first)} huge pages of {size} are in use, and their pool has {where}"


def no_pieces(pool: Pool, page_size: int, there: int) -> str:
    """Of huge pages that need contiguous memory."""
    size = format_size(pool.pages * page_size)
    return f"{pool.fresh} huge pages of {size} have to move and the memory that stays has room for {there} such pieces"


def fits(to_move: int, needs: int, room: int) -> str:
    """The same where there is room. Clean page cache moves while it can and is dropped then, which is said where there
    is not room for all."""
    cache = f" ({needs} of them need room, the others are clean cache)" if to_move > room else ""
    return f"{to_move} pages to move{cache}, room for {room}"


# From refusals to reasons, and from reasons to what helps.


def remedy(code: Code) -> str:
    """What helps against that reason, in one line; empty where nothing is wrong."""
    return _REMEDIES.get(code, "")


def code_of(error: HotbankError) -> Code:
    """The reason code of a refusal: the machine's own where it gave one, else by errno.

    An errno that hotplug itself never returns comes from a notifier, so it is a VETO.
    """
    if isinstance(error, KernelError) and error.code is Code.KERNEL_REFUSED:
        return _BY_ERRNO.get(error.errno, Code.VETO)
    return error.code


def errno_of(error: HotbankError) -> int | None:
    """The errno of a kernel's refusal, None for every other error."""
    return error.errno if isinstance(error, KernelError) else None
