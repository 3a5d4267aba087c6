# SPDX-License-Identifier: Apache-2.0
"""Pages that stand by themselves: one file with style, program and data in it, which asks for nothing else.

The program is the modules of ``static``, each behind those that it imports, without the lines by which they find each
other. A policy in the page (CSP, by digest) lets nothing run but them.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([a-z]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)
_STYLES = ("uplot/uPlot.min.css", "base.css", "report.css")
_FRAME = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{style}</style>
<main></main>
<noscript>This page draws itself: it needs JavaScript, and nothing from elsewhere.</noscript>
<script type="application/json" id="document">{data}</script>
<script>{library}</script>
<script type="module">{program}</script>
</html>
"""


def simulation(document: dict[str, Any]) -> str:
    """The page of what ``hotbank simulate --json`` prints."""
    manifest = document["manifest"]
    return _page(f"{manifest['board']}, {manifest['load']}: hotbank simulate", "simulate.js", document)


def comparison(document: dict[str, Any]) -> str:
    """The page of what ``hotbank compare --json`` prints."""
    return _page(f"{document['machine']}: hotbank compare", "compare.js", document)


def write(path: str, page: str) -> None:
    """Raises OSError."""
    Path(path).write_text(page, encoding="utf-8")


def text(name: str) -> str:
    """A file of ``static``."""
    return files("hotbank.web").joinpath("static", name).read_text(encoding="utf-8")


def bundle(name: str) -> str:
    """A module with all that it imports, as one."""
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", text(module))) for module in dict.fromkeys(_in_order(name)))


def _in_order(name: str) -> Iterator[str]:
    """A module behind those that it imports; one that several import comes again."""
    for needed in _IMPORT.findall(text(name)):
        yield from _in_order(needed)
    yield name


def _page(title: str, program: str, document: dict[str, Any]) -> str:
    style, library, module = "\n".join(map(text, _STYLES)), text("uplot/uPlot.iife.min.js"), bundle(program)
    parts = {"style": style, "library": library, "program": module}
    return _FRAME.format(
        title=html.escape(title), policy=_policy(style, library, module), data=_data(document), **parts
    )


def _data(document: dict[str, Any]) -> str:
    """JSON in which no character can end the element around it."""
    return json.dumps(document).replace("<", "\\u003c")


def _policy(style: str, *scripts: str) -> str:
    allowed = " ".join(map(_digest, scripts))
    return f"default-src 'none'; style-src {_digest(style)}; script-src {allowed}; base-uri 'none'; form-action 'none'"


def _digest(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
