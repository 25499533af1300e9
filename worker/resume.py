"""What ``--resume`` rests on: which bytes, model and options a stored report was made from.

An item is skipped only if its file hashes (SHA-256) to the bytes that were scanned, the scanner's fingerprint is the same, and
the stored report is whole. Modification times are not trusted; a different size saves the hashing. The file is hashed *before*
it is scanned: if it changes meanwhile, the state does not fit the file and the next run scans it anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.content import Content, read_content
from worker.errors import MediaError, SourceError
from worker.report import Report

LASTING_ERRORS = frozenset({"unsupported", "corrupt", "empty", "too_large", "too_long"})
"""Failures that the same bytes give again; any other is tried again."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class State(BaseModel):
    """Stands beside a stored report: what it was made from, and the report's own hash."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state_version: Literal[1] = 1
    sha256: Sha256
    size_bytes: int
    fingerprint: str
    report_sha256: Sha256


def content_of(path: Path, max_bytes: int) -> Content | None:
    """Hash a file; None where it cannot be read, now or ever, or is larger than ``max_bytes`` (the scan will say so)."""
    try:
        return read_content(path, max_bytes)
    except (SourceError, MediaError, OSError):
        return None


def is_lasting(report: Report) -> bool:
    """Whether the same bytes, model and options would give the same report again."""
    return report.status == "completed" or (report.error is not None and report.error.code in LASTING_ERRORS)


def is_unchanged(path: Path, state: State, fingerprint: str, max_bytes: int) -> bool:
    """Whether a stored report still holds for this file and this scanner."""
    try:
        same_size = path.stat().st_size == state.size_bytes
    except OSError:
        return False
    if state.fingerprint != fingerprint or not same_size:
        return False
    content = content_of(path, max_bytes)
    return content is not None and content.sha256 == state.sha256
