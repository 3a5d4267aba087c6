# SPDX-License-Identifier: Apache-2.0
"""What a guest is made of.

packages.py      Debian packages of another architecture, through apt, without touching this machine's own
kernel_build.py  a kernel of our own, compiled from Debian's source
own_kernel.py    one that somebody else built, and the tree it was built in
kernel_port.py   our lines in that source
kernel_series.py the same lines as patches to send
bank_module.py   our driver, cross-built against the headers of a Debian kernel
initramfs.py     BusyBox, Python, this package
inside.py        how much of this package
cpio.py          the form of the archive
compressed.py    what kernels and modules are packed with
kmodules.py      kernel modules and their tables
elf.py           what a program or a module says of itself
"""
