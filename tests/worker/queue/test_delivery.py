"""Where a callback may go: every address is checked, redirects lead nowhere, a name server's odd answer ends nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from redis import Redis

from tests.worker.queue.couriers import TLS, post, shown
from tests.worker.queue.receivers import Receiver
from tests.worker.spy import Spy
from worker.queue.courier import Courier
from worker.queue.embedded import EmbeddedRedis
from worker.source.client import guarded_client
from worker.source.guard import AddressGuard


@pytest.mark.parametrize("url", ["gopher://a/", "http://[bad/", "", "//a", "http://a\udce4/".encode("utf-8", "replace").decode()])
def test_what_is_no_address_is_given_up(redis: Redis, courier: Callable[..., Courier], url: str) -> None:
    post(redis, url)
    courier(attempts=1).run_once()
    assert shown(redis).state == "dead"


class Watch:
    """The spy on sockets, without what it sees of Redis."""

    def __init__(self, spy: Spy, redis_at: str) -> None:
        self.spy, self._redis_at = spy, redis_at
        spy.allow(redis_at)

    @property
    def connections(self) -> list[str]:
        return [at for at in self.spy.connections if at != self._redis_at]


@pytest.fixture
def watch(spy: Spy, redis_server: EmbeddedRedis) -> Watch:
    return Watch(spy, f"127.0.0.1:{redis_server.port}")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.2:{port}/ok", "127.0.0.2: a private or reserved address"),
        ("http://[::1]:{port}/ok", "::1: a private or reserved address"),
        ("http://[::ffff:127.0.0.1]:{port}/ok", "::ffff:7f00:1: a private or reserved address"),
        ("http://localhost.:0/ok", "a URL without a valid port"),
        ("http://2130706433:{port}/ok", "a host that is a number"),
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254: a private or reserved address"),
        ("http://10.0.0.1/", "10.0.0.1: a private or reserved address"),
        ("http://user:word@127.0.0.1:{port}/ok", "a URL with a user name or password in it"),
        ("file:///etc/passwd", "only http and https URLs are fetched"),
    ],
)
def test_the_guard_stands_before_every_address(
    watch: Watch, redis: Redis, courier: Callable[..., Courier], receiver: Receiver, url: str, why: str
) -> None:
    post(redis, url.format(port=receiver.url.rpartition(":")[2]))
    assert courier().run_once() == 1
    assert (shown(redis).state, shown(redis).last_error) == ("dead", why)
    assert watch.connections == []
    assert watch.spy.lookups == []


def test_a_redirect_leads_nowhere(watch: Watch, redis: Redis, courier: Callable[..., Courier], receiver: Receiver) -> None:
    watch.spy.allow("127.0.0.1")
    post(redis, receiver.url + "/away")
    courier(attempts=1).run_once()
    assert (shown(redis).state, shown(redis).last_error) == ("dead", "status 307")
    assert watch.connections == [receiver.url.removeprefix("http://")]


@pytest.mark.parametrize("odd", [["10.0.0.1"], ["93.184.215.14", "169.254.169.254"], ["::1"], ["no address"]])
def test_one_odd_answer_of_a_name_server_does_not_end_a_callback(
    watch: Watch, redis: Redis, receiver: Receiver, odd: list[str]
) -> None:
    """Nothing is connected to for it, and the next try finds what is right."""
    watch.spy.allow("127.0.0.1")
    guard = AddressGuard(resolve=lambda host, port: odd)
    post(redis, receiver.url.replace("127.0.0.1", "receiver.example") + "/ok")
    Courier(redis, open_client=lambda ends_at: guarded_client(guard, ends_at=ends_at, ssl_context=TLS), backoff_s=1e5).run_once()
    why = "its address is not one" if odd == ["no address"] else "a private or reserved address"
    assert (shown(redis).state, shown(redis).last_error) == ("waiting", f"receiver.example: {why}")
    assert watch.connections == []
    redis.zadd("vf:callbacks", {"evt_s1": 1})
    guard = AddressGuard(allow_private_hosts=["receiver.example"], resolve=lambda host, port: ["127.0.0.1"])
    Courier(redis, open_client=lambda ends_at: guarded_client(guard, ends_at=ends_at, ssl_context=TLS)).run_once()
    assert (shown(redis).state, shown(redis).tries) == ("delivered", 2)


@pytest.mark.parametrize(
    ("errno", "why"),
    [
        (socket.EAI_NONAME, "receiver.example: there is no such host"),
        (socket.EAI_AGAIN, "receiver.example: its address could not be looked up"),
    ],
)
def test_a_name_that_is_unknown_today_may_be_known_tomorrow(redis: Redis, errno: int, why: str) -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(errno, "none")

    guard = AddressGuard(resolve=unknown)
    post(redis, "http://receiver.example/secret?token=1")
    Courier(redis, open_client=lambda ends_at: guarded_client(guard, ends_at=ends_at, ssl_context=TLS), backoff_s=1e5).run_once()
    assert (shown(redis).state, shown(redis).last_error) == ("waiting", why)
