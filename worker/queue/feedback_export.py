"""Feedback as a folder that training takes as it is: a manifest, and beside it the media that it names.

``MANIFEST.csv`` lists what has its media, ``without-media.csv`` what has not any more; files are named by their hashes. Killed at
any moment and begun again, it goes on: a file that is there is whole, and a manifest names only files that are there.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from worker.artifacts import ArtifactStore
from worker.content import Content, taking_in, write_atomically
from worker.errors import ConfigError, FetchGone
from worker.frames.probe import HEAD_BYTES, container_of
from worker.queue.feedback import COLUMNS, manifest_row
from worker.queue.fetching import upload_key
from worker.queue.media import media_key

MANIFEST: Final = "MANIFEST.csv"
WITHOUT_MEDIA: Final = "without-media.csv"
FOLDERS: Final = {True: "videos", False: "pictures"}
PIECE_BYTES: Final = 1 << 20
VIDEO_SUFFIXES: Final = {"matroska": ".mkv", "mpegts": ".ts", "mpeg": ".mpg", "asf": ".wmv", "ogg": ".ogv"}
"""Of containers whose usual suffix is not their name."""
PICTURES: Final = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """``labels``: rows of the manifest by label; ``without``: those that are kept out of it, by the reason."""

    labels: Counter[str] = field(default_factory=Counter)
    without: Counter[str] = field(default_factory=Counter)


def export_feedback(
    decisions: Sequence[dict[str, Any]], store: ArtifactStore, folder: Path, on_done: Callable[[], None] = lambda: None
) -> Exported:
    """Write the folder, or bring it up to date; ``decisions`` as of ``latest_decisions``.

    Raises ConfigError for a folder whose manifest is not one of these or that cannot be written to, StorageError.
    """
    manifest = folder / MANIFEST
    _refuse_others(manifest)
    exported, rows, without = Exported(), list[dict[str, str]](), list[dict[str, str]]()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for decision in decisions:
            path, reason = _bring(decision, store, folder)
            if path is None:
                exported.without[reason] += 1
                without.append(manifest_row(decision) | {"reason": reason})
            else:
                exported.labels[decision["verdict"]] += 1
                rows.append(manifest_row(decision, path))
            on_done()
        write_atomically(manifest, _csv(rows, COLUMNS))
        write_atomically(folder / WITHOUT_MEDIA, _csv(without, (*COLUMNS, "reason")))
    except OSError as exc:
        raise ConfigError(f"{folder} cannot be written to: {exc.strerror}") from exc
    return exported


def _refuse_others(manifest: Path) -> None:
    """Raises ConfigError rather than write over a data set's own manifest."""
    try:
        with manifest.open(newline="", encoding="utf-8") as file:
            is_ours = tuple(next(csv.reader(file), ())) == COLUMNS
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise ConfigError(f"{manifest} cannot be read: {exc}") from exc
    if not is_ours:
        raise ConfigError(f"{manifest} was not written by veriframe feedback: export to another folder")


def _bring(decision: dict[str, Any], store: ArtifactStore, folder: Path) -> tuple[str | None, str]:
    """Where the media of a decision lie in the folder now, or why they do not."""
    sha256, source = decision["sha256"], decision.get("source") or {}
    for name in FOLDERS.values():
        for there in (folder / name).glob(f"{sha256}.*"):
            return f"{name}/{there.name}", ""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as scratch:
        into = Path(scratch) / "media"
        try:
            content = _copied(source, sha256, store, into)
        except FetchGone:
            return None, "not retained"
        if content.sha256 != sha256:
            return None, "the file is another by now"
        is_video, suffix = _kind(into)
        target = folder / FOLDERS[is_video] / f"{sha256}{suffix}"
        target.parent.mkdir(exist_ok=True)
        with into.open("rb") as file:
            os.fsync(file.fileno())
        into.replace(target)
    return f"{FOLDERS[is_video]}/{target.name}", ""


def _copied(source: dict[str, Any], sha256: str, store: ArtifactStore, into: Path) -> Content:
    """From where the file lay, if this machine has it; else what is retained of it, or of its upload. Raises FetchGone."""
    if source.get("path"):
        return _copied_file(Path(source["path"]), into)
    with contextlib.suppress(FetchGone):
        return store.get(media_key(sha256), into)
    if source.get("upload"):
        return store.get(upload_key(source["upload"]), into)
    raise FetchGone("not retained")


def _copied_file(path: Path, into: Path) -> Content:
    try:
        file = path.open("rb") if path.is_file() else None
    except OSError:
        file = None
    if file is None:
        raise FetchGone("the file is not there")
    with file, taking_in(into) as intake:
        shutil.copyfileobj(file, intake, PIECE_BYTES)
        return intake.content()


def _kind(path: Path) -> tuple[bool, str]:
    """Whether a file's beginning is a video's, and the suffix that goes with it: nobody's name for it is believed."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    container = container_of(head)
    if container is not None:
        return True, VIDEO_SUFFIXES.get(container, f".{container}")
    return False, next((suffix for magic, suffix in PICTURES.items() if head.startswith(magic)), _other_picture(head))


def _other_picture(head: bytes) -> str:
    return ".webp" if head[8:12] == b"WEBP" else ".avif" if head[4:8] == b"ftyp" else ".bin"


def _csv(rows: Sequence[dict[str, str]], columns: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
