# SPDX-License-Identifier: Apache-2.0
"""A machine as files: the part of /sys and /proc that is about memory, in the kernel's own strings.

    files = MachineFiles(model, model)              what is in each file; writes change the machine
    fuse.mount(model, model, "/mnt")                the same through FUSE, until it is unmounted (hotbank.mount.fuse)

How each file reads, and what a write to it does, is in hotbank.sysfs; which files there are is in files.py, and fuse.py
shows them.
What a Machine does not tell (orders of free pages, flags of single pages) is left out, and no file makes it up.
"""

from hotbank.mount.files import File, Folder, Link, MachineFiles

__all__ = ["File", "Folder", "Link", "MachineFiles"]
