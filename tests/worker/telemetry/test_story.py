"""One scan through the real service: API, worker, scanning process, courier. The log tells its story, and nobody's secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.worker.queue.harness import Service, service, until
from tests.worker.queue.receivers import Receiver, receiving
from worker.queue.access import ApiKeys
from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis
from worker.queue.webhooks import Secrets

CANARY = "canary-7f3a"
REQUEST_ID = "the-request-of-this-test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was there in the end."""

    queue: Service
    good: str
    bad: str
    token: str
    secret: str
    log: str
    receiver: Receiver

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.splitlines()]

    def of(self, scan_id: str) -> list[dict[str, Any]]:
        """What one grep finds."""
        return [json.loads(line) for line in self.log.splitlines() if scan_id in line]


@contextmanager
def media() -> Iterator[str]:
    """Files that say in their names what the scanner is to do with them."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.path.split("?")[0].strip("/").encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def process(*command: str, log: Any, config: Path, ready: str, ready_log: Path) -> Iterator[str]:
    """One of the commands with these settings, once its log names what it says when it is ready; that line."""
    with subprocess.Popen([sys.executable, "-m", "worker.cli", *command, "--config", str(config)], stderr=log) as made:
        try:

            def said() -> str | None:
                assert made.poll() is None, ready_log.read_text()
                return next((line for line in ready_log.read_text().splitlines() if ready in line), None)

            yield until(said, 120, ready) or ""
        finally:
            made.terminate()
            made.wait(60)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder = tmp_path_factory.mktemp("story")
    log_file, config = folder / "log", folder / "worker.yaml"
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedRedis(folder / "redis"))
        redis = stack.enter_context(connect(url=server.url, timeout_s=10, patience_s=10))
        queue = stack.enter_context(service(server.url, redis, folder, max_attempts=2))
        log = stack.enter_context(log_file.open("ab"))
        queue.log, queue.metrics = log, folder / "metrics"
        queue.metrics.mkdir()
        receiver, host = stack.enter_context(receiving()), stack.enter_context(media())
        token = ApiKeys(redis).create("acme", ["scan", "read"])[1]
        (secret,) = Secrets(redis).current("acme")
        settings = queue.settings.model_dump(mode="json")
        settings["telemetry"]["port"], settings["callbacks"]["backoff_s"] = 0, 0.05
        config.write_text(yaml.safe_dump(settings))
        started = {"log": log, "config": config, "ready_log": log_file}
        heard = stack.enter_context(process("serve", "--port", "0", ready="listening on", **started))
        api = heard.split("listening on ")[1].split('"')[0]
        shown = stack.enter_context(process("courier", ready="metrics at", **started))
        metrics_url = shown.split("metrics at ")[1].split('"')[0]
        queue.start()
        client = stack.enter_context(httpx.Client(base_url=api, headers={"Authorization": f"Bearer {token}"}, trust_env=False))
        good, bad = (
            submit(client, f"http://{host}/{name}?sig={CANARY}#{CANARY}", f"{receiver.url}/{answer}?secret={CANARY}")
            for name, answer in (("ok", "flaky"), ("crash", "gone"))
        )
        refused = client.post("/v1/scans", json={"source": {"url": f"http://me:{CANARY}@{host}/ok"}})
        assert refused.status_code == 422
        assert queue.ended(good).state == "completed"
        assert queue.ended(bad).dead
        until(lambda: queue.redis.zcard("vf:callbacks") == 0, 120, "callbacks")
        for line in ('callback_deliveries_total{outcome="delivered"} 1.0', "callback_delay_seconds_count 1.0"):
            # An outcome is counted once it is stored, a moment later.
            until(lambda line=line: f"veriframe_{line}\n" in httpx.get(metrics_url, trust_env=False).text, 60, line)  # type: ignore[misc]
        until(lambda: log_file.read_text().count('"worker.queue.tally"') == 3, 60, "the last line, which comes late")
        for path in ("/livez", "/readyz"):
            assert httpx.get(metrics_url.replace("/metrics", path), trust_env=False).status_code == 200
        yield Told(
            queue=queue, good=good, bad=bad, token=token, secret=secret, log=log_file.read_text(), receiver=receiver
        )  # fmt: skip


def submit(client: httpx.Client, source: str, callback: str) -> str:
    body = {"source": {"url": source}, "callback_url": callback, "priority": "live"}
    answer = client.post(
        "/v1/scans", json=body, headers={"X-Request-Id": REQUEST_ID, "Idempotency-Key": f"{CANARY}{source[-40:]}"}
    )
    assert answer.status_code == 202, answer.text
    scan_id: str = answer.json()["id"]
    return scan_id


def test_one_grep_tells_the_story_of_a_scan(told: Told) -> None:
    lines = told.of(told.good)
    assert all(line["scan_id"] == told.good for line in lines if line["logger"] != "worker.api.middleware")
    story = [line["event"].replace(told.good, "ID") for line in lines]
    assert story[0] == "scan ID accepted"
    assert lines[0]["request_id"] == REQUEST_ID
    assert lines[0]["queue"] == "live"
    chapters = ["scan ID claimed, attempt 1", "scan ID: fetch", "scan ID: decode", "scan ID: infer", "scan ID: store"]
    assert [event for event in story if event in chapters] == chapters
    (end,) = [line for line in lines if line["logger"] == "worker.queue.tally"]
    assert (end["state"], end["verdict"], end["attempt"]) == ("completed", "real", 1)
    again, delivered = (line for line in lines if line["logger"] == "worker.queue.courier")
    assert "status 500; again in" in again["event"]
    assert f"delivered to {told.receiver.url}/flaky" in delivered["event"]


def test_one_that_fails_is_told_with_its_code_at_each_attempt(told: Told) -> None:
    ends = [line for line in told.of(told.bad) if line["logger"] == "worker.queue.tally"]
    assert [(line["attempt"], line["state"], line["code"]) for line in ends] == [
        (1, "again", "decode_crash"),
        (2, "dead", "decode_crash"),
    ]


def test_nobodys_secret_is_in_the_log(told: Told) -> None:
    assert CANARY not in told.log
    for secret in (told.token, told.token.split("_", 2)[2], told.secret, told.secret.removeprefix("whsec_")):
        assert secret not in told.log
    assert {came.path.split("?")[1] for came in told.receiver.came} == {f"secret={CANARY}"}, "they were on their way"
    assert '"owner"' not in told.log


def test_every_line_of_every_process_is_json(told: Told) -> None:
    lines = told.lines()
    assert {line["level"] for line in lines} <= {"info", "warning"}
    assert len({line["pid"] for line in lines}) == 4, "API, courier, worker, scanning process"
    assert any(line["logger"].startswith("uvicorn") for line in lines)
    assert all({"timestamp", "level", "event", "logger", "pid"} <= set(line) for line in lines)


def test_all_processes_of_the_worker_are_counted_together(told: Told) -> None:
    found = told.queue.told()
    assert found["scans_total none real"] == 1
    assert found["scans_total decode_crash none"] == 1
    assert found["scan_retries_total decode_crash"] == 1
    assert found["dead_letters_total decode_crash"] == 1
    assert found["stage_seconds_count total"] == 1
    assert found["reconciler_last_pass_timestamp_seconds"] > 0


def test_a_port_that_is_taken_is_a_clear_error(told: Told) -> None:
    """Of ``veriframe worker``: no process is started, and an orchestrator sees a setting that is wrong, not a crash."""
    taken = told.queue.redis.connection_pool.connection_kwargs["port"]
    environment = os.environ | {"VERIFRAME_TELEMETRY__PORT": str(taken), "VERIFRAME_REDIS__URL": told.queue.settings.redis.url}
    command = [sys.executable, "-m", "worker.cli", "worker"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {taken}" in done.stderr
    assert "telemetry.port" in done.stderr
    assert "Traceback" not in done.stderr
