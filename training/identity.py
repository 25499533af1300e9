"""Names the crops that a result came from, so that a folder never gives what it kept of other data as that of these."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from training.prepare import Crop
from worker.errors import ConfigError

PLACES = {"shard", "row"}
"""Columns that say where a crop lies, and nothing of what it is."""
TOLD = tuple(field.name for field in fields(Crop) if field.name not in PLACES)


def rows_sha256(rows: Iterable[Crop]) -> str:
    """Of what the index tells of these crops (file, frame, face, label, group, split), in their order; pixels are not read."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps([getattr(row, name) for name in TOLD]).encode() + b"\n")
    return digest.hexdigest()


def refuse_other_rows(theirs: str | None, ours: str, folder: Path) -> None:
    """Raises ConfigError where ``folder`` keeps what came from other crops, or does not say from which (None)."""
    if theirs == ours:
        return
    found = (
        "does not say which crops it was trained on" if theirs is None else "was trained on other crops than the cache has now"
    )
    raise ConfigError(f"{folder} holds a run that {found}: choose another folder with --run, or delete this one")
