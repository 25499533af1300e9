"""Settings of the service: Redis, queue, fetching, artefacts, callbacks, HTTP API. None of them changes what a scan finds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator


def expanded(path: Path) -> Path:
    """``~`` as a shell expands it: files and the environment hold it as it was written."""
    try:
        return path.expanduser()
    except RuntimeError as exc:
        raise ValueError(f"{path}: there is no such home folder") from exc


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{path} must be absolute")
    return Path(os.path.realpath(path))


UserPath = Annotated[Path, AfterValidator(expanded)]


def _not_generic(name: str) -> str:
    if name.lower() == "generic":
        raise ValueError("'generic' reads any page of anybody's and is never used")
    return name


Extractor = Annotated[str, Field(pattern=r"^[\w. -]{1,64}$"), AfterValidator(_not_generic)]
Port = Annotated[int, Field(ge=1, le=65535)]
MediaRoot = Annotated[Path, AfterValidator(expanded), AfterValidator(_absolute)]


class Section(BaseModel):
    """A number is finite: what computes with it, and the wire, know no infinity. ``repr=False``: a password may be in it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RedisSettings(Section):
    url: str = Field(
        default="redis://127.0.0.1:6379/0",
        repr=False,
        description="redis://, rediss:// (TLS), unix:// or sentinel://HOST:PORT,HOST:PORT/SERVICE/DB; no password",
    )
    username: str | None = Field(default=None, repr=False, description="ACL user")
    password: SecretStr | None = Field(default=None, repr=False, description="best given as VERIFRAME_REDIS__PASSWORD")
    tls_ca: UserPath | None = Field(default=None, description="CA file for rediss://; the system's when unset")
    namespace: str = Field(default="vf", pattern=r"^[a-z0-9-]{1,32}$", description="first part of every key of ours")
    timeout_s: float = Field(default=10, gt=0, description="wait for one answer of Redis's")
    patience_s: float = Field(default=60, ge=0, le=300, description="how long one command is tried again while Redis is away")
    """What was done once is remembered for ten minutes (``decide.lua``, ``purge.lua``): a command sent again must come before."""


class QueueSettings(Section):
    lease_s: float = Field(
        default=8, gt=0.5, description="a running scan that is not renewed for so long is taken from its worker"
    )
    reconcile_s: float = Field(default=2, gt=0, description="how often lost scans and doorbells are looked for")
    ring_again_s: float = Field(default=10, gt=0, description="a waiting scan's doorbell is looked for after so long")
    timeout_s: float = Field(default=900, gt=0, description="hard limit of one attempt; its process is killed")
    grace_s: float = Field(default=30, ge=0, description="on SIGTERM a running scan may take so long before it is handed back")
    max_attempts: int = Field(default=3, ge=1, description="attempts of a scan whose errors are retryable; then dead letter")
    backoff_s: float = Field(default=2, gt=0, description="wait before the second attempt; doubles with each, with jitter")
    backoff_max_s: float = Field(default=300, gt=0, description="longest wait between two attempts")
    keep_s: int = Field(default=7 * 86400, gt=0, description="final records are forgotten after so long")
    cache_s: int = Field(
        default=7 * 86400, ge=0, description="how long a result answers for the same bytes, model and options; at most keep_s"
    )
    idempotency_s: int = Field(
        default=86400, gt=0, description="how long an idempotency key is remembered; at most keep_s behind the scan"
    )
    max_backlog: int = Field(default=100_000, gt=0, description="waiting scans above which new ones are refused (429)")
    scans_per_child: int = Field(default=500, ge=0, description="the scanning process is replaced after so many; 0: never")
    child_growth_mib: int = Field(default=512, ge=0, description="or when its memory has grown by so much; 0: never")
    boot_timeout_s: float = Field(default=120, gt=0, description="until the model must have run once")
    watch_slice_s: float = Field(
        default=60,
        gt=0,
        description="a watch goes back to the queue after so long, at its next window; timeout_s is of one slice",
    )
    media_roots: tuple[MediaRoot, ...] = Field(
        default=(),
        description="folders below which source.path may lie; an API that has them opens them to every owner; none by default",
    )
    hold_s: float = Field(default=0, ge=0, description="for drills: every scan stays so long in each stage")


class SourceSettings(Section):
    max_bytes: int = Field(default=2 << 30, gt=0, description="largest download, in bytes as received")
    rate_bytes_s: int = Field(default=0, ge=0, description="a download is no faster than this on the average; 0: no limit")
    timeout_s: float = Field(default=300, gt=0, description="of a whole download")
    connect_s: float = Field(default=10, gt=0, description="until a connection stands")
    stall_s: float = Field(default=30, gt=0, description="without a byte for so long, a connection is given up")
    retries: int = Field(default=2, ge=0, description="a download that must begin anew is tried so often again")
    patience_s: float = Field(default=60, ge=0, description="one that can go on is tried until so long without a byte")
    max_redirects: int = Field(default=5, ge=0, description="each is checked like the first address")
    max_side_px: int = Field(default=720, gt=0, description="where there is a choice: the largest shorter side that is fetched")
    max_segments: int = Field(default=10_000, gt=0, description="most segments of an HLS or DASH playlist")
    extractors: tuple[Extractor, ...] = Field(
        default=("default",),
        description="yt-dlp's extractors for posts of social networks, by name; default: the large ones; none: no posts",
    )
    playlist_items: int = Field(
        default=1, ge=0, description="of a post with several videos, the first of so many that can be had is scanned; 0: none"
    )
    site_requests_per_minute: int = Field(default=30, gt=0, description="posts of one site, by all workers together")
    cookies: UserPath | None = Field(default=None, description="cookies for social networks, a file in Netscape's format")
    ports: tuple[Port, ...] = Field(default=(80, 443, 8080, 8443), description="ports that an address may name; empty: any")
    allow_hosts: tuple[str, ...] = Field(default=(), description="if any: only these hosts and those below them are fetched from")
    deny_hosts: tuple[str, ...] = Field(
        default=(), description="these hosts and those below them are never fetched from and get no callbacks"
    )
    allow_private_hosts: tuple[str, ...] = Field(
        default=(),
        description="host names or addresses, with :PORT or without, that may resolve to private addresses; on any port",
    )
    proxy: str | None = Field(
        default=None,
        repr=False,
        pattern=r"^http://[^/@\s]+/?$",
        description="egress proxy, http://HOST:PORT; it looks up names and is the boundary then",
    )
    temp_dir: UserPath | None = Field(default=None, description="for downloads; the system's temporary folder when unset")


class ArtifactSettings(Section):
    url: str | None = Field(
        default=None, repr=False, description="folder or fsspec URL (s3://bucket/prefix); unset: nothing is kept"
    )
    keep_s: int = Field(default=0, ge=0, description="crops and full frame lists are kept so long; 0: not at all")
    upload_keep_s: int = Field(default=86400, gt=0, description="an upload is deleted after so long, scanned or not")
    media_keep_s: int = Field(default=0, ge=0, description="what was fetched or uploaded is kept so long behind its scan; 0: not")


class CallbackSettings(Section):
    attempts: int = Field(default=8, ge=1, description="tries of one callback; then dead letter")
    backoff_s: float = Field(default=5, gt=0, description="wait before the second try; grows fourfold, with jitter")
    backoff_max_s: float = Field(default=4 * 3600, gt=0, description="longest wait between two tries")
    timeout_s: float = Field(default=15, gt=0, description="of one delivery")
    lease_s: float = Field(default=30, gt=1, description="a delivery that is not ended by then is tried again by another courier")
    parallel: int = Field(default=8, ge=1, le=256, description="deliveries of one courier at a time")

    @model_validator(mode="after")
    def _outlives(self) -> Self:
        if self.lease_s <= self.timeout_s:
            raise ValueError(f"lease_s {self.lease_s:g} must be longer than timeout_s {self.timeout_s:g}")
        return self


class TelemetrySettings(Section):
    host: str = Field(default="127.0.0.1", description="address that veriframe worker and courier serve their metrics on")
    port: int | None = Field(
        default=9464, ge=0, le=65535, description="0: any free one, which the log names at `info`; unset: none"
    )
    log_format: Literal["auto", "json", "text"] = Field(
        default="auto", description="auto: JSON lines where standard error is no terminal"
    )
    log_level: Literal["info", "warning", "error"] = Field(
        default="info", description="the least that is logged; info: each step of each scan, too"
    )


class ApiSettings(Section):
    host: str = Field(default="127.0.0.1", description="address that veriframe serve listens on")
    port: int = Field(default=8080, ge=0, le=65535, description="0: any free one")
    max_body_bytes: int = Field(default=65536, gt=0, le=65536, description="of a JSON request; no larger one would be stored")
    max_upload_bytes: int = Field(default=2 << 30, gt=0, description="of an uploaded file")
    requests_per_minute: int = Field(default=600, gt=0, description="of one owner")
    open_scans: int = Field(default=10_000, gt=0, description="waiting and running scans of one owner")
    scans_per_day: int = Field(default=1_000_000, gt=0, description="of one owner")
    decisions_per_day: int = Field(default=10_000, gt=0, description="labels given with one owner's keys")
    console: bool = Field(default=True, description="serve the review console below /console")
    console_secure: bool = Field(
        default=False, description="its cookie goes over https only; set it wherever a proxy ends TLS before this service"
    )
    console_session_s: int = Field(default=43200, gt=0, le=30 * 86400, description="who signed in is signed out after so long")
