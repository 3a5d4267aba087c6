# SPDX-License-Identifier: Apache-2.0
"""The guest's agent: serves the guest's own kernel on virtio-serial ports, each as ``hotbank serve --stdio`` does.

Two ports, so that reads stay instant while a change is under way on the other. Run as
``python3 -S -m hotbank.guest.agent PORT...``; it ends when a port's other end hangs up, and init starts it
again.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from pathlib import Path

from hotbank.host import Host
from hotbank.remote import FileStream
from hotbank.serve.owner import Owner

_PORTS = Path("/sys/class/virtio-ports")
_LOOK_EVERY = 0.05  # seconds
_LOOK = 8 << 20  # bytes that looking at a block takes, and more


def main(names: list[str]) -> None:
    """Attend every port until one of them ends."""
    keep_memory_to_look()
    owner = Owner(Host())
    ended = threading.Event()

    def attend(device: Path) -> None:
        with open(device, "r+b", buffering=0) as port:
            wait_for_somebody(port.fileno())
            owner.attend(FileStream(port, port))
        ended.set()

    for name in names:
        threading.Thread(target=attend, args=(_device(name),), daemon=True).start()
    ended.wait()


def keep_memory_to_look() -> None:
    """Take what looks at pages will need before there is any, for malloc to keep (MALLOC_TRIM_THRESHOLD_ in the
    guest's profile): taken later, it would lie in blocks that were looked at before."""
    bytes([1]) * _LOOK  # written to, so that it is there


def wait_for_somebody(port: int) -> None:
    """Return when the port has another end: until then it reads as one that hung up (drivers/char/virtio_console.c,
    ``port_fops_poll``), and there is nothing to wait on but time."""
    poll = select.poll()
    poll.register(port, 0)
    while poll.poll(0):
        time.sleep(_LOOK_EVERY)


def _device(name: str) -> Path:
    for entry in os.listdir(_PORTS):
        if (_PORTS / entry / "name").read_text(encoding="ascii").strip() == name:
            return Path("/dev", entry)
    raise SystemExit(f"no virtio-serial port {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
