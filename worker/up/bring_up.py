"""Brings the service up: what does not run is started, the demo is scanned through HTTP, and what runs is left running."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from worker.demo import demo_files
from worker.errors import ConfigError, QueueError, VeriframeError
from worker.output.text import escaped
from worker.queue.access import ApiKeys, Scope
from worker.queue.front import build_redis
from worker.queue.record import FINAL
from worker.queue.roster import Roster
from worker.settings import Settings
from worker.up import API, REDIS
from worker.up.caller import Caller
from worker.up.folder import RunFolder
from worker.up.identity import Identity, end_all, wait_until
from worker.up.parts import Part, configure_redis, is_planned_from, parts, plan, start, stored

OWNER = "demo"
WAIT_S = 300.0
"""For a part to answer, and for the demo's scans: a slow machine's first model export included."""
LOOK_S = 0.2
STOP_S = 10.0
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """What runs. ``token`` is an API key's; ``reports`` of the demo's clips, in their order, all of them final."""

    console: str
    api: str
    token: str = field(repr=False)
    settings: Path
    started: tuple[str, ...]
    reports: tuple[dict[str, Any], ...]


def bring_up(
    folder: RunFolder, base: Settings, *, port: int | None, workers: int, demo: bool, tell: Tell, is_named: bool = False
) -> Up:
    """``port``: where the API listens, of a service that is brought up anew; 0 for any free one. ``demo``: its clips are scanned.
    ``is_named``: the user has named the settings, and is refused where it is up with others.
    What is started in vain is ended again. Raises ConfigError, StorageFull, RedisDown, QueueError."""
    folder.make()
    with folder.locked():
        folder.mark()
        settings = stored(folder) if any(folder.running(name) for name in folder.names()) else None
        if settings is None:  # also after a start that failed, and after a reboot: what Redis and the store hold stays
            settings = plan(folder, base, port=port)
        elif port and port != settings.api.port:
            raise ConfigError(f"it is up at port {settings.api.port}: `veriframe down` first, then up at port {port}")
        elif is_named and not is_planned_from(base, folder, settings):
            raise ConfigError("it is up with other settings: `veriframe down` first, then up with these")
        wanted = parts(folder, settings, workers=workers)
        missing = [part for part in wanted if folder.running(part.name) is None]
        with contextlib.ExitStack() as undo, contextlib.closing(build_redis(_hasty(settings))) as redis:
            begun: list[Identity] = []
            undo.callback(lambda: end_all(reversed(begun), grace_s=STOP_S))
            caller = _start_missing(folder, settings, missing, redis, begun, tell)
            _wait_for_workers(folder, settings, wanted, redis)
            undo.pop_all()
        reports = _scan_demo(folder, wanted, caller, tell) if demo else ()
    return Up(
        console=f"{caller.address}/console",
        api=caller.address,
        token=caller.token,
        settings=folder.settings,
        started=tuple(part.name for part in missing),
        reports=reports,
    )


def _start_missing(
    folder: RunFolder, settings: Settings, missing: Sequence[Part], redis: Redis, begun: list[Identity], tell: Tell
) -> Caller:
    """Each part that does not run; those that others wait for answer when this returns."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.api.host, settings.api.host)
    caller = Caller(host=host, port=settings.api.port)
    if API in (part.name for part in missing):
        _require_free(settings.api.host, settings.api.port)
    for part in missing:
        tell(f"starting {part.name}" + (f" at {caller.address}" if part.name == API else ""))
        if part.name == REDIS:
            configure_redis(folder, settings)
        process = start(folder, part)
        begun.append(process)
        if part.name == REDIS:
            _wait(folder, [REDIS], partial(_is_server, redis, process.pid), "Redis does not answer")
    caller = Caller(host=host, port=settings.api.port, token=_token(folder, redis, settings))
    _wait(folder, [REDIS, API], caller.answers, f"the API at {caller.address} does not answer")
    return caller


def _wait_for_workers(folder: RunFolder, settings: Settings, wanted: Sequence[Part], redis: Redis) -> None:
    """So many have their models warm as are wanted."""
    roster, names = Roster(redis, settings.redis.namespace), [part.name for part in wanted]
    workers = len(names) - 2

    def are_ready() -> bool:
        try:
            return sum(1 for said in roster.live().values() if said.get("ready")) >= workers
        except VeriframeError:
            return False

    _wait(folder, names, are_ready, "the workers do not get ready")


def _scan_demo(folder: RunFolder, wanted: Sequence[Part], caller: Caller, tell: Tell) -> tuple[dict[str, Any], ...]:
    """Hands over what no earlier ``up`` did, and waits until every clip's scan is final."""
    names = [part.name for part in wanted]
    ids: dict[str, str] = {}
    for file in demo_files():
        known = caller.newest(file.path.name)
        usable = known is not None and known["status"] not in ("failed", "cancelled")
        ids[file.path.name] = known["id"] if known is not None and usable else caller.submit(file.path, file.path.name)
    tell(f"{len(ids)} demo clips are handed over by HTTP")
    done: dict[str, dict[str, Any]] = {}

    def are_final() -> bool:
        """One request, or one for each that has ended: asking has its quota, too."""
        for name, scan_id in ids.items():
            if name in done:
                continue
            report = caller.report(scan_id)
            if report["status"] not in FINAL:
                return False
            done[name] = report
            tell(f"{name}: {str(report['verdict'] or report['status']).replace('_', ' ')}")
        return True

    _wait(folder, names, are_final, "not every demo scan has ended")
    return tuple(done[name] for name in ids)


def _wait(folder: RunFolder, names: Sequence[str], condition: Callable[[], bool], complaint: str) -> None:
    """Raises QueueError when a part ends meanwhile, or time is up."""

    def holds() -> bool:
        for name in names:
            if folder.running(name) is None:
                words = escaped(folder.last_words(name)) or "it says nothing"
                raise QueueError(f"{name} has ended: {words} (all of it: {folder.log(name)})")
        return condition()

    if not wait_until(holds, WAIT_S, look_s=LOOK_S):
        raise QueueError(f"{complaint} after {WAIT_S:.0f} s: the logs are in {folder.path}; `veriframe down` ends what runs")


def _token(folder: RunFolder, redis: Redis, settings: Settings) -> str:
    """A key to sign in with; the same one as long as the service is up."""
    keys = ApiKeys(redis, settings.redis.namespace)
    with contextlib.suppress(OSError, VeriframeError):
        token = folder.key.read_text("ascii").strip()
        keys.authenticate(token)
        return token
    token = keys.create(OWNER, [Scope.ADMIN], name="veriframe up")[1]
    folder.write(folder.key, f"{token}\n")
    return token


def _hasty(settings: Settings) -> Settings:
    return settings.model_copy(update={"redis": settings.redis.model_copy(update={"timeout_s": 5.0, "patience_s": 0.0})})


def _is_server(redis: Redis, pid: int) -> bool:
    """Whether it, and no other server at that port, answers."""
    try:
        told = redis.info()
    except (RedisError, VeriframeError):
        return False
    return told.get("process_id") == pid and not told.get("loading")


def _require_free(host: str, port: int) -> None:
    """Raises ConfigError."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as exc:
        why = exc.strerror if exc.errno is None else os.strerror(exc.errno)
        raise ConfigError(f"cannot listen on {host} port {port}: {why}; give another by --port, or 0 for any free one") from exc
