"""``veriframe up`` and ``down`` as a user types them, on the real parts; parts are killed in between. (The demo's scans are among
what ``tests/browser`` brings up.)"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from worker.up.folder import RunFolder
from worker.up.identity import Identity, is_running, marked, send
from worker.up.take_down import take_down

LIMIT_S = 240


def veriframe(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker.cli", *arguments, "--dir", str(folder)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def printed(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines())


def parts_of(folder: RunFolder) -> dict[str, Identity]:
    return {name: process for name in folder.names() if (process := folder.running(name)) is not None}


@pytest.mark.timeout(2 * LIMIT_S)
def test_what_died_is_started_again_and_in_the_end_nothing_is_left(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path / "run")
    up = ("up", "--no-demo", "--port", "0", "--workers", "1")
    try:
        first = printed(veriframe(*up, folder=folder.path))
        word, before = folder.known_mark(), parts_of(folder)
        assert set(before) == {"redis", "api", "worker-1"}
        assert word is not None
        send(before["redis"], signal.SIGKILL)
        again = veriframe(*up, folder=folder.path)
        assert "it is up: redis started" in again.stderr
        assert printed(again) == first, "the same address and key: what Redis held outlived it"
        (own := tmp_path / "own.yaml").write_text("verdict: {min_votes: 6}\n")
        refused = veriframe(*up, "--config", str(own), folder=folder.path)
        own.unlink()
        assert (refused.returncode, "other settings" in refused.stderr) == (2, True), refused.stderr
        headers = {"Authorization": f"Bearer {first['key']}"}
        assert httpx.get(f"{first['API']}/v1/scans", headers=headers, timeout=60).json()["scans"] == []
        after = parts_of(folder)
        assert {name: after[name] for name in ("api", "worker-1")} == {name: before[name] for name in ("api", "worker-1")}
        send(after["worker-1"], signal.SIGKILL)
    finally:
        down = veriframe("down", folder=folder.path)
    assert down.returncode == 0, down.stderr
    assert "it is down: 2 parts ended" in down.stderr
    assert not any(map(is_running, (*before.values(), *after.values())))
    assert list(marked(word)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_said_so_and_nothing_is_started(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path / "run")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = veriframe("up", "--port", str(port), folder=folder.path)
    assert done.returncode == 2
    assert f"port {port}: {os.strerror(errno.EADDRINUSE)}" in done.stderr
    assert "Traceback" not in done.stderr
    assert folder.names() == []
    take_down(folder)
    assert not folder.path.exists()
