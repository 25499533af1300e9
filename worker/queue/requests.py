"""What may be asked of the queue: versioned JSON (schema_version 1, docs/api-reference.md), strict, closed and capped in size."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from worker.errors import BadRequest
from worker.types import Strategy

MAX_REQUEST_BYTES = 65536
PRIORITIES = ("live", "batch", "low")
Priority = Literal["live", "batch", "low"]
WATCH = "watch"
QUEUES = (*PRIORITIES, WATCH)
"""Scans wait by priority; watches, which run for hours, have a queue and workers of their own."""
WATCH_OPTIONS = frozenset({"window_s", "hop_s", "max_duration_s"})
OWNER = r"[a-z0-9][a-z0-9._-]{0,63}"
ID = r"[0-9a-f]{32}"
"""Of scans and uploads."""
Plain = r"^[^\x00-\x1f\x7f]*$"
Text = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=Plain)]
Url = Annotated[str, StringConstraints(min_length=8, max_length=4096, pattern=r"^https?://[^\x00-\x20\x7f]+$")]


class Payload(BaseModel):
    """Strict and closed: an unknown field, or a value of another type, is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class RequestSource(Payload):
    """Exactly one of them."""

    url: Url | None = None
    path: Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=Plain)] | None = None
    upload: Annotated[str, StringConstraints(pattern=rf"^{ID}$")] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.url, self.path, self.upload)) != 1:
            raise ValueError("give exactly one of url, path and upload")
        return self

    @property
    def kind(self) -> Literal["url", "path", "upload"]:
        return "url" if self.url is not None else "path" if self.path is not None else "upload"


class RequestOptions(Payload):
    """What a scan or a watch looks at; unset: as the worker's settings say."""

    max_frames: int | None = Field(default=None, ge=1, le=100_000)
    fps: float | None = Field(default=None, gt=0, le=240)
    start_s: float | None = Field(default=None, ge=0, le=1e6)
    end_s: float | None = Field(default=None, gt=0, le=1e6)
    strategy: Literal["auto", "uniform", "fps", "keyframes"] | None = None
    exhaustive: bool | None = Field(default=None, description="score every frame, even where fewer settle the verdict")
    explain: bool | None = Field(
        default=None, description="occlusion maps of the worst crop of up to 4 tracks, where crops are kept; takes longer"
    )
    window_s: float | None = Field(
        default=None, gt=0, le=120, description="kind=watch: length of the stretch that a rolling verdict is about"
    )
    hop_s: float | None = Field(default=None, gt=0, le=120, description="kind=watch: a verdict every so often")
    max_duration_s: float | None = Field(
        default=None, gt=0, le=1e6, description="kind=watch: end after so much of the stream, at most the worker's own limit"
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.end_s is not None and self.end_s <= (self.start_s or 0):
            raise ValueError("end_s must lie after start_s")
        if (self.strategy == "fps") != (self.fps is not None):
            raise ValueError("strategy fps and fps go together")
        if self.window_s is not None and self.hop_s is not None and self.hop_s > self.window_s:
            raise ValueError("hop_s must be no longer than window_s")
        return self

    @property
    def sampling(self) -> Strategy | None:
        return None if self.strategy is None else Strategy(self.strategy)


class ScanRequest(Payload):
    """One scan to be done, or one stream to be watched. ``idempotency_key``: the same key with the same body names the same
    scan. A watch's priority says nothing: watches have a queue of their own."""

    schema_version: int = Field(default=1, ge=1, le=1)
    kind: Literal["scan", "watch"] = "scan"
    source: RequestSource
    external_id: Text | None = None
    idempotency_key: Text | None = None
    priority: Priority = "batch"
    callback_url: Url | None = None
    options: RequestOptions = RequestOptions()

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        given = set(self.options.model_dump(exclude_none=True))
        if self.kind == "scan" and given & WATCH_OPTIONS:
            raise ValueError("window_s, hop_s and max_duration_s are options of a watch")
        if self.kind == "watch" and given - WATCH_OPTIONS:
            raise ValueError("a watch has the options window_s, hop_s and max_duration_s")
        if self.kind == "watch" and self.source.url is None:
            raise ValueError("a watch needs source.url")
        return self

    @property
    def queue(self) -> str:
        """Where its doorbell rings."""
        return WATCH if self.kind == "watch" else self.priority

    def coded(self) -> str:
        """Canonical JSON, as it is stored."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True), sort_keys=True, separators=(",", ":"))

    def body_sha256(self) -> str:
        """Of everything but the idempotency key itself."""
        told = self.model_dump(mode="json", exclude_none=True, exclude={"idempotency_key"})
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def read_request(data: bytes | str | dict[str, Any]) -> ScanRequest:
    """A request from outside. Raises BadRequest, saying what is wrong with which field, never what a URL holds."""
    if isinstance(data, dict):
        return _validated(ScanRequest.model_validate, data)
    if len(data) > MAX_REQUEST_BYTES:
        raise BadRequest(f"a request may have {MAX_REQUEST_BYTES} bytes, this one has {len(data)}")
    return _validated(ScanRequest.model_validate_json, data)


def _validated(validate: Any, data: Any) -> ScanRequest:
    try:
        made: ScanRequest = validate(data)
    except (ValidationError, RecursionError) as exc:
        raise BadRequest(explained(exc)) from exc
    if len(made.coded()) > MAX_REQUEST_BYTES:
        raise BadRequest(f"a request may have {MAX_REQUEST_BYTES} bytes")
    return made


def explained(error: Exception) -> str:
    """The mistakes, field by field, without the values given."""
    if not isinstance(error, ValidationError):
        return "the request is nested too deeply"
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'request'}: {item['msg']}" for item in found[:8])
