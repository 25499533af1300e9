"""``veriframe courier`` as a process, told to stop in mid-send."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from tests.worker.queue.couriers import post
from tests.worker.queue.receivers import receiving, soon
from worker.queue.callbacks import Callbacks
from worker.queue.embedded import EmbeddedRedis
from worker.queue.webhooks import Secrets, verify

COMMAND = [sys.executable, "-m", "worker.cli", "courier"]


@pytest.fixture
def environment(redis_server: EmbeddedRedis) -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if not name.startswith("VERIFRAME_")}
    allowed = {
        "VERIFRAME_SOURCE__ALLOW_PRIVATE_HOSTS": "[127.0.0.1]",
        "VERIFRAME_CALLBACKS__BACKOFF_S": "1000",
        "VERIFRAME_TELEMETRY__PORT": "0",
    }
    return {**mine, **allowed, "VERIFRAME_REDIS__URL": redis_server.url}


def state(redis: Redis, event: str) -> str:
    found = Callbacks(redis).show(event)
    assert found is not None
    return found.state


def test_sigterm_lets_it_finish_what_is_being_sent(redis: Redis, environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with receiving() as receiver, log.open("wb") as output:
        post(redis, receiver.url + "/hang?token=hidden", event="evt_1")
        with subprocess.Popen(COMMAND, env=environment, stderr=output) as process:
            try:
                assert soon(lambda: receiver.came, within_s=60)
                process.send_signal(signal.SIGTERM)
                post(redis, receiver.url + "/ok", event="evt_2")
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.7)
                receiver.release.set()
                assert process.wait(30) == 0
            finally:
                process.kill()
        (came,) = receiver.came
        assert verify(came.headers, came.body, Secrets(redis).current("acme")) == "evt_1"
    assert (state(redis, "evt_1"), state(redis, "evt_2")) == ("delivered", "waiting")
    assert "hidden" not in log.read_text()


def test_once_delivers_what_is_due_and_ends(redis: Redis, environment: dict[str, str]) -> None:
    with receiving() as receiver:
        post(redis, receiver.url + "/ok", event="evt_1")
        post(redis, receiver.url + "/bad", event="evt_2")
        post(redis, receiver.url.replace("127.0.0.1", "127.0.0.9") + "/ok", event="evt_3")
        done = subprocess.run([*COMMAND, "--once"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "3 tries; 1 callbacks wait" in done.stderr
    assert [state(redis, f"evt_{n}") for n in (1, 2, 3)] == ["delivered", "waiting", "dead"]
