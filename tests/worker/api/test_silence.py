"""A Redis that was silent is not asked by everybody in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.worker.api.conftest import Serve, Service
from tests.worker.console.conftest import with_console
from worker.api.silence import Silence
from worker.errors import QueueFull, RedisDown, Unauthorized, VeriframeError
from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis


class Asking:
    """Redis, and a clock that stands still but while it is waited for."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.silence = Silence(rest_s=2, slow_s=1, now=lambda: self.now_s)

    def ask(self, takes_s: float, *, answers: bool = False, meanwhile: Callable[[], object] = lambda: None) -> bool:
        """Whether it was asked."""
        is_asked = False
        try:
            with self.silence.asked():
                is_asked = True
                meanwhile()
                self.now_s += takes_s
                if not answers:
                    raise RedisDown("silent")
        except RedisDown:
            pass
        return is_asked


def test_after_somebody_has_waited_in_vain_one_asks_at_a_time_and_seldom() -> None:
    redis = Asking()
    assert [redis.ask(5), redis.ask(5), redis.ask(5)] == [True, True, False]
    redis.now_s += 2
    others: list[bool] = []
    assert redis.ask(5, meanwhile=lambda: others.append(redis.ask(5))), "again, after the moment"
    assert others == [False], "one for all"
    assert not redis.ask(5)
    redis.now_s += 2
    assert [redis.ask(0, answers=True), redis.ask(0, answers=True)] == [True, True]


@pytest.mark.parametrize("refusal", [Unauthorized("no key"), QueueFull("too many", retry_after_s=1), RedisDown("it is full")])
def test_a_refusal_is_an_answer(refusal: VeriframeError) -> None:
    redis = Asking()
    assert [redis.ask(5), redis.ask(5), redis.ask(5)] == [True, True, False]
    redis.now_s += 2
    with pytest.raises(type(refusal)), redis.silence.asked():
        raise refusal
    assert [redis.ask(0, answers=True), redis.ask(0, answers=True)] == [True, True]


def test_what_redis_says_at_once_and_a_connection_that_hangs_alone_are_no_silence() -> None:
    redis = Asking()
    assert [redis.ask(0.1), redis.ask(0.1)] == [True, True]
    assert redis.ask(5, meanwhile=lambda: redis.ask(0, answers=True))
    assert redis.ask(0, answers=True)
    assert redis.ask(5), "nobody else asked meanwhile"
    assert [redis.ask(0, answers=True), redis.ask(0, answers=True)] == [True, True]


def test_while_one_finds_out_whether_it_was_a_connection_that_hung_the_others_do_not_wait() -> None:
    redis = Asking()
    others: list[bool] = []
    assert redis.ask(5)
    assert redis.ask(5, meanwhile=lambda: others.append(redis.ask(5)))
    assert others == [False]


@pytest.fixture
def service(serve: Serve, own_redis: EmbeddedRedis) -> Iterator[Service]:
    """With the console, over a Redis of its own whose silence lasts."""
    with connect(url=own_redis.url, timeout_s=0.2, patience_s=0) as client:
        yield with_console(serve(client=client, silence=Silence(rest_s=3600, slow_s=0)))


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/scans"), ("GET", "/v1/scans/" + "0" * 32), ("POST", "/console/sign-in"), ("GET", "/console/")],
)
def test_while_redis_is_silent_the_next_caller_is_told_without_asking_it(
    service: Service, own_redis: EmbeddedRedis, method: str, path: str
) -> None:
    headers, form = service.as_(), {"key": service.token()}
    service.client.post("/console/sign-in", data=form, follow_redirects=False)

    def ask() -> int:
        return service.client.request(method, path, headers=headers, data=form, follow_redirects=False).status_code

    assert ask() in (200, 303, 404)
    own_redis.pause()
    assert [ask(), ask()] == [503, 503]
    own_redis.resume()
    assert ask() == 503, "it was not asked: it would have answered"


def test_what_needs_no_redis_is_answered_while_it_is_silent(service: Service, own_redis: EmbeddedRedis) -> None:
    headers = service.as_()
    own_redis.pause()
    assert [service.client.get("/v1/scans", headers=headers).status_code for _ in range(2)] == [503, 503]
    assert service.client.get("/v1/scans", headers={"Authorization": "Bearer nonsense"}).status_code == 401
    assert service.client.get("/console/", follow_redirects=False).status_code == 303
    assert service.client.get("/v1/scans", headers=headers).status_code == 503
    own_redis.resume()
