"""A folder of feedback: what training reads of it, what has no media, what a stop leaves, and which folders are left alone."""

from __future__ import annotations

import csv
import hashlib
import time
from pathlib import Path
from typing import Any

import pytest

from training.layouts import list_source
from training.manifest import read_manifest
from worker.artifacts import ArtifactStore, open_store
from worker.errors import ConfigError, StorageDown
from worker.queue.feedback_export import MANIFEST, WITHOUT_MEDIA, Exported, export_feedback
from worker.queue.fetching import upload_key
from worker.queue.media import media_key

MP4, PNG, JPEG = b"\0\0\0\x18ftypisom", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"


def decision(media: bytes, verdict: str = "real", category: str | None = None, **source: str) -> dict[str, Any]:
    told = {
        "owner": "acme",
        "scan": "a" * 32,
        "sha256": hashlib.sha256(media).hexdigest(),
        "verdict": verdict,
        "category": category,
    }
    return told | {"source": source or {"url": "https://media.example/a.mp4?sig=1"}}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return open_store(str(tmp_path / "store"))


def retained(store: ArtifactStore, media: bytes) -> bytes:
    store.put(media_key(hashlib.sha256(media).hexdigest()), media, expires_at=time.time() + 3600)
    return media


def without(folder: Path) -> list[tuple[str, str]]:
    with (folder / WITHOUT_MEDIA).open(newline="") as file:
        return [(row["sha256"], row["reason"]) for row in csv.DictReader(file)]


def test_training_takes_the_folder_as_it_is(store: ArtifactStore, tmp_path: Path) -> None:
    out = tmp_path / "out"
    one, two, three = retained(store, MP4 + b"1"), retained(store, PNG + b"2"), retained(store, JPEG + b"3")
    decisions = [decision(one), decision(two, "fake", "synthetic"), decision(three, "fake", "odd-ears"), decision(MP4 + b"gone")]
    done: list[None] = []
    exported = export_feedback(decisions, store, out, lambda: done.append(None))
    assert exported == Exported(labels={"real": 1, "fake": 2}, without={"not retained": 1})  # type: ignore[arg-type]
    assert len(done) == 4
    assert "sig=1" not in (out / MANIFEST).read_text() + (out / WITHOUT_MEDIA).read_text()
    entries = read_manifest(out / MANIFEST)
    names = [hashlib.sha256(media).hexdigest() for media in (one, two, three)]
    assert [(entry.path, entry.label, entry.family) for entry in entries] == [
        (f"videos/{names[0]}.mp4", "real", "real"),
        (f"pictures/{names[1]}.png", "fake", "synthetic"),
        (f"pictures/{names[2]}.jpg", "fake", ""),
    ]
    assert [(out / entry.path).read_bytes() for entry in entries] == [one, two, three]
    assert [entry.groups for entry in entries] == [(f"feedback/{name}",) for name in names]
    assert without(out) == [(hashlib.sha256(MP4 + b"gone").hexdigest(), "not retained")]
    for source in (out, out / MANIFEST):
        listing = list_source(source)
        assert (listing.layout, listing.root, len(listing.entries)) == ("manifest", out, 3)


def test_files_of_this_machine_and_uploads_are_copied_if_they_are_still_the_same(store: ArtifactStore, tmp_path: Path) -> None:
    lying, changed = tmp_path / "lying.avi", tmp_path / "changed.mp4"
    lying.write_bytes(MP4 + b"there")
    changed.write_bytes(MP4 + b"other")
    store.put(upload_key("b" * 32), MP4 + b"upload", expires_at=time.time() + 3600)
    decisions = [
        decision(MP4 + b"there", path=str(lying)),
        decision(MP4 + b"was", path=str(changed)),
        decision(MP4 + b"lost", path=str(tmp_path / "lost.mp4")),
        decision(MP4 + b"folder", path=str(tmp_path)),
        decision(MP4 + b"upload", upload="b" * 32),
        decision(MP4 + b"late", upload="c" * 32),
    ]
    out = tmp_path / "out"
    exported = export_feedback(decisions, store, out)
    assert exported.labels == {"real": 2}
    assert exported.without == {"not retained": 3, "the file is another by now": 1}
    assert sorted((out / entry.path).read_bytes() for entry in read_manifest(out / MANIFEST)) == [MP4 + b"there", MP4 + b"upload"]
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []


class Unplugged:
    """A store that fails after so many files."""

    def __init__(self, store: ArtifactStore, files: int) -> None:
        self._store, self._files = store, files

    def get(self, key: str, into: Path) -> Any:
        if self._files == 0:
            into.write_bytes(b"half of")
            raise StorageDown("away")
        self._files -= 1
        return self._store.get(key, into)


def test_started_again_it_goes_on_and_keeps_what_is_no_longer_retained(store: ArtifactStore, tmp_path: Path) -> None:
    out, media = tmp_path / "out", [retained(store, MP4 + bytes([n])) for n in range(3)]
    decisions = [decision(one) for one in media]
    with pytest.raises(StorageDown):
        export_feedback(decisions, Unplugged(store, 1), out)  # type: ignore[arg-type]
    assert not (out / MANIFEST).exists()
    assert [path.suffix for path in (out / "videos").iterdir()] == [".mp4"]
    for one in media[:1]:
        store.delete(media_key(hashlib.sha256(one).hexdigest()))
    export_feedback(decisions, Unplugged(store, 2), out)  # type: ignore[arg-type]
    assert len(read_manifest(out / MANIFEST)) == 3, "the first is not asked for again"
    export_feedback([decision(media[0], "fake")], store, out)
    assert [entry.label for entry in read_manifest(out / MANIFEST)] == ["fake"], "as decided since"


def test_another_data_sets_manifest_is_not_written_over(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("path,label,source\nreal/a.mp4,real,mine\n")
    with pytest.raises(ConfigError, match="another folder"):
        export_feedback([decision(MP4)], store, tmp_path)
    assert (tmp_path / MANIFEST).read_text().startswith("path,label,source\n")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be"):
        export_feedback([decision(MP4)], store, tmp_path / "file")
