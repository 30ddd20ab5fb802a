"""The worker's side of a cohort without a second process: a pipe, and the steps in threads of this one."""

from __future__ import annotations

import gc
import multiprocessing
import threading
import weakref
from typing import Any

import pytest

from ivdjax.inference import worker
from ivdjax.inference.worker import STEPS, Message, Pipeline, serve


class Image:
    """A case's array, of which it can be seen when it is gone."""

    alive: weakref.WeakSet[Image]

    def __init__(self, name: str) -> None:
        self.name = name
        Image.alive.add(self)


@pytest.fixture
def line(monkeypatch):
    """Our end of the line to a worker whose steps make new images; compute fails for "bad"."""
    Image.alive = weakref.WeakSet()
    monkeypatch.setattr(worker, "end_with_parent", lambda: None)
    monkeypatch.setattr(worker, "_offer_to_memory_killer", lambda: None)

    def compute(image: Image) -> Image:
        if image.name == "bad":
            raise ValueError("bad")
        return Image(image.name)

    ours, theirs = multiprocessing.Pipe()
    pipeline = Pipeline(lambda: Image, lambda: compute, lambda: lambda image: image.name.upper())
    thread = threading.Thread(target=serve, args=(pipeline, theirs, None))
    thread.start()
    yield ours
    if not ours.closed:
        ours.close()
    thread.join(timeout=10)
    assert not thread.is_alive(), "it ends when the line is closed"


def hear(line, kind: str) -> tuple[Message, list[Message]]:
    """The first message of that kind, and those before it."""
    before = []
    while True:
        assert line.poll(10)
        message = Message(*line.recv())
        if message.kind == kind:
            return message, before
        before.append(message)


def test_every_step_is_told_in_order_with_its_cost(line):
    line.send((7, "a", "a"))
    done, before = hear(line, "done")
    assert (done.number, done.payload, done.reason) == (7, "A", "")
    own = [message for message in before if message.number == 7]
    assert [message.kind for message in own] == ["begin", "end"] * 3
    assert [message.at for message in before] == sorted(message.at for message in before)
    assert list(done.costs) == list(STEPS) and all(cost.wall_s >= 0.0 for cost in done.costs.values())
    kinds = [message.kind for message in before]
    assert kinds.count("ready") == 1 and kinds.count("next") == 2, "it asks again once the first case was read"


def test_nothing_of_a_case_is_kept(line, capsys):
    line.send((0, "bad", "bad"))
    failed, _ = hear(line, "failed")
    assert failed.reason == "ValueError: bad" and list(failed.costs) == ["read", "compute"]
    line.send((1, "a", "a"))
    hear(line, "done")
    gc.collect()
    assert not Image.alive
    assert "case bad:\nTraceback" in capsys.readouterr().err


def test_a_step_that_cannot_be_built_is_refused(monkeypatch, capsys):
    def broken() -> Any:
        raise KeyError("weights")

    monkeypatch.setattr(worker, "end_with_parent", lambda: None)
    monkeypatch.setattr(worker, "_offer_to_memory_killer", lambda: None)
    ours, theirs = multiprocessing.Pipe()
    thread = threading.Thread(target=serve, args=(Pipeline(lambda: str, broken, lambda: str), theirs, None))
    thread.daemon = True  # it waits to be killed
    thread.start()
    refused, before = hear(ours, "refused")
    assert refused.reason == "KeyError: 'weights'" and "ready" not in [message.kind for message in before]
    assert "start of the worker:\nTraceback" in capsys.readouterr().err
