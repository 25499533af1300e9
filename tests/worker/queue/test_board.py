"""What a supervisor shows over HTTP, and a port that is taken."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.worker.queue.receivers import soon
from worker.errors import ConfigError
from worker.queue.board import open_board
from worker.queue.probes import AT_ONCE, probes
from worker.service_settings import TelemetrySettings
from worker.telemetry.port import SILENT

Metrics = Callable[[], bytes]


def asked(port: int, path: str) -> tuple[int, str]:
    answer = httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False)
    return answer.status_code, answer.text


def test_probes_and_metrics_are_answered() -> None:
    alive = [True]
    with probes("127.0.0.1", 0, {"/livez": lambda: alive[0]}, lambda: b"up 1\n", setting="here") as port:
        assert asked(port, "/livez") == (200, "ok\n")
        alive[0] = False
        assert asked(port, "/livez") == (503, "no\n")
        assert asked(port, "/metrics") == (200, "up 1\n")
        assert asked(port, "/elsewhere")[0] == 404
        with socket.create_connection(("127.0.0.1", port), timeout=5) as probe:  # a client would drop a body unseen
            probe.sendall(b"HEAD /livez HTTP/1.0\r\n\r\n")
            told = probe.makefile("rb").read()
        assert (told.split()[1], b"\r\nContent-Length: 3\r\n" in told, told[-4:]) == (b"503", True, b"\r\n\r\n")
        kind = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).headers["content-type"]
        assert kind.startswith("text/plain; version=")
    with probes("127.0.0.1", 0, {}, setting="here") as port:
        assert asked(port, "/metrics")[0] == 404, "a probe alone tells no metrics"


def test_metrics_that_cannot_be_told_are_an_error_not_an_empty_page(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> bytes:
        raise RuntimeError("a bug")

    with caplog.at_level(logging.ERROR), probes("127.0.0.1", 0, {}, broken, setting="here") as port:
        assert asked(port, "/metrics")[0] == 500
    assert "a bug" in caplog.text


def test_whoever_asks_slowly_holds_no_thread_for_long() -> None:
    def is_closed(slow: socket.socket) -> bool:
        try:
            slow.send(b"x")
            slow.setblocking(False)
            return slow.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    before = threading.active_count()
    with probes("127.0.0.1", 0, {"/livez": lambda: True}, setting="here", ask_s=0.5) as port, contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(AT_ONCE // 2)]
        for slow in crowd:
            slow.send(b"GET /livez HTTP/1.1\r\nX: ")
        assert soon(lambda: all([is_closed(slow) for slow in crowd])), "although each sends something all the time"
        assert asked(port, "/livez")[0] == 200
    assert soon(lambda: threading.active_count() <= before)


def test_a_crowd_is_turned_away_before_it_has_threads() -> None:
    with probes("127.0.0.1", 0, {}, setting="here", ask_s=60) as port, contextlib.ExitStack() as stack:
        before = threading.active_count()
        for _ in range(AT_ONCE):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert soon(lambda: threading.active_count() == before + AT_ONCE)
        more = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
        with contextlib.suppress(ConnectionError):
            assert more.recv(1) == b""


def test_a_taken_port_and_a_host_that_is_none_are_the_users_to_mend() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: .*in use; telemetry\.port says so"),
            probes("127.0.0.1", port, {}, setting="telemetry.port"),
        ):
            pass
    with pytest.raises(ConfigError, match="--probe says so"), probes("no such host", 0, {}, setting="--probe"):
        pass


def test_no_port_no_board(tmp_path: Path) -> None:
    with open_board(TelemetrySettings(port=None), tmp_path) as board:
        assert (board.telemetry, board.folder) == (SILENT, None)
        with board.serve({}):
            pass
    assert list(tmp_path.iterdir()) == []
