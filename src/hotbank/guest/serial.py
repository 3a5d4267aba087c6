# SPDX-License-Identifier: Apache-2.0
"""The virtio-serial ports between a guest and its supervisor, by the names that both sides know
(drivers/char/virtio_console.c shows them below /sys/class/virtio-ports)."""

from __future__ import annotations

CHANGE, READ, RUNNER = "hotbank.change", "hotbank.read", "hotbank.runner"
PORTS = (CHANGE, READ, RUNNER)
