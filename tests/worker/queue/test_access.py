"""API keys in a real Redis."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

from worker.errors import BadRequest, Forbidden, Unauthorized
from worker.queue.access import TOUCH_MS, ApiKeys, Scope, checked_owner


@pytest.fixture
def keys(redis: Redis) -> ApiKeys:
    return ApiKeys(redis, "vf")


def test_a_token_opens_its_key(keys: ApiKeys) -> None:
    made, token = keys.create("acme", ["scan", "read"], "ingest")
    found = keys.authenticate(token)
    assert (found.id, found.owner, found.name) == (made.id, "acme", "ingest")
    assert found.scopes == {Scope.SCAN, Scope.READ}
    assert abs(found.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert token.startswith(f"vf_{made.id}_")


def test_redis_and_reprs_hold_no_secret(keys: ApiKeys, redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        made, token = keys.create("acme", ["read"], "n")
        keys.authenticate(token)
        with pytest.raises(Unauthorized) as refused:
            keys.authenticate(token[:-1] + ("A" if token[-1] != "A" else "B"))
    secret = token.split("_", 2)[2]
    stored = b" ".join(value for name in redis.keys("*") if redis.type(name) == b"hash" for value in redis.hgetall(name).values())
    for text in (stored.decode(), repr(made), caplog.text, str(refused.value)):
        assert secret not in text
    assert made.id not in caplog.text + str(refused.value)


def test_a_key_that_was_shown_before_is_known_until_it_ends(keys: ApiKeys, redis: Redis) -> None:
    made, _ = keys.create("acme", ["read"], "n")
    ending, _ = keys.create("acme", ["read"], expires_at=datetime.now(UTC) + timedelta(hours=1))
    found = keys.known(made.id)
    assert (found.id, found.owner, found.scopes) == (made.id, "acme", {Scope.READ})
    assert keys.known(made.id).last_used_at is not None
    assert keys.known(ending.id).id == ending.id
    redis.hset(f"vf:key:{ending.id}", "expires_ms", 1)
    keys.revoke(made.id)
    for gone in (ending.id, made.id, "0" * 16):
        with pytest.raises(Unauthorized):
            keys.known(gone)


def test_keys_have_names_for_their_owner(keys: ApiKeys) -> None:
    ada, _ = keys.create("acme", ["feedback"], "Ada")
    nobody, _ = keys.create("acme", ["feedback"])
    theirs, _ = keys.create("ops", ["admin"], "night shift")
    ids = [ada.id, nobody.id, theirs.id, "0" * 16, "of the command line"]
    assert keys.names(ids, "acme") == {ada.id: "Ada"}
    assert keys.names(ids) == {ada.id: "Ada", theirs.id: "night shift"}
    assert keys.names([]) == {}


@pytest.mark.parametrize("spoil", [lambda t: t + "x", lambda t: t[:-1], lambda t: t.upper(), lambda t: "", lambda t: t + "\n"])
def test_what_is_not_quite_the_token_is_refused(keys: ApiKeys, spoil) -> None:  # type: ignore[no-untyped-def]
    _, token = keys.create("acme", ["read"])
    with pytest.raises(Unauthorized):
        keys.authenticate(spoil(token))


def test_the_secret_of_another_key_is_refused_in_the_same_words(keys: ApiKeys) -> None:
    (_, mine), (other, _) = keys.create("acme", ["read"]), keys.create("umbrella", ["admin"])
    secret = mine.split("_", 2)[2]
    said = set()
    for token in (f"vf_{other.id}_{secret}", f"vf_{'0' * 16}_{secret}", "Bearer " + mine, "é" * 64):
        with pytest.raises(Unauthorized) as refused:
            keys.authenticate(token)
        said.add(str(refused.value))
    assert len(said) == 1


def test_a_revoked_key_opens_nothing_and_leaves_nothing(keys: ApiKeys, redis: Redis) -> None:
    made, token = keys.create("acme", ["read"])
    assert keys.revoke(made.id)
    assert not keys.revoke(made.id)
    with pytest.raises(Unauthorized):
        keys.authenticate(token)
    assert keys.list() == []
    assert redis.keys("*") == []


def test_a_key_ends(keys: ApiKeys, redis: Redis) -> None:
    end = datetime.now(UTC) + timedelta(days=1)
    made, token = keys.create("acme", ["read"], expires_at=end)
    ends = keys.authenticate(token).expires_at
    assert ends is not None
    assert abs(ends - end) < timedelta(milliseconds=2)
    redis.hset(f"vf:key:{made.id}", "expires_ms", int(time.time() * 1000) - 1000)
    with pytest.raises(Unauthorized):
        keys.authenticate(token)
    assert [info.id for info in keys.list()] == [made.id], "it is still listed"


def test_the_last_use_is_written_once_a_minute(keys: ApiKeys, redis: Redis) -> None:
    made, token = keys.create("acme", ["read"])
    assert keys.list()[0].last_used_at is None
    keys.authenticate(token)
    first = keys.list()[0].last_used_at
    assert first is not None
    keys.authenticate(token)
    assert keys.list()[0].last_used_at == first
    redis.hincrby(f"vf:key:{made.id}", "last_used_ms", -TOUCH_MS - 1000)
    keys.authenticate(token)
    again = keys.list()[0].last_used_at
    assert again is not None
    assert again >= first


def test_keys_are_listed_by_owner_the_oldest_first(keys: ApiKeys, redis: Redis) -> None:
    made = {owner + str(n): keys.create(owner, ["read"], owner + str(n))[0].id for n in range(2) for owner in ("a", "b")}
    assert {info.name for info in keys.list()} == set(made)
    redis.zincrby("vf:keys", -60_000, made["b1"])
    assert [info.name for info in keys.list("b")] == ["b1", "b0"]


def test_scopes_bound_what_a_key_may_do(keys: ApiKeys) -> None:
    reader, admin = keys.create("acme", ["read"])[0], keys.create("ops", ["admin"])[0]
    reader.require(Scope.READ)
    with pytest.raises(Forbidden, match="feedback"):
        reader.require(Scope.FEEDBACK)
    for scope in Scope:
        admin.require(scope)


@pytest.mark.parametrize("owner", ["", "Acme", "a b", ".a", "a" * 65, "a:b", "a\n", "ä", "-a"])
def test_names_of_owners_are_checked(keys: ApiKeys, owner: str) -> None:
    with pytest.raises(BadRequest):
        keys.create(owner, ["read"])


def test_names_of_owners_that_are_fine() -> None:
    assert [checked_owner(name) for name in ("a", "0", "acme-eu.trust_safety", "a" * 64)]


def test_what_makes_no_key(keys: ApiKeys) -> None:
    for scopes in ([], ["write"], ["read", "Admin"]):
        with pytest.raises(BadRequest):
            keys.create("acme", scopes)
    with pytest.raises(BadRequest):
        keys.create("acme", ["read"], "line\nbreak")
    for when in (datetime.now(UTC) - timedelta(seconds=1), datetime.now() + timedelta(days=1)):
        with pytest.raises(BadRequest):
            keys.create("acme", ["read"], expires_at=when)
    assert keys.list() == []
