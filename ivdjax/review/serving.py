"""Starting the server: the address, who may come, the browser, and an orderly end."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import threading
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from ivdjax.commands.commands import describe_os_error
from ivdjax.data.datasets import CaseFiles
from ivdjax.inference.inputs import find_inputs
from ivdjax.inference.selection import selected
from ivdjax.review.folder import ResultFolder, reviewed_folder
from ivdjax.review.guard import LOOPBACK, Access
from ivdjax.review.server import review_app
from ivdjax.review.session import Session
from ivdjax.volume import CaseError, UserError

_HTTP = 80
"""The port that addresses leave out."""


@dataclass(frozen=True)
class Serving:
    """Where to serve.

    Attributes:
        host: address or name to listen at.
        port: 0: any free one.
        browser: whether to open one.
    """

    host: str = "127.0.0.1"
    port: int = 0
    browser: bool = True


def serve_review(serving: Serving, output: Path, images: Path | None = None, where: Sequence[str] = ()) -> None:
    """Serves the review of a folder until Ctrl-C; returns once everything that was decided is written.

    Args:
        serving: where.
        output: that `ivdjax infer` has written.
        images: where the images are now; None: where they were.
        where: conditions on the summary's rows (`ivdjax.inference.selection`).

    Raises:
        UserError: no such folder, somebody at work in it, a condition that fits nothing, or no such address.
    """
    with reviewed_folder(output, {}) as folder:
        if images is not None:
            folder = ResultFolder(folder.path, folder.bids, moved_images(folder, images))
        session = Session(folder, selected(output, where) if where else None)
        session.start()
        try:
            serve(serving, lambda access: review_app(session, access), f"the review of {output}")
        finally:
            session.stop()


def serve_drop(serving: Serving, model: str | None) -> None:
    """Serves the page that takes images, until Ctrl-C.

    Raises:
        UserError: no such model or address.
    """
    from ivdjax.review.drop import DropBox
    from ivdjax.review.drop_server import drop_app

    with DropBox(model) as box:
        serve(serving, lambda access: drop_app(box, access), f"images for the model {box.model_name}")


def moved_images(folder: ResultFolder, images: Path) -> dict[str, CaseFiles]:
    """The images of the folder's cases in another place, by the cases' names.

    Raises:
        UserError: none is there.
    """
    found: dict[str, CaseFiles] = {}
    channels: tuple[str, ...] | None = None
    for row in folder.rows():
        with suppress(CaseError):
            channels = folder.kept(row.case).model.channels
            break
    if channels is not None:
        names = {row.case for row in folder.rows()}
        for case in find_inputs([str(images)], channels):
            if case.name in names and case.files is not None:
                found[case.name] = case.files
    if not found:
        raise UserError(f"--images {images} holds none of the cases of {folder.path}")
    return found


def serve(serving: Serving, app_for: Callable[[Access], Starlette], what: str) -> None:
    """Serves an application until Ctrl-C.

    Args:
        serving: where.
        app_for: gives the application for an `Access`.
        what: is served, for the terminal.

    Raises:
        UserError: the address cannot be listened at.
    """
    listener = _listener(serving)
    port = listener.getsockname()[1]
    beyond = not _is_loopback(serving.host)
    access = Access(host_names(serving.host, port, beyond), beyond)
    app = app_for(access)
    address = f"http://{_shown(serving.host)}:{port}/"
    if beyond:
        address += f"?token={access.access_token}"
        print("listening beyond this machine: whoever has the address below can see and change the results, and what "
              "they send is not encrypted")  # fmt: skip
    print(f"{what}: {address}  (Ctrl-C ends it)", flush=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", server_header=False,
                            timeout_graceful_shutdown=2)  # fmt: skip
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    if serving.browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    try:
        with suppress(KeyboardInterrupt):  # the usual end of a review
            uvicorn.Server(config).run(sockets=[listener])
    finally:
        listener.close()
    print("ended; every decision is kept", flush=True)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of the server's log tells of more than a page whose request the end of the review cut off."""
    cut_off = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cut_off and not str(record.msg).startswith("Cancel ")


def _listener(serving: Serving) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            serving.host, serving.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        raise UserError(
            f"--host {serving.host} --port {serving.port} cannot be used: {describe_os_error(error)}"
        ) from error
    return listener


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_names(host: str, port: int, beyond: bool) -> frozenset[str]:
    """Names, with the port, that a browser may know the server by; it leaves out port 80."""
    names = {*LOOPBACK, _shown(host)}
    if beyond:
        names |= {socket.gethostname().lower(), socket.getfqdn().lower(), *_own_addresses()}
    return frozenset(f"{name}:{port}" for name in names) | frozenset(names if port == _HTTP else ())


def _own_addresses() -> set[str]:
    with suppress(OSError):
        return {_shown(str(entry[4][0])) for entry in socket.getaddrinfo(socket.gethostname(), None)}
    return set()


def _shown(host: str) -> str:
    """An address as it stands in a URL."""
    if host in ("0.0.0.0", "::"):  # every address of this machine; its name leads to one
        return socket.gethostname().lower()
    return f"[{host}]" if ":" in host else host.lower()
