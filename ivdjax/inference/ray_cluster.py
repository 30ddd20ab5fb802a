"""A Ray cluster: joined, or said in one line why not; its room, its metrics, and its errors in a line."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

from ivdjax.commands.commands import describe_os_error
from ivdjax.volume import UserError

MISSING = "--ray needs Ray, which is not installed: pip install 'ivdjax[ray]'"

_ANSWER_S = 10.0


def connected(address: str) -> Any:
    """Ray, joined to a cluster.

    Raises:
        UserError: it is not installed, or there is no such cluster.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UserError(MISSING) from None
    _refuse_silent(address)
    try:
        context = ray.init(address=address, log_to_driver=False, logging_level="error", namespace="ivdjax")
    except Exception as error:
        raise _unreached(address, error_words(error)) from error
    dashboard = getattr(context, "dashboard_url", "")
    print(f"ray: {_resources(ray)}" + (f"; dashboard: http://{dashboard}" if dashboard else ""), flush=True)
    return ray


def _refuse_silent(address: str) -> None:
    """Makes sure that something answers at HOST:PORT: Ray itself would try for minutes.

    Raises:
        UserError: nothing does.
    """
    place = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        port = place.port
    except ValueError:
        port = None
    if not place.hostname or port is None:  # local, auto, or a form that Ray alone knows
        return
    try:
        socket.create_connection((place.hostname, port), _ANSWER_S).close()
    except OSError as error:
        raise _unreached(address, describe_os_error(error)) from error


def _unreached(address: str, why: str) -> UserError:
    return UserError(f"--ray {address}: no cluster could be reached ({why}); give local, auto (on a node of the "
                     "cluster), or ray://HOST:10001")  # fmt: skip


def room(ray: Any, cores: int) -> int:
    """How many actors the cluster has room for: one a GPU, or one for every so many cores; at least one."""
    there = ray.cluster_resources()
    return max(1, int(there.get("GPU", 0)) or int(there.get("CPU", 0)) // cores)


def _resources(ray: Any) -> str:
    there = ray.cluster_resources()
    nodes = sum(node["Alive"] for node in ray.nodes())
    gpus = f", {there['GPU']:g} GPUs" if there.get("GPU") else ""
    return f"{nodes} node{'' if nodes == 1 else 's'}, {there.get('CPU', 0):g} cores{gpus}"


def case_metrics() -> tuple[Any, Any, Any] | None:
    """Ray's metrics of a run; None where this installation of Ray has none."""
    try:
        from ray.util.metrics import Counter, Histogram

        return (
            Counter("ivdjax_cases_done", "Cases with a result."),
            Counter("ivdjax_cases_failed", "Cases without one."),
            Histogram("ivdjax_case_seconds", "Seconds that cases took.", boundaries=[1, 2, 5, 10, 20, 60, 300]),
        )
    except Exception:
        return None


def error_words(error: Exception) -> str:
    """The first line of an error of Ray, which may go on for a page."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
