"""The web server of a review: pages and their data, for browsers that `guard` lets through."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from html import escape
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ivdjax.commands.commands import describe_os_error
from ivdjax.inference.corrections import LARGEST_LEVEL
from ivdjax.review.decision import DEEDS, Decision
from ivdjax.review.guard import Access, Guard
from ivdjax.review.open_case import Outdated
from ivdjax.review.outlines import edited_outlines
from ivdjax.review.session import Session
from ivdjax.review.view import DOWNLOADS, agreements, case_view, list_view, own_image
from ivdjax.volume import CaseError, UserError

LARGEST_UPLOAD = 64 * 2**20
"""Bytes of a label map that is read back."""

_LONGEST_REQUEST = 2**16
_LONGEST_NAME = 60

_ASSETS = {
    "review.js": ("ivdjax.review", "assets/review.js", "text/javascript"),
    "review.css": ("ivdjax.review", "assets/review.css", "text/css"),
    "drop.js": ("ivdjax.review", "assets/drop.js", "text/javascript"),
    "niivue.js": ("ivdjax.reports", "niivue/niivue.umd.js", "text/javascript"),
}


def review_app(session: Session, access: Access) -> Starlette:
    """The application that reviews a folder.

    Args:
        session: the review.
        access: who may ask.
    """

    async def page(request: Request) -> Response:
        return page_of("review.html", access)

    async def cases(request: Request) -> Response:
        reader, blind = _reader(request)
        return JSONResponse(await run_in_threadpool(list_view, session, reader if blind else ""))

    async def case(request: Request) -> Response:
        reader, blind = _reader(request)
        name = request.path_params["case"]
        return JSONResponse(await run_in_threadpool(case_view, session, name, reader if blind else ""))

    async def image(request: Request) -> Response:
        channel = request.query_params.get("channel", "")
        return JSONResponse(await run_in_threadpool(own_image, session, request.path_params["case"], channel))

    async def picture(request: Request) -> Response:
        return _file(session, request.path_params["case"], "overview", attached=False)

    async def file(request: Request) -> Response:
        kind = request.path_params["kind"]
        if kind not in DOWNLOADS:
            raise KeyError(kind)
        return _file(session, request.path_params["case"], kind, attached=kind != "report")

    async def decide(request: Request) -> Response:
        reader, blind = _reader(request)
        said = json.loads(await _body(request, _LONGEST_REQUEST))
        decision, seen = _decision(said)
        return JSONResponse(await run_in_threadpool(_decide, session, request, decision, reader, seen, blind))

    async def outlines(request: Request) -> Response:
        reader, blind = _reader(request)
        if blind:
            raise CaseError("a blind reader decides by keys alone: edited outlines would be seen by everybody")
        seen = int(request.query_params.get("seen", "-1"))
        content = await _body(request, LARGEST_UPLOAD)
        name = request.query_params.get("name", "")
        return JSONResponse(await run_in_threadpool(_draw, session, request, name, content, reader, seen))

    async def agree(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(agreements, session))

    routes = [
        Route("/", page), Route("/assets/{name}", asset), Route("/api/cases", cases), Route("/api/agreement", agree),
        Route("/api/cases/{case}", case), Route("/api/cases/{case}/image", image),
        Route("/api/cases/{case}/picture", picture), Route("/api/cases/{case}/files/{kind}", file),
        Route("/api/cases/{case}/decisions", decide, methods=["POST"]),
        Route("/api/cases/{case}/outlines", outlines, methods=["PUT"]),
    ]  # fmt: skip
    return guarded(routes, access)


def guarded(routes: list[Route], access: Access) -> Starlette:
    """An application whose every answer to a mistake is a sentence, behind the guard."""
    handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
        Outdated: _answer(409), CaseError: _answer(422), UserError: _answer(422), KeyError: _unknown,
        OSError: _no_disk, ValueError: _answer(400),
    }  # fmt: skip
    return Starlette(routes=routes, middleware=[Middleware(Guard, access=access)], exception_handlers=handlers)


def page_of(name: str, access: Access) -> HTMLResponse:
    """A page with the token of this start in it."""
    text = (files("ivdjax.review") / "assets" / name).read_text(encoding="utf-8")
    return HTMLResponse(text.replace("{{token}}", escape(access.page_token)))


async def asset(request: Request) -> Response:
    """A script or style sheet of a page."""
    package, path, kind = _ASSETS[request.path_params["name"]]
    return Response((files(package) / path).read_bytes(), media_type=kind)


def _decide(session: Session, request: Request, decision: Decision, reader: str, seen: int, blind: bool) -> Any:
    name = request.path_params["case"]
    case = session.opened(name)
    case.decide(decision, reader, seen, blind)
    session.note_changed(case)
    return case_view(session, name, reader if blind else "")


def _draw(session: Session, request: Request, file: str, content: bytes, reader: str, seen: int) -> Any:
    name = request.path_params["case"]
    case = session.opened(name)
    case.draw(edited_outlines(file, content, case.own), reader, seen, file)
    session.note_changed(case)
    return case_view(session, name)


def _decision(said: Any) -> tuple[Decision, int]:
    """A request's decision, and the state that the person saw."""
    if not isinstance(said, dict) or said.get("deed") not in DEEDS:
        raise ValueError(f"a decision's deed is one of {', '.join(DEEDS)}")
    numbers = {key: said.get(key, 0) for key in ("disc", "to", "steps", "seen")}
    if not all(type(number) is int and abs(number) <= 10**6 for number in numbers.values()):
        raise ValueError("disc, to, steps and seen must be whole numbers")
    if said["deed"] == "shift" and numbers["steps"] not in range(-LARGEST_LEVEL, LARGEST_LEVEL + 1):
        raise ValueError("a shift has a few steps")
    text = said.get("text", "")
    if not isinstance(text, str):
        raise ValueError("text must be a text")
    seen = numbers.pop("seen")
    return Decision(said["deed"], **numbers, text=text), seen


def _reader(request: Request) -> tuple[str, bool]:
    """Who asks, as they call themselves, and whether they read blind."""
    name = " ".join(request.query_params.get("reader", "").split())[:_LONGEST_NAME]
    blind = request.query_params.get("blind") == "1"
    if blind and not name:
        raise CaseError("a blind reader needs a name: it tells the readings apart")
    return name, blind


def _file(session: Session, name: str, kind: str, attached: bool) -> Response:
    """A file of a case; the name only ever picks one of the review's cases, and never makes a path."""
    row = session.row(name)
    names = session.folder.names(row.case)
    path = session.folder.path / names.folder / names.files[kind]
    if not path.is_file():
        raise KeyError(kind)
    answer = FileResponse(path, filename=path.name, content_disposition_type="attachment" if attached else "inline")
    if kind == "report":  # a page of its own, with a policy of its own in it; it must not act as ours
        answer.headers["Content-Security-Policy"] = "sandbox allow-scripts"
    return answer


async def _body(request: Request, most: int) -> bytes:
    """A request's content.

    Raises:
        CaseError: it has more bytes than `most`.
    """
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise CaseError(f"the file has more than {most // 2**20} MiB; is it a label map?")
        parts.append(part)
    return b"".join(parts)


def _answer(status: int) -> Callable[[Request, Any], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), status)

    return answer


async def _unknown(request: Request, error: Exception) -> Response:
    return PlainTextResponse("there is no such case or file in this review", 404)


async def _no_disk(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    return PlainTextResponse(describe_os_error(error), 507)
