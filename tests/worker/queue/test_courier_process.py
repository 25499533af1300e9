"""A courier that is killed, paused, or without its Redis in mid-send."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from redis import Redis

from tests.worker.queue.couriers import open_client, post, shown
from tests.worker.queue.receivers import Receiver, soon
from worker.queue.connection import connect
from worker.queue.courier import Courier
from worker.queue.embedded import EmbeddedRedis

CODE = """
import logging, sys, threading
from worker.queue.connection import connect
from worker.queue.courier import Courier
logging.basicConfig(level="INFO")
from worker.source.client import guarded_client
from worker.source.guard import AddressGuard
guard = AddressGuard(allow_private_hosts=["127.0.0.1"])
with connect(url=sys.argv[1], timeout_s=5, patience_s=5) as redis:
    open_client = lambda ends_at: guarded_client(guard, ends_at=ends_at)
    Courier(redis, open_client=open_client, timeout_s=20, lease_s=float(sys.argv[2])).run(threading.Event())
"""


@contextmanager
def courier_process(
    server: EmbeddedRedis, *, lease_s: float, output: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", CODE, server.url, str(lease_s)], stderr=output) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def test_one_killed_in_mid_send_loses_nothing(redis_server: EmbeddedRedis, redis: Redis, receiver: Receiver) -> None:
    post(redis, receiver.url + "/hang")
    with courier_process(redis_server, lease_s=600) as process:
        assert soon(lambda: receiver.came)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    assert shown(redis).state == "sending"
    redis.zadd("vf:callbacks", {"evt_s1": 1})  # its lease has run out
    receiver.release.set()
    other = Courier(redis, open_client=open_client, lease_s=60)
    assert soon(lambda: other.run_once())
    assert [came.headers["webhook-id"] for came in receiver.came] == ["evt_s1", "evt_s1"]
    assert (shown(redis).state, shown(redis).tries) == ("delivered", 2)


def test_what_a_paused_one_reports_too_late_is_refused(
    redis_server: EmbeddedRedis, redis: Redis, receiver: Receiver, tmp_path: Path
) -> None:
    """It would have said that the callback was delivered; what the other courier found out stands."""
    log = tmp_path / "log"
    post(redis, receiver.url + "/hang")
    with log.open("wb") as output, courier_process(redis_server, lease_s=600, output=output) as process:
        assert soon(lambda: receiver.came)
        process.send_signal(signal.SIGSTOP)
        redis.hset("vf:callback:evt_s1", "url", receiver.url + "/gone")
        redis.zadd("vf:callbacks", {"evt_s1": 1})  # its lease has run out
        other = Courier(redis, open_client=open_client, lease_s=60)
        assert soon(lambda: other.run_once())
        receiver.release.set()
        process.send_signal(signal.SIGCONT)
        assert soon(lambda: "callback evt_s1 was taken over by another courier" in log.read_text())
    found = shown(redis)
    assert (found.state, found.last_error, found.tries) == ("dead", "status 410", 2)
    assert redis.zscore("vf:callbacks", "evt_s1") is None


def test_a_restart_of_redis_is_ridden_out(own_redis: EmbeddedRedis, receiver: Receiver) -> None:
    with (
        connect(url=own_redis.url, timeout_s=5, patience_s=0.2) as impatient,
        connect(url=own_redis.url, timeout_s=5, patience_s=10) as redis,
    ):
        stop = threading.Event()
        thread = threading.Thread(target=Courier(impatient, open_client=open_client).run, args=(stop,))
        thread.start()
        try:
            post(redis, receiver.url + "/ok", event="evt_before")
            assert soon(lambda: shown(redis, "evt_before").state == "delivered")
            own_redis.kill()
            time.sleep(0.5)  # as long as it is away
            own_redis.start()
            post(redis, receiver.url + "/ok", event="evt_after")
            assert soon(lambda: shown(redis, "evt_after").state == "delivered")
        finally:
            stop.set()
            thread.join(60)
        assert not thread.is_alive()
