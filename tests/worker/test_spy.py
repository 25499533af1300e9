from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.spy import Spy


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


def test_what_is_not_allowed_is_refused_and_fails_the_check(tmp_path: Path, listener: socket.socket) -> None:
    with Spy(tmp_path / "log") as spy:
        with pytest.raises(PermissionError):
            socket.create_connection(listener.getsockname())
        with pytest.raises(PermissionError):
            socket.getaddrinfo("media.invalid", 80)
    assert spy.connections == [address(listener)]
    assert spy.lookups == ["media.invalid"]
    with pytest.raises(AssertionError, match=rf"connect {address(listener)}, lookup media\.invalid"):
        spy.check()


def test_what_is_allowed_passes(tmp_path: Path, listener: socket.socket) -> None:
    with Spy(tmp_path / "log") as spy:
        spy.allow(address(listener))
        socket.create_connection(listener.getsockname()).close()
    spy.check()
    assert spy.connections == [address(listener)]


def test_what_is_expected_is_refused_without_a_failure(tmp_path: Path) -> None:
    with Spy(tmp_path / "log") as spy:
        spy.expect("192.0.2.1")
        with pytest.raises(PermissionError):
            socket.create_connection(("192.0.2.1", 80))
    spy.check()
    assert spy.connections == ["192.0.2.1:80"]


def test_datagrams_are_seen(tmp_path: Path) -> None:
    with Spy(tmp_path / "log") as spy, socket.socket(type=socket.SOCK_DGRAM) as sender, pytest.raises(PermissionError):
        sender.sendto(b"x", ("127.0.0.1", 9))
    assert spy.connections == ["127.0.0.1:9"]


def test_nothing_is_watched_outside_the_context(tmp_path: Path, listener: socket.socket) -> None:
    with Spy(tmp_path / "log") as spy:
        pass
    socket.create_connection(listener.getsockname()).close()
    assert spy.connections == []


def test_a_child_is_watched_too(tmp_path: Path, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    child = f"""
import socket
socket.create_connection(("127.0.0.1", {port})).close()
try:
    socket.create_connection(("127.0.0.2", {port}))
except PermissionError:
    print("refused")
"""
    with Spy(tmp_path / "log") as spy:
        spy.allow(address(listener))
        done = subprocess.run(
            [sys.executable, "-c", child], env=os.environ | spy.child_environment(), capture_output=True, text=True, check=True
        )
    assert done.stdout == "refused\n"
    assert spy.connections == [address(listener), f"127.0.0.2:{port}"]
    with pytest.raises(AssertionError, match=rf"127\.0\.0\.2:{port}"):
        spy.check()
