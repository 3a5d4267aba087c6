# SPDX-License-Identifier: Apache-2.0
"""What runs inside a guest: an initramfs carries these modules, and of this package what they import.

agent.py      the guest's kernel as a Machine
runner.py     shell commands
holder.py     memory that is held, pinned and poisoned when asked
slabs.py      a block with slabs in it, and what its offlines come to
fallbacks.py  where the kernel takes a page when it has none of the wanted migratetype
serial.py     the ports on which the first two answer
"""
