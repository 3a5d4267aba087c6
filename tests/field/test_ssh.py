# SPDX-License-Identifier: Apache-2.0
"""Far ends that do not answer as they should: a fake ssh says what real ones say, hotbank why there is no machine."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from hotbank import ssh
from hotbank.cli import run
from hotbank.errors import Code, MachineError, Refusal
from hotbank.wire import encode_error

HELLO = '{"hotbank": 2, "pid": 7, "machine": "host", "can": []}'
CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Host key for board has changed and you have requested strict checking.
"""
PROXY = "kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN port 65535\r"
PASSING = """bash: warning: setlocale: LC_ALL: cannot change locale (de_DE.UTF-8)
** WARNING: connection is not using a post-quantum key exchange algorithm.
** The server may need to be upgraded. See https://openssh.com/pq.html"""
# What a far end does → the exit status of ssh, what goes to standard error, what hotbank says, and advises.
ENDS = {
    "refused": (255, "ssh: connect to host board port 22: Connection refused", "Connection refused", "ssh server"),
    "unknown": (255, "ssh: Could not resolve hostname board: Name or service not known", "resolve", "check the name"),
    "no key": (255, "me@board: Permission denied (publickey).", "Permission denied", "ssh-copy-id board"),
    "stranger": (255, "No ED25519 host key is known for board.\nHost key verification failed.", "Host key", "by hand"),
    "far away": (255, "ssh: connect to host board port 22: No route to host", "No route", "is on"),
    "slow": (255, "ssh: connect to host board port 22: Connection timed out", "timed out", "is on"),
    "no hotbank": (127, "bash: line 1: hotbank: command not found", "has no hotbank: bash: line 1", "install hotbank"),
    "no hotbank, by csh": (1, "hotbank: Command not found.", "has no hotbank", "install hotbank"),
    "no hotbank, by busybox": (127, "sh: hotbank: not found", "has no hotbank", "install hotbank"),
    "no right to run it": (126, "bash: line 1: /usr/bin/hotbank: Permission denied", "can't be run", "rights"),
    "its interpreter is gone": (
        126,
        "sh: /usr/bin/hotbank: bad interpreter: No such file",
        "can't be run",
        "interpreter",
    ),
    "too many keys": (
        255,
        "Received disconnect from 10.0.0.7 port 22:2: Too many authentication failures",
        "Too many",
        "IdentitiesOnly",
    ),
    "a host that was added": (
        0,
        "Warning: Permanently added 'board' (ED25519) to the list of known hosts.",
        "ended with status 0",
        "ssh board hotbank --version",
    ),
    "closed while it greets": (
        255,
        "kex_exchange_identification: Connection closed by remote host\nConnection closed by 10.0.0.7 port 22",
        "Connection closed",
        "ssh board hotbank --version",
    ),
    "another key than before": (
        255,
        "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
        "Host key",
        "by hand",
    ),
    "another key, in full": (255, f"{CHANGED}Host key verification failed.", "Host key", "ssh-keygen -R board"),
    "no key type in common": (
        255,
        "Unable to negotiate with 10.0.0.7 port 22: no matching host key type found. Their offer: ssh-rsa",
        "ssh-rsa",
        "HostKeyAlgorithms",
    ),
    "a key that all may read": (
        255,
        "@ WARNING: UNPROTECTED PRIVATE KEY FILE! @\nme@board: Permission denied (publickey).",
        "Permission denied",
        "chmod 600",
    ),
    "no way past the first": (
        255,
        f"ssh: Could not resolve hostname jump: Name or service not known\r\n{PROXY}",
        "hostname jump",
        "check the name",
    ),
    "not let in by the first": (255, f"me@jump: Permission denied (publickey).\r\n{PROXY}", "me@jump", "id me@jump"),
    "refused behind the first": (
        255,
        f"channel 0: open failed: connect failed: Connection refused\r\nstdio forwarding failed\r\n{PROXY}",
        "Connection refused",
        "ssh server",
    ),
    "a password for sudo": (
        1,
        "sudo: a terminal is required to read the password\nsudo: a password is required",
        "can't start hotbank: sudo: a password",
        "NOPASSWD",
    ),
    "sudo, in German": (1, "sudo: Ein Passwort ist notwendig", "can't start hotbank", "NOPASSWD"),
    "no hotbank, by sudo in German": (1, "sudo: hotbank: Befehl nicht gefunden", "has no hotbank", "install hotbank"),
    "what is no reason": (1, f"ImportError: no click\n{PASSING}", "ImportError", "ssh board hotbank --version"),
    "broken": (1, "ImportError: no click", "ImportError", "ssh board hotbank --version"),
    "no word": (0, "", "ended with status 0", "ssh board hotbank --version"),
}


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def put(folder: Path, script: str) -> None:
    (folder / "ssh").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "ssh").chmod(0o755)


@pytest.mark.parametrize("end", ENDS)
def test_why_there_is_no_machine(far: Path, end: str) -> None:
    status, errors, said, advice = ENDS[end]
    put(far, f"printf '%s\\n' {shlex.quote(errors)} >&2; exit {status}")
    with pytest.raises(MachineError) as caught:
        ssh.connect("board")
    assert str(caught.value).startswith("ssh:board ")
    assert "\n" not in str(caught.value)
    assert said in str(caught.value)
    assert advice in caught.value.remedy


@examples(15)
@given(st.text(st.characters(codec="ascii", exclude_characters="\n\r"), min_size=1, max_size=60), st.integers(0, 2))
def test_a_greeting_is_shown(tmp_path_factory: pytest.TempPathFactory, line: str, more: int) -> None:
    if not line.strip() or line.lstrip().startswith('{"'):
        return
    folder = tmp_path_factory.mktemp("far")
    (folder / "motd").write_text(line + "\n" * (more + 1))
    put(folder, f"cat {folder}/motd; echo '{HELLO}'; cat > /dev/null")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        with pytest.raises(MachineError) as caught:
            ssh.connect("board")
    assert "greets with" in str(caught.value)
    assert ".bashrc" in caught.value.remedy


@pytest.mark.parametrize("line", ["This account is currently not available.", "Account is locked: /usr/sbin/nologin"])
def test_an_account_without_a_shell_is_no_greeting(far: Path, line: str) -> None:
    put(far, f"echo '{line}'; exit 1")
    with pytest.raises(MachineError, match="lets nobody in") as caught:
        ssh.connect("board")
    assert "USER@board" in caught.value.remedy


def test_a_banner_that_forbids_is_a_greeting_where_hotbank_runs(far: Path) -> None:
    put(far, f"echo 'Strangers are not allowed to log in.'; echo '{HELLO}'; cat > /dev/null")
    with pytest.raises(MachineError, match="greets with") as caught:
        ssh.connect("board")
    assert ".bashrc" in caught.value.remedy


def test_a_silent_far_end(far: Path) -> None:
    put(far, "echo 'Warning: slow' >&2; exec sleep 600")
    with pytest.raises(MachineError, match=r"ssh:board gave no word in 0\.2 s") as caught:
        ssh.connect("board", patience=0.2)
    assert "--timeout" in caught.value.remedy


@pytest.mark.parametrize("where", ["", ">&2"])
def test_sudo_asks_where_nobody_answers(far: Path, where: str) -> None:
    put(far, f"printf '[sudo] Passwort für me: ' {where}; exit 1")
    with pytest.raises(MachineError, match="can't start hotbank") as caught:
        ssh.connect("board")
    assert "NOPASSWD" in caught.value.remedy


def test_what_hotbank_itself_says_there_is_the_answer(far: Path) -> None:
    (far / "said").write_text(json.dumps({"error": encode_error(Refusal(Code.NOT_PERMITTED, "not yours"))}))
    put(far, f"cat {far}/said; echo")
    with pytest.raises(Refusal, match="not yours"):
        ssh.connect("board")


def test_without_ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="there is no ssh here"):
        ssh.connect("board")


def test_on_the_command_line(far: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(far, "exec sleep 600")
    assert run(["-m", "ssh:board", "--timeout", "0.2", "list"]) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("hotbank: NO_MACHINE: ssh:board gave no word in 0.2 s")
    assert len(errors.splitlines()) == 1, errors
    assert run(["-m", "host", "--timeout", "5", "list"]) == 2
