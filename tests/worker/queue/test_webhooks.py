"""Signatures of callbacks: ours, the library's, and what is wrong with others."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis
from standardwebhooks import Webhook

from worker.errors import BadSignature, ConfigError
from worker.queue.webhooks import AT_ONCE, Secrets, new_secret, sign, verify

BODY = '{"type": "scan.completed", "name": "Zoë"}'


def signed(secret: str, *, age_s: float = 0, body: str = BODY) -> dict[str, str]:
    return sign("evt_1", int(time.time() - age_s), body, [secret])


def test_the_schemes_own_example() -> None:
    headers = sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}', ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_the_librarys_verify_takes_ours_and_ours_the_librarys() -> None:
    secret = new_secret()
    assert Webhook(secret).verify(BODY, signed(secret)) == json.loads(BODY)
    now = datetime.now(UTC)
    theirs = {
        "Webhook-Id": "evt_2",
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": Webhook(secret).sign("evt_2", now, BODY),
    }
    assert verify(theirs, BODY.encode(), secret) == "evt_2"


def test_any_known_secret_and_any_signature_will_do() -> None:
    old, new, other = new_secret(), new_secret(), new_secret()
    both = sign("evt_1", int(time.time()), BODY, [new, old])
    assert both["webhook-signature"].count("v1,") == 2
    for known in (old, new, [other, old], [new]):
        assert verify(both, BODY, known) == "evt_1"
    assert verify(signed(old), BODY, [new, old]) == "evt_1"
    with pytest.raises(BadSignature):
        verify(both, BODY, other)


@pytest.mark.parametrize("age_s", [-299, 0, 299])
def test_clocks_may_differ_by_minutes(age_s: float) -> None:
    secret = new_secret()
    assert verify(signed(secret, age_s=age_s + (2 if age_s < 0 else -2)), BODY, secret)


@pytest.mark.parametrize("age_s", [-330, 302])
def test_older_or_newer_ones_are_refused(age_s: float) -> None:
    secret = new_secret()
    with pytest.raises(BadSignature, match="300 s from now"):
        verify(signed(secret, age_s=age_s), BODY, secret)
    assert verify(signed(secret, age_s=age_s), BODY, secret, tolerance_s=600)


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "evt_2"},
        {"webhook-id": ""},
        {"webhook-timestamp": str(int(time.time()) + 9)},
        {"webhook-timestamp": "nan"},
        {"webhook-timestamp": "1e9"},
        {"webhook-timestamp": "9" * 40},
        {"webhook-timestamp": "-1"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,,,"},
        {"webhook-signature": "v1,ä"},
        {"webhook-signature": "v2," + "A" * 44},
        {"webhook-signature": "v1,AAAA v1,!!! garbage"},
    ],
)
def test_what_was_changed_on_the_way_is_refused(change: dict[str, str]) -> None:
    secret = new_secret()
    with pytest.raises(BadSignature):
        verify(signed(secret) | change, BODY, secret)


def test_another_body_is_refused() -> None:
    secret = new_secret()
    for body in (BODY + " ", "", BODY.encode("utf-16")):
        with pytest.raises(BadSignature):
            verify(signed(secret), body, secret)
    with pytest.raises(BadSignature):
        verify({}, BODY, secret)


any_text = st.text(st.characters(exclude_categories=()), max_size=60)
now_or_any = st.just(str(int(time.time()))) | any_text


@settings(max_examples=60)
@given(any_text, now_or_any, any_text | any_text.map("v1,{}".format), any_text | st.binary())
def test_nothing_but_a_signature_passes(event_id: str, timestamp: str, signature: str, body: str | bytes) -> None:
    headers = {"webhook-id": event_id, "webhook-timestamp": timestamp, "webhook-signature": signature}
    with pytest.raises(BadSignature):
        verify(headers, body, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


@pytest.mark.parametrize("secret", ["", "hunter2", "whsec_", "whsec_%%%", "whsec_ä"])
def test_a_secret_that_is_none_is_named_but_not_shown(secret: str) -> None:
    with pytest.raises(ConfigError) as refused:
        verify(signed(new_secret()), BODY, secret)
    assert "hunter2" not in str(refused.value)
    assert "veriframe keys webhook" in str(refused.value)


def test_a_secret_is_made_on_first_use_and_stays(redis: Redis) -> None:
    secrets = Secrets(redis)
    (first,) = secrets.current("acme")
    assert secrets.current("acme") == (first,)
    assert secrets.current("umbrella") != (first,)
    assert len(first) == len("whsec_") + 44


def test_both_sign_while_they_are_rotated(redis: Redis) -> None:
    secrets = Secrets(redis)
    (old,) = secrets.current("acme")
    new, kept = secrets.rotate("acme", keep_old_s=3600)
    assert kept == old
    assert new != old
    headers = sign("evt_1", int(time.time()), BODY, secrets.current("acme"))
    assert verify(headers, BODY, old) == verify(headers, BODY, new)
    redis.zincrby("vf:webhook-secrets:acme", -3_600_000, old)
    assert secrets.current("acme") == (new,)


def test_a_leaked_secret_can_be_dropped_at_once(redis: Redis) -> None:
    secrets = Secrets(redis)
    (old,) = secrets.current("acme")
    (new,) = secrets.rotate("acme", keep_old_s=0)
    assert new != old
    assert secrets.revoke("acme")
    assert not secrets.revoke("acme")
    assert secrets.current("acme") != (new,)


@pytest.mark.parametrize("step_s", [1, 0, -60])
def test_rotating_often_keeps_the_latest(redis: Redis, step_s: float) -> None:
    secrets = Secrets(redis)
    made = [secrets.rotate("acme", keep_old_s=3600 + n * step_s)[0] for n in range(AT_ONCE + 3)]
    assert secrets.current("acme") == tuple(reversed(made[-AT_ONCE:]))
