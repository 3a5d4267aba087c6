# SPDX-License-Identifier: Apache-2.0
"""``hotbank web`` as a user meets it, as far as no browser is needed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from hotbank.cli import run

WEB = [sys.executable, "-m", "hotbank", "-m", "model:arm-2009", "web"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_end(number: int) -> None:
    with subprocess.Popen(WEB, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as web:
        assert web.stdout is not None
        assert web.stderr is not None
        assert web.stdout.readline() == "machine model:arm-2009\n"
        address = web.stdout.readline().strip()
        with urllib.request.urlopen(address) as page, urllib.request.urlopen(f"{address}events") as stream:
            assert b"<canvas" in page.read()
            assert stream.readline().startswith(b"id: ")
            web.send_signal(number)
            assert web.wait() == 0
        assert web.stderr.read() == "whoever has this address may look; Ctrl-C ends it\n"


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["-m", "model:arm-2009", "web", "--port", str(port)]) == 1
    said = capsys.readouterr().err
    assert said == f"hotbank: SYSTEM_ERROR: port {port} of 127.0.0.1: EADDRINUSE; another --port, or none\n"


def test_without_the_extra() -> None:
    code = "import sys; sys.modules['uvicorn'] = None; from hotbank.cli import run; run(['web'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.startswith("hotbank: UNSUPPORTED: the page needs starlette and uvicorn")
    assert done.stderr.endswith("; pip install 'hotbank[web]'\n")


@pytest.mark.parametrize("words", [["list"], ["simulate", "arm-2009", "--workload", "camera", "--seconds", "1"]])
def test_nobody_else_imports_it(words: list[str]) -> None:
    code = f"import sys; from hotbank.cli import run; run(['-m', 'model:arm-2009', *{words}]); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert {name for name in loaded if name.partition(".")[0] in ("starlette", "uvicorn", "anyio", "h11")} == set()
    assert {name for name in loaded if name.startswith(("hotbank.web", "hotbank.watch"))} == set()
