# SPDX-License-Identifier: Apache-2.0
"""This host, or any captured tree: the Machine protocol spoken to sysfs and procfs below a root.

machine.py   Host: the protocol
tree.py      files below a root, and what they say about memory blocks, zones and settings
ram.py       where there is memory, and where it came from
pages.py     kpageflags, kpagecount: what a page is, and what its references should be
planes.py    what tables of the kernel say of many pages, looked at all at once
kcore.py     the kernel's memory, and reference counts in it, through /proc/kcore
leaves.py    page tables in it, for what arm64 refuses to split
owners.py    who maps a page, whose cgroup pays for it
hugepages.py huge pages in use, and what their pools have free elsewhere
offlined.py  pages that are offline, and whether who holds them lets go
views.py     the open files of one block, and a look at some of its frames
survey.py    all of these for one block
devices.py   what holds memory that may come and go: dax, virtio-mem, our driver
proposal.py  a board as this machine would have it
routes.py    how a bank enters and leaves: probe, driver, kmem
writer.py    writes that can block for ever, in a child that dies with its parent
forking.py   the program that forks these children
parent.py    a thread that such a program dies with
evacuation.py  blocks of a bank emptied together by our driver, before they go offline
evacuating.py  the program that does it, and holds them
nodes.py     NUMA nodes emptied as a whole before their last memory leaves
vacating.py  the program that moves processes off one
switch.py    power switches
meters.py    power, energy and temperature
klog.py      what the kernel logged while it refused
trigger.py   its word that tasks wait for memory
batches.py   per-CPU batches that hold pages, emptied so that no page in one looks pinned
bankpages.py  page frames as our bank driver shows them
rules.py     udev's rules files, as udev reads them
globs.py     patterns of fnmatch(3), which it matches with
udev.py      what rules of udev do to added blocks
doctor.py    what about a machine would make a removal fail or hurt
"""

from hotbank.host.machine import Host

__all__ = ["Host"]
