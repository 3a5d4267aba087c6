# SPDX-License-Identifier: Apache-2.0
"""What brings memory back holds out while there is none: the kernel reclaims no page of it and does not end it.

Truth: mm/mlock.c (``SYSCALL_DEFINE1(mlockall)``), fs/proc/base.c (``__set_oom_adj``). Who may not is told so, and does
its work without.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from hotbank.numbers import digits

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4  # include/uapi/asm-generic/mman.h
_CAP_IPC_LOCK = 14  # include/uapi/linux/capability.h
_FIRST_USERS = 0xEFFFFFFD  # include/linux/proc_ns.h, PROC_USER_INIT_INO
_NEVER = -1000  # include/uapi/linux/oom.h, OOM_SCORE_ADJ_MIN


def locked() -> str:
    """Lock what this process has mapped in memory, and all that it ever touches; why not, empty where it is.

    Where it may lock only so much, what it has mapped is all: beyond the limit it would be given no memory any more.
    """
    import ctypes  # an owner, which locks nothing, stays small without them
    import resource

    libc = ctypes.CDLL(None, use_errno=True)
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    unbounded = limit == resource.RLIM_INFINITY or may_lock(Path("/proc/self"))
    # What comes later is locked page by page: a thread's stack is mapped whole, and nobody needs all of it.
    for flags in (_MCL_CURRENT, *((_MCL_FUTURE | _MCL_ONFAULT,) if unbounded else ())):
        if libc.mlockall(flags) != 0:
            return f"its memory can't be locked: {os.strerror(ctypes.get_errno())} (CAP_IPC_LOCK, RLIMIT_MEMLOCK)"
    return ""


def may_lock(process: Path) -> bool:
    """Whether the process with this folder in /proc has CAP_IPC_LOCK, for which there is no limit, and not only among
    the users of a namespace of its own, where the kernel does not ask for it (``capable``)."""
    rights = re.search(rb"^CapEff:\s+([0-9a-f]+)$", (process / "status").read_bytes(), re.MULTILINE)
    has = rights is not None and bool((digits(rights[1].decode(), 16) or 0) >> _CAP_IPC_LOCK & 1)
    try:
        return has and (process / "ns/user").stat().st_ino == _FIRST_USERS
    except FileNotFoundError:  # a kernel that knows no other users
        return has


def spared(file: Path = Path("/proc/self/oom_score_adj")) -> str:
    """Have the OOM killer pass over this process and what it starts; why not, empty where it does, or where it is
    the last choice already, by whoever started it."""
    try:
        if not file.read_text(encoding="ascii").startswith("-"):
            file.write_text(f"{_NEVER}", encoding="ascii")
    except OSError as e:
        return f"the OOM killer may end it: {e.strerror} (CAP_SYS_RESOURCE)"
    return ""
