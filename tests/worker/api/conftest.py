"""The application over a real Redis; requests go to it as ASGI calls."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlsplit

import anyio
import pytest
from fastapi import FastAPI
from redis import Redis
from starlette.testclient import TestClient

from tests.worker.queue.fake_scanner import FakeScanner
from tests.worker.queue.fake_streams import slices
from worker.api.app import build_app
from worker.api.intake import Intake
from worker.api.metrics import Metrics
from worker.api.parts import Parts
from worker.api.silence import Silence
from worker.artifacts import open_store
from worker.queue.access import ApiKeys
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.embedded import EmbeddedRedis
from worker.queue.fetching import Artifacts
from worker.queue.perform import Brought, OnBytes, Performer, QueueScanner
from worker.queue.quotas import Quotas
from worker.queue.record import Claim, Terms
from worker.queue.records import Records
from worker.queue.requests import RequestSource
from worker.queue.roster import Roster
from worker.source.guard import AddressGuard

MAX_BODY, MAX_UPLOAD = 8192, 1 << 20


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A server that the test may stop."""
    with EmbeddedRedis(tmp_path / "own-redis") as server:
        yield server


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The application with a folder for uploads, and its parts."""

    app: FastAPI
    parts: Parts
    client: TestClient
    _tokens: dict[tuple[str, ...], str] = field(default_factory=dict)

    def token(self, owner: str = "acme", *scopes: str) -> str:
        scopes = scopes or ("scan", "read", "feedback")
        known = self._tokens.get((owner, *scopes))
        if known is None:
            known = self._tokens[owner, *scopes] = self.parts.keys.create(owner, scopes)[1]
        return known

    def as_(self, owner: str = "acme", *scopes: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(owner, *scopes)}"}

    def submit(self, owner: str = "acme", **request: Any) -> str:
        """The id of a new scan."""
        answer = self.client.post("/v1/scans", json=scan_of(**request), headers=self.as_(owner))
        assert answer.status_code == 202, answer.text
        scan_id: str = answer.json()["id"]
        return scan_id


Serve = Callable[..., Service]


@pytest.fixture
def serve(redis: Redis, tmp_path: Path) -> Iterator[Serve]:
    """Builds the application with other limits than the usual ones."""
    with contextlib.ExitStack() as stack:

        def build(
            *,
            client: Redis | None = None,
            uploads: bool = True,
            takes_paths: bool = False,
            requests_per_minute: int = 100_000,
            scans_per_day: int = 100_000,
            decisions_per_day: int = 100_000,
            stall_s: float = 10,
            limits: Mapping[str, int] = MappingProxyType({}),
            silence: Silence | None = None,
            **terms: Any,
        ) -> Service:
            used = client or redis
            desk, roster = Desk(Records(used, terms=Terms(**terms)), Doorbells(used)), Roster(used, ttl_s=3600)
            store = open_store(str(tmp_path / "artifacts"))
            parts = Parts(
                desk=desk,
                keys=ApiKeys(used),
                quotas=Quotas(
                    used,
                    requests_per_minute=requests_per_minute,
                    scans_per_day=scans_per_day,
                    decisions_per_day=decisions_per_day,
                ),
                roster=roster,
                metrics=Metrics(desk, roster),
                check_source=AddressGuard().check_url,
                check_callback=AddressGuard().check_url,
                intake=Intake(used, "vf", store, max_bytes=MAX_UPLOAD, keep_s=3600, stall_s=stall_s) if uploads else None,
                artifacts=store,
                takes_paths=takes_paths,
                silence=silence or Silence(),
            )
            app = build_app(parts, max_body_bytes=MAX_BODY, max_upload_bytes=MAX_UPLOAD, limits=limits)
            http = stack.enter_context(TestClient(app))
            return Service(app=app, parts=parts, client=http)

        yield build


@pytest.fixture
def service(serve: Serve) -> Service:
    return serve()


def scan_of(url: str = "https://media.example/a.mp4?token=hush", **more: Any) -> dict[str, Any]:
    return {"source": {"url": url}, **more}


class Shelf:
    """Sources as these tests have them: an address's bytes are its path."""

    @contextlib.contextmanager
    def fetch(self, source: RequestSource, folder: Path, on_bytes: OnBytes, scan_id: str) -> Iterator[Brought]:
        path = folder / "media"
        path.write_text(urlsplit(source.url or "").path)
        yield Brought(path=path)


class CacheOnly(FakeScanner):
    def scan(self, path: Path, **_: Any) -> Any:
        raise AssertionError("the result was to come from the cache")


def scan_one(service: Service, scan_id: str, scanner: QueueScanner | None = None) -> None:
    """What a worker does with a scan: the real performer and a scanner that calls everything real."""
    records = service.parts.desk.records
    claim = records.claim(scan_id, "w1")
    assert isinstance(claim, Claim), claim
    keeper = Artifacts(store=open_store(None), keep_s=0)
    with tempfile.TemporaryDirectory() as folder:
        Performer(
            records=records,
            brisk=records,
            scanner=scanner or FakeScanner(),
            sources=Shelf(),
            keeper=keeper,
            watches=slices(records, keeper),
            folder=Path(folder),
        ).perform(claim)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status_code: int
    headers: dict[str, str]
    body: bytes
    asked: int
    """How often the application asked for a piece of the body."""


def call(
    app: FastAPI, method: str, path: str, headers: Sequence[tuple[bytes, bytes]], body: Iterator[bytes], query: bytes = b""
) -> Answer:
    """One request as ASGI messages, such as no client would send; ``body`` may be endless."""
    asked, sent = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        piece = next(body, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "raw_path": quote(path).encode(), "query_string": query}
    scope |= {"headers": list(headers), "http_version": "1.1", "scheme": "http", "root_path": ""}

    async def run() -> None:
        with anyio.fail_after(30):
            await app(scope, receive, send)

    anyio.run(run)
    assert sent[0]["type"] == "http.response.start"
    found = {name.decode("latin-1"): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Answer(
        status_code=sent[0]["status"], headers=found, body=b"".join(part.get("body", b"") for part in sent[1:]), asked=asked
    )


def fields_of(answer: Any) -> dict[str, Any]:
    """A problem's fields, its form checked."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem: dict[str, Any] = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "code", "instance"}
    assert problem["status"] == answer.status_code
    assert problem["instance"] == answer.headers["x-request-id"]
    assert problem["type"] == f"urn:veriframe:problem:{problem['code']}"
    return problem
