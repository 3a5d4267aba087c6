# SPDX-License-Identifier: Apache-2.0
"""The text of sysfs and procfs, both ways: what a file says as a value, and the value as the kernel would print it.

names.py         where the files are
form.py          how one file reads: parse and show, and their law
files.py         every file with its form
block.py         memory blocks: drivers/base/memory.c
node.py          NUMA nodes: drivers/base/node.c
zoneinfo.py      /proc/zoneinfo: mm/vmstat.c
buddyinfo.py     /proc/buddyinfo: mm/vmstat.c
vmstat.py        /proc/vmstat: mm/vmstat.c
pressure.py      /proc/pressure/memory: kernel/sched/psi.c
meminfo.py       /proc/meminfo: fs/proc/meminfo.c
iomem.py         /proc/iomem: kernel/resource.c
firmware_map.py  /sys/firmware/memmap: drivers/firmware/memmap.c
parameters.py    parameters of memory hotplug: mm/memory_hotplug.c
cma.py           CMA areas in debugfs: mm/cma_debug.c
hugepages.py     pools of huge pages: mm/hugetlb.c
meters.py        power, energy and temperatures: Documentation/hwmon, Documentation/power/powercap
bank.py          banks of our own driver: kernel/bank
uname.py         the architecture: kernel/utsname_sysctl.c
store.py         what the kernel does on a write: state_store, online_store, auto_online_blocks_store
"""
