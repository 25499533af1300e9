"""``veriframe serve`` as a process: real HTTP on loopback, clients that break off, and an orderly end."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from redis import Redis
from starlette.testclient import TestClient

from worker.commands.serve import build_application
from worker.errors import FetchGone
from worker.queue.access import ApiKeys
from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis
from worker.settings import Settings

LIMIT_S = 60
MORE_THAN_THREADS = 44
"""A server has fewer for its requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    process: subprocess.Popen[str]
    port: int
    log: Path
    artifacts: Path
    token: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def begin(self, path: str, size: int, sent: bytes = b"") -> socket.socket:
        """A connection on which the head of a request with a body of ``size`` has been sent, and so much of the body."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT_S)
        lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {self.token}", f"Content-Length: {size}", "", ""]
        connection.sendall("\r\n".join(lines).encode() + sent)
        return connection

    def begin_upload(self, size: int, sent: bytes) -> socket.socket:
        """As ``begin``, and the service has begun to take the body in."""
        connection = self.begin("/v1/uploads", size, sent)
        wait_for(lambda: any(path.is_file() and not path.name.startswith("@") for path in self.artifacts.rglob("*")))
        return connection


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "worker.cli", "serve", *arguments]


@contextlib.contextmanager
def started(redis_server: EmbeddedRedis, folder: Path) -> Iterator[Server]:
    """A server in a process; the namespace is the folder's own."""
    log, artifacts, namespace = folder / "log", folder / "artifacts", f"vf-{secrets.token_hex(4)}"
    variables = {"REDIS__URL": redis_server.url, "REDIS__NAMESPACE": namespace, "ARTIFACTS__URL": str(artifacts)}
    environment = os.environ | {f"VERIFRAME_{name}": value for name, value in variables.items()}
    with log.open("w") as stderr:
        process = subprocess.Popen(command("--port", "0"), stderr=stderr, text=True, env=environment)
    try:
        wait_for(lambda: process.poll() is not None or "listening on" in log.read_text())
        found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", log.read_text())
        assert found is not None, log.read_text()
        with connect(url=redis_server.url, timeout_s=10, patience_s=10) as redis:
            token = ApiKeys(redis, namespace).create("acme", ["scan", "read"])[1]
        yield Server(process=process, port=int(found[1]), log=log, artifacts=artifacts, token=token)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started(redis_server, tmp_path_factory.mktemp("serve")) as running:
        yield running
        running.process.send_signal(signal.SIGHUP)
        assert running.process.wait(LIMIT_S) == 0, "a terminal that is gone asks it to end, as SIGTERM does"


def test_a_callers_path_and_what_is_logged_of_it(server: Server) -> None:
    with httpx.Client(base_url=server.url, headers=server.headers, timeout=LIMIT_S) as client:
        media = {"source": {"url": "https://media.example/a?token=hush"}}
        made = client.post("/v1/scans?hush=1", json=media, headers={"Idempotency-Key": "hush"})
        assert made.status_code == 202
        assert client.get(made.headers["location"]).json()["status"] == "queued"
        upload = client.post("/v1/uploads", content=(b"x" * 4096 for _ in range(16)))
        assert (upload.status_code, upload.json()["size_bytes"]) == (201, 65536)
        assert client.post("/v1/scans", json={"source": {"upload": upload.json()["id"]}}).status_code == 202
        assert client.get("/livez", headers={"X-Forwarded-For": "10.0.0.1"}).status_code == 200
        too_long = client.post("/v1/scans", content=b" " * 70000, headers={"Content-Type": "application/json"})
        assert too_long.status_code == 413
        assert "server" not in made.headers
    text = server.log.read_text()
    assert "POST '/v1/scans' 202" in text
    assert "hush" not in text
    assert server.token not in text


def test_a_caller_still_sending_gets_the_refusal_of_its_body(server: Server) -> None:
    body = b" " * 500_000
    with server.begin("/v1/scans", len(body)) as connection:
        answer = b""
        while b"too_large" not in answer:
            answer += connection.recv(65536)
        for start in range(0, len(body), 50_000):  # a connection closed over unread bytes resets, and one of these fails
            connection.sendall(body[start : start + 50_000])
            time.sleep(0.02)
        assert connection.recv(65536) == b""
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer.lower()


def test_the_rest_of_a_refused_body_is_not_waited_for_nor_read_without_end(server: Server) -> None:
    with server.begin("/v1/scans", 500_000) as connection:
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        assert answer.startswith(b"HTTP/1.1 413")
    with server.begin("/v1/scans", 1 << 30) as connection, pytest.raises((ConnectionResetError, BrokenPipeError)):
        connection.sendall(bytes(1 << 28))


def test_a_caller_that_breaks_off_leaves_nothing(server: Server) -> None:
    kept = {path for path in server.artifacts.rglob("*") if path.is_file()}
    server.begin_upload(1000, b"x" * 100).close()
    wait_for(lambda: {path for path in server.artifacts.rglob("*") if path.is_file()} == kept)
    wait_for(lambda: "POST '/v1/uploads' 4" in server.log.read_text())
    assert "Traceback" not in server.log.read_text()
    assert httpx.get(f"{server.url}/livez", timeout=LIMIT_S).status_code == 200


def test_on_sigterm_what_is_under_way_is_answered(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    with started(redis_server, tmp_path) as server:
        with server.begin_upload(1000, b"x" * 100) as connection:
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: refuses(server.port))
            connection.sendall(b"x" * 900)
            assert connection.recv(65536).startswith(b"HTTP/1.1 201")
        assert server.process.wait(LIMIT_S) == 0
        assert "Traceback" not in server.log.read_text()


def test_metrics_and_callers_are_told_in_time_of_a_redis_that_hangs(
    own_redis: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERIFRAME_REDIS__TIMEOUT_S", str(100 * LIMIT_S))
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(started(own_redis, tmp_path))
        client = stack.enter_context(httpx.Client(base_url=server.url, headers=server.headers, timeout=LIMIT_S))
        pool = stack.enter_context(ThreadPoolExecutor(MORE_THAN_THREADS))
        own_redis.pause()
        try:
            callers = [pool.submit(client.get, "/v1/scans") for _ in range(MORE_THAN_THREADS)]
            told = client.get("/metrics").text
            refused = next(as_completed(callers)).result()
        finally:
            own_redis.resume()
    assert "\nveriframe_redis_up 0.0\n" in told
    assert (refused.status_code, refused.json()["code"]) == (503, "redis_down")


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return True
    return False


def test_the_console_is_served_unless_the_settings_say_no(redis_server: EmbeddedRedis) -> None:
    for is_served in (True, False):
        settings = Settings.model_validate({"redis": {"url": redis_server.url}, "api": {"console": is_served}})
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(TestClient(build_application(settings, stack), follow_redirects=False))
            assert client.get("/console/").status_code == (303 if is_served else 404)
            assert client.get("/livez").status_code == 200


def test_what_is_kept_expires_by_the_clock_of_redis(
    redis_server: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.model_validate({"redis": {"url": redis_server.url}, "artifacts": {"url": str(tmp_path)}})
    with contextlib.ExitStack() as stack:
        parts = build_application(settings, stack).state.parts
        now_s = int(parts.desk.records.now_s())
        parts.artifacts.put("a", b"x", expires_at=now_s + 1000)
        with parts.artifacts.open("a") as kept:
            assert kept.read() == b"x"
        monkeypatch.setattr(parts.desk.records.redis, "time", lambda: (now_s + 1000, 0))
        with pytest.raises(FetchGone):
            parts.artifacts.open("a")


@pytest.mark.parametrize("url", ["https://denied.example/a.mp4", "https://other.example/a.mp4", "http://media.example:22/"])
def test_a_source_that_no_worker_would_go_to_is_refused_at_once(redis_server: EmbeddedRedis, redis: Redis, url: str) -> None:
    source = {"allow_hosts": ["media.example", "denied.example"], "deny_hosts": ["denied.example"]}
    settings = Settings.model_validate({"redis": {"url": redis_server.url}, "source": source})
    good = "https://media.example/a.mp4"
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(TestClient(build_application(settings, stack)))
        headers = {"Authorization": f"Bearer {ApiKeys(redis).create('acme', ['scan'])[1]}"}
        refused = client.post("/v1/scans", json={"source": {"url": url}}, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (422, "fetch_refused")
        answer = client.post("/v1/scans", json={"source": {"url": good}, "callback_url": url}, headers=headers)
        assert answer.status_code == (422 if "denied" in url else 202)


def test_a_port_that_is_taken_is_said_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(command("--port", str(port)), stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False)
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in ended.stderr
    assert "Traceback" not in ended.stderr
