"""The courier against receivers of every kind: what is sent, tried again, given up."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import select
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

from tests.worker.queue.couriers import BODY, due_in_s, open_client, post, shown
from tests.worker.queue.receivers import Receiver, receiving, soon
from tests.worker.telemetry.recorded import Recorded
from worker.queue.assemble import build_courier
from worker.queue.callbacks import Callbacks
from worker.queue.connection import connect
from worker.queue.courier import Courier
from worker.queue.delivery import plain
from worker.queue.embedded import EmbeddedRedis
from worker.queue.record import Submission
from worker.queue.records import Records
from worker.queue.requests import RequestSource, ScanRequest
from worker.queue.webhooks import Secrets, verify
from worker.settings import Settings
from worker.telemetry.context import now_about


def test_a_callback_arrives_signed_and_byte_for_byte(redis: Redis, courier: Callable[..., Courier], receiver: Receiver) -> None:
    event = post(redis, receiver.url + "/ok?token=hidden")
    assert courier().run_once() == 1
    (came,) = receiver.came
    assert came.body == BODY.encode()
    assert verify(came.headers, came.body, Secrets(redis).current("acme")) == event
    assert came.headers["content-type"] == "application/json"
    assert came.headers["user-agent"].startswith("veriframe/")
    assert shown(redis).state == "delivered"
    assert 0 < redis.ttl(f"vf:callback:{event}") <= 7 * 86400
    assert Callbacks(redis).pending() == 0


def test_a_couriers_own_clock_may_be_wrong(
    redis: Redis, courier: Callable[..., Courier], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    event, right = post(redis, receiver.url + "/ok"), time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: right() - 3600)
        courier().run_once()
    (came,) = receiver.came
    assert verify(came.headers, came.body, Secrets(redis).current("acme")) == event


def test_the_end_of_a_scan_becomes_a_callback(redis: Redis, courier: Callable[..., Courier], receiver: Receiver) -> None:
    records = Records(redis)
    request = ScanRequest(
        source=RequestSource(url="http://h.example/v.mp4"), external_id="post-17 Zoë", callback_url=receiver.url + "/ok"
    )
    (submitted,) = records.submit([Submission(request=request, owner="acme")])
    assert courier().run_once() == 0
    records.cancel(submitted.id)
    assert courier().run_once() == 1
    (came,) = receiver.came
    assert verify(came.headers, came.body, Secrets(redis).current("acme")) == f"evt_{submitted.id}"
    told = json.loads(came.body)
    assert told["type"] == "scan.cancelled"
    assert datetime.now(UTC) - datetime.fromisoformat(told["timestamp"]) < timedelta(minutes=1)
    assert told["data"] | {"score": None} == {
        "id": submitted.id,
        "retry_of": None,
        "external_id": "post-17 Zoë",
        "status": "cancelled",
        "dead": False,
        "verdict": None,
        "score": None,
        "calibrated": False,
        "start_s": None,
        "end_s": None,
        "decided_by": "model",
        "error": None,
    }
    found = shown(redis, f"evt_{submitted.id}")
    assert abs(found.created_ms / 1000 - time.time()) < 60


def test_a_host_that_is_denied_gets_no_callback(redis: Redis, receiver: Receiver) -> None:
    source = {"allow_private_hosts": ["127.0.0.1"], "allow_hosts": ["media.example"]}
    for denied in ([], ["127.0.0.1"]):
        post(redis, receiver.url + "/ok")
        with build_courier(Settings.model_validate({"source": {**source, "deny_hosts": denied}}), redis) as courier:
            assert courier.run_once() == 1
    assert len(receiver.came) == 1
    assert shown(redis).state == "dead"
    assert "127.0.0.1: not a host" in shown(redis).last_error


@pytest.mark.parametrize("broken", [{"body": b"\xff\xfe"}, {"url": b"http://\xff"}, {"last_error": b"\xff"}])
def test_one_that_cannot_be_read_does_not_stop_the_others(
    redis: Redis, courier: Callable[..., Courier], receiver: Receiver, broken: dict[str, bytes]
) -> None:
    post(redis, receiver.url + "/bad", event="evt_0broken")
    for name, value in broken.items():
        redis.hset("vf:callback:evt_0broken", name, value)
    redis.zadd("vf:callbacks", {"evt_0gone": 0})
    post(redis, receiver.url + "/ok", event="evt_1")
    courier(attempts=1).run_once()
    assert shown(redis, "evt_1").state == "delivered"
    assert [dead.id for dead in Callbacks(redis).dead()] == ["evt_0broken"]
    assert Callbacks(redis).pending() == 0


def test_it_is_tried_again_under_the_same_id(redis: Redis, courier: Callable[..., Courier], receiver: Receiver) -> None:
    post(redis, receiver.url + "/flaky")
    assert soon(lambda: courier().run_once() and shown(redis).state == "delivered")
    first, second = receiver.came
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == "evt_s1"
    assert shown(redis).tries == 2


@pytest.mark.parametrize(
    ("path", "error"), [("/bad", "status 400"), ("/moved", "status 307"), ("/nothing", "Error"), ("/cut", "Error")]
)
def test_after_its_last_try_it_is_dead_and_kept(
    redis: Redis, courier: Callable[..., Courier], receiver: Receiver, path: str, error: str
) -> None:
    post(redis, receiver.url + path)
    one = courier(attempts=3)
    assert soon(lambda: one.run_once() and shown(redis).state == "dead")
    assert len(receiver.came) == 3
    assert not receiver.at("/ok"), "redirects are not followed"
    (dead,) = Callbacks(redis).dead()
    assert (dead.id, dead.tries, dead.body) == ("evt_s1", 3, BODY)
    assert error in dead.last_error
    assert Callbacks(redis).pending() == 0


def test_tries_are_counted_and_the_delay_is_that_since_the_end(
    redis: Redis, courier: Callable[..., Courier], receiver: Receiver
) -> None:
    told = Recorded()
    seconds, micros = redis.time()
    for event, path in (("evt_s1", "/ok"), ("evt_s2_0", "/gone"), ("evt_s3", "/bad")):
        post(redis, receiver.url + path, event=event)
        redis.hset(f"vf:callback:{event}", "created_ms", seconds * 1000 + micros // 1000 - 7000)
    courier(telemetry=told, backoff_s=1000).run_once()
    assert told.counts == {("callback_deliveries_total", outcome): 1 for outcome in ("delivered", "dead", "retry")}
    (delay_s,) = told.seen["callback_delay_seconds",]
    assert 7 <= delay_s < 60


def test_lines_of_a_callback_are_about_its_scan(
    redis: Redis, courier: Callable[..., Courier], receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    about: list[Mapping[str, str | int]] = []
    caplog.handler.addFilter(lambda record: not about.append(now_about()))
    caplog.set_level(logging.INFO, "worker.queue.courier")
    post(redis, receiver.url + "/ok", event="evt_s2_0")
    courier().run_once()
    assert {"scan_id": "s2", "callback": "evt_s2_0"} in about


def test_a_dead_one_is_played_again(redis: Redis, courier: Callable[..., Courier], receiver: Receiver) -> None:
    event = post(redis, receiver.url + "/flaky")
    courier(attempts=1).run_once()
    callbacks = Callbacks(redis)
    assert not callbacks.replay("evt_unknown")
    assert callbacks.replay(event)
    assert not callbacks.replay(event), "it is not dead any more"
    assert callbacks.dead() == []
    assert redis.ttl(f"vf:callback:{event}") == -1
    courier(attempts=1).run_once()
    assert shown(redis).state == "delivered"
    assert {came.headers["webhook-id"] for came in receiver.came} == {event}


def test_gone_means_never_again(redis: Redis, courier: Callable[..., Courier], receiver: Receiver) -> None:
    post(redis, receiver.url + "/gone")
    assert courier().run_once() == 1
    assert (shown(redis).state, shown(redis).last_error) == ("dead", "status 410")


@pytest.mark.parametrize(("path", "least_s", "most_s"), [("/busy", 10, 41), ("/forever", 45, 101)])
def test_a_receiver_may_ask_for_time_but_not_for_ever(
    redis: Redis, courier: Callable[..., Courier], receiver: Receiver, path: str, least_s: float, most_s: float
) -> None:
    post(redis, receiver.url + path)
    assert courier(backoff_max_s=100).run_once() == 1
    assert least_s < due_in_s(redis) < most_s
    assert shown(redis).state == "waiting"


def test_waits_grow_fourfold_up_to_the_longest(redis: Redis, courier: Callable[..., Courier], receiver: Receiver) -> None:
    one = courier(backoff_s=1e5, backoff_max_s=1e7, attempts=99)
    longest = {}
    for tries in (0, 2, 60):
        for n in range(20):
            event = post(redis, receiver.url + "/bad", event=f"evt_{tries}_{n}")
            redis.hset(f"vf:callback:{event}", "tries", tries)
        one.run_once()
        waits = [due_in_s(redis, f"evt_{tries}_{n}") for n in range(20)]
        assert min(waits) < max(waits) / 2, "jitter"
        longest[tries] = max(waits)
    for tries, ceiling_s in ((0, 1e5), (2, 16e5), (60, 1e7)):
        assert ceiling_s / 2 < longest[tries] <= ceiling_s


@pytest.mark.parametrize("path", ["/hang", "/drip"])
def test_a_try_has_an_end(redis: Redis, courier: Callable[..., Courier], receiver: Receiver, path: str) -> None:
    post(redis, receiver.url + path)
    courier(timeout_s=1, backoff_s=1000).run_once()
    assert shown(redis).last_error == "no answer within 1 s"
    assert shown(redis).state == "waiting"


def test_a_tls_handshake_has_an_end(redis: Redis, courier: Callable[..., Courier]) -> None:
    """A byte now and then of a record that is announced as long."""
    done = threading.Event()

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(ConnectionError):
            connection.sendall(b"\x16\x03\x03\x40\x00")
            while not done.wait(0.05):
                connection.sendall(b"a")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        post(redis, f"https://127.0.0.1:{listener.getsockname()[1]}/")
        courier(timeout_s=1, backoff_s=1000).run_once()
        done.set()
        thread.join()
    assert shown(redis).last_error == "no answer within 1 s"


def test_an_oversized_answer_is_not_read(redis: Redis, courier: Callable[..., Courier], receiver: Receiver) -> None:
    post(redis, receiver.url + "/huge")
    assert courier().run_once() == 1
    assert shown(redis).state == "delivered", "reading it to its end takes longer than a try may"


def test_nobody_listens(redis: Redis, courier: Callable[..., Courier], receiver: Receiver) -> None:
    post(redis, "http://127.0.0.1:1/ok")
    courier(backoff_s=100).run_once()
    assert (shown(redis).state, shown(redis).last_error) == ("waiting", "ConnectError")


def test_one_that_cannot_be_handled_dies_of_its_tries(
    redis: Redis, courier: Callable[..., Courier], receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Its owner's secret is none. Nothing is sent unsigned, and others' are."""
    redis.zadd("vf:webhook-secrets:acme", {"hunter2": math.inf})
    post(redis, receiver.url + "/bad")
    post(redis, receiver.url + "/ok", event="evt_other", owner="other")
    one = courier(attempts=3, lease_s=60)
    assert soon(lambda: one.run_once() >= 0 and shown(redis).state == "dead")
    assert (shown(redis).tries, shown(redis).last_error) == (3, "ConfigError")
    assert Callbacks(redis).pending() == 0
    assert [came.path for came in receiver.came] == ["/ok"]
    assert "callback evt_s1 could not be sent" in caplog.text
    assert "hunter2" not in caplog.text


@contextmanager
def hanging_up(port: int, word: bytes, hangs_up: threading.Event) -> Iterator[int]:
    """A port before that of Redis, which ends the connection when it is asked for ``word`` while ``hangs_up`` is set."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            near: socket.socket = self.request
            with socket.create_connection(("127.0.0.1", port)) as far, contextlib.suppress(ConnectionError):
                while True:
                    for ready in select.select([near, far], [], [])[0]:
                        data = ready.recv(1 << 16)
                        if not data or (hangs_up.is_set() and word in data):
                            return
                        (far if ready is near else near).sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_what_redis_hindered_was_no_try(redis_server: EmbeddedRedis, redis: Redis, receiver: Receiver) -> None:
    hangs_up = threading.Event()
    hangs_up.set()
    post(redis, receiver.url + "/ok")
    with (
        hanging_up(redis_server.port, b"webhook-secrets", hangs_up) as port,
        connect(url=f"redis://127.0.0.1:{port}/0", timeout_s=5, patience_s=0.05) as shaky,
    ):
        one = Courier(shaky, open_client=open_client, lease_s=1.5)
        assert one.run_once() == 1
        assert (shown(redis).state, shown(redis).tries) == ("sending", 0)
        hangs_up.clear()
        assert soon(one.run_once)
    assert len(receiver.came) == 1
    assert (shown(redis).state, shown(redis).tries) == ("delivered", 1)


def test_logs_hold_neither_body_nor_query(
    redis: Redis, courier: Callable[..., Courier], receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    post(redis, receiver.url + "/bad?token=hidden")
    with caplog.at_level(logging.DEBUG):
        courier(attempts=1).run_once()
    assert "/bad" in caplog.text
    for secret in ("hidden", "verdict", Secrets(redis).current("acme")[0]):
        assert secret not in caplog.text + repr(shown(redis))


def test_plain_urls() -> None:
    assert plain("https://u:p@h.example:8443/a/b?c=d#e") == "https://h.example:8443/a/b"
    assert plain("http://h\n/") == "(not a URL)"


def test_no_cookie_of_one_receiver_goes_to_another(redis: Redis, courier: Callable[..., Courier], receiver: Receiver) -> None:
    for n in range(2):
        post(redis, receiver.url + "/ok", event=f"evt_{n}", owner=f"owner{n}")
        courier().run_once()
    assert [came.headers.get("cookie") for came in receiver.came] == [None, None]


def test_the_overlap_of_a_rotation_is_signed_twice(redis: Redis, courier: Callable[..., Courier], receiver: Receiver) -> None:
    secrets = Secrets(redis)
    (old,) = secrets.current("acme")
    new, _ = secrets.rotate("acme", keep_old_s=3600)
    post(redis, receiver.url + "/ok")
    courier().run_once()
    (came,) = receiver.came
    for known in (old, new):
        assert verify(came.headers, came.body, known)


def test_a_slow_receiver_does_not_hold_up_the_others(redis: Redis, courier: Callable[..., Courier], receiver: Receiver) -> None:
    for n in range(80):
        post(redis, receiver.url + "/hang", event=f"evt_a{n:02}", owner="slow")
    post(redis, receiver.url + "/ok", event="evt_b", owner="quick")
    stop = threading.Event()
    thread = threading.Thread(target=courier(timeout_s=60, lease_s=90, parallel=6).run, args=(stop,))
    thread.start()
    try:
        assert soon(lambda: receiver.at("/ok") and len(receiver.at("/hang")) == 2)
        post(redis, receiver.url + "/ok", event="evt_c", owner="quick")
        assert soon(lambda: len(receiver.at("/ok")) == 2)
        assert len(receiver.at("/hang")) == 2, "half the hands but one"
    finally:
        stop.set()
        receiver.release.set()
        thread.join(60)
    assert not thread.is_alive()


def test_a_receiver_that_hangs_leaves_a_hand_for_its_owners_others(
    redis: Redis, courier: Callable[..., Courier], receiver: Receiver
) -> None:
    for n in range(300):
        post(redis, receiver.url + "/hang", event=f"evt_a{n:03}")
    stop = threading.Event()
    with receiving() as other:
        post(redis, other.url + "/ok", event="evt_b")
        thread = threading.Thread(target=courier(timeout_s=60, lease_s=90, parallel=4).run, args=(stop,))
        thread.start()
        try:
            assert soon(lambda: other.at("/ok") and receiver.at("/hang"), within_s=20)
            assert len(receiver.at("/hang")) == 1, "both are sent at once: either may come first"
        finally:
            stop.set()
            receiver.release.set()
            thread.join(60)


def test_stopping_finishes_what_is_being_sent(redis: Redis, courier: Callable[..., Courier], receiver: Receiver) -> None:
    post(redis, receiver.url + "/hang")
    stop = threading.Event()
    # With one hand: a second would take what comes in the moment in which it was about to look.
    thread = threading.Thread(target=courier(timeout_s=30, lease_s=40, parallel=1).run, args=(stop,))
    thread.start()
    assert soon(lambda: receiver.came)
    stop.set()
    post(redis, receiver.url + "/ok", event="evt_later")
    receiver.release.set()
    thread.join(60)
    assert not thread.is_alive()
    assert shown(redis).state == "delivered"
    assert shown(redis, "evt_later").state == "waiting"
