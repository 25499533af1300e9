"""The folder of what was brought up (``.run``): settings, key, pids, logs, data of the service. It is ours, and goes whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from worker.errors import ConfigError, StorageFull
from worker.up.identity import Identity, is_running, wait_until


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """``path`` is absolute. ``NAME.pid`` holds a part's number and when it began, ``NAME.log`` what it says."""

    path: Path
    least_free_bytes: int = 256 << 20
    lock_s: float = 5.0
    """How long another command at work here is waited for."""

    @property
    def settings(self) -> Path:
        """Of all parts, and for commands (``veriframe jobs --config``). The password of Redis is in it: for its owner's eyes."""
        return self.path / "worker.yaml"

    @property
    def key(self) -> Path:
        return self.path / "key"

    @property
    def redis(self) -> Path:
        return self.path / "redis"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    @property
    def temp(self) -> Path:
        return self.path / "tmp"

    def log(self, name: str) -> Path:
        return self.path / f"{name}.log"

    def make(self) -> None:
        """Raises ConfigError, StorageFull."""
        with writing(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.stat().st_uid != os.geteuid():
                raise ConfigError(f"{self.path} is another user's: give a folder of your own by --dir")
            self.refuse_others()
            self.path.chmod(0o700)
            free = shutil.disk_usage(self.path).free
        if free < self.least_free_bytes:
            raise StorageFull(f"no room at {self.path}: {free >> 20} MiB are free, {self.least_free_bytes >> 20} are needed")
        with writing(self.path):
            for folder in (self.redis, self.artifacts, self.temp):
                folder.mkdir(mode=0o700, exist_ok=True)

    def refuse_others(self) -> None:
        """What is ours has the mark, or no more than ``make`` makes before there is one. Raises ConfigError for a folder that
        holds anything else: to write into it, or to clear it, would cost somebody his files."""
        if self.known_mark() is not None:
            return
        fresh = (self.redis, self.artifacts, self.temp)
        for path in self.path.iterdir():
            if path not in fresh or not path.is_dir() or any(path.iterdir()):
                raise ConfigError(f"{self.path} was not made by `veriframe up`, and holds {path.name!r}: give another by --dir")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One command at a time; the lock ends with its process. Raises ConfigError while another is at work here."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            raise ConfigError(f"{self.path} cannot be opened: {exc.strerror}") from exc
        try:
            if not wait_until(lambda: _locks(handle), self.lock_s) or not _is_at(self.path, handle):
                raise ConfigError(f"another `veriframe up` or `down` is at work in {self.path}: wait for it, or stop it")
            yield
        finally:
            os.close(handle)

    def mark(self) -> str:
        """The word that all processes of this folder bear; made at the first call."""
        word = self.known_mark()
        if word is None:
            word = secrets.token_hex(16)
            self.write(self.path / "mark", word)
        return word

    def known_mark(self) -> str | None:
        """None: nothing was started yet."""
        try:
            word = (self.path / "mark").read_text("ascii").strip()
        except (OSError, ValueError):
            return None
        return word if re.fullmatch(r"[0-9a-f]{32}", word) else None

    def write(self, path: Path, text: str) -> None:
        """Whole or not at all, and for its owner's eyes. Raises StorageFull, ConfigError."""
        with writing(path):
            scratch = path.with_name(f".{path.name}.new")
            handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            scratch.replace(path)

    def record(self, name: str, process: Identity) -> None:
        self.write(self._pid(name), f"{process.pid}\n{process.started}\n")

    def recorded(self, name: str) -> Identity | None:
        """None: it was not started, or its file says nothing that makes sense."""
        try:
            pid, started = self._pid(name).read_text("utf-8").splitlines()
            return Identity(pid=int(pid), started=started) if int(pid) > 0 else None
        except (OSError, ValueError):
            return None

    def names(self) -> list[str]:
        """Of the parts that have a file with a pid."""
        return sorted(path.stem for path in self.path.glob("*.pid"))

    def running(self, name: str) -> Identity | None:
        """The part's process while it is the one that was started."""
        process = self.recorded(name)
        return process if process is not None and is_running(process) else None

    def last_words(self, name: str) -> str:
        """The last error in a part's log, or its last line: after an error come lines on what follows from it."""
        try:
            text = self.log(name).read_bytes()[-4096:].decode(errors="replace")
        except OSError:
            return ""
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        errors = [line for line in lines if "[error " in line]
        return (errors or lines or [""])[-1]

    def clear(self) -> list[str]:
        """Remove what is ours, and the folder; returns the names of what is not ours and keeps it there."""
        ours = [self.settings, self.key, self.redis, self.artifacts, self.temp, self.path / "mark"]
        ours += [*self.path.glob("*.pid"), *self.path.glob("*.log"), *self.path.glob(".*.new")]
        for path in ours:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        left = sorted(path.name for path in self.path.iterdir())
        if not left:
            self.path.rmdir()
        return left

    def _pid(self, name: str) -> Path:
        return self.path / f"{name}.pid"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """A disk without room, and a place where nothing can be written, in words."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no room at {path}: {exc.strerror}") from exc
        raise ConfigError(f"{path} cannot be written: {exc.strerror}; give another folder by --dir") from exc


def _is_at(path: Path, handle: int) -> bool:
    """False: whoever had the lock has removed this folder."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except OSError:
        return False


def _locks(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
