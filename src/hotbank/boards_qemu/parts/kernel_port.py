# SPDX-License-Identifier: Apache-2.0
"""Our lines for a kernel's source: files of our own, and edits that insert our text into existing files.

A port is a folder with ``edits.toml``, ``config`` (a fragment on top of allnoconfig) and ``files/`` (copied into the
tree). It holds no text of the kernel but single lines, the anchors. Where an anchor is missing or not
unique, or our text is there already, nothing is written: the tree is another one than the port was made for.

Edits and files come in patches, each with its subject and text, so that the same port is a tree to compile and a
series to send (kernel_series.py).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotbank.errors import Code, FormatError, Refusal

PLACES = ("before", "after", "replace")
_REACH = 40  # lines behind ``within`` in which the anchor must come


@dataclass(frozen=True, slots=True)
class Line:
    """A line that an unmodified kernel has or has not, leading and trailing blanks apart: never ask for a release."""

    file: str
    line: str


@dataclass(frozen=True, slots=True)
class Edit:
    """Put ``text`` ``before`` or ``after`` the line ``anchor`` of ``file``, or in its place (``replace``).

    Lines are compared without leading and trailing blanks. ``within``: a line that comes once in the file; the
    anchor is then the first such line behind it, at most 40 lines on. Without it, the anchor must come once.
    ``unless``: kernels that have this line do without the edit.
    """

    file: str
    place: str
    anchor: str
    text: str
    within: str | None = None
    unless: Line | None = None


@dataclass(frozen=True, slots=True)
class Patch:
    """One step of a port, which builds by itself. ``files``: those of our own that it brings, before its edits."""

    subject: str
    text: str
    edits: tuple[Edit, ...]
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KernelPort:
    """A port's folder, read. ``files``: our own files by path in the tree. ``config``: the fragment's text.

    ``releases``: the kernels it is made for, the usual one first.
    """

    patches: tuple[Patch, ...]
    files: dict[str, str]
    config: str
    releases: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: Path) -> KernelPort:
        """Read a port's folder. Raises FormatError, OSError."""
        root = folder / "files"
        own = {str(p.relative_to(root)): p.read_text(encoding="utf-8") for p in sorted(root.rglob("*")) if p.is_file()}
        releases, patches = read_edits((folder / "edits.toml").read_text(encoding="utf-8"))
        _check_files(patches, own)
        return cls(patches, own, (folder / "config").read_text(encoding="utf-8"), releases)

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The edits of all patches, in order."""
        return tuple(edit for patch in self.patches for edit in patch.edits)

    def apply(self, tree: Path, originals: Path) -> None:
        """Make the tree this port's. Only files whose content changes are written, so that ``make`` has little to do.

        ``originals`` keeps what the tree had before the first edit; applying another version of the port starts
        from there. Raises Refusal, and then has written nothing.
        """
        self._check_own(tree, originals)
        *_, texts = self.steps(tree, originals)
        edited = texts.keys() - self.files.keys()
        outdated = _previous(originals) - texts.keys()
        for file in edited:
            _keep(tree, originals, file)
        _list(originals, outdated | texts.keys())  # first: whoever is cut short can be taken up again
        for file in outdated:
            _restore(tree, originals, file)
        for file, text in texts.items():
            _write(tree / file, text)
        _list(originals, set(texts))

    def steps(self, tree: Path, originals: Path) -> Iterator[dict[str, str]]:
        """The files that the port edits and brings: first as they were, then after each patch. Raises Refusal."""
        theirs = dict.fromkeys(edit.file for edit in self.edits if edit.file not in self.files)
        texts = {file: _original(tree, originals, file) for file in theirs}
        yield dict(texts)
        for patch in self.patches:
            texts |= {file: self.files[file] for file in patch.files}
            for edit in patch.edits:
                if edit.unless is None or not _has(tree, originals, edit.unless):
                    texts[edit.file] = applied(edit, texts[edit.file])
            yield dict(texts)

    def _check_own(self, tree: Path, originals: Path) -> None:
        for file in self.files:
            if (tree / file).exists() and file not in _previous(originals):
                raise Refusal(Code.UNSUPPORTED, f"{file} is in the kernel's source already", remedy=_REMEDY)


def read_edits(text: str) -> tuple[tuple[str, ...], tuple[Patch, ...]]:
    """The releases and the patches of an ``edits.toml``. Raises FormatError."""
    try:
        table = tomllib.loads(text)
        return tuple(table["releases"]), tuple(_patch(n, patch) for n, patch in enumerate(table["patch"]))
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as e:
        raise FormatError("edits.toml", 0, "patch", str(e)) from e


def applied(edit: Edit, text: str) -> str:
    """``text`` with the edit made. Raises Refusal when the anchor is missing or not unique, or the edit is there."""
    done = {"before": f"{edit.text}{edit.anchor}", "after": f"{edit.anchor}\n{edit.text}"}.get(edit.place)
    if done is not None and _contains(text, done):
        raise Refusal(Code.UNSUPPORTED, f"{edit.file} is edited already, at {edit.anchor!r}", remedy=_REMEDY)
    lines = text.splitlines(keepends=True)
    at = _find(edit, [line.strip() for line in lines])
    first, last = {"before": (at, at), "after": (at + 1, at + 1), "replace": (at, at + 1)}[edit.place]
    return "".join(lines[:first]) + edit.text + "".join(lines[last:])


_REMEDY = "start from an unmodified source of the version that the port names"


def _find(edit: Edit, lines: list[str]) -> int:
    if edit.within is None:
        return _only(edit, edit.anchor, lines)
    start = _only(edit, edit.within, lines) + 1
    for at in range(start, min(start + _REACH, len(lines))):
        if lines[at] == edit.anchor.strip():
            return at
    raise Refusal(Code.UNSUPPORTED, f"{edit.file}: no line {edit.anchor!r} behind {edit.within!r}", remedy=_REMEDY)


def _only(edit: Edit, wanted: str, lines: list[str]) -> int:
    found = [at for at, line in enumerate(lines) if line == wanted.strip()]
    if len(found) != 1:
        raise Refusal(Code.UNSUPPORTED, f"{edit.file} has {len(found)} lines {wanted!r}, not one", remedy=_REMEDY)
    return found[0]


def _contains(text: str, part: str) -> bool:
    """True if the lines of ``part`` come in ``text``, one after the other, blank lines apart."""
    have, want = ([line.strip() for line in t.splitlines() if line.strip()] for t in (text, part))
    return any(have[at : at + len(want)] == want for at in range(len(have) - len(want) + 1))


def _patch(number: int, table: dict[str, Any]) -> Patch:
    if set(table) - {"subject", "text", "files", "edit"}:
        raise FormatError("edits.toml", 0, ", ".join(table), f"patch {number} has subject, text, files and edits")
    edits = tuple(_edit(n, edit) for n, edit in enumerate(table.get("edit", ())))
    return Patch(table["subject"], table["text"], edits, tuple(table.get("files", ())))


def _check_files(patches: tuple[Patch, ...], own: dict[str, str]) -> None:
    """Each file of ours comes with one patch."""
    brought = sorted(file for patch in patches for file in patch.files)
    if brought != sorted(own):
        raise FormatError("edits.toml", 0, "files", f"patches bring {brought}, files/ holds {sorted(own)}")


def _edit(number: int, table: dict[str, Any]) -> Edit:
    known = {"file", "text", "within", "unless", *PLACES}
    places = [place for place in PLACES if place in table]
    words = [value for key, value in table.items() if key != "unless"]
    if len(places) != 1 or set(table) - known or any(not isinstance(value, str) for value in words):
        problem = f"edit {number} needs file, text and one of {', '.join(PLACES)}; it may have within, unless"
        raise FormatError("edits.toml", 0, ", ".join(table), problem)
    if "file" not in table or not table.get("text", "").strip():
        raise FormatError("edits.toml", 0, "text", f"edit {number} has no file or no text")
    unless = Line(**table["unless"]) if "unless" in table else None
    return Edit(table["file"], places[0], table[places[0]], table["text"], table.get("within"), unless)


def _previous(originals: Path) -> set[str]:
    listing = originals / ".files"
    return set(listing.read_text(encoding="utf-8").split()) if listing.exists() else set()


def _original(tree: Path, originals: Path, file: str) -> str:
    for folder in (originals, tree):
        if (folder / file).is_file():
            return (folder / file).read_text(encoding="utf-8")
    raise Refusal(Code.UNSUPPORTED, f"the kernel's source has no {file}", remedy=_REMEDY)


def _has(tree: Path, originals: Path, wanted: Line) -> bool:
    return wanted.line.strip() in map(str.strip, _original(tree, originals, wanted.file).splitlines())


def _list(originals: Path, files: set[str]) -> None:
    _write(originals / ".files", "".join(f"{file}\n" for file in sorted(files)))


def _keep(tree: Path, originals: Path, file: str) -> None:
    """Keep what the tree had before the first edit."""
    if not (originals / file).exists():
        _write(originals / file, (tree / file).read_text(encoding="utf-8"))


def _restore(tree: Path, originals: Path, file: str) -> None:
    if (originals / file).exists():
        _write(tree / file, (originals / file).read_text(encoding="utf-8"))
    else:
        (tree / file).unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)  # an original that is there is whole, also after a full disk


def lines_of(port: KernelPort) -> Iterator[str]:
    """Everything that decides what the port makes of a tree, as text: what a cache keys on."""
    yield from (repr(edit) for edit in port.edits)
    yield from (f"{name}\0{text}" for name, text in sorted(port.files.items()))
    yield port.config
