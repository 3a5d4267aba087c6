# SPDX-License-Identifier: Apache-2.0
"""What TAB offers, asked of the shells themselves: bash and zsh at a terminal, fish by ``complete -C``."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from hotbank import cli
from hotbank.cli import completion
from patience import HANG

PROGRAMS = Path(sys.executable).parent
MODEL = "hotbank -m model:arm-2009"
# Text and numbers that only the user knows; everything else is offered, or has a type that knows.
FREE = {
    "ADDRESS", "BLOCK_SIZE", "CMDLINE", "GROUP", "KEY=NUMBER", "KEY=VALUE", "NAME", "NAME,KEY=VALUE,...", "SIZE",
    "TEXT", "TIME", "VERSION", "VERSION,...", "WHEN", "WHY",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my.toml").write_text((Path(__file__).parents[2] / "boards/arm-2009.toml").read_text())
    (tmp_path / "run").mkdir(mode=0o700)
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    env = {**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "XDG_RUNTIME_DIR": str(folder / "run")}
    env |= {"HOME": str(folder), "TERM": "dumb", "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    env.pop("HOTBANK_MACHINE", None)
    return env


def script(shell: str, folder: Path) -> Path:
    """What is installed for a shell."""
    env = {**environment(folder), "_HOTBANK_COMPLETE": f"{shell}_source"}
    text = subprocess.run([PROGRAMS / "hotbank"], env=env, check=True, capture_output=True, text=True).stdout
    (folder / f"completion.{shell}").write_text(text)
    return folder / f"completion.{shell}"


def offered(line: str, env: dict[str, str]) -> list[str]:
    """By the program itself, as it answers a shell."""
    env = {**env, "_HOTBANK_COMPLETE": "fish_complete", "COMP_WORDS": line, "COMP_CWORD": line.rpartition(" ")[2]}
    done = subprocess.run([PROGRAMS / "hotbank"], env=env, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.referee
def test_fish(folder: Path) -> None:
    lines = {
        f"{MODEL} explain h": ["high"],
        f"{MODEL} remove --domain ": ["ddr-high"],
        "hotbank encode my": ["my.toml"],
        "hotbank list -o BANK,S": ["BANK,SIZE", "BANK,STATE", "BANK,SAVED"],
    }
    asked = "".join(f"echo '= {line}'; complete -C '{line}'\n" for line in lines)
    command = ["fish", "--no-config", "-c", f"source {script('fish', folder)}\n{asked}"]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=True)
    answers = dict(part.split("\n", 1) for part in done.stdout.split("= ")[1:])
    assert {line: sorted(answer.split()) for line, answer in answers.items()} == {
        line: sorted(values) for line, values in lines.items()
    }


@contextmanager
def terminal(folder: Path, *command: str) -> Iterator[int]:
    """A shell at a terminal of its own: the other end."""
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        command, cwd=folder, env=environment(folder), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        yield ours
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


def until(end: int, wanted: str) -> None:
    seen = b""
    while wanted not in seen.decode(errors="replace"):
        assert select.select([end], [], [], HANG)[0], f"no {wanted!r} in {seen!r}"
        seen += os.read(end, 1 << 16)


SHELLS = {
    "bash": ("bash", "--noprofile", "--norc", "-i"),
    "zsh": ("zsh", "-f", "-i"),
}
READY = {"bash": "", "zsh": "autoload -U compinit && compinit -D -u; "}


@pytest.mark.referee
@pytest.mark.parametrize("shell", SHELLS)
def test_bash_and_zsh(shell: str, folder: Path) -> None:
    sourced = script(shell, folder)
    with terminal(folder, *SHELLS[shell]) as end:
        os.write(end, f"PS1='> '; {READY[shell]}source {sourced} && echo rea''dy\n".encode())
        until(end, "ready")
        for line, rest in [(f"{MODEL} explain h", "igh"), ("hotbank encode my", ".toml"), ("hotbank up arm", "-2009")]:
            os.write(end, f"{line}\t".encode())
            until(end, f"{line}{rest}")
            os.write(end, b"\x15")  # Ctrl-U: the line is not for running
        if shell == "bash":  # which ends a word at the colon
            os.write(end, b"hotbank -m model:virt-arm3\t")
            until(end, "model:virt-arm32")


def test_what_is_offered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    env = environment(folder)
    assert offered("hotbank -m my", env) == []
    assert "plain,model:my.toml" in offered("hotbank -m model:m", env)
    assert "plain,memory20" in offered("hotbank -m model:my.toml plan memory2", env)
    assert offered("hotbank simulate my.toml --workload c", env) == ["plain,camera"]
    assert offered("hotbank -m unix:/nowhere explain h", env) == []
    assert offered("hotbank -m ssh:nowhere explain h", env) == []
    assert offered("hotbank decode m", env) == ["file,m"]


def recorded(name: str, folder: Path) -> None:
    """As if a machine of that name were up."""
    record = folder / "run/hotbank/named" / name / "current"
    record.parent.mkdir(parents=True)
    (folder / "run/hotbank").chmod(0o700)
    record.touch()


def test_names_of_machines_are_offered(folder: Path) -> None:
    recorded("one", folder)
    assert offered("hotbank down o", environment(folder)) == ["plain,one"]
    assert offered("hotbank console ", environment(folder)) == ["plain,one"]
    assert offered("hotbank -m up:", environment(folder)) == ["plain,up:one"]


def parameters(command: click.Command, path: str = "hotbank") -> Iterator[tuple[str, click.Parameter]]:
    for parameter in command.params:
        if not (isinstance(parameter, click.Option) and (parameter.is_flag or parameter.count)):
            yield path, parameter
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from parameters(below, f"{path} {name}")


def called(parameter: click.Parameter) -> set[str]:
    """Its name, and what help calls its value."""
    return {(parameter.name or "").upper(), (parameter.metavar or "").strip("[]")}


def knows(parameter: click.Parameter) -> bool:
    """True where something is offered, or its type tells a shell what it is, or it is a number."""
    kind = parameter.type
    itself = isinstance(kind, (click.Path, click.File, click.Choice)) or kind.name != "text"
    return itself or completion.offer_of(parameter) is not None


def test_every_value_is_offered_or_is_free_text() -> None:
    """``FREE`` are those that nobody can know."""
    unknown = {
        f"{path} {parameter.opts[0]} {parameter.metavar}"
        for path, parameter in parameters(cli.cli)
        if not knows(parameter) and FREE.isdisjoint(called(parameter))
    }
    assert unknown == set()


@pytest.mark.parametrize("value", completion.OFFERS)
def test_each_offer_offers_something(value: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "hotbank/kernels").mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder / "run"))
    recorded("one", folder)
    context = click.Context(cli.cli)
    context.params["machine"] = "model:arm-2009"
    assert completion.OFFERS[value](context, "")
