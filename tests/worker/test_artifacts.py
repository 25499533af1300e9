"""One suite for every store: a folder, and fsspec over memory and over files."""

from __future__ import annotations

import hashlib
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from tests.worker.exhaustion import short_files
from worker.artifacts import ArtifactStore, ExpiringStore, NoStore, open_store
from worker.blobs import FsspecBlobs
from worker.errors import ConfigError, FetchGone, MediaTooLarge, StorageDown, StorageFull

NOW = 1_800_000_000.0
DATA = hashlib.shake_256(b"").digest(300_000)


class Clock:
    """A time that a test sets; ``meanwhile`` is done when it is looked at."""

    def __init__(self) -> None:
        self.now = NOW
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self) -> float:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return self.now


Reopen = Callable[[], ArtifactStore]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["folder", "fsspec on files", "fsspec in memory"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Reopen]:
    """Opens the same store each time, as another process or a later one does."""
    folder = tmp_path / "store"
    if request.param == "folder":
        yield lambda: open_store(str(folder), clock=clock)
    elif request.param == "fsspec on files":
        yield lambda: ExpiringStore(FsspecBlobs(folder.as_uri()), clock=clock)
    else:
        name = secrets.token_hex(8)
        yield lambda: open_store(f"memory://{name}/artefacts", clock=clock)
        memory = fsspec.filesystem("memory")
        if memory.exists(name):
            memory.rm(name, recursive=True)


@pytest.fixture
def store(reopen: Reopen) -> ArtifactStore:
    return reopen()


def read(store: ArtifactStore, key: str) -> bytes:
    with store.open(key) as file:
        return file.read()


def test_what_is_put_is_there_for_other_processes(store: ArtifactStore, reopen: Reopen) -> None:
    assert store.retains
    content = store.put("scans/7/crop-0.jpg", DATA, expires_at=NOW + 10)
    assert content is not None
    assert content.sha256 == hashlib.sha256(DATA).hexdigest()
    assert content.size_bytes == len(DATA)
    assert read(reopen(), "scans/7/crop-0.jpg") == DATA


def test_a_file_is_put_and_got(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(DATA)
    put = store.put("uploads/a", tmp_path / "from", expires_at=NOW + 10)
    assert store.get("uploads/a", tmp_path / "into") == put
    assert (tmp_path / "into").read_bytes() == DATA
    assert (tmp_path / "into").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        store.get("uploads/a", tmp_path / "into")


def test_pieces_become_one_object_at_the_end(store: ArtifactStore) -> None:
    with store.writer("uploads/a", expires_at=NOW + 10, max_bytes=len(DATA)) as writing:
        for start in range(0, len(DATA), 7000):
            writing.write(DATA[start : start + 7000])
        with pytest.raises(FetchGone):
            store.open("uploads/a")
    assert writing.content().sha256 == hashlib.sha256(DATA).hexdigest()
    assert read(store, "uploads/a") == DATA


def test_an_error_on_the_way_leaves_nothing(store: ArtifactStore) -> None:
    store.put("uploads/a", b"before", expires_at=NOW + 5)

    def break_off() -> None:
        with store.writer("uploads/a", expires_at=NOW + 10) as writing:
            writing.write(DATA)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert read(store, "uploads/a") == b"before"
    assert store.sweep(NOW + 10 * 86400) == 1


def test_the_limit_on_bytes(store: ArtifactStore) -> None:
    with store.writer("a", expires_at=NOW + 10, max_bytes=5) as writing:
        writing.write(b"12345")
    with pytest.raises(MediaTooLarge), store.writer("a", expires_at=NOW + 10, max_bytes=5) as writing:
        writing.write(b"123456")
    assert read(store, "a") == b"12345"


def test_what_has_expired_is_gone_and_swept(store: ArtifactStore, reopen: Reopen, clock: Clock) -> None:
    store.put("scans/1/a", b"short", expires_at=NOW + 10)
    store.put("scans/1/b", b"long", expires_at=NOW + 100)
    assert store.sweep() == 0
    clock.now = NOW + 11
    later = reopen()
    with pytest.raises(FetchGone):
        later.open("scans/1/a")
    assert later.sweep() == 1
    assert later.sweep() == 0
    assert read(later, "scans/1/b") == b"long"
    clock.now = NOW
    with pytest.raises(FetchGone):  # deleted indeed
        later.open("scans/1/a")


def test_a_sweep_at_a_given_time(store: ArtifactStore) -> None:
    store.put("a", b"x", expires_at=NOW + 10)
    assert store.sweep(NOW + 9) == 0
    assert store.sweep(NOW + 10) == 1


def test_what_would_expire_at_once_is_not_written(store: ArtifactStore) -> None:
    assert store.put("a", b"x", expires_at=NOW) is None
    assert store.sweep(NOW + 10 * 86400) == 0


def test_a_key_that_is_put_again_is_replaced_and_lives_at_least_as_long(store: ArtifactStore, clock: Clock) -> None:
    store.put("a", b"1", expires_at=NOW + 10)
    store.put("a", b"2", expires_at=NOW + 20)
    assert read(store, "a") == b"2"
    store.put("a", b"3", expires_at=NOW + 5)
    assert read(store, "a") == b"3"
    clock.now = NOW + 15
    assert read(store, "a") == b"3"
    assert store.sweep(NOW + 20) == 1


def test_what_is_put_again_while_it_is_opened_is_there(store: ArtifactStore, clock: Clock) -> None:
    """The name that was found goes when the newer object is there."""
    store.put("a", b"1", expires_at=NOW + 10)
    clock.meanwhile = lambda: store.put("a", b"2", expires_at=NOW + 20)
    assert read(store, "a") == b"2"
    clock.meanwhile = lambda: store.delete("a")
    with pytest.raises(FetchGone):
        store.open("a")


def test_the_names_of_what_is_retained_below_a_key(store: ArtifactStore, clock: Clock) -> None:
    for key in ("scans/1/a", "scans/1/b/c", "scans/1", "scans/12/d"):
        store.put(key, b"x", expires_at=NOW + 20)
    store.put("scans/1/over", b"x", expires_at=NOW + 10)
    assert store.names("scans/1") == {"a", "over"}
    clock.now = NOW + 10
    assert store.names("scans/1") == {"a"}
    assert store.names("scans/2") == frozenset()


def test_delete(store: ArtifactStore) -> None:
    store.put("a", b"1", expires_at=NOW + 10)
    store.put("a/b", b"2", expires_at=NOW + 10)
    store.delete("a")
    store.delete("a")
    with pytest.raises(FetchGone):
        store.open("a")
    assert read(store, "a/b") == b"2"


def test_keys_may_be_one_within_another(store: ArtifactStore) -> None:
    for key in ("a/b/c", "a/b", "a", "a/b-c", "a/bc", "a/1800000010"):
        store.put(key, key.encode(), expires_at=NOW + 10)
    for key in ("a/b/c", "a/b", "a", "a/b-c", "a/bc", "a/1800000010"):
        assert read(store, key) == key.encode()
    assert store.sweep(NOW + 10) == 6


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "/a", "a/", "a//b", "..", ".", "../a", "a/../b", "a/..", "a/./b", ".partial/1-a", "a/.b", "~", "a\0", "a\n"),
        *(
            "a b",
            "a\\b",
            "a/@1",
            "@1800000010",
            "ä",
            "a:b",
            "a?b",
            "a*",
            "a" * 129,
            "/".join("abcdefghi"),
            "memory://a",
            "\udcff",
        ),
    ],
)
def test_other_keys_are_no_keys(key: str, store: ArtifactStore, tmp_path: Path) -> None:
    for use in (
        lambda: store.put(key, b"x", expires_at=NOW + 10),
        lambda: store.open(key),
        lambda: store.get(key, tmp_path / "into"),
        lambda: store.delete(key),
        lambda: store.writer(key, expires_at=NOW + 10).__enter__(),
    ):
        with pytest.raises(ValueError, match="not a key"):
            use()


def test_two_writers_of_one_key_leave_one_whole_object(reopen: Reopen) -> None:
    def write(letter: str, seconds: int) -> None:
        barrier.wait()
        with reopen().writer("a", expires_at=NOW + seconds) as writing:
            for _ in range(50):
                writing.write(letter.encode() * 1000)

    for _ in range(3):
        barrier = threading.Barrier(4)
        threads = [threading.Thread(target=write, args=("abcd"[i], 10 + i)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        data = read(reopen(), "a")
        assert len(data) == 50_000
        assert len(set(data)) == 1


def test_what_is_missing_is_gone(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(FetchGone, match="not retained"):
        store.open("a")
    with pytest.raises(FetchGone):
        store.get("a", tmp_path / "into")
    assert not (tmp_path / "into").exists()
    store.delete("a")


def test_a_full_disk_is_told_and_leaves_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    store.put("a", DATA, expires_at=NOW + 10)
    with short_files(100_000):
        with pytest.raises(StorageFull):
            store.put("b", DATA, expires_at=NOW + 10)
        with pytest.raises(StorageFull):
            store.get("a", tmp_path / "into")
    assert not (tmp_path / "into").exists()
    assert store.sweep(NOW + 10 * 86400) == 1


def test_what_the_whole_disk_could_not_hold_is_no_full_disk(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("a", DATA, expires_at=NOW + 10)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((1, 1, len(DATA), 0, 0, 0, 0, 0, 0, 255)))
    with pytest.raises(MediaTooLarge, match="the disk could hold"):
        store.get("a", tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_what_a_killed_writer_left_is_swept_a_day_later(tmp_path: Path) -> None:
    """It was killed in mid-write: neither its ``with`` nor anything else of it ended."""
    child = """
import os, sys
from worker.artifacts import open_store
with open_store(sys.argv[1]).writer("a", expires_at=2_000_000_000) as writing:
    writing.write(b"half")
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", child, str(tmp_path / "store")], check=False).returncode == -9
    store = open_store(str(tmp_path / "store"))
    (left,) = (tmp_path / "store" / ".partial").iterdir()
    assert left.read_bytes() == b"half"
    begun = left.stat().st_mtime
    assert store.sweep(begun + 80_000) == 0
    with pytest.raises(FetchGone):
        store.open("a")
    assert store.sweep(begun + 90_000) == 1
    assert not left.exists()


def test_a_folder_is_this_users_only_and_empty_folders_go(tmp_path: Path) -> None:
    root = tmp_path / "store"
    store = open_store(str(root))
    store.put("scans/7/a", b"x", expires_at=2_000_000_000)
    (found,) = (path for path in root.rglob("*") if path.is_file())
    assert found.stat().st_mode & 0o777 == 0o600
    assert root.stat().st_mode & 0o777 == 0o700
    store.delete("scans/7/a")
    assert [path.name for path in root.iterdir()] == [".partial"]


def test_file_urls_are_folders(tmp_path: Path) -> None:
    folder = tmp_path / "a store"
    open_store(folder.as_uri()).put("a", b"x", expires_at=2_000_000_000)
    assert read(open_store(str(folder)), "a") == b"x"


@pytest.mark.parametrize("url", ["relative/folder", "nonsense://x", "/dev/null/x", "file:x", "~no-such-user/x"])
def test_a_url_that_is_no_store_is_told(url: str) -> None:
    with pytest.raises(ConfigError, match=r"artifacts\.url"):
        open_store(url)


def test_a_store_whose_package_is_missing_says_which() -> None:
    with pytest.raises(ConfigError, match="s3fs"):
        open_store("s3://user:word@bucket/prefix")


@pytest.mark.parametrize("url", [None, "", " "])
def test_by_default_nothing_is_retained(url: str | None, tmp_path: Path) -> None:
    store = open_store(url)
    assert isinstance(store, NoStore)
    assert not store.retains
    assert store.put("scans/1/a", b"x", expires_at=2_000_000_000) is None
    for use in (lambda: store.open("scans/1/a"), lambda: store.get("scans/1/a", tmp_path / "into")):
        with pytest.raises(FetchGone, match="not retained"):
            use()
    store.delete("scans/1/a")
    assert store.names("scans/1") == frozenset()
    assert store.sweep() == 0
    with pytest.raises(ConfigError, match=r"set artifacts\.url"):
        store.writer("uploads/a", expires_at=2_000_000_000)


def test_a_store_that_fails_is_down(tmp_path: Path) -> None:
    """A file has taken the place of a folder."""
    store = open_store(str(tmp_path / "store"))
    (tmp_path / "store" / "scans").write_bytes(b"")
    with pytest.raises(StorageDown):
        store.put("scans/a", b"x", expires_at=2_000_000_000)
    assert list((tmp_path / "store" / ".partial").iterdir()) == []


def test_what_is_read_from_a_store_can_be_sought_in(store: ArtifactStore) -> None:
    store.put("a", DATA, expires_at=NOW + 10)
    with store.open("a") as file:
        assert file.seek(-5, 2) == len(DATA) - 5
        assert file.read() == DATA[-5:]
        file.seek(7)
        assert file.read(9) == DATA[7:16]
