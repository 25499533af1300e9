"""Sentinels, a master and a replica, all real: the master is found, and found again after it died."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.worker.queue.harness import later
from worker.errors import RedisDown
from worker.queue.connection import connect, translated
from worker.queue.embedded import EmbeddedRedis, free_port, server_binary

SECRET = "hunter2-Zx9"


class TestSentinel:
    def test_the_master_is_found_and_a_failover_is_ridden_out(self, tmp_path: Path) -> None:
        replication = {"repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}
        with (
            EmbeddedRedis(tmp_path / "a", options=replication) as first,
            EmbeddedRedis(tmp_path / "b", options=replication | {"replicaof": f"127.0.0.1 {first.port}"}) as second,
            sentinel(tmp_path / "s", first.port, second.port) as port,
            connect(url=f"sentinel://127.0.0.1:1,127.0.0.1:{port}/main/0", timeout_s=5, patience_s=120) as redis,
        ):
            assert redis.set("a", 1)
            assert redis.info("server")["tcp_port"] == first.port
            assert redis.wait(1, 60_000) == 1
            with later(0.3, first.kill):  # while the command waits for its answer
                assert redis.blpop(["nothing"], timeout=1) is None
            assert redis.incr("a") == 2
            assert redis.info("server")["tcp_port"] == second.port

    def test_sentinels_are_logged_in_to_only_if_asked(self, tmp_path: Path) -> None:
        with (
            EmbeddedRedis(tmp_path / "a", password=SECRET) as master,
            sentinel(tmp_path / "s", master.port, password=SECRET) as port,
        ):
            url = f"sentinel://127.0.0.1:{port}/main/0"
            with connect(url=f"{url}?sentinel_auth=yes", password=SECRET, timeout_s=5, patience_s=60) as redis:
                assert redis.info("server")["tcp_port"] == master.port
                assert SECRET not in f"{redis!r} {redis.connection_pool!r}"
            with connect(url=url, password=SECRET, timeout_s=5, patience_s=0) as redis:
                with pytest.raises(RedisDown, match="AuthenticationError") as refusal, translated():
                    redis.ping()
                assert SECRET not in f"{refusal.value}"

    @pytest.mark.parametrize("service", ["main", "other"])
    def test_no_sentinel_or_an_unknown_service_is_down(self, tmp_path: Path, redis_server: EmbeddedRedis, service: str) -> None:
        with sentinel(tmp_path / "s", redis_server.port) as port:
            url = f"sentinel://127.0.0.1:{port if service == 'other' else 1}/{service}/0"
            with (
                connect(url=url, timeout_s=1, patience_s=0.2) as redis,
                pytest.raises(RedisDown, match=f"No master found for '{service}'") as refusal,
                translated(),
            ):
                redis.ping()
            assert "<redis" not in f"{refusal.value}"
            assert ("127.0.0.1:1 - " in f"{refusal.value}") == (service == "main")


@contextmanager
def sentinel(folder: Path, master: int, replica: int | None = None, password: str | None = None) -> Iterator[int]:
    """The port of a sentinel which watches over ``main`` at ``master`` and has found its ``replica``."""
    folder.mkdir()
    port = free_port()
    lines = [
        f"port {port}",
        "bind 127.0.0.1",
        f"dir {folder}",
        f"sentinel monitor main 127.0.0.1 {master} 1",
        "sentinel down-after-milliseconds main 1500",
        "sentinel failover-timeout main 2000",
    ]
    if password is not None:
        lines += [f"requirepass {password}", f"sentinel auth-pass main {password}"]
    (folder / "sentinel.conf").write_text("\n".join(lines) + "\n")
    command = [server_binary(), folder / "sentinel.conf", "--sentinel"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL) as process:
        try:
            with connect(url=f"redis://127.0.0.1:{port}", password=password, timeout_s=5, patience_s=60) as redis:
                redis.ping()
                deadline_s = time.monotonic() + 60
                while replica is not None and replica not in [each["port"] for each in redis.sentinel_slaves("main")]:
                    assert time.monotonic() < deadline_s, "the sentinel does not find the replica"
                    time.sleep(0.05)
            yield port
        finally:
            process.kill()
