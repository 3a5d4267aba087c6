# SPDX-License-Identifier: Apache-2.0
"""A wheel carries the man pages and the completions (beside.py), made from the program as it is built."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Beside(BuildHookInterface[Any]):
    """Units are left to ``make install``: a wheel can't put them where systemd reads them."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the files; of an editable install, which follows the source, none."""
        if version == "editable":
            return
        made = Path(self.root, "build", "wheel")
        shutil.rmtree(made, ignore_errors=True)
        path = os.pathsep.join([str(Path(self.root, "src")), *sys.path])
        script = Path(self.root, "packaging", "beside.py")
        subprocess.run([sys.executable, script, made], env={**os.environ, "PYTHONPATH": path}, check=True)
        build_data["shared_data"][str(made / "share")] = "share"
