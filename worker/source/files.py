"""What the command line names, as items: files, folders, globs, addresses and a list on standard input.

- A folder gives every regular file below it, hidden ones too, in the order of its names' bytes, whatever the extension.
- Links met inside a folder, or by a glob at its first wildcard or behind it, are not followed; one that is named outright is, and
  the report names the file that it leads to (decoders never open a link).
- Devices, FIFOs and sockets inside a folder are passed over. One that is named outright, like a path that is missing or a folder
  that cannot be listed, is an item with a ``refusal``: it gets a report, and the rest goes on.
- An argument that exists is never a glob, whatever characters it holds; nor is a line of the list.
- A file that several arguments reach is one item.
- A word with ``://`` in it that is no existing path is an address, where these are taken.
"""

from __future__ import annotations

import codecs
import functools
import hashlib
import os
import re
import select
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from worker.errors import ConfigError

_MAGIC = re.compile(r"[*?\[]")
_HOST_AND_PORT = r"(?:\[[^]/?#@[]*\]|[^]:/?#@[]*)(?::\d*)?(?:[/?#]|$)"
_USERINFO = re.compile(rf"^([^:/?#]+://)(?:[^/?#]*@(?={_HOST_AND_PORT})|(?!{_HOST_AND_PORT}).*@)", re.DOTALL)
_KINDS = (
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
)
LOOK_UP_S, READ_BYTES = 0.5, 1 << 16

Closed = frozenset[tuple[int, int]]
"""Folders that are not entered, by ``_identity``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One path to report on; absolute, links in it not resolved. ``refusal`` says why it cannot be opened at all.

    ``url``: it is an address; nothing lies at ``path``, which is another for every address and the same in every run.
    """

    path: Path
    refusal: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PathFilter:
    """fnmatch patterns on a file's name or on its path below the argument that led to it (of a glob: below the folder of
    its first wildcard); upper and lower case are the same.

    An excluded folder is not entered. With no ``include``, everything is included.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()

    def excludes(self, below: str) -> bool:
        return _matches(below, self.exclude)

    def takes(self, below: str) -> bool:
        return (not self.include or _matches(below, self.include)) and not self.excludes(below)


def find_items(
    arguments: Sequence[str],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    stdin: BinaryIO | None = None,
    skip: Sequence[Path] = (),
    urls: bool = False,
) -> Iterator[Item]:
    """All items in the order of the arguments, each once; addresses only where ``urls`` says so, and whatever is to be included.

    ``-`` stands for paths read from ``stdin``, one a line, or ended by NUL if there is one (``find -print0``). ``skip`` names
    folders that are not entered (where reports are written). Raises ConfigError for a relative path in a folder that is gone.
    """
    wanted = PathFilter(include=include, exclude=exclude)
    closed = frozenset(filter(None, (_identity(_absolute(str(folder))) for folder in skip)))
    seen: set[str] = set()
    resolved = functools.cache(os.path.realpath)  # of a folder: it looks at each one above, and no item is a link itself
    for text, may_glob in _texts(arguments, stdin):
        is_url = urls and "://" in text and not os.path.lexists(text)
        for item in [_address(text)] if is_url else _expand(text, wanted, closed, may_glob):
            folder, name = os.path.split(item.path)
            key = str(item.path) if item.refusal or item.url else os.path.join(resolved(folder), name)
            if key not in seen:
                seen.add(key)
                yield item


def read_all(file: BinaryIO) -> bytes:
    """To the end of a file that nobody has read from. Looks up now and then: a signal just before a read does not end that."""
    try:
        fd = file.fileno()
    except OSError:  # in memory
        return file.read()
    parts: list[bytes] = []
    while not parts or parts[-1]:
        while not select.select([fd], [], [], LOOK_UP_S)[0]:
            pass
        parts.append(os.read(fd, READ_BYTES))
    return b"".join(parts)


def read_list(data: bytes) -> list[str]:
    """Paths of a list: ended by NUL if it holds one, otherwise by line ends, behind a byte-order mark if an editor put one there.
    Bytes that are not UTF-8 become surrogates."""
    if b"\0" in data:
        parts = data.split(b"\0")
    else:
        parts = [line.removesuffix(b"\r") for line in data.removeprefix(codecs.BOM_UTF8).split(b"\n")]
    return [os.fsdecode(part) for part in parts if part]


def without_userinfo(url: str, instead: str = "") -> str:
    """An address without the name and password in it, also where these hold what ends them and it is no valid one."""
    return _USERINFO.sub(lambda found: found[1] + instead, url)


def told_address(url: str) -> str:
    """An address as people are told of it: without what may be secret, its name and password, query and fragment."""
    return re.split("[?#]", without_userinfo(url), maxsplit=1)[0]


def _texts(arguments: Sequence[str], stdin: BinaryIO | None) -> Iterator[tuple[str, bool]]:
    for argument in arguments:
        if argument == "-":
            yield from ((line, False) for line in read_list(read_all(stdin) if stdin else b""))
        else:
            yield argument, True


def _address(url: str) -> Item:
    """The item of an address; its name is the last part of the address's path, or the host."""
    digest = hashlib.sha256(os.fsencode(url)).hexdigest()[:16]
    below_host = told_address(url).partition("://")[2]
    name = below_host.rstrip("/").rpartition("/")[2].replace("\0", "")[:100]
    return Item(path=Path("/", digest, name if name.strip(".") else "address"), url=url)


def _expand(text: str, wanted: PathFilter, closed: Closed, may_glob: bool) -> Iterator[Item]:
    """The items of one argument."""
    if not text:
        yield Item(path=Path.cwd(), refusal="an empty path")
        return
    try:
        path = _absolute(text)
        mode = path.stat().st_mode
    except ValueError:
        yield Item(path=Path.cwd(), refusal="not a valid path")
        return
    except (FileNotFoundError, NotADirectoryError):
        if may_glob and _MAGIC.search(text) and not os.path.lexists(path):
            yield from _glob_items(text, wanted, closed)
        elif wanted.takes(_named(text)):
            yield Item(path=path, refusal="a link to nothing" if path.is_symlink() else "no such file or folder")
        return
    except OSError as exc:
        yield Item(path=path, refusal=f"cannot be opened: {exc.strerror}")
        return
    if stat.S_ISDIR(mode):
        yield from _walk(path, wanted, closed)
    elif wanted.takes(_named(text)):
        refusal = None if stat.S_ISREG(mode) else f"{_kind(mode)}, not a file"
        yield Item(path=path.resolve() if path.is_symlink() else path, refusal=refusal)


def _absolute(text: str) -> Path:
    """Absolute; ``..`` is resolved as the file system does, which takes ``link/..`` to the folder above the link's target.

    Raises ConfigError where there is no current folder.
    """
    try:
        path = Path(text).absolute()
    except FileNotFoundError as exc:
        raise ConfigError(f"{text}: the current folder is gone; name the whole path") from exc
    if ".." not in path.parts:
        return path
    return path.resolve() if path.name == ".." else path.parent.resolve() / path.name


def _named(text: str) -> str:
    """The path of a file that is named outright as patterns see it: no dots in front, which begin no name."""
    parts = os.path.normpath(text).split("/")
    return "/".join(part for part in parts if part != "..")


def _walk(root: Path, wanted: PathFilter, closed: Closed, below: str = "") -> Iterator[Item]:
    """Regular files below a folder, depth first; no recursion, so that no depth is too deep. ``below``: as of ``_glob``."""
    stack: list[tuple[Path, str, bool]] = [(root, f"{below}/" if below else "", True)]
    while stack:
        path, below, is_folder = stack.pop()
        if not is_folder:
            yield Item(path=path)
        elif not closed or _identity(path) not in closed:
            try:
                entries = _entries(path)
            except OSError as exc:
                yield Item(path=path, refusal=f"cannot be listed: {exc.strerror}")
                continue
            for name, folder in reversed(entries):
                name_below = f"{below}{name}"
                if folder and not wanted.excludes(name_below):
                    stack.append((path / name, f"{name_below}/", True))
                elif not folder and wanted.takes(name_below):
                    stack.append((path / name, name_below, False))


def _identity(folder: Path) -> tuple[int, int] | None:
    """What a folder is, by whatever path; None where it cannot be looked at. Resolving a path looks at each folder above."""
    try:
        state = os.stat(folder)
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """Names of a folder's regular files and folders, and which are folders; by their bytes. Raises OSError."""
    with os.scandir(folder) as found:
        kinds = [(entry.name, entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False)) for entry in found]
    return sorted(((name, is_dir) for name, is_dir, is_file in kinds if is_dir or is_file), key=lambda pair: os.fsencode(pair[0]))


def _glob_items(text: str, wanted: PathFilter, closed: Closed) -> Iterator[Item]:
    pattern = Path(text)
    found = False
    for path, below, is_folder in _glob(pattern, wanted, closed):
        found = True
        if is_folder and not (below and wanted.excludes(below)):
            yield from _walk(path, wanted, closed, below)
        elif not is_folder and wanted.takes(below):
            yield Item(path=path)
    if not found:
        is_passed_over = bool(closed) and next(_glob(pattern, wanted, frozenset()), None) is not None
        where = " but in the folder where reports are written (--out)" if is_passed_over else ""
        yield Item(path=pattern.absolute(), refusal=f"no file matches{where}")


def _glob(pattern: Path, wanted: PathFilter, closed: Closed) -> Iterator[tuple[Path, str, bool]]:
    """Files and folders that match, their paths below the folder of the first wildcard, and which are folders.

    ``**`` stands for any number of folders. Names that begin with a dot match like others; the current folder's is no pattern.
    An excluded folder is given in the place of what may match in it. No recursion, so that no depth is too deep.
    """
    root, parts = (Path(pattern.anchor), pattern.parts[1:]) if pattern.is_absolute() else (Path.cwd(), pattern.parts)
    while not _MAGIC.search(parts[0]):
        root, parts = _inner(root, parts[0]), parts[1:]
    stack = [(root, "", parts, True)]
    while stack:
        path, below, rest, is_folder = stack.pop()
        if rest and not (below and wanted.excludes(below)):
            stack.extend(reversed(_glob_part(path, below, rest, closed)))
        else:
            yield path, below, is_folder


def _glob_part(folder: Path, below: str, parts: tuple[str, ...], closed: Closed) -> list[tuple[Path, str, tuple[str, ...], bool]]:
    """What the first part leads to in a folder, in order: as of ``_glob``, and the parts to be matched below it.

    As in a shell, nothing matches where a folder cannot be listed or a name not looked up.
    """
    head, rest = parts[0], parts[1:]
    if not _MAGIC.search(head):
        path = _inner(folder, head)
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            return []
        is_folder = stat.S_ISDIR(mode)
        inner = os.path.dirname(below) if head == ".." else os.path.join(below, head)
        return [(path, inner, rest, is_folder)] if is_folder or (stat.S_ISREG(mode) and not rest) else []
    if closed and _identity(folder) in closed:
        return []
    any_depth = head == "**" and bool(rest)
    found = [(folder, below, rest, True)] if any_depth else []
    try:
        entries = _entries(folder)
    except OSError:
        return found
    for name, is_folder in entries:
        inner = os.path.join(below, name)
        if any_depth and is_folder:
            found.append((folder / name, inner, parts, True))
        elif fnmatchcase(name, head) and (is_folder or not rest):
            found.append((folder / name, inner, rest, is_folder))
    return found


def _inner(folder: Path, name: str) -> Path:
    return Path(os.path.realpath(folder)).parent if name == ".." else folder / name


def _matches(below: str, patterns: Sequence[str]) -> bool:
    path = below.casefold()
    name = path.rsplit("/", 1)[-1]
    return any(fnmatchcase(name, pattern.casefold()) or fnmatchcase(path, pattern.casefold()) for pattern in patterns)


def _kind(mode: int) -> str:
    return next((name for test, name in _KINDS if test(mode)), "something else")
