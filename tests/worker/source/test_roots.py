from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from worker.errors import FetchGone, FetchRefused, FetchTimeout
from worker.source.roots import resolve_below


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    (root / "folder").mkdir(parents=True)
    (root / "clip.mp4").write_bytes(b"clip")
    (root / "folder" / "clip.mp4").write_bytes(b"clip")
    (tmp_path / "media-private").mkdir()
    (tmp_path / "media-private" / "clip.mp4").write_bytes(b"private")
    (tmp_path / "secret").write_bytes(b"secret")
    return root


def test_files_below_a_root_pass(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in (root / "clip.mp4", root / "folder" / "clip.mp4"):
        assert resolve_below(str(path), [other, root]) == path
    assert resolve_below(f"{root}/folder/../clip.mp4", [root]) == root / "clip.mp4"


def test_without_roots_nothing_passes(root: Path) -> None:
    with pytest.raises(FetchRefused, match="no media root"):
        resolve_below(str(root / "clip.mp4"), [])


@pytest.mark.parametrize(
    "path",
    [
        *(
            "",
            "clip.mp4",
            "media/clip.mp4",
            "{root}/../secret",
            "{root}/folder/../../secret",
            "/etc/passwd",
            "/proc/self/environ",
        ),
        *(
            "{root}-private/clip.mp4",
            "{root}/../absent",
            "/absent",
            "{root}",
            "{root}/folder",
            "{root}/clip.mp4\0.png",
            "~/clip.mp4",
        ),
        *("file://{root}/clip.mp4", "{root}/..", "/", "/dev/zero"),
    ],
)
def test_paths_that_are_refused(path: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    with pytest.raises(FetchRefused):
        resolve_below(path.format(root=root), [root])


@pytest.mark.parametrize("path", ["absent", "folder/absent", "clip.mp4/absent", "a" * 255])
def test_what_is_not_there_below_a_root_is_gone(path: str, root: Path) -> None:
    with pytest.raises(FetchGone):
        resolve_below(f"{root}/{path}", [root])


def test_a_name_that_no_disk_holds_is_no_crash(root: Path) -> None:
    for name in ("a" * 5000, "\udcff", "\ud800"):
        with pytest.raises((FetchGone, FetchRefused)):
            resolve_below(f"{root}/{name}", [root])


def test_links_are_followed_no_further_than_the_root(root: Path, tmp_path: Path) -> None:
    (root / "inside").symlink_to("folder/clip.mp4")
    assert resolve_below(str(root / "inside"), [root]) == root / "folder" / "clip.mp4"
    (root / "outside").symlink_to(tmp_path / "secret")
    (root / "above").symlink_to(tmp_path)
    (root / "nowhere").symlink_to(tmp_path / "absent")
    (root / "round").symlink_to(root / "round")
    for path in ("outside", "above/secret", "nowhere", "above/media-private/clip.mp4"):
        with pytest.raises(FetchRefused):
            resolve_below(str(root / path), [root])
    with pytest.raises((FetchRefused, FetchGone)):
        resolve_below(str(root / "round"), [root])


def test_a_root_may_be_a_link_itself(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert resolve_below(str(tmp_path / "link" / "clip.mp4"), [tmp_path / "link"]) == root / "clip.mp4"
    assert resolve_below(str(root / "clip.mp4"), [tmp_path / "link"]) == root / "clip.mp4"


def test_a_fifo_is_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "fifo")
    with pytest.raises(FetchRefused, match="regular"):
        resolve_below(str(root / "fifo"), [root])


def test_a_link_that_becomes_a_folder_while_it_is_read_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "link").symlink_to(root)

    def too_late(*_: object, **__: object) -> str:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "readlink", too_late)
    with pytest.raises(FetchRefused, match="moved"):
        resolve_below(str(root / "link" / "clip.mp4"), [root])
    with pytest.raises(FetchRefused, match="moved"):
        resolve_below(str(root / "clip.mp4"), [root / "link"])


@pytest.mark.parametrize("call", ["open", "readlink"])
def test_a_disk_that_fails_is_told_from_a_file_that_is_gone(root: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    (root / "link").symlink_to(root / "folder")

    def broken(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, broken)
    with pytest.raises(FetchTimeout, match="Input/output error"):
        resolve_below(str(root / "link" / "clip.mp4"), [root])


def test_a_link_that_comes_and_goes_never_opens_what_is_outside(root: Path, tmp_path: Path) -> None:
    """Whatever the moment, the answer is a file below the root or a refusal."""
    stop = threading.Event()

    def swap() -> None:
        link, plain = root / "link", root / "plain"
        link.symlink_to(tmp_path / "media-private")
        plain.mkdir()
        (plain / "clip.mp4").write_bytes(b"clip")
        while not stop.is_set():
            for folder in (plain, link):
                folder.rename(root / "now")
                (root / "now").rename(folder)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(3000):
            try:
                assert resolve_below(str(root / "now" / "clip.mp4"), [root]) == root / "now" / "clip.mp4"
            except (FetchRefused, FetchGone):
                continue
    finally:
        stop.set()
        thread.join()
