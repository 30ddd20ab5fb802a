"""Who is let through: hosts, origins and tokens, asked of the guard itself."""

from __future__ import annotations

import asyncio

import pytest
from starlette.responses import PlainTextResponse

from ivdjax.review.guard import COOKIE, PAGE_TOKEN, Access, Guard
from ivdjax.review.serving import host_names

HOST = "127.0.0.1:8000"
NEAR = Access(frozenset({HOST, "localhost:8000"}), page_token="page", access_token="visit")
FAR = Access(frozenset({HOST}), beyond=True, page_token="page", access_token="visit")


def ask(access: Access, method: str = "GET", query: str = "", **headers: str) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer; header names are written with underscores."""
    told = {"host": HOST} | {name.replace("_", "-").lower(): value for name, value in headers.items()}
    scope = {
        "type": "http", "method": method, "path": "/api", "query_string": query.encode(), "scheme": "http",
        "headers": [(name.encode(), value.encode()) for name, value in told.items()], "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(PlainTextResponse("let through"), access)(scope, receive, send))
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:8000"}, 200),
        ({"host": "evil.example:8000"}, 403),  # a name that was made to lead here
        ({"host": "127.0.0.1"}, 403),
        ({"origin": f"http://{HOST}"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}, 403),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}, 200),  # a link from a mail
    ],
)
def test_what_may_be_looked_at(headers, status):
    assert ask(NEAR, **headers)[0] == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_change_needs_the_pages_own_token(method):
    token = {PAGE_TOKEN: "page"}
    assert ask(NEAR, method)[0] == 403
    assert ask(NEAR, method, **{PAGE_TOKEN: "guessed"})[0] == 403
    assert ask(NEAR, method, **token)[0] == 200
    assert ask(NEAR, method, origin="https://evil.example", **token)[0] == 403


def test_beyond_this_machine_the_printed_token_is_wanted_and_becomes_a_cookie():
    assert ask(FAR)[0] == 401 and ask(FAR, query="token=guessed")[0] == 401
    status, headers = ask(FAR, query="token=visit")
    assert status == 303 and headers["location"] == "/api"
    assert f"{COOKIE}=visit" in headers["set-cookie"] and "HttpOnly" in headers["set-cookie"]
    assert ask(FAR, cookie=f"{COOKIE}=visit")[0] == 200
    assert ask(FAR, "POST", query="token=visit", **{PAGE_TOKEN: "page"})[0] == 401


def test_every_answer_forbids_what_the_page_does_not_need():
    for headers in (ask(NEAR)[1], ask(NEAR, host="evil.example")[1]):
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cross-origin-resource-policy"] == "same-origin" and headers["cache-control"] == "no-store"


def test_browsers_leave_out_port_80():
    assert {"127.0.0.1", "127.0.0.1:80"} <= host_names("127.0.0.1", 80, False)
    assert "127.0.0.1" not in host_names("127.0.0.1", 8080, False)
