# SPDX-License-Identifier: Apache-2.0
"""Rules of udev that put added blocks online, in the forms that distributions and people write them."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from host.captured_trees import Made, MadeBlock, write
from hotbank.host import globs
from hotbank.host.doctor import examine
from hotbank.host.rules import parse
from hotbank.host.tree import Tree
from hotbank.host.udev import FOLDERS, Onlining, onlinings

DATA = Path(__file__).parents[1] / "data" / "field"
LIBC = ctypes.CDLL(None)
# Form → rules in which WORD is what is written, and the place of the rule that writes it, from 0.
FORMS: dict[str, tuple[str, int]] = {
    "one line": ('SUBSYSTEM=="memory", ACTION=="add", ATTR{state}="WORD"', 0),
    "one line, other order": ('ACTION=="add" , SUBSYSTEM == "memory" , ATTR{state} = "WORD"', 0),
    "asked first": ('SUBSYSTEM=="memory", ACTION=="add", ATTR{state}=="offline", ATTR{state}="WORD"', 0),
    "by a pattern": ('SUBSYSTEM=="mem*|cpu", KERNEL=="memory[0-9]*", ATTR{state}=="off*", ATTR{state}="WORD"', 0),
    "by its path": ('DEVPATH=="/devices/system/memory/memory*", ACTION=="add|change", ATTR{state}="WORD"', 0),
    "what is tested": ('SUBSYSTEM=="memory", TEST=="state", ATTR{state}!="online", ATTR{state}="WORD"', 0),
    "without commas": ('SUBSYSTEM=="memory" ACTION=="add" ATTR{state}="WORD"', 0),
    "case does not matter": ('SUBSYSTEM==i"MEMORY", ACTION==i"Add", ATTR{state}="WORD"', 0),
    "continued": ('SUBSYSTEM=="memory", \\\n  ACTION=="add", \\\n  ATTR{state}="WORD"', 0),
    "jump": (
        'SUBSYSTEM!="memory", GOTO="end"\nACTION!="add", GOTO="end"\nATTR{state}=="offline", ATTR{state}="WORD"\n'
        'LABEL="end"',
        2,
    ),
    "variable": ('ENV{.how}="WORD"\nSUBSYSTEM=="memory", ACTION=="add", ATTR{state}="$env{.how}"', 1),
    "variable in another form": ('ENV{.how}="WORD"\nSUBSYSTEM=="memory", ACTION=="add", ATTR{state}="%E{.how}"', 1),
    "shell": ("""SUBSYSTEM=="memory", ACTION=="add", RUN+="/bin/sh -c 'echo WORD > /sys$devpath/state'\"""", 0),
    "shell, by its name": (
        """SUBSYSTEM=="memory", ACTION=="add", RUN{program}+="/bin/sh -c 'echo WORD > $sys%p/state'\"""",
        0,
    ),
    "script": ('SUBSYSTEM=="memory", ACTION=="add", RUN+="/usr/local/bin/plug %k"', 0),
    "added to": ('SUBSYSTEM=="memory", ATTR{state}+="WORD"', 0),
    "for good": ('SUBSYSTEM=="memory", ATTR{state}:="WORD"', 0),
    "a class": ('SUBSYSTEM=="memory", KERNEL=="memory[[:digit:]]*", ATTR{state}="WORD"', 0),
    "a caret": ('SUBSYSTEM=="memory", KERNEL!="[^m]*", KERNEL=="memory[^x-z]*", ATTR{state}="WORD"', 0),
    "escaped": ('SUBSYSTEM==e"mem\\x6fry", ATTR{state}=e"WORD"', 0),
    "cut within a word": ('SUBSYSTEM=="memory", ATTR{sta\\\n  te}="WORD"', 0),
    "a comment in between": ('SUBSYSTEM=="memory", \\\n # of all\n  ATTR{state}="WORD"', 0),
    "continued by an empty line": ('SUBSYSTEM=="memory", ATTR{state}="WORD" \\\n', 0),
    "cut by a blank": ('SUBSYSTEM=="memory", \\ \n  ATTR{state}="WORD"', 1),
    "written before it is asked": ('ATTR{state}="WORD", SUBSYSTEM=="memory"', 0),
    "used before it is set": ('SUBSYSTEM=="memory", ATTR{state}="$env{HOW}", ENV{HOW}="WORD"', 0),
    "variable that is added to": ('ENV{HOW}+="WORD"\nSUBSYSTEM=="memory", ATTR{state}="$env{HOW}"', 1),
    "not empty": ('SUBSYSTEM=="memory", KERNEL=="?*", ATTR{state}=="?*", ATTR{state}="WORD"', 0),
    "perhaps empty": ('SUBSYSTEM=="memory|cpu", DRIVER=="|x", ATTR{state}="WORD"', 0),
    "an option of long ago": ('SUBSYSTEM=="memory", OPTIONS="last_rule", ATTR{state}="WORD"', 0),
}
PLAIN = {
    "boolean": ('SUBSYSTEM=="memory", ACTION=="add", ATTR{online}="1"', 0),
    "boolean, asked first": ('SUBSYSTEM=="memory", ATTR{online}=="0", ATTR{online}="1"', 0),
    "shell, boolean": ("""SUBSYSTEM=="memory", RUN+="/bin/sh -c 'echo 1 > /sys%p/online'\"""", 0),
    "chmem": ('SUBSYSTEM=="memory", ACTION=="add", RUN+="/usr/bin/chmem -e 128M"', 0),
    "chmem, flags together": ('SUBSYSTEM=="memory", ACTION=="add", RUN+="/usr/bin/chmem -be 12-19"', 0),
    "yes": ('SUBSYSTEM=="memory", ACTION=="add", ATTR{online}="yes"', 0),
}
HARMLESS = {
    "another subsystem": 'SUBSYSTEM=="cpu", ACTION=="add", TEST=="online", ATTR{online}=="0", ATTR{online}="1"',
    "removed": 'SUBSYSTEM=="memory", ACTION=="remove", ATTR{state}="online"',
    "comment": '# SUBSYSTEM=="memory", ATTR{state}="online"',
    "movable": 'SUBSYSTEM=="memory", ACTION=="add", ATTR{state}="online_movable"',
    "movable first": 'SUBSYSTEM=="memory", ATTR{state}="online_movable"\nSUBSYSTEM=="memory", ATTR{state}=="offline", '
    'ATTR{state}="online"',
    "jumped over": 'GOTO="end"\nSUBSYSTEM=="memory", ATTR{state}="online"\nLABEL="end"',
    "only of another architecture": 'CONST{arch}!="s390*", GOTO="end"\nSUBSYSTEM=="memory", ATTR{state}="online"\n'
    'LABEL="end"',
    "asked only": 'SUBSYSTEM=="memory", ATTR{state}=="online", ENV{X}="1"',
    "offline": 'SUBSYSTEM=="memory", ATTR{state}="offline"',
    "program that does something else": 'SUBSYSTEM=="memory", ACTION=="add", RUN+="/bin/logger added %k"',
    "taken back": 'SUBSYSTEM=="memory", RUN+="/usr/bin/chmem -e 1"\nSUBSYSTEM=="memory", RUN=""',
    "nonsense": 'SUBSYSTEM=="memory", ATTR{state}=online',
    "given instead of asked": 'SUBSYSTEM="memory", ACTION=="add", ATTR{state}="online"',
    "an action that is given": 'SUBSYSTEM=="memory", ACTION="add", ATTR{state}="online"',
    "a key of long ago": 'SUBSYSTEM=="memory", WAIT_FOR="state", ATTR{state}="online"',
    "taken away": 'SUBSYSTEM=="memory", ATTR{state}-="online"',
    "a blank before the braces": 'SUBSYSTEM=="memory", ATTR {state}="online"',
    "nothing in the braces": 'SUBSYSTEM=="memory", ATTR{}="online"',
    "braces too many": 'SUBSYSTEM{x}=="memory", ATTR{state}="online"',
    "a folded value that is written": 'SUBSYSTEM=="memory", ATTR{state}=i"online"',
    "an escape that there is not": 'SUBSYSTEM=="memory", ATTR{state}=e"\\qonline"',
    "a blank of a web page": 'SUBSYSTEM=="memory",\N{NO-BREAK SPACE}ATTR{state}="online"',
    "a value that never ends": 'SUBSYSTEM=="memory", ATTR{state}="online", ENV{X}="y\\"',
    "continued by nothing": 'SUBSYSTEM=="memory", ATTR{state}="online" \\',
    "a label that asks": 'LABEL=="x", SUBSYSTEM=="memory", ATTR{state}="online"',
    "a property that nobody may set": 'SUBSYSTEM=="memory", ENV{ACTION}="add", ATTR{state}="online"',
    "another file": 'SUBSYSTEM=="memory", ATTR{power/state}="online"',
    "a class that does not hold": 'SUBSYSTEM=="memory", KERNEL=="memory[[:alpha:]]*", ATTR{state}="online"',
    "words in a row": 'ENV{HOW}="no"\nENV{HOW}+="online"\nSUBSYSTEM=="memory", ATTR{state}="$env{HOW}"',
}
ONLINE = 'SUBSYSTEM=="memory", ATTR{state}="online"\n'
OPEN = {
    "all but one": 'SUBSYSTEM=="memory", KERNEL!="memory5", ATTR{state}="online"',
    "all but those of the board": 'SUBSYSTEM=="memory", KERNEL!="memory1?|memory2[0-4]", ATTR{state}="online"',
    "some by the path": 'SUBSYSTEM=="memory", DEVPATH=="*/memory1?", ATTR{state}="online"',
    "one by the path": 'ENV{DEVPATH}=="/devices/system/memory/memory64", ATTR{state}="online"',
    "one": 'SUBSYSTEM=="memory", KERNEL=="memory123", ATTR{state}="online"',
    "all but one kind": 'SUBSYSTEM=="memory", KERNEL=="*[!3]|*[!3]?3", ATTR{state}="online"',
    "program that may fail": 'SUBSYSTEM=="memory", IMPORT{program}="/bin/false", ATTR{state}="online"',
    "word that may be missing": 'SUBSYSTEM=="memory", IMPORT{cmdline}!="keep_off", ATTR{state}="online"',
    "what a program says is written": 'SUBSYSTEM=="memory", PROGRAM="/bin/how", ATTR{state}="%c"',
    "its second word": 'SUBSYSTEM=="memory", PROGRAM="/bin/how %k", ATTR{state}="$result{2}"',
    "what a program gives is written": 'IMPORT{program}="/bin/how"\nSUBSYSTEM=="memory", ATTR{state}="$env{HOW}"',
    "what a file says is written": 'SUBSYSTEM=="memory", ATTR{state}="$attr{wanted}"',
    "a file of some mode": 'SUBSYSTEM=="memory", TEST{0111}=="state", ATTR{state}="online"',
    "another block": 'SUBSYSTEM=="memory", ATTR{[memory/memory7]state}="online"',
    "what a program gives": 'IMPORT{program}="/bin/how"\nSUBSYSTEM=="memory", ENV{HOW}=="x", ATTR{state}="online"',
}
NO_JUMP = {
    "no label": 'SUBSYSTEM=="memory", GOTO="nowhere"\n' + ONLINE,
    "label above": 'LABEL="above"\nSUBSYSTEM=="memory", GOTO="above"\n' + ONLINE,
    "its own label": 'LABEL="own", GOTO="own"\n' + ONLINE,
    "label in a line that is none": 'GOTO="end"\n' + ONLINE + 'LABEL="end", nonsense',
}
ROUND_IT = 'SUBSYSTEM=="net", ACTION=="add", NAME="lan%n"\n# about memory\n\n'
SCRIPT = "#!/bin/sh\necho WORD > /sys/devices/system/memory/$1/state\n"


def tree(root: Path, files: dict[str, str]) -> Tree:
    return Tree(write(root, {"proc/sys/kernel/arch": "x86_64\n", **files}))


def found(root: Path, text: str, *, folder: str = FOLDERS[3], name: str = "40-memory.rules") -> tuple[Onlining, ...]:
    return onlinings(tree(root, {f"{folder}/{name}": text}))


@examples(60)
@given(
    st.sampled_from([*FORMS, *PLAIN]),
    st.sampled_from(["online", "online_kernel", "online_movable"]),
    st.sampled_from(FOLDERS),
    st.sampled_from(["00-a.rules", "40-redhat.rules", "z.rules"]),
    st.integers(0, 2),
)
def test_every_form_is_found(
    tmp_path_factory: pytest.TempPathFactory, form: str, word: str, folder: str, name: str, before: int
) -> None:
    rules, place = (FORMS | PLAIN)[form]
    text = ("\n" + ROUND_IT) * before + rules.replace("WORD", word) + "\n" + ROUND_IT
    files = {f"{folder}/{name}": text, "usr/local/bin/plug": SCRIPT.replace("WORD", word)}
    (one,) = onlinings(tree(tmp_path_factory.mktemp("t"), files))
    assert one.sure
    assert one.word == (word if form in FORMS else "online")
    assert (one.rule.file, one.rule.line) == (f"{folder}/{name}", before * 4 + place + 1)
    assert one.rule.last == one.rule.line + (rules.count("\n") if "\\\n" in rules else 0)


@pytest.mark.parametrize("what", HARMLESS)
def test_what_does_nothing_to_added_blocks_is_left_alone(tmp_path: Path, what: str) -> None:
    assert [one.word for one in found(tmp_path, HARMLESS[what] + "\n") if one.word != "online_movable"] == []


@pytest.mark.parametrize("what", OPEN)
def test_what_is_open_may_act(tmp_path: Path, what: str) -> None:
    assert [(one.word, one.sure) for one in found(tmp_path, OPEN[what] + "\n")] == [("online", False)]


@pytest.mark.parametrize("what", NO_JUMP)
def test_a_jump_without_its_label_below_is_none(tmp_path: Path, what: str) -> None:
    assert [one.word for one in found(tmp_path, NO_JUMP[what] + "\n")] == ["online"]


@examples(300)
@given(
    st.lists(st.sampled_from(["*", "?", "[", "]", "[!", "[^", "-", "\\", "[:digit:]", "[[:alpha:]]", *"m07|."])).map(
        "".join
    ),
    st.text("m07]-^!\\", max_size=4),
)
def test_patterns_are_those_of_the_c_library(pattern: str, text: str) -> None:
    assert globs.matches(pattern, text) == (LIBC.fnmatch(pattern.encode(), text.encode(), 0) == 0)


_WILD = st.sampled_from(["*", "?", "[0-4]", "[!3]", "[^3]", "[[:digit:]]", "[57]", *"0123456789"])
_NAMES = st.tuples(st.sampled_from(["memory", "mem*", "*", "??????", "cpu"]), st.lists(_WILD, max_size=3).map("".join))


@examples(60)
@given(st.lists(_NAMES.map("".join), min_size=1, max_size=2), st.booleans(), st.booleans())
def test_a_pattern_holds_for_all_blocks_for_none_or_is_open(
    tmp_path_factory: pytest.TempPathFactory, patterns: list[str], path: bool, same: bool
) -> None:
    """Held against every block there is on a machine with 2000 of them."""
    key, lead, folder = ("DEVPATH", "*/", "/devices/system/memory/") if path else ("KERNEL", "", "")
    asked = [lead + pattern for pattern in patterns]
    hits = {any(globs.matches(one, f"{folder}memory{n}") for one in asked) == same for n in range(2000)}
    rule = f'SUBSYSTEM=="memory", {key}{"==" if same else "!="}"{"|".join(asked)}", ATTR{{state}}="online"\n'
    told = [one.sure for one in found(tmp_path_factory.mktemp("t"), rule)]
    assert told == ([] if hits == {False} else [hits == {True}])


def test_a_distribution_in_which_the_machine_decides(tmp_path: Path) -> None:
    text = (DATA / "40-goto-form.rules").read_text()
    told = found(tmp_path, text)
    assert {(one.word, one.rule.line, one.sure) for one in told} == {("online", 8, False), ("online_movable", 8, False)}
    write(tmp_path, {"proc/sys/kernel/arch": "s390x\n"})
    assert onlinings(Tree(tmp_path)) == ()


RHEL7 = """# Memory hotadd request
SUBSYSTEM!="memory", ACTION!="add", GOTO="memory_hotplug_end"
PROGRAM="/bin/uname -p", RESULT=="s390*", GOTO="memory_hotplug_end"

PROGRAM="/usr/bin/systemd-detect-virt", RESULT=="none", ENV{.state}="online_movable", GOTO="memory_hotplug_set"
ENV{.state}="online"
LABEL="memory_hotplug_set"
ATTR{state}=="offline", ATTR{state}="$env{.state}"

LABEL="memory_hotplug_end"
"""
UBUNTU = """ATTR{[dmi/id]sys_vendor}=="Microsoft Corporation", \\
  ATTR{[dmi/id]product_name}=="Virtual Machine", GOTO="apply"
ATTR{[dmi/id]sys_vendor}=="Xen", GOTO="apply"
GOTO="end"

LABEL="apply"
SUBSYSTEM=="memory", ACTION=="add", DEVPATH=="/devices/system/memory/memory[0-9]*", TEST=="state", \\
  ATTR{state}!="online", ATTR{state}="online"
LABEL="end"
"""


def test_what_an_open_jump_may_leave_out_is_open(tmp_path: Path) -> None:
    told = found(tmp_path, RHEL7)
    assert {(one.word, one.rule.line, one.sure) for one in told} == {("online", 8, False), ("online_movable", 8, False)}
    skipped = 'PROGRAM=="/bin/known", GOTO="end"\n' + ONLINE + 'LABEL="end"\n'
    assert [one.sure for one in found(tmp_path, skipped)] == [False]
    assert [one.sure for one in found(tmp_path, skipped + ONLINE)] == [False, True]
    assert [one.sure for one in found(tmp_path, skipped.replace("online", "offline") + ONLINE)] == [True]


@pytest.mark.parametrize(
    ("vendor", "product", "sure"),
    [
        ("Microsoft Corporation", "Virtual Machine", [True]),
        ("Microsoft Corporation", "Surface", []),
        ("Xen", "HVM domU", [True]),
        ("Dell Inc.", "PowerEdge", []),
        (None, None, [False]),
    ],
)
def test_the_maker_of_the_machine_decides(
    tmp_path: Path, vendor: str | None, product: str | None, sure: list[bool]
) -> None:
    """Ubuntu's rule; a captured tree may lack what DMI says."""
    if vendor is not None:
        write(tmp_path, {"sys/class/dmi/id/sys_vendor": f"{vendor}\n", "sys/class/dmi/id/product_name": f"{product}\n"})
    assert [one.sure for one in found(tmp_path, UBUNTU)] == sure


@given(st.permutations(FOLDERS))
def test_the_earliest_folder_hides_the_others(tmp_path_factory: pytest.TempPathFactory, order: list[str]) -> None:
    """One file after another appears, each in another folder and under the same name."""
    root = tmp_path_factory.mktemp("t")
    for at, folder in enumerate(order):
        write(root, {f"{folder}/50-m.rules": f'SUBSYSTEM=="memory", ATTR{{state}}="online"\n#{at}\n'})
        (one,) = onlinings(Tree(root))
        assert one.rule.file == f"{min(order[: at + 1], key=FOLDERS.index)}/50-m.rules"
    write(root, {f"{FOLDERS[0]}/50-m.rules": ""})
    assert onlinings(Tree(root)) == ()


def test_a_hidden_file_is_none(tmp_path: Path) -> None:
    assert found(tmp_path, ONLINE, name=".40-memory.rules") == ()


def test_files_act_in_the_order_of_their_names(tmp_path: Path) -> None:
    first = 'SUBSYSTEM=="memory", ENV{HOW}="online_movable"\n'
    second = 'SUBSYSTEM=="memory", ATTR{state}="$env{HOW}"\n'
    write(tmp_path, {"lib/udev/rules.d/10-a.rules": first, "etc/udev/rules.d/20-b.rules": second})
    assert [one.word for one in onlinings(Tree(tmp_path))] == ["online_movable"]
    (tmp_path / "lib/udev/rules.d/10-a.rules").rename(tmp_path / "lib/udev/rules.d/30-a.rules")
    assert onlinings(Tree(tmp_path)) == ()


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_remedy_keeps_the_rest_of_the_file(tmp_path: Path, folder: str) -> None:
    rules = FORMS["continued"][0].replace("WORD", "online")
    text = ROUND_IT + rules + '\nSUBSYSTEM=="cpu", ATTR{online}="1"\n'
    (one,) = found(tmp_path, text, folder=folder)
    assert ("cp " in one.remedy) == (folder != FOLDERS[0])
    assert "lines 4 to 6 of /etc/udev/rules.d/40-memory.rules" in one.remedy
    lines = text.splitlines()
    lines[3:6] = [f"#{line}" for line in lines[3:6]]
    assert len(parse("\n".join(lines))) == len(parse(text)) - 1
    assert found(tmp_path, "\n".join(lines), folder=FOLDERS[0]) == ()


def test_the_doctor_says_file_and_line(tmp_path: Path) -> None:
    rules = {"lib/udev/rules.d/40-x.rules": ROUND_IT + FORMS["jump"][0].replace("WORD", "online")}
    root = Made((MadeBlock(8),), files=rules).at(tmp_path)
    (said,) = [one for one in examine(Tree(root)) if one.code == "UDEV_ONLINE"]
    assert said.message.startswith("/lib/udev/rules.d/40-x.rules:6 puts added blocks online")
    assert "ln -s /dev/null" not in said.remedy


@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from(['ATTR{a}="', '"', "\\", "\n", "GOTO=", "{", "$env{", "x"])).map("".join)
)
def test_any_text_is_read(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    root = tmp_path_factory.mktemp("t")
    (root / FOLDERS[0]).mkdir(parents=True)
    (root / FOLDERS[0] / "a.rules").write_text(text, errors="surrogatepass" if text.isascii() else "replace")
    onlinings(Tree(root))
