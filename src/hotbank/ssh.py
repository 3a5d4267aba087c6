# SPDX-License-Identifier: Apache-2.0
"""A machine over ssh: ``ssh HOST hotbank serve --stdio``, and why there is none, in ssh's words or the peer's."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import IO

from hotbank.errors import Code, MachineError, ProtocolError, brief
from hotbank.remote import FileStream, Remote

PATIENCE = 10.0  # seconds of wall time for the far end's first word
_FAREWELL = 2.0  # seconds of wall time for ssh to end by itself
_KEPT = 1 << 13  # bytes of what was said last
_NOT_FOUND, _NOT_RUN = 127, 126  # the shell's exit status for a program that is not there, that can't be run
_NO_HOTBANK = re.compile(r"\bhotbank: .*not found\.?$|^sudo: hotbank ?: ", re.IGNORECASE)  # who has no status for it
_NO_LOGIN = re.compile(r"account is .*not available|nologin|not allow\w* to log in", re.IGNORECASE)
_IN_PASSING = re.compile(  # what ssh and shells say and do not end by
    r"Warning: Permanently added|debug1:|\*\* |X11 forwarding request failed|.*\bsetlocale: |sudo: unable to resolve"
)
_AFTERWARDS = (
    re.compile(  # what ssh says when what it reaches the machine by has failed (ProxyJump), after that one's words
        r"(?:kex|ssh)_exchange_identification: Connection closed|Connection closed by UNKNOWN|stdio forwarding failed"
    )
)
_SUDO = re.compile(r"\[sudo\]|sudo: ")
_REFUSED_USER = re.compile(r"(?P<who>[^\s:]+): Permission denied")

# What ssh says (ssh.c, sshconnect.c, packet.c), and what helps.
_REMEDIES: Mapping[str, str] = {
    r"Unable to negotiate": "allow what it offers in ~/.ssh/config (HostKeyAlgorithms, KexAlgorithms, Ciphers)",
    r"Connection refused": "start its ssh server, or name its port in ~/.ssh/config",
    r"resolve hostname": "check the name, or give it an address in ~/.ssh/config",
    r"Too many authentication failures": "name the one key for it in ~/.ssh/config (IdentityFile, IdentitiesOnly yes)",
    r"Permission denied": "let this user in by a key: ssh-copy-id {host}",
    r"[Hh]ost key|REMOTE HOST IDENTIFICATION": "run ssh {host} once by hand, and look at its key",
    r"timed out|No route|unreachable": "see that it is on and that a way leads there",
}
_BEFORE_THE_LAST: Mapping[str, str] = {
    "REMOTE HOST IDENTIFICATION HAS CHANGED": "if it was set up anew, ssh-keygen -R {host}, then run ssh {host} once "
    "by hand and look at its key; if not, somebody stands between",
    "UNPROTECTED PRIVATE KEY": "take others' rights off that key (chmod 600); which one, ssh {host} tells",
}
_NO_PASSWORD = "let sudo there run hotbank without a password (NOPASSWD, see sudoers(5)), or log in as who needs none"
_INSTALL = "install hotbank there, where a shell that nobody logged in to finds it (its PATH: ssh {host} env)"
_RUNNABLE = "see to its rights and its interpreter there: ssh {host} hotbank --version"
_SHELL = "log in as a user who has a shell there: ssh:USER@{host}"
_QUIET = "let shells there print nothing when nobody has logged in (~/.bashrc, ForceCommand)"
_TRY = "see what this says: ssh {host} hotbank --version"
_SILENT = "see what this says: ssh {host} hotbank --version; --timeout waits longer"


class SshStream(FileStream):
    """The link. A Ctrl-C is not for ssh: the order it interrupts is told over the link.

    ``heard``: the beginning of what came. What ssh or the shell there complains of is kept for ``complaint``.
    """

    def __init__(self, host: str) -> None:
        argv = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", "ssh", "-T", "--", host, "hotbank serve --stdio"]
        pipe = subprocess.PIPE
        self._ssh = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe)
        assert self._ssh.stdin is not None
        assert self._ssh.stdout is not None
        assert self._ssh.stderr is not None
        super().__init__(self._ssh.stdout, self._ssh.stdin)
        self.heard, self._errors = b"", b""
        self._listener = threading.Thread(target=self._listen, args=(self._ssh.stderr,), daemon=True)
        self._listener.start()

    def read(self, size: int) -> bytes:
        """Some bytes, none at the end; the first ones are remembered."""
        data = super().read(size)
        self.heard += data[: max(0, _KEPT - len(self.heard))]
        return data

    @property
    def status(self) -> int | None:
        """ssh's exit status, which is that of the command there, or 255; None while it runs."""
        return self._ssh.poll()

    def complaint(self) -> str:
        """The last line on standard error that tells why."""
        lines = (line.strip() for line in self.errors.splitlines())
        telling = [line for line in lines if line and not _IN_PASSING.match(line)]
        causes = [line for line in telling if not _AFTERWARDS.match(line)]
        return (causes or telling or [""])[-1]

    @property
    def errors(self) -> str:
        """What ssh and the shell there said on standard error, the last of it."""
        return self._errors.decode("utf-8", "replace")

    def close(self) -> None:
        """Hang up, and let ssh end."""
        with suppress(OSError):  # what was not sent yet has nowhere to go
            super().close()
        try:
            self._ssh.wait(_FAREWELL)
        except subprocess.TimeoutExpired:
            self._ssh.terminate()
            self._ssh.wait()
        self._listener.join(_FAREWELL)

    def _listen(self, errors: IO[bytes]) -> None:
        with suppress(OSError, ValueError), errors:
            while data := errors.readline(_KEPT):
                self._errors = (self._errors + data)[-_KEPT:]


def connect(host: str, *, patience: float = PATIENCE) -> Remote:
    """The machine that ``hotbank serve --stdio`` owns at the far end. ``patience``: seconds for its first word.

    ``ssh`` may ask for a passphrase on the terminal within that time. Raises MachineError, and what the owner refuses.
    """
    if shutil.which("ssh") is None:
        raise MachineError(
            f"ssh:{host} can't be reached: there is no ssh here", code=Code.SYSTEM_ERROR, remedy="install an ssh client"
        )
    stream = SshStream(host)
    try:
        return Remote(stream, patience=patience, gone=_TRY.format(host=host))
    except (MachineError, ProtocolError) as e:
        if stream.heard.lstrip().startswith(b'{"'):  # hotbank spoke, and what it said is the answer
            raise
        raise _why_not(host, stream, patience, silent=isinstance(e.__cause__, TimeoutError)) from e


def _why_not(host: str, stream: SshStream, patience: float, *, silent: bool) -> MachineError:
    """From what was heard, in one line with a remedy."""
    said, complaint = stream.heard.decode("utf-8", "replace").strip(), stream.complaint()
    asked = next((text for text in (said, complaint) if _SUDO.match(text)), None)
    if _NO_LOGIN.search(said) and (stream.status or 0) > 0:  # a banner may say that as well, where hotbank runs
        what, remedy = f"lets nobody in: {brief(said.splitlines()[0])}", _SHELL
    elif asked is not None and not _NO_HOTBANK.search(asked):
        what, remedy = f"can't start hotbank: {asked.splitlines()[0]}", _NO_PASSWORD
    elif said:
        what, remedy = f"greets with {brief(said.splitlines()[0])} where hotbank should speak", _QUIET
    elif silent:
        what, remedy = f"gave no word in {patience:g} s" + (f": {complaint}" if complaint else ""), _SILENT
    elif stream.status == _NOT_FOUND or _NO_HOTBANK.search(complaint):
        what, remedy = f"has no hotbank: {complaint or 'command not found'}", _INSTALL
    elif stream.status == _NOT_RUN:
        what, remedy = f"has a hotbank that can't be run: {complaint}", _RUNNABLE
    else:
        what = f"can't be reached: {complaint or f'ssh ended with status {stream.status}'}"
        remedy = _remedy(stream.errors, complaint)
    return MachineError(f"ssh:{host} {what}", remedy=remedy.format(host=host))


def _remedy(errors: str, complaint: str) -> str:
    user = _REFUSED_USER.match(complaint)
    if user and _AFTERWARDS.search(errors):
        return f"let this user in by a key: ssh-copy-id {user['who']}"
    fits = [help_ for said, help_ in _BEFORE_THE_LAST.items() if said in errors]
    fits += [help_ for said, help_ in _REMEDIES.items() if re.search(said, complaint)]
    return (fits or [_TRY])[0]
