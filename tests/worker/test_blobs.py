"""What fails under a store, a folder or a foreign driver: whatever it raises, the store is down, and no caller ends by it."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from tests.worker.exhaustion import no_more_files
from worker.artifacts import ArtifactStore, open_store
from worker.blobs import FolderBlobs
from worker.errors import ConfigError, FetchGone, StorageDown

DATA = b"bytes of a crop"


class DriverError(Exception):
    """As botocore's: no OSError, and with what is nobody's business in its message."""


class FailingDriver(MemoryFileSystem):
    """A store of which ``failing`` names the operation that its driver cannot do."""

    protocol = "failing"
    failing = ""

    def _may(self, what: str) -> None:
        if self.failing == what:
            raise DriverError("signed with AKIA-hidden")

    def put_file(self, *args: Any, **options: Any) -> Any:
        self._may("put")
        if self.failing == "find a bucket":
            raise FileNotFoundError("The specified bucket does not exist")  # as s3fs
        return super().put_file(*args, **options)

    def rm_file(self, path: str) -> None:
        self._may("remove")
        if self.failing == "remove one" and "/held/" in path:
            raise DriverError("signed with AKIA-hidden")
        self._may("put")  # nor can it clean up after itself
        super().rm_file(path)

    def find(self, *args: Any, **options: Any) -> Any:
        self._may("list")
        return super().find(*args, **options)

    def open(self, *args: Any, **options: Any) -> Any:
        self._may("open")
        file = super().open(*args, **options)
        return BrokenFile(self.failing) if self.failing in ("read", "find again") else file


class BrokenFile(io.BytesIO):
    def __init__(self, failing: str) -> None:
        self._failing = failing

    def read(self, size: int | None = -1) -> bytes:
        raise DriverError("signed with AKIA-hidden") if self._failing == "read" else FileNotFoundError("no such key")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FailingDriver]]:
    FailingDriver.clear_instance_cache()
    monkeypatch.setattr(FailingDriver, "failing", "")
    monkeypatch.setattr(FailingDriver, "store", {})
    monkeypatch.setattr(FailingDriver, "pseudo_dirs", [""])
    monkeypatch.setitem(_registry, "failing", FailingDriver)
    yield FailingDriver
    FailingDriver.clear_instance_cache()


@pytest.mark.parametrize(
    ("failing", "use"),
    [
        ("put", lambda store, into: store.put("b", DATA, expires_at=2_000_000_000)),
        ("list", lambda store, into: store.sweep()),
        ("open", lambda store, into: store.open("a")),
        ("read", lambda store, into: store.get("a", into)),
        ("remove", lambda store, into: store.delete("a")),
    ],
)
def test_whatever_a_driver_raises_the_store_is_down(
    failing: str, use: Callable[[ArtifactStore, Path], object], driver: type[FailingDriver], tmp_path: Path
) -> None:
    store = open_store("failing://bucket/artefacts")
    store.put("a", DATA, expires_at=2_000_000_000)
    with store.open("a") as file:
        assert file.read() == DATA
    driver.failing = failing
    with pytest.raises(StorageDown, match="DriverError") as down:
        use(store, tmp_path / "into")
    assert "hidden" not in str(down.value)
    assert not (tmp_path / "into").exists()


def test_a_store_whose_bucket_is_gone_is_down(driver: type[FailingDriver]) -> None:
    driver.failing = "find a bucket"
    with pytest.raises(StorageDown, match="bucket of the store is gone"):
        open_store("failing://bucket/artefacts").put("a", DATA, expires_at=2_000_000_000)


def test_what_goes_while_it_is_read_is_gone(driver: type[FailingDriver], tmp_path: Path) -> None:
    """A bucket's object is not held by whoever reads it."""
    store = open_store("failing://bucket/artefacts")
    store.put("a", DATA, expires_at=2_000_000_000)
    driver.failing = "find again"
    with pytest.raises(FetchGone, match="while it was read"):
        store.open("a").read()
    with pytest.raises(FetchGone):
        store.get("a", tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_what_is_put_again_while_it_is_read_is_copied(
    driver: type[FailingDriver], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store("failing://bucket/artefacts")
    store.put("a", b"older", expires_at=2_000_000_000)
    driver.failing = "find again"

    def replaced(*_: object) -> bytes:
        driver.failing = ""
        store.put("a", DATA, expires_at=2_000_000_001)
        raise FileNotFoundError("no such key")

    monkeypatch.setattr(BrokenFile, "read", replaced)
    store.get("a", tmp_path / "into")
    assert (tmp_path / "into").read_bytes() == DATA


def test_what_cannot_be_deleted_keeps_nothing_else(driver: type[FailingDriver]) -> None:
    store = open_store("failing://bucket/artefacts")
    for key in ("a", "held", "z"):
        store.put(key, DATA, expires_at=2_000_000_000)
    driver.failing = "remove one"
    with pytest.raises(StorageDown, match=r"1 of what has expired could not be deleted, 2 were: .*DriverError"):
        store.sweep(2_000_000_000)
    driver.failing = ""
    assert store.sweep(2_000_000_000) == 1


@pytest.mark.parametrize("folder", [None, "none"])
def test_where_no_temporary_file_can_be_made_the_store_is_down(
    folder: str | None, driver: type[FailingDriver], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store("failing://bucket/artefacts")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / (folder or "")))
    with contextlib.nullcontext() if folder else no_more_files(), pytest.raises(StorageDown, match="no temporary file"):
        store.put("a", DATA, expires_at=2_000_000_000)


def test_a_driver_that_cannot_be_set_up_is_told(driver: type[FailingDriver], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DriverError("signed with AKIA-hidden")

    monkeypatch.setattr(driver, "__init__", refuse)
    with pytest.raises(ConfigError, match=r"artifacts\.url.*DriverError") as refused:
        open_store("failing://bucket/artefacts")
    assert "hidden" not in str(refused.value)


def test_a_folder_that_vanishes_is_a_store_that_is_down_and_is_not_made_anew(tmp_path: Path) -> None:
    root = tmp_path / "store"
    blobs = FolderBlobs(root)
    shutil.rmtree(root)
    with pytest.raises(StorageDown, match="gone"), blobs.writing("a", None):
        pytest.fail("there is no place for bytes")
    assert not root.exists()


USES: list[Callable[[ArtifactStore, Path], object]] = [
    lambda store, into: store.open("uploads/a"),
    lambda store, into: store.get("uploads/a", into),
    lambda store, into: store.delete("uploads/a"),
    lambda store, into: store.put("uploads/a", DATA, expires_at=2_000_000_000),
]


@pytest.mark.parametrize("use", [*USES, lambda store, into: store.sweep()])
@pytest.mark.parametrize("instead", [Path.touch, lambda root: root.symlink_to(root), lambda root: None])
def test_what_is_in_a_folder_that_is_not_reached_is_not_gone(
    instead: Callable[[Path], None], use: Callable[[ArtifactStore, Path], object], tmp_path: Path
) -> None:
    store = open_store(str(tmp_path / "store"))
    store.put("uploads/a", DATA, expires_at=2_000_000_000)
    (tmp_path / "store").rename(tmp_path / "away")
    instead(tmp_path / "store")
    with pytest.raises(StorageDown):
        use(store, tmp_path / "into")
    (tmp_path / "store").unlink(missing_ok=True)
    (tmp_path / "away").rename(tmp_path / "store")
    assert store.get("uploads/a", tmp_path / "into").size_bytes == len(DATA)


@pytest.mark.parametrize("use", USES)
def test_nor_is_what_is_in_one_that_cannot_be_listed(use: Callable[[ArtifactStore, Path], object], tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    store.put("uploads/a", DATA, expires_at=2_000_000_000)
    with no_more_files(), pytest.raises(StorageDown):
        use(store, tmp_path / "into")
    assert store.get("uploads/a", tmp_path / "into").size_bytes == len(DATA)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that opens and cannot be read")
def test_an_object_that_fails_while_it_is_read_is_a_store_that_is_down(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    store.put("uploads/a", DATA, expires_at=2_000_000_000)
    (place,) = (path for path in (tmp_path / "store").rglob("*") if path.is_file())
    place.unlink()
    place.symlink_to("/proc/self/mem")
    with pytest.raises(StorageDown):
        store.get("uploads/a", tmp_path / "into")


def test_somebody_elses_folder_in_a_store_keeps_none_from_being_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(str(tmp_path / "store"))
    store.put("a", DATA, expires_at=2_000_000_000)
    theirs = tmp_path / "store" / "lost+found"
    theirs.mkdir()
    scandir = os.scandir

    def denied(path: str | Path) -> Any:  # also for root, who may look into every folder
        if Path(path) == theirs:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert store.sweep(2_000_000_000) == 1


def test_one_that_vanishes_in_mid_write_is_down_too(tmp_path: Path) -> None:
    root = tmp_path / "store"
    writing = FolderBlobs(root).writing("a", None)
    writing.__enter__().write(DATA)
    shutil.rmtree(root)
    with pytest.raises(StorageDown, match="gone"):
        writing.__exit__(None, None, None)
    assert not root.exists()


def test_a_file_that_is_missing_is_no_fault_of_the_store(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_store(str(tmp_path / "store")).put("a", tmp_path / "missing", expires_at=2_000_000_000)
