# SPDX-License-Identifier: Apache-2.0
"""What the page may ask: the stream of frames, a moment of the record, a look, a plan; where it is allowed, changes.

An order is a plan that the page has shown, as ``hotbank plan --json`` has it: what would be refused of it there is
refused here, a machine that has changed under it too.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, cast

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from hotbank.documents import SCHEMA
from hotbank.errors import Code, FormatError, HotbankError, Refusal
from hotbank.numbers import decimal
from hotbank.operate import found
from hotbank.session import Session
from hotbank.watch import Feed
from hotbank.web.page import text
from hotbank.web.series import COLUMNS
from hotbank.web.viewers import MOST, Viewers

_LARGEST = 1 << 23  # bytes of what is posted: the plan of a large machine
_STATUS = {Code.NOT_PERMITTED: 403, Code.NO_SUCH_BANK: 404, Code.BAD_FORMAT: 400}
_CONFLICT = 409
_VERBS = ("remove", "add")
Handler = Callable[[dict[str, Any]], Any]


class Json(JSONResponse):
    """In ASCII, as the stream of frames is: names from elsewhere may have halves of characters, UTF-8 has none."""

    def render(self, content: Any) -> bytes:
        """As Starlette calls it."""
        return json.dumps(content).encode("ascii")


class Desk:
    """What is asked and ordered, of one machine. ``change``: whether anything is."""

    def __init__(self, session: Session, feed: Feed, *, change: bool) -> None:
        self._session, self._feed, self.change = session, feed, change

    def look(self, asked: dict[str, Any]) -> None:
        """Have the pages of a bank or block looked at; what came of it is in the frames."""
        self._feed.look(_text(asked, "name"))

    def plan(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The plan of an order. Raises Refusal."""
        verb = _text(asked, "verb")
        if verb not in _VERBS:
            raise FormatError("request", 0, "verb", f"{verb}: one of {', '.join(_VERBS)}")
        made = self._feed.plan(cast("Literal['remove', 'add']", verb), _text(asked, "name"))
        return made.document() | {"fact": made.fact}

    def order(self, asked: dict[str, Any]) -> None:
        """Have a plan carried out. Raises Refusal, FormatError for what is no plan."""
        self._check_allowed()
        there = found.of_plan(asked)
        if there.verb not in _VERBS:
            raise FormatError("request", 0, "verb", f"{there.verb}: one of {', '.join(_VERBS)}")
        self._feed.change(cast("Literal['remove', 'add']", there.verb), *there.targets, found=there)

    def interrupt(self, _: dict[str, Any]) -> None:
        """Have what runs rolled back."""
        self._check_allowed()
        self._feed.interrupt()

    def pause(self, _: dict[str, Any]) -> None:
        """Have the governor take nothing."""
        self._check_allowed()
        with self._session.again(change=True) as session:
            session.pause_auto()

    def resume(self, _: dict[str, Any]) -> None:
        """Have the governor go on."""
        self._check_allowed()
        with self._session.again(change=True) as session:
            session.resume_auto()

    def _check_allowed(self) -> None:
        if not self.change:
            what = "this page was opened for reading"
            raise Refusal(Code.NOT_PERMITTED, what, remedy="hotbank web --allow-changes")


def application(desk: Desk, viewers: Viewers) -> Starlette:
    """The pages and what they ask, for whoever is through the door."""

    @asynccontextmanager
    async def following(_: Starlette) -> AsyncIterator[None]:
        viewers.begin()
        yield

    async def page(_: Request) -> Response:
        return Response(text("live.html"), media_type="text/html")

    async def known(_: Request) -> Response:
        return Json({"columns": COLUMNS, "change": desk.change})

    async def events(request: Request) -> Response:
        if viewers.here >= MOST:
            return PlainTextResponse(f"{MOST} watch already\n", 503)
        stream = viewers.messages(request.headers.get("last-event-id"))
        return StreamingResponse(stream, media_type="text/event-stream")

    async def moment(request: Request) -> Response:
        at = decimal(request.query_params.get("at", ""))
        frame = None if at is None else viewers.feed.record.at(at)
        return PlainTextResponse("not recorded\n", 404) if frame is None else Json(frame.document())

    routes: list[BaseRoute] = [
        *(Route(path, answer) for path, answer in {"/": page, "/known": known, "/events": events}.items()),
        Route("/moment", moment),
        *(Route(f"/{act.__name__}", _posted(act), methods=["POST"]) for act in _acts(desk)),
        Mount("/static", StaticFiles(packages=[("hotbank.web", "static")])),
    ]
    return Starlette(routes=routes, lifespan=following)


def _acts(desk: Desk) -> tuple[Handler, ...]:
    return desk.look, desk.plan, desk.order, desk.interrupt, desk.pause, desk.resume


def _posted(act: Handler) -> Callable[[Request], Awaitable[Response]]:
    """The act as it is called, with what it refuses as the document of an error."""

    async def answer(request: Request) -> Response:
        try:
            return Json({"done": await run_in_threadpool(act, await _asked(request))})
        except HotbankError as error:
            return _refused(error)

    return answer


async def _asked(request: Request) -> dict[str, Any]:
    """The JSON object that was posted. Raises FormatError."""
    if request.headers.get("content-type") != "application/json":
        raise FormatError("request", 0, "Content-Type", "not application/json")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST:
            raise FormatError("request", _LARGEST, "body", f"more than {_LARGEST} bytes")
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as e:
        raise FormatError("request", 0, "body", f"no JSON: {e}") from e
    if not isinstance(asked, dict):
        raise FormatError("request", 0, "body", "no JSON object")
    return asked


def _text(asked: dict[str, Any], key: str) -> str:
    value = asked.get(key)
    if not isinstance(value, str):
        raise FormatError("request", 0, key, "no text")
    return value


def _refused(error: HotbankError) -> Response:
    told = {"code": error.code.value, "message": str(error), "remedy": error.remedy}
    return Json({"schema": SCHEMA["error"], "error": told}, _STATUS.get(error.code, _CONFLICT))
