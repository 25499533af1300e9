from __future__ import annotations

import errno
import functools
import io
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from worker.errors import ConfigError
from worker.source import files
from worker.source.files import find_items, read_list


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the awkward things a folder may hold; also the current one."""
    root = tmp_path / "media"
    for name in ("b.mp4", "a.txt", ".hidden", "sub/C.MOV", "sub/deep/d.mp4", "old/e.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret.mp4").write_text("x")
    (root / "link.mp4").symlink_to(elsewhere / "secret.mp4")
    (root / "linked").symlink_to(elsewhere)
    (root / "sub" / "loop").symlink_to(root)
    (root / "dangling").symlink_to(root / "nowhere")
    os.mkfifo(root / "fifo")
    monkeypatch.chdir(root)
    return root


def names(root: Path, arguments: Sequence[str], *, stdin: bytes = b"", **options: Sequence[str]) -> list[str]:
    items = list(find_items(arguments, stdin=io.BytesIO(stdin), **options))  # type: ignore[arg-type]
    assert all(item.path.is_absolute() for item in items)
    return [f"{os.path.relpath(item.path, root)}{' !' if item.refusal else ''}" for item in items]


ALL = [".hidden", "a.txt", "b.mp4", "old/e.mp4", "sub/C.MOV", "sub/deep/d.mp4"]


def test_a_folder_gives_every_regular_file_in_order_and_follows_no_link(tree: Path) -> None:
    assert names(tree, ["."]) == ALL
    assert names(tree, [str(tree)]) == ALL


def test_a_link_named_outright_is_followed_and_the_real_file_is_named(tree: Path) -> None:
    assert names(tree, ["link.mp4"]) == ["../elsewhere/secret.mp4"]
    assert names(tree, ["linked"]) == ["linked/secret.mp4"]
    assert names(tree, ["link.mp4", "linked"]) == ["../elsewhere/secret.mp4"]


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        (["."], {"include": ["*.mp4"]}, ["b.mp4", "old/e.mp4", "sub/deep/d.mp4"]),
        (["."], {"include": ["*.MP4", "*.mov"]}, ["b.mp4", "old/e.mp4", "sub/C.MOV", "sub/deep/d.mp4"]),
        (["."], {"include": ["sub/*"]}, ["sub/C.MOV", "sub/deep/d.mp4"]),
        (["."], {"exclude": ["sub"]}, [".hidden", "a.txt", "b.mp4", "old/e.mp4"]),
        (["."], {"exclude": ["sub/deep", ".*", "*.txt"]}, ["b.mp4", "old/e.mp4", "sub/C.MOV"]),
        (["."], {"include": ["*.mp4"], "exclude": ["old/*"]}, ["b.mp4", "sub/deep/d.mp4"]),
        (["a.txt", "b.mp4"], {"exclude": ["*.txt"]}, ["b.mp4"]),
        (["./a.txt", "../media/b.mp4", "./.hidden"], {"exclude": [".*"]}, ["a.txt", "b.mp4"]),
        (["./sub/C.MOV", "./b.mp4"], {"include": ["sub/*"]}, ["sub/C.MOV"]),
        (["./missing"], {"exclude": [".*"]}, ["missing !"]),
        (["**/*.mp4"], {"exclude": ["old"]}, ["b.mp4", "sub/deep/d.mp4"]),
        (["*/*.mp4"], {"exclude": ["old"]}, []),
        (["*/../old/*.mp4"], {"exclude": ["old"]}, []),
        (["*"], {"exclude": ["old", ".*"]}, ["a.txt", "b.mp4", "sub/C.MOV", "sub/deep/d.mp4"]),
        (["s*/*"], {"exclude": ["sub/deep"]}, ["sub/C.MOV"]),
        (["*/*"], {"include": ["old/*", "sub/deep/*"]}, ["old/e.mp4", "sub/deep/d.mp4"]),
        (["sub/**/*.mp4", "old/*"], {"exclude": ["old", "d.*"]}, ["old/e.mp4"]),
        (["."], {"include": ["*.webm"]}, []),
    ],
)
def test_include_and_exclude(tree: Path, arguments: list[str], options: dict[str, list[str]], expected: list[str]) -> None:
    assert names(tree, arguments, **options) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.mp4", ["b.mp4"]),
        ("**/*.mp4", ["b.mp4", "old/e.mp4", "sub/deep/d.mp4"]),
        ("sub/**/*", ["sub/C.MOV", "sub/deep/d.mp4"]),
        ("sub/**", ["sub/C.MOV", "sub/deep/d.mp4"]),
        ("*/e.mp4", ["old/e.mp4"]),
        ("s[tu]b/?.MOV", ["sub/C.MOV"]),
        ("../media/o*", ["old/e.mp4"]),
        ("*/*.webm", ["*/*.webm !"]),
        ("link*", ["link* !"]),
        ("*/../*/e.mp4", ["old/e.mp4"]),
        ("linked/s*", ["linked/secret.mp4"]),
        ("s*/loop/b.mp4", ["s*/loop/b.mp4 !"]),
        ("../*/link.mp4", ["../*/link.mp4 !"]),
        ("../*/fifo", ["../*/fifo !"]),
        (f"*/{'n' * 300}", [f"*/{'n' * 300} !"]),
        (f"*/{'n' * 300}/*.mp4", [f"*/{'n' * 300}/*.mp4 !"]),
    ],
)
def test_globs(tree: Path, pattern: str, expected: list[str]) -> None:
    assert names(tree, [pattern]) == expected


def test_a_folder_that_keeps_others_out_holds_no_match_and_the_rest_goes_on(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Running as root, permissions hide nothing: the system is asked in the name of nobody."""
    look = os.stat

    def as_nobody(path: Any, **options: Any) -> os.stat_result:
        if "old" in Path(path).parts[:-1]:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return look(path, **options)

    monkeypatch.setattr(os, "stat", as_nobody)
    monkeypatch.setattr(os, "lstat", functools.partial(as_nobody, follow_symlinks=False))
    (tree / "sub" / "e.mp4").write_text("x")
    assert names(tree, ["*/e.mp4"]) == ["sub/e.mp4"]


def test_the_current_folder_is_no_pattern(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tree / "sub" / "[new] *"
    here.mkdir()
    (here / "f.mp4").write_text("x")
    monkeypatch.chdir(here)
    assert names(here, ["*.mp4", "../*.MOV"]) == ["f.mp4", "../C.MOV"]


@pytest.fixture
def deep(tree: Path) -> Iterator[int]:
    """More folders in each other than Python calls functions, a file in the innermost; deleted here, as pytest would recurse."""
    depth = sys.getrecursionlimit() + 100
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("f", dir_fd=fd)
        fd = _moved(fd, "f")
    os.close(os.open("deep.mp4", os.O_CREAT, dir_fd=fd))
    yield depth
    os.unlink("deep.mp4", dir_fd=fd)
    for _ in range(depth):
        fd = _moved(fd, "..")
        os.rmdir("f", dir_fd=fd)
    os.close(fd)


def _moved(fd: int, name: str) -> int:
    """The folder of that name, in place of this one."""
    other = os.open(name, os.O_RDONLY, dir_fd=fd)
    os.close(fd)
    return other


def test_no_depth_is_too_deep_for_a_glob(tree: Path, deep: int) -> None:
    assert names(tree, ["f/**/deep.mp4"]) == ["f/" * deep + "deep.mp4"]


def test_an_argument_that_exists_is_not_a_glob(tree: Path) -> None:
    (tree / "[b].mp4").write_text("x")
    assert names(tree, ["[b].mp4"]) == ["[b].mp4"]


def test_a_list_on_standard_input(tree: Path) -> None:
    assert names(tree, ["-"], stdin=b"b.mp4\r\n\nsub\nmissing\n*.mp4") == [
        "b.mp4",
        "sub/C.MOV",
        "sub/deep/d.mp4",
        "missing !",
        "*.mp4 !",
    ]
    (tree / "two\nlines").write_text("x")
    assert names(tree, ["a.txt", "-"], stdin=b"two\nlines\0b.mp4\0") == ["a.txt", "two\nlines", "b.mp4"]


def test_a_list_keeps_bytes_that_are_not_utf8() -> None:
    assert [os.fsencode(name) for name in read_list(b"caf\xe9\n\xff")] == [b"caf\xe9", b"\xff"]


def test_the_byte_order_mark_of_a_list_belongs_to_no_name() -> None:
    assert read_list(b"\xef\xbb\xbfa.mp4\r\nb.mp4\r\n") == ["a.mp4", "b.mp4"]
    assert read_list(b"\xef\xbb\xbfa.mp4\0") == ["\ufeffa.mp4"], "find -print0 writes names as they are"


def test_each_file_once_whatever_the_ways_to_it(tree: Path) -> None:
    assert names(tree, ["b.mp4", ".", "./sub/../b.mp4", str(tree / "b.mp4"), "*.mp4"]) == [
        "b.mp4",
        *(name for name in ALL if name != "b.mp4"),
    ]


def test_the_folders_above_are_looked_at_once_for_all_files_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(200):
        (tmp_path / str(number)).touch()
    lstat, looked_at = os.lstat, list[str]()
    monkeypatch.setattr(os, "lstat", lambda path, **options: looked_at.append(str(path)) or lstat(path, **options))
    assert len(list(find_items([str(tmp_path)]))) == 200
    assert len(looked_at) == len(set(looked_at)) < 200


def test_what_cannot_be_opened_is_an_item_with_a_refusal(tree: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s")
        items = list(find_items(["missing.mp4", "fifo", "/dev/null", "s", "dangling", "b.mp4/x", "", "n" * 300, "b.mp4"]))
    told = [(item.path.name, item.refusal) for item in items]
    assert told[:5] == [
        ("missing.mp4", "no such file or folder"),
        ("fifo", "a FIFO, not a file"),
        ("null", "a character device, not a file"),
        ("s", "a socket, not a file"),
        ("dangling", "a link to nothing"),
    ]
    assert told[5] == ("x", "no such file or folder")
    assert told[6][1] == "an empty path"
    assert told[7][1] is not None
    assert told[7][1].startswith("cannot be opened")
    assert told[8] == ("b.mp4", None)


def test_a_folder_that_cannot_be_listed_is_told_and_the_rest_goes_on(tree: Path) -> None:
    # Running as root, permissions hide nothing: a path longer than the system takes has the same effect.
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("n" * 250, dir_fd=fd)
        inner = os.open("n" * 250, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    items = list(find_items([".", "b.mp4"]))
    refused = [item for item in items if item.refusal]
    assert len(refused) == 1
    assert refused[0].refusal is not None
    assert refused[0].refusal.startswith("cannot be listed")
    assert {item.path.name for item in items} >= {"a.txt", "b.mp4", "d.mp4"}


def test_folders_to_skip_are_not_entered(tree: Path) -> None:
    skip = [tree / "sub"]
    for arguments in (["."], ["**/*"], ["sub", "."]):
        found = [item.path.name for item in find_items(arguments, skip=skip)]
        assert "d.mp4" not in found
        assert "b.mp4" in found


def test_each_folder_costs_one_look_however_deep_it_lies(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tree.joinpath(*["d"] * 20)
    deep.mkdir(parents=True)
    looked_at: list[object] = []
    lstat = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path, **options: looked_at.append(path) or lstat(path, **options))
    assert names(tree, ["d"], skip=[tree / "sub"]) == []
    assert len(looked_at) < 20


def test_a_glob_that_matches_only_what_is_skipped_says_so(tree: Path) -> None:
    inside, nowhere = ([item.refusal for item in find_items([text], skip=[tree / "sub"])] for text in ("sub/*", "*.nothing"))
    assert inside == ["no file matches but in the folder where reports are written (--out)"]
    assert nowhere == ["no file matches"]


def test_names_of_any_bytes_are_found(tree: Path) -> None:
    odd = [b"new\nline.mp4", b"caf\xe9.mp4", b"\x1b[31mred.mp4", b"-rf", "\u202egpj.mp4".encode()]
    for name in odd:
        Path(os.fsdecode(os.path.join(os.fsencode(tree), name))).write_bytes(b"x")
    found = {os.fsencode(item.path.name) for item in find_items(["."])}
    assert found >= set(odd)


def test_dots_above_a_link_mean_what_the_file_system_means(tree: Path) -> None:
    assert names(tree, ["linked/../media/b.mp4"]) == ["b.mp4"]


def test_addresses_are_items_only_where_they_are_wanted(tree: Path) -> None:
    urls = ["https://media.example/clip.mp4?token=1", "HTTP://media.example", "ftp://media.example/..", "http://a/\0?#"]
    items = list(find_items([*urls, "b.mp4", urls[0]], include=["*.mp4"], urls=True))
    assert [item.url for item in items] == [*urls, None]
    assert [item.path.name for item in items] == ["clip.mp4", "media.example", "address", "address", "b.mp4"]
    assert len({item.path.parent for item in items}) == 5
    assert "token" not in str(items[0].path)
    assert [item.path for item in find_items(urls, urls=True)] == [item.path for item in items[:4]]  # in every run
    assert names(tree, [urls[0]]) == ["https:/media.example/clip.mp4?token=1 !"]


@pytest.mark.parametrize("userinfo", ["me:secret@", "me:se/cret@", "me:se?cret@"])
def test_no_password_of_an_address_is_in_its_name(userinfo: str) -> None:
    (host, file) = find_items([f"https://{userinfo}127.0.0.1:1", f"https://{userinfo}127.0.0.1:1/clip.mp4"], urls=True)
    assert (host.path.name, file.path.name) == ("127.0.0.1:1", "clip.mp4")


def test_the_password_of_an_address_is_found_in_one_pass() -> None:
    (item,) = find_items(["https://" + "u:p@[" * 200_000], urls=True)  # of a megabyte: one for each "[" would take half an hour
    assert item.path.name == "["


def test_a_file_is_no_address_whatever_its_name(tree: Path) -> None:
    (tree / "http:").mkdir()
    (tree / "http:" / "clip.mp4").write_text("x")
    (item,) = find_items(["http://clip.mp4"], urls=True)
    assert (item.url, item.path) == (None, tree / "http:" / "clip.mp4")


@pytest.mark.parametrize("argument", ["b.mp4", "*.mp4", "."])
def test_relative_paths_mean_nothing_where_the_current_folder_is_gone(
    tree: Path, monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    gone = tree / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match="the current folder is gone"):
        names(tree, [argument])
    with pytest.raises(ConfigError, match="out: the current folder is gone"):
        names(tree, [str(tree / "b.mp4")], skip=[Path("out")])
    assert names(tree, [str(tree / "b.mp4")]) == ["b.mp4"]


def test_a_list_that_comes_piece_by_piece_is_read_to_its_end_and_no_wait_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that comes just before a wait begins is heeded after it."""
    source, sink = os.pipe()
    coming = [b"a.mp4\nb", None, b".mp4\n"]
    waits: list[float] = []

    def look(reading: list[int], writing: list[int], failing: list[int], wait_s: float) -> tuple[list[int], ...]:
        waits.append(wait_s)
        piece = coming.pop(0) if coming else b""
        if piece is None:  # nothing came meanwhile
            return [], [], []
        os.write(sink, piece) if piece else os.close(sink)
        return reading, [], []

    monkeypatch.setattr(files.select, "select", look)
    with open(source, "rb") as file:
        assert files.read_all(file) == b"a.mp4\nb.mp4\n"
    assert len(waits) == 4
    assert max(waits) <= 1
