# SPDX-License-Identifier: Apache-2.0
"""The line about time at the end of a run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path


def test_a_test_that_takes_its_process_with_it_is_counted(tmp_path: Path) -> None:
    for name in ("conftest.py", "effort.py"):
        shutil.copy(Path(__file__).with_name(name), tmp_path)
    (tmp_path / "test_end.py").write_text("import os\n\n\ndef test_end():\n    os._exit(3)\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-n", "1", "-p", "no:benchmark", str(tmp_path)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert re.search("^wall time: .*crashed", ended.stdout, re.MULTILINE)
    assert "1 failed" in ended.stdout
