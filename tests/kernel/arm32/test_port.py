# SPDX-License-Identifier: Apache-2.0
"""The edit tool: a port is applied whole or not at all, and taken back without a trace."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank.boards_qemu.parts import kernel_port
from hotbank.boards_qemu.parts.kernel_build import port_folder
from hotbank.boards_qemu.parts.kernel_port import Edit, KernelPort, applied, read_edits
from hotbank.errors import FormatError, Refusal

SOURCE = "int f(void)\n{\n\treturn 0;\n}\n\nint g(void)\n{\n\treturn 0;\n}\n"
BEFORE_F = Edit("a.c", "before", "int f(void)", "/* ours */\n")
IN_G = Edit("a.c", "replace", "return 0;", "\treturn 1;\n", within="int g(void)")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small source tree."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a.c").write_text(SOURCE)
    return tmp_path / "tree"


def apply(tree: Path, *edits: Edit, files: dict[str, str] | None = None) -> None:
    """Make the tree that of a port with these edits and files."""
    KernelPort(edits, files or {}, "").apply(tree, tree.parent / "originals")


def contents(tree: Path) -> dict[str, str]:
    """Every file of a tree."""
    return {str(p.relative_to(tree)): p.read_text() for p in tree.rglob("*") if p.is_file()}


def test_text_goes_to_its_place() -> None:
    after = Edit("a.c", "after", "int f(void)", "/* behind */\n")
    assert applied(after, SOURCE) == SOURCE.replace("int f(void)\n", "int f(void)\n/* behind */\n")
    assert applied(IN_G, SOURCE) == SOURCE[: SOURCE.index("int g")] + "int g(void)\n{\n\treturn 1;\n}\n"
    assert applied(BEFORE_F, SOURCE) == "/* ours */\n" + SOURCE


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (Edit("a.c", "before", "int h(void)", "x\n"), SOURCE),
        (Edit("a.c", "before", "return 0;", "x\n"), SOURCE),
        (Edit("a.c", "before", "return 0;", "x\n", within="int h(void)"), SOURCE),
        (IN_G, "int g(void)\n" + "\n" * 60 + "return 0;\n"),
        (BEFORE_F, applied(BEFORE_F, SOURCE)),
        (IN_G, applied(IN_G, SOURCE)),
    ],
    ids=["no anchor", "two anchors", "no within", "anchor too far", "inserted already", "replaced already"],
)
def test_a_tree_that_does_not_fit_is_refused(edit: Edit, text: str) -> None:
    with pytest.raises(Refusal, match=r"a\.c"):
        applied(edit, text)


def test_a_refusal_writes_nothing(tree: Path) -> None:
    before = contents(tree)
    with pytest.raises(Refusal):
        apply(tree, BEFORE_F, Edit("b.c", "before", "x", "y\n"), files={"new.c": "new\n"})
    with pytest.raises(Refusal, match=r"a\.c is in the kernel's source already"):
        apply(tree, BEFORE_F, files={"a.c": "new\n"})
    assert contents(tree) == before


def test_another_port_starts_from_the_originals(tree: Path) -> None:
    """Whatever was applied before, the tree is that of the last port; an empty port gives the first tree back."""
    pristine = contents(tree)
    apply(tree, BEFORE_F, files={"d/new.c": "one\n"})
    assert contents(tree) == {"a.c": applied(BEFORE_F, SOURCE), "d/new.c": "one\n"}
    apply(tree, IN_G, files={"d/new.c": "two\n"})
    assert contents(tree) == {"a.c": applied(IN_G, SOURCE), "d/new.c": "two\n"}
    apply(tree)
    assert contents(tree) == pristine


@pytest.mark.parametrize("writes", range(8))
def test_whoever_is_cut_short_is_taken_up_again(tree: Path, writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After any number of writes: the same port again makes the tree whole, and an empty one gives the first back."""
    pristine, left = contents(tree), writes
    really = kernel_port._write

    def write(path: Path, text: str) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        really(path, text)

    monkeypatch.setattr(kernel_port, "_write", write)
    with suppress(KeyboardInterrupt):
        apply(tree, BEFORE_F, files={"new.c": "one\n"})
    monkeypatch.setattr(kernel_port, "_write", really)
    apply(tree, BEFORE_F, files={"new.c": "one\n"})
    assert contents(tree) == {"a.c": applied(BEFORE_F, SOURCE), "new.c": "one\n"}
    apply(tree)
    assert contents(tree) == pristine


def test_what_does_not_change_is_not_written(tree: Path) -> None:
    """``make`` goes by times: applying the same port again must not touch a file."""
    apply(tree, BEFORE_F, files={"new.c": "one\n"})
    times = {path: path.stat().st_mtime_ns for path in tree.rglob("*.c")}
    apply(tree, BEFORE_F, files={"new.c": "one\n"})
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*.c")} == times


LINES = st.lists(st.sampled_from(["a", "b", "c", "d", "  a", ""]), max_size=8)


@given(lines=LINES, anchor=st.sampled_from("abcd"), place=st.sampled_from(["before", "after"]))
def test_an_edit_made_twice_is_refused(lines: list[str], anchor: str, place: str) -> None:
    """And one that is made keeps every line that was there."""
    text = "".join(f"{line}\n" for line in lines)
    edit = Edit("f", place, anchor, "ours\n")
    if [line.strip() for line in lines].count(anchor) != 1:
        with pytest.raises(Refusal):
            applied(edit, text)
        return
    once = applied(edit, text)
    assert once.replace("ours\n", "") == text
    with pytest.raises(Refusal, match="edited already"):
        applied(edit, once)


@pytest.mark.parametrize(
    "text",
    [
        "[[edit]]\nfile = 'a'\ntext = 'x'",
        "[[edit]]\nfile = 'a'\nbefore = 'b'\nafter = 'c'\ntext = 'x'",
        "[[edit]]\nbefore = 'b'\ntext = 'x'",
        "[[edit]]\nfile = 'a'\nbefore = 'b'\ntext = ' '",
        "[[edit]]\nfile = 'a'\nbefore = 'b'\ntext = 'x'\nwhere = 'y'",
        "[[edit]]\nfile = 'a'\nbefore = 1\ntext = 'x'",
        "edit",
        "x = 1",
    ],
)
def test_a_bad_list_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match=r"edits\.toml"):
        read_edits(text)


def test_the_port_holds_no_text_of_the_kernel_but_anchors() -> None:
    """Each anchor is one line, our files are GPL-2.0, and every file of ours says so first."""
    port = KernelPort.load(port_folder("arm"))
    assert all("\n" not in line for edit in port.edits for line in (edit.anchor, edit.within or ""))
    for name, text in port.files.items():
        assert "SPDX-License-Identifier: GPL-2.0-only" in text.splitlines()[0], name
