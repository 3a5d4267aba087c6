# SPDX-License-Identifier: Apache-2.0
"""/sys/firmware/memmap, the memory map that firmware handed over (x86): drivers/firmware/memmap.c."""

from __future__ import annotations

from hotbank.sysfs.form import Form, hexadecimal

START = hexadecimal("start", "#x")
END = hexadecimal("end", "#x")
"""The last byte of the entry."""
TYPE: Form[str] = Form(str.strip, lambda name: f"{name}\n")
RAM = "System RAM"
