# SPDX-License-Identifier: Apache-2.0
"""Words of Documentation/admin-guide/kernel-parameters.txt whose description speaks of memory, and what each gets here.

``TABLE`` has one line a word: the releases whose file describes it so, and the answer that ``zones`` gives:
``followed``; ``named``, where the kernel obeys and the prediction does not; ``elsewhere``, where another architecture
alone obeys; ``nothing``, where it decides neither memory nor nodes nor zones of a boot.
``python -m field.kernel_words RELEASE=FILE…`` in tests/ writes it again from those files and keeps the answers; a word
that is new gets ``?``, which a test refuses.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from zlib import MAX_WBITS, decompress

from hotbank.boards_qemu.parts.packages import Archive, host_architecture

TABLE = Path(__file__).parents[1] / "data" / "field" / "kernel-words.tsv"
RELEASES = ("6.1", "6.12", "7.3")  # whose files it was made from
PACKAGED = RELEASES[:2]  # linux-doc-* of Debian 12 and its backports
_HEAD = re.compile(r"\t([a-z][^\s=\[,:]*)")
_MEMORY = re.compile(
    r"\b(memory|NUMA|nodes?|zones?|huge ?pages?|CMA|RAM|ramdisk|e820|memblock|memmap|(each |per )?pages|each page"
    r"|buffers?|hash (buckets|table|slots)|\w*reserve\w*|physical address|HandOver|KVM/arm64)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Word:
    """One line of the table."""

    name: str
    releases: tuple[str, ...]
    answer: str

    def __str__(self) -> str:
        return f"{self.name}\t{','.join(self.releases)}\t{self.answer}"


def table() -> dict[str, Word]:
    """The table by word."""
    lines = (line.split("\t") for line in TABLE.read_text().splitlines())
    return {name: Word(name, tuple(releases.split(",")), answer) for name, releases, answer in lines}


def about_memory(text: str) -> set[str]:
    """The words of one kernel-parameters.txt whose descriptions speak of memory."""
    described = dict[str, str]()
    for name, line in _lines(text):
        described[name] = f"{described.get(name, '')}\n{line}"
    return {name for name, said in described.items() if _MEMORY.search(said)}


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Each line with the word that it describes."""
    name = ""
    for line in text.splitlines():
        head = _HEAD.match(line)
        name = head[1] if head else name
        yield name, line


def packaged(release: str) -> str:
    """The file as Debian packages it. Raises MachineError without a mirror."""
    (deb,) = Archive.open(host_architecture()).fetch(f"linux-doc-{release}")
    with (
        subprocess.Popen(["dpkg", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as unpack,
        tarfile.open(fileobj=unpack.stdout, mode="r|") as tar,
    ):
        member = next(m for m in tar if m.name.endswith("/Documentation/admin-guide/kernel-parameters.txt.gz"))
        file = tar.extractfile(member)
        assert file is not None
        text = decompress(file.read(), MAX_WBITS | 16).decode()
        unpack.kill()
    return text


def made_from(files: Mapping[str, str], known: Mapping[str, Word]) -> list[Word]:
    """The table for those releases' texts, with the answers that are known."""
    found = {release: about_memory(text) for release, text in files.items()}
    names = sorted(set().union(*found.values()))
    answers = {name: known[name].answer if name in known else "?" for name in names}
    return [Word(name, tuple(r for r in found if name in found[r]), answers[name]) for name in names]


def _write(arguments: list[str]) -> None:
    files = {release: Path(file).read_text() for release, _, file in (a.partition("=") for a in arguments)}
    TABLE.write_text("".join(f"{word}\n" for word in made_from(files, table() if TABLE.exists() else {})))


if __name__ == "__main__":
    _write(sys.argv[1:])
