"""What fails under a store, a folder or a foreign driver: whatever it raises, the store is down, and no caller ends by it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from worker.artifacts import ArtifactStore, open_store
from worker.blobs import FolderBlobs
from worker.errors import ConfigError, StorageDown

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
        return super().put_file(*args, **options)

    def rm_file(self, path: str) -> None:
        self._may("remove")
        self._may("put")  # nor can it clean up after itself
        super().rm_file(path)

    def find(self, *args: Any, **options: Any) -> Any:
        self._may("list")
        return super().find(*args, **options)

    def open(self, *args: Any, **options: Any) -> Any:
        self._may("open")
        file = super().open(*args, **options)
        return BrokenFile() if self.failing == "read" else file


class BrokenFile(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        raise DriverError("signed with AKIA-hidden")


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
