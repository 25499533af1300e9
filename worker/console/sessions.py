"""Who is signed in: a session opened by an API key, kept in Redis under a hash, ended with its time or its key."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from worker.errors import Unauthorized
from worker.queue.access import ApiKeys, KeyInfo
from worker.queue.connection import translated

_COOKIE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """``form_token`` goes into every form and comes back with it: another site's page does not know it."""

    key: KeyInfo
    form_token: str = field(repr=False)


def checked_cookie(cookie: str | None) -> str:
    """Raises Unauthorized for what has not the form of a session's cookie."""
    if cookie is None or not _COOKIE.fullmatch(cookie):
        raise Unauthorized("sign in with an API key")
    return cookie


class Sessions:
    """``NS:session:HASH`` holds the id of the key that opened it. What the browser holds is 256 random bits, which Redis never
    sees: whoever reads Redis can take over no session."""

    def __init__(self, redis: Redis, keys: ApiKeys, namespace: str = "vf", *, keep_s: int) -> None:
        self._redis, self._keys, self._namespace, self.keep_s = redis, keys, namespace, keep_s

    def open(self, token: str) -> tuple[str, Session]:
        """A new session and the cookie for it. Raises Unauthorized for a key that opens nothing."""
        key = self._keys.authenticate(token)
        cookie = secrets.token_urlsafe(32)
        with translated():
            self._redis.set(self._key(cookie), key.id, ex=self.keep_s)
        return cookie, _session(cookie, key)

    def find(self, cookie: str) -> Session:
        """Raises Unauthorized where there is none, or its key opens nothing any more."""
        with translated():
            key_id: Any = self._redis.get(self._key(cookie))
        if key_id is None:
            raise Unauthorized("your session has ended: sign in again")
        return _session(cookie, self._keys.known(key_id.decode()))

    def close(self, cookie: str) -> None:
        with translated():
            self._redis.delete(self._key(cookie))

    def _key(self, cookie: str) -> str:
        return f"{self._namespace}:session:{hashlib.sha256(cookie.encode()).hexdigest()}"


def _session(cookie: str, key: KeyInfo) -> Session:
    token = hmac.new(cookie.encode(), b"veriframe console form", hashlib.sha256).hexdigest()
    return Session(key=key, form_token=token)
