# SPDX-License-Identifier: Apache-2.0
"""The kernel's own words in a refusal: only those that came meanwhile, only those that tell something."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from host.captured_trees import MEMORY, Made, MadeBlock, write
from host.test_writes import hanging
from hotbank.errors import KernelError
from hotbank.host import Host
from hotbank.host.klog import listening
from hotbank.host.tree import Tree

OLD = "6,1,100,-;Offlined Pages 32768\n SUBSYSTEM=memory\n"
VETO = "4,2,200,-;Boot memory [50000000 58000000] offlining attempted\n SUBSYSTEM=memory\n"
OTHER = "6,3,300,-;eth0: link up\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(Made((MadeBlock(8),)).at(tmp_path), {"dev/kmsg": OLD})


def say(root: Path, text: str) -> None:
    with (root / "dev/kmsg").open("a") as log:
        log.write(text)


def test_only_new_lines_that_speak_of_memory(root: Path) -> None:
    with listening(Tree(str(root))) as log:
        assert log.telling() == ""
        say(root, VETO + OTHER + VETO)
        assert log.telling() == "Boot memory [50000000 58000000] offlining attempted"


def test_no_log_is_no_words(tmp_path: Path) -> None:
    with listening(Tree(str(tmp_path))) as log:
        assert log.telling() == ""


def test_a_refusal_carries_them_and_stays_what_it_was(root: Path) -> None:
    host = Host(root)
    with hanging(root / MEMORY / "memory8/state"):
        speaker = threading.Timer(0.05, say, (root, "4,4,400,-;migrating pfn 50000 failed ret:2048\n"))
        speaker.start()
        with pytest.raises(KernelError) as caught:
            host.offline(8, host.clock.now() + 1)
        speaker.join()
    assert caught.value.detail.endswith("; kernel log: migrating pfn 50000 failed ret:2048")
    assert "deadline passed" in caught.value.detail
    assert "\n" not in str(caught.value)
