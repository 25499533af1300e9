"""Connections to Redis: from a URL and plain values, patient while Redis is away.

A command that Redis did not answer is sent again until it has an answer or patience has run out. **It may then have run twice**:
Redis can have done it and died before it answered. So every write of ours is either harmless when doubled (ringing a doorbell) or
compares before it sets.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis import Redis
from redis import exceptions as refused
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.commands.core import Script
from redis.connection import Connection
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection

from worker.errors import ConfigError, RedisDown

if TYPE_CHECKING:
    from worker.service_settings import RedisSettings

T = TypeVar("T")
BACKOFF_S, BACKOFF_MAX_S = 0.05, 1.0
HEALTH_CHECK_S = 30
MAX_CONNECTIONS = 64
_SCHEMES = ("redis", "rediss", "unix", "sentinel")
_SENTINEL = re.compile(r"<redis\.client\.Redis\(.*?[(,]host=([^,>]+),port=(\d+)[,)].*?\)>\)>\)>(?= - )")
DOWN = (refused.ConnectionError, refused.TimeoutError, refused.ReadOnlyError, refused.MasterDownError)
"""What is tried again by everybody, and is RedisDown in the end."""
_BY_CODE = {"OOM": refused.OutOfMemoryError, "READONLY": refused.ReadOnlyError, "MASTERDOWN": refused.MasterDownError}
_IN_SCRIPT = re.compile(r"Error running script \(call to f_\w+\): @user_script: ?\d+: @user_script: ?\d+: -([A-Z]+) (.*)")
_LOGIN = (refused.AuthenticationError, refused.AuthorizationError, refused.NoPermissionError)
_FORBIDS_SCRIPT = ("ACL failure in script", "The user executing the script can't")
"""Since Redis 7, and before."""
_FORMS = "redis://HOST:PORT/DB, rediss://HOST:PORT/DB (TLS), unix:///PATH?db=DB or sentinel://HOST:PORT,HOST:PORT/SERVICE/DB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What a Redis URL says. ``hosts`` are the sentinels where ``service`` is given; ``path`` is a unix socket's."""

    hosts: tuple[tuple[str, int], ...] = ()
    db: int = 0
    tls: bool = False
    path: str | None = None
    service: str | None = None
    sentinel_auth: bool = False


class PatientRetry(Retry):
    """Tries again for ``patience_s`` seconds, then once more; with ``waits_for_room`` also what a Redis that takes no writes has
    refused. redis-py nests its retries (a command connects, a connection
    handshakes): the inner ones share the outermost one's deadline. redis-py gives every connection a copy of its own, and a
    connection serves one thread at a time.
    """

    def __init__(self, patience_s: float, *, waits_for_room: bool = False) -> None:
        errors = (*DOWN, refused.ResponseError) if waits_for_room else DOWN
        super().__init__(ExponentialWithJitterBackoff(base=BACKOFF_S, cap=BACKOFF_MAX_S), -1, errors)
        self._patience_s = patience_s
        self._deadline_s: float | None = None

    def call_with_retry(
        self,
        do: Callable[[], T],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        outermost = self._deadline_s is None
        deadline_s = self._deadline_s = self._deadline_s or time.monotonic() + self._patience_s

        def failed(error: Exception, failures: int) -> None:
            if with_failure_count:
                fail(error, failures)
            else:
                fail(error)
            if time.monotonic() >= deadline_s or _is_hopeless(error) or not (is_retryable is None or is_retryable(error)):
                raise error

        def asked() -> T:
            try:
                return do()
            except refused.ResponseError as exc:
                raise _unwrapped(exc) from exc.__cause__

        try:
            return super().call_with_retry(asked, failed, _is_waited_out, with_failure_count=True)
        finally:
            if outermost:
                self._deadline_s = None


class _MasterConnection(SentinelManagedConnection):
    """Asks the sentinels on every connect. redis-py's own asks only when the pool hands it out: a command that is tried again
    would knock at the dead master's door until patience runs out."""

    def _connect(self) -> Any:
        self.host, self.port = self.connection_pool.get_master_address()
        return super()._connect()  # type: ignore[no-untyped-call]

    def connect(self) -> None:
        Connection.connect(self)  # type: ignore[no-untyped-call]


class _MasterPool(SentinelConnectionPool):
    """Closes its connections to the sentinels with its own."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        super().disconnect(inuse_connections)
        if inuse_connections:
            self.sentinel_manager.close()


def connect(
    *,
    url: str,
    username: str | None = None,
    password: str | None = None,
    tls_ca: Path | None = None,
    timeout_s: float,
    patience_s: float,
    block_s: float = 0.0,
    waits_for_room: bool = False,
) -> Redis:
    """A client of the server at ``url``; nothing is sent yet. Whoever calls this closes it.

    ``timeout_s``: wait for a connection and for one answer. ``patience_s``: a command is tried again for so long while Redis is
    away, loading, or a replica that was the master; an attempt under way then may take ``timeout_s`` more. ``block_s``: the
    longest wait that its commands ask of the server (BLPOP), which does not count as silence. ``waits_for_room``: the patience
    is also for a Redis that takes no writes (full, a full disk, too few replicas). ``MAX_CONNECTIONS`` bounds the threads that
    use it at once. Answers are bytes.

    Raises ConfigError for a URL that is none, that carries a password, or that does not go with the other values.
    """
    address = parse(url)
    if username is not None and password is None:
        raise ConfigError("redis.username needs redis.password, best given as VERIFRAME_REDIS__PASSWORD")
    if tls_ca is not None and not address.tls:
        raise ConfigError(
            "redis.tls_ca is set, but redis.url does not begin with rediss://: the connection would not be encrypted"
        )
    if tls_ca is not None and not tls_ca.is_file():
        raise ConfigError(f"redis.tls_ca: {tls_ca} is not a file; give the CA certificate in PEM")
    login: dict[str, Any] = {"username": username, "password": password}
    waits: dict[str, Any] = {"socket_timeout": timeout_s + block_s}
    if address.path is None:
        waits |= {"socket_connect_timeout": timeout_s, "socket_keepalive": True}
    # RESP2: what every server since 6.2 speaks, with no handshake command that an ACL may forbid.
    options: dict[str, Any] = {
        "db": address.db,
        "protocol": 2,
        "retry": PatientRetry(patience_s, waits_for_room=waits_for_room),
        "health_check_interval": HEALTH_CHECK_S,
        "max_connections": MAX_CONNECTIONS,
        **login,
        **waits,
    }
    if address.service is not None:
        once = {"retry": Retry(NoBackoff(), 0), "protocol": 2, **waits, **(login if address.sentinel_auth else {})}
        sentinel = Sentinel(address.hosts, sentinel_kwargs=once)  # type: ignore[no-untyped-call]
        client: Redis = sentinel.master_for(  # type: ignore[no-untyped-call]
            address.service, connection_pool_class=_MasterPool, connection_class=_MasterConnection, **options
        )
        return client
    if address.path is not None:
        return Redis(unix_socket_path=address.path, **options)
    (host, port), *_ = address.hosts
    return Redis(host=host, port=port, ssl=address.tls, ssl_ca_certs=None if tls_ca is None else str(tls_ca), **options)


def connect_from(settings: RedisSettings, *, block_s: float = 0.0, waits_for_room: bool = False) -> Redis:
    """``connect`` with the values of the settings' section ``redis``."""
    return connect(
        url=settings.url,
        username=settings.username,
        password=None if settings.password is None else settings.password.get_secret_value(),
        tls_ca=settings.tls_ca,
        timeout_s=settings.timeout_s,
        patience_s=settings.patience_s,
        block_s=block_s,
        waits_for_room=waits_for_room,
    )


def parse(url: str) -> Address:
    """The address in a URL. ConfigError never repeats a URL: what is wrong with it may be that a password is in it."""
    try:
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise ConfigError(
                "redis.url must carry no user or password: give them as VERIFRAME_REDIS__USERNAME and VERIFRAME_REDIS__PASSWORD"
            )
        return _address(parts)
    except ValueError:
        # ``from None``: urllib quotes what it could not read, such as the password of a URL whose host was forgotten.
        raise ConfigError(f"redis.url is not of the form {_FORMS}") from None


def _address(parts: SplitResult) -> Address:
    """Raises ValueError for whatever is not of one of the four forms."""
    pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    query = dict(pairs)
    if parts.scheme not in _SCHEMES or parts.fragment or len(query) != len(pairs):
        raise ValueError
    if parts.scheme == "unix":
        db = _db(query.pop("db", ""))
        if parts.netloc or not parts.path.strip("/") or query:
            raise ValueError
        return Address(path=unquote(parts.path), db=db)
    if parts.scheme == "sentinel":
        form = re.fullmatch(r"/([\w.:-]+)(?:/(\d*))?", parts.path, re.ASCII)
        auth = query.pop("sentinel_auth", "no")
        if form is None or query or auth not in ("yes", "no"):
            raise ValueError
        hosts = tuple(_host(each, 26379) for each in parts.netloc.split(","))
        return Address(hosts=hosts, service=form[1], db=_db(form[2] or ""), sentinel_auth=auth == "yes")
    if query:
        raise ValueError
    return Address(hosts=(_host(parts.netloc, 6379),), db=_db(parts.path.removeprefix("/")), tls=parts.scheme == "rediss")


def _db(text: str) -> int:
    if not re.fullmatch(r"\d{0,4}", text, re.ASCII):
        raise ValueError
    return int(text or 0)


def _host(text: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    host = parts.hostname or ""
    if ":" in host:
        ipaddress.IPv6Address(host)
    elif not re.fullmatch(r"[\w.-]+", host, re.ASCII):
        raise ValueError
    return host, port if parts.port is None else parts.port


def _is_hopeless(error: BaseException) -> bool:
    """Time does not mend it: a login or a certificate. redis-py keeps the latter as the context of its own error."""
    return isinstance(error, _LOGIN) or isinstance(error.__context__, ssl.SSLCertVerificationError)


def _takes_no_writes(error: Exception) -> bool:
    is_short = isinstance(error, refused.ResponseError) and _said(error).startswith(("MISCONF", "NOREPLICAS"))
    return is_short or isinstance(error, refused.OutOfMemoryError)


def _unwrapped(error: refused.ResponseError) -> refused.ResponseError:
    """What a script was refused, as every Redis since 7 says it; one before wraps it in words about the script."""
    inner = _IN_SCRIPT.fullmatch(_said(error))
    if inner is None:
        return error
    code, words = inner.groups()
    known = _BY_CODE.get(code)
    return known(words) if known else refused.ResponseError(f"{code} {words}")


def _is_waited_out(error: Exception) -> bool:
    """Of what ``PatientRetry`` is told to try again: other refusals stay what they are."""
    return isinstance(error, DOWN) or _takes_no_writes(error)


def scripts_of(redis: Redis, names: Sequence[str]) -> dict[str, Script]:
    """Our Lua scripts by name (``scripts/NAME.lua``), each behind the prelude that they share."""
    folder = files("worker.queue").joinpath("scripts")
    prelude = folder.joinpath("prelude.lua").read_text("utf-8")
    return {name: redis.register_script(prelude + folder.joinpath(f"{name}.lua").read_text("utf-8")) for name in names}


@contextmanager
def translated() -> Iterator[None]:
    """Around every use of Redis: its errors become RedisDown (come again later) or ConfigError (someone must mend it).

    Other answers of Redis's (a wrong type, an unknown command) are faults of ours and pass as they are.
    """
    try:
        yield
    except refused.RedisError as exc:
        ours = translation(exc)
        if ours is None:
            raise
        raise ours from exc


def translation(error: refused.RedisError) -> RedisDown | ConfigError | None:
    """What ``translated`` raises for an error of Redis's; None: it passes as it is."""
    said = _said(error)
    if isinstance(error, refused.NoPermissionError):
        return _forbidden(said)
    if isinstance(error, _LOGIN):
        return ConfigError(f"Redis refuses the login: {said}; check VERIFRAME_REDIS__USERNAME and VERIFRAME_REDIS__PASSWORD")
    if isinstance(error, DOWN):
        if _is_hopeless(error):
            return ConfigError(f"Redis's certificate is not trusted: {said}; check redis.tls_ca and the host in redis.url")
        return RedisDown(f"Redis is away: {said}")
    if isinstance(error, refused.OutOfMemoryError):
        return RedisDown("Redis is full: raise its maxmemory")
    if _takes_no_writes(error):
        return RedisDown(f"Redis takes no writes: {said}")
    return (
        _forbidden(said) if isinstance(error, refused.ResponseError) and any(words in said for words in _FORBIDS_SCRIPT) else None
    )


def _forbidden(said: str) -> ConfigError:
    return ConfigError(f"Redis forbids it: {said}; widen the ACL user as docs/redis.md shows")


def _said(error: Exception) -> str:
    """Redis's own words: redis-py puts the command of a pipeline before them, and its arguments are nobody's business; of each
    sentinel that failed it writes the client object out, where host and port tell all."""
    return _SENTINEL.sub(r"\1:\2", str(error).rpartition(" of pipeline caused error: ")[2])
