"""``/livez``, ``/readyz`` and ``/metrics``: for orchestrators and Prometheus, without a key; they name no owner and no scan."""

from __future__ import annotations

from typing import Annotated

import anyio
import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import RedisError

from worker.api.parts import Parts, TheParts
from worker.errors import ConfigError, RedisDown
from worker.queue.connection import translated
from worker.queue.roster import serves_scans
from worker.queue.server import server_problems

router = APIRouter(tags=["operation"])
AT_ONCE = 4
"""Threads of one such route: with those that requests share and those of uploads, fewer than there are connections to Redis."""


class Check(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str = Field(examples=["redis"])
    ok: bool
    detail: str


class Health(BaseModel):
    """``ready``: every check is."""

    model_config = ConfigDict(frozen=True)

    ready: bool
    checks: tuple[Check, ...]


async def _own_threads(request: Request) -> anyio.CapacityLimiter:
    """This route's alone: while Redis is silent, all that requests share wait for it, and just then the answer is wanted."""
    threads: dict[str, anyio.CapacityLimiter] = request.app.state.own_threads
    return threads.setdefault(request.scope["route"].path, anyio.CapacityLimiter(AT_ONCE))


OwnThreads = Annotated[anyio.CapacityLimiter, Depends(_own_threads)]


@router.head("/livez", operation_id="head_livez")
@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process answers. It says nothing of Redis: restarting this process would not mend that."""
    return {"status": "alive"}


@router.head("/readyz", operation_id="head_readyz", responses={503: {"description": "Not ready"}})
@router.get("/readyz", responses={503: {"model": Health, "description": "Not ready: see the checks"}})
async def readyz(parts: TheParts, threads: OwnThreads, response: Response) -> Health:
    """Redis is one that the queue may run on, and a worker is ready to scan; one for streams alone is not."""
    checks = await anyio.to_thread.run_sync(_checks, parts, limiter=threads)
    health = Health(ready=all(check.ok for check in checks), checks=checks)
    response.status_code = 200 if health.ready else 503
    return health


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
async def metrics(parts: TheParts, threads: OwnThreads) -> Response:
    """The queue's figures and this process's requests, in Prometheus's text format."""
    told = await anyio.to_thread.run_sync(parts.metrics.exposition, limiter=threads)
    return Response(told, media_type=CONTENT_TYPE_LATEST)


def _checks(parts: Parts) -> tuple[Check, ...]:
    try:
        problems = "; ".join(server_problems(parts.desk.records.redis, parts.desk.records.namespace))
        with translated():
            live = parts.roster.live().values()
    except (RedisDown, ConfigError, RedisError) as exc:
        detail = "Redis does not answer" if isinstance(exc, RedisDown) else "Redis refuses us: the log says more"
        return (Check(name="redis", ok=False, detail=detail), Check(name="workers", ok=False, detail="unknown"))
    workers = [said for said in live if serves_scans(said)]
    ready = sum(1 for said in workers if said.get("ready"))
    return (
        Check(name="redis", ok=not problems, detail=problems or "Redis 6.2 or newer, noeviction"),
        Check(
            name="workers",
            ok=ready > 0,
            detail=f"{ready} ready, {len(workers) - ready} starting; {len(live) - len(workers)} for streams",
        ),
    )
