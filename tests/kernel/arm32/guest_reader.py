# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: processes that were forked early read memory through the kernel's linear mapping.

``python3 -S guest_reader.py FOLDER``. One process on each CPU is forked at once; it keeps its own copy of the kernel's
first-level page table. The FIFO ``FOLDER/in`` takes physical addresses in hex, ``FOLDER/out`` answers with a JSON
object: CPU → what its process saw (the bytes in hex, or an errno's name), ``fresh`` for a process forked just now.
read(2) of /dev/mem goes through the linear mapping and answers EFAULT where there is none (drivers/char/mem.c).
"""

import errno
import json
import os
import sys


def look(address: int) -> str:
    """What a read of one word sees."""
    memory = os.open("/dev/mem", os.O_RDONLY)
    try:
        return os.pread(memory, 4, address).hex()
    except OSError as e:
        return errno.errorcode[e.errno or 0]
    finally:
        os.close(memory)


class Reader:
    """A forked process that looks where it is told."""

    def __init__(self, cpu: int | None) -> None:
        ask, self._in = os.pipe()
        self._out, answer = os.pipe()
        if os.fork() == 0:
            if cpu is not None:
                os.sched_setaffinity(0, {cpu})
            os.close(self._in)
            with os.fdopen(ask) as addresses:
                for line in addresses:
                    os.write(answer, f"{look(int(line, 16))}\n".encode())
            os._exit(0)
        os.close(ask)
        os.close(answer)
        self._answers = os.fdopen(self._out)

    def see(self, address: str) -> str:
        """Ask the process."""
        os.write(self._in, f"{address}\n".encode())
        return self._answers.readline().strip()


def main(folder: str) -> None:
    early = {str(cpu): Reader(cpu) for cpu in sorted(os.sched_getaffinity(0))}
    while True:
        with open(f"{folder}/in") as words:
            address = words.read().strip()
        seen = {cpu: reader.see(address) for cpu, reader in early.items()}
        seen["fresh"] = Reader(None).see(address)
        with open(f"{folder}/out", "w") as out:
            out.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
