# SPDX-License-Identifier: Apache-2.0
"""The door of the pages: every call says who it is and where it comes from, or hears 403.

The token is the first part of every path, so that links, scripts, streams and forms carry it alike, and nothing of it
is kept in a cookie, which all ports of a machine share. ``Host`` must name this server (a name of somebody else's that
leads here, DNS rebinding, does not). ``Origin``, where there is one, must be this server's own, and whoever posts has
one. Without a token there is only the page that a reload of the cleared address comes to.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = "127.0.0.1"
NAMES = (LOOPBACK, "localhost")  # of this server in the address of a page
_TOKEN_BYTES = 32
_READS = ("GET", "HEAD")
_OURS = ("same-origin", "none")  # Sec-Fetch-Site of our own pages, and of an address that was typed
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_AGAIN = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>hotbank web</title>
<p>This page is behind an address of its own: open the one that <code>hotbank web</code> printed.</p>
<script src="/again.js"></script>
</html>
"""
_AGAIN_PROGRAM = """// A page that was open before knows where it was.
const place = sessionStorage.getItem("hotbank");
if (place) location.replace(place);
"""


def new_token() -> str:
    """Nobody guesses it."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


class Door:
    """Lets those in who know the token, and tells the pages behind it nothing of it. ``port``: where it is reached."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token = app, token.encode()
        self._hosts = frozenset(f"{name}:{port}" for name in NAMES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI calls it. What is no call, the beginning and the end, goes through; a websocket, which nobody has,
        does not."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        send = _with_headers(send)
        token, path = _parted(scope["path"])
        answer = self._refusal(scope) or (None if self._knows(token) else _without_token(scope))
        if answer is not None:
            await answer(scope, receive, send)
        else:
            await self._app({**scope, "path": path, "raw_path": path.encode()}, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        """What is wrong with where a call comes from, or goes to."""
        headers = Headers(scope=scope)
        host, origins = headers.get("host", ""), headers.getlist("origin")
        if host not in self._hosts or len(headers.getlist("host")) > 1:
            return _forbidden("Host: this server is reached by its own address only")
        wanted = [f"http://{host}"]
        if origins != wanted and (origins or scope["method"] not in _READS):
            return _forbidden("Origin: calls come from this server's own pages")
        if headers.get("sec-fetch-site", "none") not in _OURS:
            return _forbidden("Sec-Fetch-Site: calls come from this server's own pages")
        return None

    def _knows(self, token: str) -> bool:
        """Takes as long for each wrong one."""
        return hmac.compare_digest(token.encode(), self._token)


def _parted(path: str) -> tuple[str, str]:
    """The token, and the path behind it."""
    token, slash, rest = path.removeprefix("/").partition("/")
    return token, slash + rest


def _without_token(scope: Scope) -> Response:
    if scope["method"] in _READS and scope["path"] == "/":
        return HTMLResponse(_AGAIN, 403)
    if scope["method"] in _READS and scope["path"] == "/again.js":
        return Response(_AGAIN_PROGRAM, media_type="text/javascript")
    return _forbidden("open the address that hotbank web printed")


def _forbidden(why: str) -> Response:
    return PlainTextResponse(f"{why}\n", 403)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            _add(MutableHeaders(scope=message), HEADERS.items())
        await send(message)

    return sending


def _add(headers: MutableHeaders, more: Iterable[tuple[str, str]]) -> None:
    for name, value in more:
        headers[name] = value
