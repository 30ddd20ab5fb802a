"""Who may ask the review's server for something: the pages that it served itself, and nobody else.

Three things are checked before a request reaches the program:

- Host: the name that the browser believes to talk to must be one that the server was started for. A foreign name that
  was made to lead to this machine (DNS rebinding) is refused.
- Origin and Sec-Fetch-Site: what another site's page asks for is refused, be it only to look.
- Tokens: what changes something carries the token of the page, which no other site can read. A server that listens
  beyond this machine also wants the access token, once in the address and from then on as a cookie.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

PAGE_TOKEN = "X-Ivdjax-Token"
"""Header that a request that changes something carries."""

COOKIE = "ivdjax_access"

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src data:; connect-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """What a start of the server has decided.

    Attributes:
        hosts: names, with the port, under which browsers may reach it.
        beyond: whether it listens beyond this machine, so that the access token is wanted.
        page_token: of this start's pages.
        access_token: of this start's visitors.
    """

    hosts: frozenset[str]
    beyond: bool = False
    page_token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    access_token: str = field(default_factory=lambda: secrets.token_urlsafe(24))


class Guard:
    """ASGI middleware that lets through what `Access` allows, and sends strict headers with every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses, or hands on; only web requests are served."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        request = Request(scope)
        refusal = self._refusal(request)
        if refusal is not None:
            refusal.headers.update(_HEADERS)
            await refusal(scope, receive, send)
            return

        async def send_with_headers(message: object) -> None:
            if message["type"] == "http.response.start":  # type: ignore[index]
                known = Headers(raw=message["headers"])  # type: ignore[index]
                more = [(k.lower().encode(), v.encode()) for k, v in _HEADERS.items() if k not in known]
                message["headers"] = [*message["headers"], *more]  # type: ignore[index]
            await send(message)  # type: ignore[arg-type]

        await self._app(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        access, headers = self._access, request.headers
        if headers.get("host", "").lower() not in access.hosts:
            return PlainTextResponse("this server was not started for that host name", 403)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() not in access.hosts:
            return PlainTextResponse("a page of another site may not ask for this", 403)
        navigation = headers.get("sec-fetch-mode") == "navigate" and request.method == "GET"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not navigation:
            return PlainTextResponse("a page of another site may not ask for this", 403)
        if access.beyond and not _equal(request.cookies.get(COOKIE), access.access_token):
            if request.method == "GET" and _equal(request.query_params.get("token"), access.access_token):
                answer = RedirectResponse(request.url.path, 303)  # the token leaves the address bar
                answer.set_cookie(COOKIE, access.access_token, httponly=True, samesite="strict", path="/")
                return answer
            return PlainTextResponse("open the address, with its token, that the start of the review has printed", 401)
        if request.method not in ("GET", "HEAD") and not _equal(headers.get(PAGE_TOKEN), access.page_token):
            return PlainTextResponse("the page is of an earlier start; load it anew", 403)
        return None


def _equal(given: str | None, wanted: str) -> bool:
    return given is not None and hmac.compare_digest(given.encode(), wanted.encode())
