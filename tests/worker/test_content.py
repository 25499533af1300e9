from __future__ import annotations

import hashlib
import os
import shutil
from io import FileIO
from pathlib import Path

import pytest

from tests.worker.exhaustion import short_files
from worker.content import Content, Intake, disk_bytes, read_content, taking_in, write_atomically
from worker.errors import MediaTooLarge, SourceError, StorageFull, UnsupportedMedia


def test_the_hash_is_that_of_all_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    data = bytes(range(256)) * 3000
    path.write_bytes(data)
    expected = Content(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    assert read_content(path, len(data)) == expected
    path.write_bytes(b"")
    assert read_content(path, 1).size_bytes == 0


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    """A terabyte of holes: hashing it would take longer than any test may."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(MediaTooLarge, match="1099511627776 bytes, limit 1000"):
        read_content(path, 1000)


def test_a_file_that_grows_while_it_is_read_ends_at_the_limit() -> None:
    """/proc says that its files hold no bytes."""
    with pytest.raises(MediaTooLarge):
        read_content(Path("/proc/self/maps"), 100)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(UnsupportedMedia):
            read_content(path, 1000)
    for path, why in ((tmp_path, "Is a directory"), (tmp_path / "none", "No such file")):
        with pytest.raises(SourceError, match=why):
            read_content(path, 1000)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_the_umask_says_who_may_read_what_is_written(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "a", b"a")
        write_atomically(tmp_path / "a", b"b")
    finally:
        os.umask(before)
    assert (tmp_path / "a").read_bytes() == b"b"
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_what_comes_in_is_hashed_and_this_users_only(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with taking_in(path, 6) as intake:
        for chunk in (b"ab", b"", b"cdef"):
            intake.write(chunk)
    assert intake.content() == Content(sha256=hashlib.sha256(b"abcdef").hexdigest(), size_bytes=6)
    assert path.read_bytes() == b"abcdef"
    assert path.stat().st_mode & 0o777 == 0o600


def test_after_an_error_there_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(MediaTooLarge, match="more than 5 bytes"), taking_in(path, 5) as intake:
        intake.write(b"abcdef")
    assert not path.exists()


def test_what_is_larger_than_the_whole_disk_is_too_large_and_not_a_matter_of_time(tmp_path: Path) -> None:
    whole = disk_bytes(tmp_path)
    assert whole is not None
    assert shutil.disk_usage(tmp_path).used + shutil.disk_usage(tmp_path).free >= whole > shutil.disk_usage(tmp_path).free // 2
    with pytest.raises(MediaTooLarge, match="the disk could hold: 5 bytes"), taking_in(tmp_path / "a", 6, 5) as intake:
        intake.write(b"abcdef")


@pytest.mark.parametrize(
    ("blocks", "free", "available", "whole"),
    [(1000, 300, 250, 940), (1000, 40, 0, 990), (1000, 900, 0, 990), (0, 0, 0, None)],
    ids=["root's part is not ours", "full", "btrfs, short of room for its metadata", "it does not say"],
)
def test_what_a_disk_could_hold(
    monkeypatch: pytest.MonkeyPatch, blocks: int, free: int, available: int, whole: int | None
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((1, 1, blocks, free, available, 0, 0, 0, 0, 255)))
    assert disk_bytes(Path()) == whole


def test_what_is_there_is_neither_followed_nor_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "file").write_bytes(b"mine")
    for name in ("link", "file"):
        with pytest.raises(FileExistsError), taking_in(tmp_path / name):
            raise AssertionError("not reached")
    assert not (tmp_path / "target").exists()
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_told() -> None:
    with FileIO("/dev/full", "wb") as file, pytest.raises(StorageFull, match="No space left"):
        Intake(file).write(b"x")


@pytest.mark.parametrize(("room", "error"), [(91, MediaTooLarge), (89, StorageFull)], ids=["next to all of it", "less"])
def test_a_file_that_has_filled_the_disk_by_itself_is_too_large(tmp_path: Path, room: int, error: type[Exception]) -> None:
    with short_files(room), taking_in(tmp_path / "a", disk_bytes=100) as intake, pytest.raises(error):
        intake.write(b"x" * 100)
