# SPDX-License-Identifier: Apache-2.0
"""Machines that are a real kernel in QEMU."""
