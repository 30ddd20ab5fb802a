"""The web server of the page that images are dropped on."""

from __future__ import annotations

from dataclasses import asdict

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from ivdjax.review.drop import STEPS, DropBox
from ivdjax.review.guard import Access
from ivdjax.review.server import asset, guarded, page_of


def drop_app(box: DropBox, access: Access) -> Starlette:
    """The application that takes images.

    Args:
        box: where they go.
        access: who may ask.
    """

    async def page(request: Request) -> Response:
        return page_of("drop.html", access)

    async def begin(request: Request) -> Response:
        await run_in_threadpool(box.begin)
        return _state(box)

    async def file(request: Request) -> Response:
        path = box.place(request.query_params.get("name", ""))
        try:
            with path.open("wb") as stream:
                async for part in request.stream():
                    box.count_bytes(len(part))
                    stream.write(part)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return _state(box)

    async def run(request: Request) -> Response:
        await run_in_threadpool(box.run)
        return _state(box)

    async def cancel(request: Request) -> Response:
        await run_in_threadpool(box.cancel)
        return _state(box)

    async def state(request: Request) -> Response:
        return _state(box)

    async def report(request: Request) -> Response:
        path = box.report
        if path is None:
            raise KeyError("report")
        answer = FileResponse(path, media_type="text/html")
        answer.headers["Content-Security-Policy"] = "sandbox allow-scripts"  # its own policy stands in it
        return answer

    routes = [
        Route("/", page), Route("/assets/{name}", asset), Route("/api/drop", state), Route("/report", report),
        Route("/api/drop/begin", begin, methods=["POST"]), Route("/api/drop/file", file, methods=["PUT"]),
        Route("/api/drop/run", run, methods=["POST"]), Route("/api/drop/cancel", cancel, methods=["POST"]),
    ]  # fmt: skip
    return guarded(routes, access)


def _state(box: DropBox) -> Response:
    progress = box.progress
    return JSONResponse({**asdict(progress), "steps": list(STEPS), "model": box.model_name})
