"""Lines of the log: one form for everybody's, with what they are about, and without what nobody is to read."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from worker.telemetry.context import about, now_about
from worker.telemetry.logs import OURS, begin_logging

log = logging.getLogger("worker.tests")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root, httpx_log = logging.getLogger(), logging.getLogger("httpx")
    levels = root.level, httpx_log.level
    yield
    for handler in [handler for handler in root.handlers if handler.get_name() == OURS]:
        root.removeHandler(handler)
    root.setLevel(levels[0])
    httpx_log.setLevel(levels[1])


def written_to(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """In the test itself: pytest puts its own stream back after a fixture."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = written_to(monkeypatch)
    begin_logging()
    with about(scan_id="52d7", attempt=2):
        log.info("scan %s: %s", "52d7", "decode", extra={"stage": "decode", "taskName": "x", "color_message": "no"})
    (line,) = lines(stderr)
    assert line.pop("timestamp").endswith("Z")
    assert line.pop("pid") > 0
    told = {"level": "info", "event": "scan 52d7: decode", "logger": "worker.tests"}
    assert line == {**told, "scan_id": "52d7", "attempt": 2, "stage": "decode"}


def test_every_librarys_lines_look_alike_and_a_newline_breaks_none(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = written_to(monkeypatch)
    begin_logging("json")
    for name in ("uvicorn.error", "rq.worker", "worker.queue"):
        logger = logging.getLogger(name)
        # RQ keeps its lines to itself where it found no handler, and at the level it was told: other tests of this process.
        monkeypatch.setattr(logger, "propagate", True)
        monkeypatch.setattr(logger, "handlers", [])
        logger.setLevel(logging.NOTSET)
        logger.warning("one\ntwo\x1b[31m")
    assert [(line["logger"], line["event"]) for line in lines(stderr)] == [
        (name, "one\ntwo\x1b[31m") for name in ("uvicorn.error", "rq.worker", "worker.queue")
    ]
    assert "\x1b" not in stderr.getvalue()


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_secret_of_a_message_or_an_error_is_written(monkeypatch: pytest.MonkeyPatch, log_format: Any) -> None:
    stderr = written_to(monkeypatch)
    begin_logging(log_format)
    secret = "hush".upper()  # a traceback quotes lines of this file
    log.info("fetching https://me:%s@cdn.example/a.mp4?sig=%s", secret, secret)
    try:
        raise ValueError(f"cannot reach https://cdn.example/a.mp4?sig={secret} with vf_0123456789abcdef_{secret}")
    except ValueError:
        log.exception("scan failed")
    written = stderr.getvalue()
    assert "HUSH" not in written
    assert "cdn.example/a.mp4" in written
    assert "ValueError" in written
    assert "Traceback" in written


def test_auto_is_text_on_a_terminal_and_json_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, file = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    begin_logging("auto")
    with about(scan_id="52d7"):
        log.info("hello")
    monkeypatch.setattr(sys, "stderr", file)
    begin_logging("auto")
    log.info("hello")
    assert not terminal.getvalue().startswith("{")
    assert "hello" in terminal.getvalue()
    assert "52d7" in terminal.getvalue()
    assert [line["event"] for line in lines(file)] == ["hello"]


def test_less_than_the_level_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = written_to(monkeypatch)
    begin_logging("json", "warning")
    log.info("a step")
    log.warning("a warning")
    begin_logging("json", "error")
    log.warning("a warning again")
    begin_logging("json")
    log.info("another step")
    assert [line["event"] for line in lines(stderr)] == ["a warning", "another step"]


def test_begun_again_each_line_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = written_to(monkeypatch)
    begin_logging("text")
    begin_logging("json")
    log.info("once")
    assert [line["event"] for line in lines(stderr)] == ["once"]


def test_requests_are_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = written_to(monkeypatch)
    logging.getLogger().setLevel(logging.INFO)
    begin_logging()
    with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(204))) as client:
        client.get("https://media.example/seg2.ts")
        logging.getLogger("httpx").setLevel(logging.INFO)
        client.get("https://media.example/seg1.ts")
    assert "seg2" not in stderr.getvalue()
    assert "seg1" in stderr.getvalue(), "as httpx does by itself"


def test_what_a_line_is_about_ends_with_its_block_and_stays_on_its_thread() -> None:
    seen: list[Any] = []
    with about(scan_id="a", attempt=1):
        with about(attempt=2, callback="evt_a"):
            assert now_about() == {"scan_id": "a", "attempt": 2, "callback": "evt_a"}
        thread = threading.Thread(target=lambda: seen.append(dict(now_about())))
        thread.start()
        thread.join()
        assert now_about() == {"scan_id": "a", "attempt": 1}
    assert now_about() == {}
    assert seen == [{}]
