"""Signatures of callbacks by the Standard Webhooks scheme (https://www.standardwebhooks.com): secrets, sign, verify.

The secrets of an owner lie in Redis in plain text, since each try is signed anew: whoever can read Redis can sign.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets as randomness
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from worker.errors import BadSignature, ConfigError

if TYPE_CHECKING:
    from redis import Redis

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
TOLERANCE_S = 300
AT_ONCE = 5
"""Secrets of one owner that sign at the same time, at most."""
_PREFIX = "whsec_"
# Members are secrets, scores the times (ms) at which they end, an older one before a newer; the newest never does. Run twice, it
# changes nothing more.
_CURRENT = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCOUNT', KEYS[1], '+inf', '+inf') == 0 then redis.call('ZADD', KEYS[1], '+inf', ARGV[1]) end
if ARGV[2] ~= '' and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  local older = redis.call('ZRANGE', KEYS[1], 0, -1)
  for i, old in ipairs(older) do redis.call('ZADD', KEYS[1], 'LT', now + tonumber(ARGV[2]) - #older + i, old) end
  redis.call('ZADD', KEYS[1], '+inf', ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[3]))
end
return redis.call('ZREVRANGE', KEYS[1], 0, -1)
"""


class Secrets:
    """The signing secrets of every owner: one that stays, and those that it has replaced for as long as they overlap."""

    def __init__(self, redis: Redis, namespace: str = "vf") -> None:
        self._redis, self._namespace = redis, namespace
        self._script = redis.register_script(_CURRENT)

    def current(self, owner: str) -> tuple[str, ...]:
        """The secrets that sign now, the newest first; made on first use."""
        return self._run(owner, "")

    def rotate(self, owner: str, keep_old_s: float) -> tuple[str, ...]:
        """Make a new secret; those before it sign along for ``keep_old_s``, while receivers learn the new one.

        With 0 they are worthless at once: right for one that leaked. One that an earlier call lets end before that does.
        """
        return self._run(owner, str(max(int(keep_old_s * 1000), 0)))

    def revoke(self, owner: str) -> bool:
        """Forget all of an owner's secrets; its next callback is signed with a new one. False: there was none."""
        from worker.queue.connection import translated

        with translated():
            return bool(self._redis.delete(self._key(owner)))

    def _run(self, owner: str, keep_ms: str) -> tuple[str, ...]:
        from worker.queue.connection import translated

        with translated():
            found = self._script(keys=[self._key(owner)], args=[new_secret(), keep_ms, AT_ONCE])
        return tuple(secret.decode() for secret in found)

    def _key(self, owner: str) -> str:
        return f"{self._namespace}:webhook-secrets:{owner}"


def new_secret() -> str:
    """256 random bits, as the scheme writes them."""
    return _PREFIX + base64.b64encode(randomness.token_bytes(32)).decode()


def sign(event_id: str, timestamp: int, body: str, secrets: Sequence[str]) -> dict[str, str]:
    """Headers of one try of a callback; ``timestamp`` in seconds since 1970. One signature a secret: knowing any is enough."""
    when = datetime.fromtimestamp(timestamp, UTC)
    signatures = [_webhook(secret).sign(event_id, when, body) for secret in secrets]
    return {ID: event_id, TIMESTAMP: str(timestamp), SIGNATURE: " ".join(signatures)}


def verify(headers: Mapping[str, str], body: bytes | str, secrets: str | Sequence[str], tolerance_s: float = TOLERANCE_S) -> str:
    """Check a callback that came in, before anything else is done with it; returns its event id, the same on every try.

    ``body`` is what was received, byte for byte: parsing and writing it again changes it. ``secrets``: the owner's, or several
    while they are rotated. ``tolerance_s`` bounds the age (and the skew of the clocks), hence the time in which a recorded
    callback can be played back; remember event ids for longer than that. Raises BadSignature, and ConfigError for a secret
    that is none.
    """
    found = {name.lower(): value for name, value in headers.items()}
    event_id, timestamp, signatures = (found.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE))
    if not (event_id and timestamp and signatures):
        raise BadSignature(f"the headers {ID}, {TIMESTAMP} and {SIGNATURE} are needed")
    if not re.fullmatch(r"\d{1,11}", timestamp, re.ASCII):
        raise BadSignature(f"{TIMESTAMP} is not a time in seconds")
    if abs(time.time() - int(timestamp)) > tolerance_s:
        raise BadSignature(f"{TIMESTAMP} is more than {tolerance_s:g} s from now")
    try:
        text = body if isinstance(body, str) else body.decode()
        (event_id + text).encode()
    except UnicodeError as exc:
        raise BadSignature("the event id or the body is not text") from exc
    known = [secrets] if isinstance(secrets, str) else secrets
    expected = [_raw(value) for value in sign(event_id, int(timestamp), text, known)[SIGNATURE].split()]
    given = [_raw(value) for value in signatures.split()]
    if not any(hmac.compare_digest(ours, theirs) for ours in expected for theirs in given if theirs):
        raise BadSignature("no signature is of a known secret")
    return event_id


def _raw(signature: str) -> bytes:
    """The bytes of a ``v1`` signature; none for what is of another version, or none at all."""
    version, _, encoded = signature.partition(",")
    if version != "v1":
        return b""
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _webhook(secret: str) -> Webhook:
    """``from None``: what cannot be read is still a secret, and stays out of messages."""
    if not secret.startswith(_PREFIX):
        raise ConfigError(f"a signing secret begins with {_PREFIX}: `veriframe keys webhook OWNER` shows it")
    try:
        return Webhook(secret)
    except (binascii.Error, ValueError, EmptyWebhookSecretError):
        raise ConfigError(f"a signing secret is {_PREFIX} and base64: `veriframe keys webhook OWNER` shows it") from None
