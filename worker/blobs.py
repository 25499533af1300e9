"""Where named bytes lie: in a folder, or behind an fsspec URL. A name appears when all of its bytes are there, or never.

``worker.artifacts`` gives them keys and expiry.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol, cast

import fsspec  # type: ignore[import-untyped]

from worker.content import Intake, full_told, taking_in
from worker.errors import ConfigError, FetchGone, StorageDown, StorageError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PARTIAL: Final = ".partial"
"""Folder of what is being written. The names in it begin with the Unix time of their beginning and ``-``."""
WHOLE_PUTS: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
"""Protocols by which an object appears when all of it is there; with others it is put under another name and moved."""


class Blobs(Protocol):
    """Names are relative paths, ``/``-separated. Raises StorageFull and StorageDown everywhere, OSErrors nowhere but as said."""

    def writing(self, name: str, max_bytes: int | None) -> AbstractContextManager[Intake]:
        """The new bytes of ``name``, in their place at the end of the context, dropped after an error in it."""
        ...

    def names(self, below: str = "") -> list[str]:
        """All names below a folder; none where there is no such folder in the store."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Raises FileNotFoundError; reading it, FetchGone where it went meanwhile."""
        ...

    def remove(self, name: str) -> None:
        """It may be gone already."""
        ...


class FolderBlobs:
    """Files and folders of this user's only. Raises ConfigError where there can be no such folder."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigError(f"artifacts.url: {folder} cannot be a folder: {exc.strerror}") from exc
        self._root = Path(os.path.realpath(folder))

    @contextlib.contextmanager
    def writing(self, name: str, max_bytes: int | None) -> Iterator[Intake]:
        partial = self._root / _partial_name()
        with contextlib.ExitStack() as stack:
            with _told(), _of_the_folder():
                partial.parent.mkdir(mode=0o700, exist_ok=True)
                intake = stack.enter_context(taking_in(partial, max_bytes))
            yield intake
            with _told(), _of_the_folder():
                self._settle(partial, self._root / name)

    def _settle(self, partial: Path, target: Path) -> None:
        """On the disk before the name is given: after a power cut it is whole or not there."""
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        for _ in range(100):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                partial.replace(target)
            except FileNotFoundError:
                continue  # a sweep has just removed the empty folder
            return
        raise StorageDown("a folder of the store is removed as often as it is made")

    def names(self, below: str = "") -> list[str]:
        top, found = self._root / below, list[str]()

        def heed(error: OSError) -> None:
            """Folders go at any time, and those further down may be somebody else's (``lost+found``)."""
            is_absent = isinstance(error, (FileNotFoundError, NotADirectoryError))
            if not is_absent and error.filename == os.fspath(top):
                raise error

        with _told():
            for folder, _, files in os.walk(top, onerror=heed):
                found += [(Path(folder) / file).relative_to(self._root).as_posix() for file in files]
            if not found and not self._root.is_dir():
                raise StorageDown("the folder of the store is gone")
        return found

    def open(self, name: str) -> BinaryIO:
        with _told():
            return io.BufferedReader(_ToldFile(cast(BinaryIO, open(self._root / name, "rb", buffering=0)), _told))

    def remove(self, name: str) -> None:
        path = self._root / name
        with _told():
            path.unlink(missing_ok=True)
        for folder in path.relative_to(self._root).parents[:-1]:
            try:
                (self._root / folder).rmdir()
            except OSError:
                return  # other objects in it


class FsspecBlobs:
    """Any store that fsspec reaches (https://filesystem-spec.readthedocs.io); credentials from its own environment and files.

    What comes is gathered in a temporary file without a name, so that a death leaves nothing here. Raises ConfigError
    for a URL that it cannot use.
    """

    def __init__(self, url: str) -> None:
        try:
            self._fs, root = cast(tuple[Any, str], fsspec.url_to_fs(url, use_listings_cache=False))
        except ImportError as exc:
            raise ConfigError(f"artifacts.url needs another package: {exc}") from exc
        except (ValueError, OSError) as exc:
            raise ConfigError("artifacts.url: not a folder and not an fsspec URL such as s3://bucket/prefix") from exc
        except Exception as exc:  # foreign code, see _driven
            raise ConfigError(f"artifacts.url: the store's driver cannot be set up: {type(exc).__name__}") from exc
        self._root = root.rstrip("/")
        protocols = (self._fs.protocol,) if isinstance(self._fs.protocol, str) else self._fs.protocol
        self._puts_whole = not WHOLE_PUTS.isdisjoint(protocols)

    @contextlib.contextmanager
    def writing(self, name: str, max_bytes: int | None) -> Iterator[Intake]:
        with _spool() as spool:
            yield Intake(spool, max_bytes)
            spool.seek(0)
            with _driven(), _of_the_folder():
                self._upload(f"/dev/fd/{spool.fileno()}", f"{self._root}/{name}")

    def _upload(self, local: str, target: str) -> None:
        if self._puts_whole:
            self._fs.put_file(local, target)
            return
        partial = f"{self._root}/{_partial_name()}"
        try:
            self._fs.makedirs(f"{self._root}/{PARTIAL}", exist_ok=True)
            self._fs.put_file(local, partial)
            self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._fs.mv(partial, target)
        except BaseException:
            with contextlib.suppress(Exception):  # foreign code, see _driven; the first error is the one to tell
                self._fs.rm_file(partial)
            raise

    def names(self, below: str = "") -> list[str]:
        folder = f"{self._root}/{below}".rstrip("/")
        with _driven():
            try:
                found = cast(list[str], self._fs.find(folder))
            except FileNotFoundError:
                return []
        return [path[len(self._root) + 1 :] for path in found if path.startswith(f"{self._root}/")]

    def open(self, name: str) -> BinaryIO:
        with _driven():
            return io.BufferedReader(_ToldFile(self._fs.open(f"{self._root}/{name}", "rb"), _driven))

    def remove(self, name: str) -> None:
        with _driven(), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._root}/{name}")


class _ToldFile(io.RawIOBase):
    """A file of a store, read when its bytes are asked for: errors of that are ours, too, by way of ``told``."""

    def __init__(self, file: BinaryIO, told: Callable[[], AbstractContextManager[None]]) -> None:
        self._file, self._told = file, told

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def readinto(self, buffer: WriteableBuffer) -> int:
        room = memoryview(buffer).cast("B")
        try:
            with self._told():
                chunk = self._file.read(len(room))
        except FileNotFoundError as exc:  # an object of a bucket that was removed or replaced after it was opened
            raise FetchGone("not retained any more: it went while it was read") from exc
        room[: len(chunk)] = chunk
        return len(chunk)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with self._told():
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _spool() -> FileIO:
    """A temporary file; whatever keeps it from being made is no fault of what was to be kept."""
    try:
        with full_told():
            return tempfile.TemporaryFile(buffering=0)
    except OSError as exc:
        raise StorageDown(f"no temporary file can be made: {os.strerror(exc.errno or 0)}") from exc


def _partial_name() -> str:
    return f"{PARTIAL}/{int(time.time())}-{secrets.token_hex(8)}"


@contextlib.contextmanager
def _of_the_folder() -> Iterator[None]:
    """Around what misses nothing but the store itself: a bucket that was deleted, or a share that is not mounted any more and is
    not made anew below it."""
    try:
        yield
    except FileNotFoundError as exc:
        raise StorageDown("the folder or bucket of the store is gone") from exc


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Errors of a disk or store as ours; but for FileNotFoundError."""
    try:
        with full_told():
            yield
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise StorageDown(f"the store of artefacts fails: {exc.strerror or type(exc).__name__}") from exc


@contextlib.contextmanager
def _driven() -> Iterator[None]:
    """Around every use of a driver, whatever it raises as ours; but for FileNotFoundError.

    A boundary to foreign code: drivers pass on errors of libraries that we neither know nor have (botocore's ClientError and
    NoCredentialsError, aiohttp's, Google's). Only their type is told: some write addresses and keys into their messages.
    """
    try:
        with _told():
            yield
    except (FileNotFoundError, StorageError):
        raise
    except Exception as exc:
        raise StorageDown(f"the store of artefacts fails: {type(exc).__name__}") from exc
