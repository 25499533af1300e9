"""API keys: whose scans a caller sees, and what it may do. Redis holds hashes of the secrets, which are shown once.

A token is ``vf_<key id>_<secret>``, the secret 256 random bits. It is hashed with plain SHA-256: a slow password hash protects
guessable secrets, and this one cannot be guessed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from redis import Redis

from worker.errors import BadRequest, Forbidden, Unauthorized
from worker.queue.connection import translated
from worker.queue.requests import OWNER

MAX_NAME = 128
TOUCH_MS = 60_000
"""``last_used_at`` is written at most so often."""
_TOKEN = re.compile(r"vf_([0-9a-f]{16})_([A-Za-z0-9_-]{43})", re.ASCII)
_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)
_TOUCH = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'last_used_ms', ARGV[1]) end"


class Scope(StrEnum):
    """What a key may do, on its owner's scans. ``admin`` may do everything, on every owner's."""

    SCAN = "scan"
    """Submit, cancel, retry."""
    READ = "read"
    FEEDBACK = "feedback"
    """Label a scan, override its verdict."""
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    """A key without its secret. Times are UTC; ``last_used_at`` is up to a minute behind."""

    id: str
    owner: str
    scopes: frozenset[Scope]
    name: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def require(self, scope: Scope) -> None:
        """Raises Forbidden."""
        if not self.may(scope):
            raise Forbidden(f"this API key lacks the scope {scope}")


def checked_owner(owner: str) -> str:
    """The name of an owner, as it stands in keys of Redis's and in reports. Raises BadRequest."""
    if not re.fullmatch(OWNER, owner):
        raise BadRequest("an owner's name has 1 to 64 of a-z, 0-9, '.', '_' and '-', and begins with a letter or digit")
    return owner


def key_id_of(token: str) -> str | None:
    """The part of a token that is no secret, whether there is such a key or not; None: it has not the form of one."""
    parts = _TOKEN.fullmatch(token)
    return parts.group(1) if parts else None


def parts_of(token: str) -> tuple[str, str]:
    """A key's id and its secret. Raises Unauthorized, in the words of ``ApiKeys``, for what has not the form of a token."""
    parts = _TOKEN.fullmatch(token)
    if parts is None:
        raise _refused()
    return parts[1], parts[2]


def is_key_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


class ApiKeys:
    """The keys of one namespace: a hash each (``key:ID``) and their ids by age (``keys``). Times are Redis's."""

    def __init__(self, redis: Redis, namespace: str = "vf") -> None:
        self._redis, self._namespace = redis, namespace
        self._touch = redis.register_script(_TOUCH)
        self._nobody = secrets.token_bytes(32)

    def create(
        self, owner: str, scopes: Iterable[str], name: str = "", expires_at: datetime | None = None
    ) -> tuple[KeyInfo, str]:
        """A new key and its token, which cannot be had again. Raises BadRequest for names, scopes or times that are none."""
        checked_owner(owner)
        if len(name) > MAX_NAME or not name.isprintable():
            raise BadRequest(f"a key's name has at most {MAX_NAME} printable characters")
        wanted = _scopes(scopes)
        if not wanted:
            raise BadRequest("a key needs a scope: " + ", ".join(Scope))
        key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        with translated():
            now_ms = self._now_ms()
            expires_ms = 0
            if expires_at is not None:
                if expires_at.tzinfo is None or expires_at.timestamp() * 1000 <= now_ms:
                    raise BadRequest("a key must end in the future, at a time with a time zone")
                expires_ms = int(expires_at.timestamp() * 1000)
            stored: dict[str, Any] = {
                "owner": owner,
                "scopes": " ".join(sorted(wanted)),
                "name": name,
                "digest": _digest(secret).hex(),
                "created_ms": now_ms,
                "expires_ms": expires_ms,
            }
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.hset(self._key(key_id), items=[part for pair in stored.items() for part in pair])
                pipe.zadd(f"{self._namespace}:keys", {key_id: now_ms})
                pipe.execute()
        return _info(key_id, {name.encode(): str(value).encode() for name, value in stored.items()}), f"vf_{key_id}_{secret}"

    def list(self, owner: str | None = None) -> list[KeyInfo]:
        """The oldest first, ended ones too."""
        with translated():
            found: Any = self._redis.zrange(f"{self._namespace}:keys", 0, -1)
            ids = [key_id.decode() for key_id in found]
            with self._redis.pipeline(transaction=False) as pipe:
                for key_id in ids:
                    pipe.hgetall(self._key(key_id))
                infos = [_info(key_id, stored) for key_id, stored in zip(ids, pipe.execute(), strict=True) if stored]
        return [info for info in infos if owner in (None, info.owner)]

    def revoke(self, key_id: str) -> bool:
        """From now on the key opens nothing. False: there is none with this id."""
        with translated(), self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(self._key(key_id))
            pipe.zrem(f"{self._namespace}:keys", key_id)
            return bool(pipe.execute()[0])

    def authenticate(self, token: str) -> KeyInfo:
        """The key that this token opens. Raises Unauthorized with the same words whatever is wrong with it.

        An unknown key costs what a wrong secret costs, so that time does not tell which ids exist.
        """
        key_id, secret = parts_of(token)
        with translated():
            stored, now_ms = self._stored(key_id)
            digest = bytes.fromhex(stored[b"digest"].decode()) if stored else self._nobody
            opens = hmac.compare_digest(_digest(secret), digest)
            if not opens or not _is_alive(stored, now_ms):
                raise _refused()
            self._note_use(key_id, stored, now_ms)
        return _info(key_id, stored)

    def known(self, key_id: str) -> KeyInfo:
        """A key whose token was shown before, as long as it opens anything. Raises Unauthorized."""
        with translated():
            stored, now_ms = self._stored(key_id)
            if not _is_alive(stored, now_ms):
                raise _refused()
            self._note_use(key_id, stored, now_ms)
        return _info(key_id, stored)

    def names(self, key_ids: Iterable[str], owner: str | None = None) -> dict[str, str]:
        """What these keys are called, as far as they are still there, are called anything, and are this owner's."""
        wanted = list(key_ids)
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            for key_id in wanted:
                pipe.hmget(self._key(key_id), "name", "owner")
            found = pipe.execute()
        named = zip(wanted, found, strict=True)
        return {key_id: name.decode() for key_id, (name, whose) in named if name and owner in (None, whose.decode())}

    def _stored(self, key_id: str) -> tuple[dict[bytes, bytes], int]:
        """What there is of a key, and Redis's time in milliseconds."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(self._key(key_id))
            pipe.time()
            stored, (now_s, now_us) = pipe.execute()
        return stored, now_s * 1000 + now_us // 1000

    def _note_use(self, key_id: str, stored: dict[bytes, bytes], now_ms: int) -> None:
        if now_ms - int(stored.get(b"last_used_ms", 0)) > TOUCH_MS:
            self._touch(keys=[self._key(key_id)], args=[now_ms])

    def _key(self, key_id: str) -> str:
        return f"{self._namespace}:key:{key_id}"

    def _now_ms(self) -> int:
        seconds, micros = self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000


def _refused() -> Unauthorized:
    return Unauthorized("no such API key, or it has ended")


def _is_alive(stored: dict[bytes, bytes], now_ms: int) -> bool:
    return bool(stored) and not 0 < int(stored[b"expires_ms"]) <= now_ms


def _scopes(names: Iterable[str]) -> frozenset[Scope]:
    try:
        return frozenset(Scope(name) for name in names)
    except ValueError as exc:
        raise BadRequest("a key's scopes are of " + ", ".join(Scope)) from exc


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _info(key_id: str, stored: dict[bytes, bytes]) -> KeyInfo:
    expires_ms, used_ms = int(stored[b"expires_ms"]), int(stored.get(b"last_used_ms", 0))
    return KeyInfo(
        id=key_id,
        owner=stored[b"owner"].decode(),
        scopes=frozenset(Scope(scope) for scope in stored[b"scopes"].decode().split()),
        name=stored[b"name"].decode(),
        created_at=_at(int(stored[b"created_ms"])),
        expires_at=_at(expires_ms) if expires_ms else None,
        last_used_at=_at(used_ms) if used_ms else None,
    )
