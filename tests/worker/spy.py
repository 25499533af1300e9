"""Watches, on the level of sockets, where a process connects to, and stops what was not allowed.

It is an audit hook of the interpreter (PEP 578): nothing is patched, and it sees every connection and look-up made through
Python's ``socket``, whichever library makes it. C libraries with sockets of their own are beyond it; local sockets pass.
A child process takes part if it is started with ``Spy.child_environment()``. Imports the standard library alone: children load it
at their start.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Self

LOG, ALLOWED = "CONNECTION_SPY_LOG", "CONNECTION_SPY_ALLOWED"
SITE = Path(__file__).with_name("spy_site")

_watching: list[Spy] = []
_hooked = False


class Spy:
    """Allow addresses (``HOST`` or ``HOST:PORT``, IPv6 in brackets), run the code in the context, and look at what it did.

    ``connections``: what was connected to or tried, as ``HOST:PORT``; ``lookups``: names that were asked for. What is neither
    allowed nor expected is refused with a PermissionError, and ``check`` fails. ``expect``: refused as well, but no failure, for
    addresses that a test must not reach in earnest.
    """

    def __init__(self, log: Path, allowed: tuple[str, ...] = ()) -> None:
        self._log = log
        self._allowed = set(allowed)
        self._expected: set[str] = set()

    def allow(self, *addresses: str) -> None:
        self._allowed.update(addresses)

    def expect(self, *addresses: str) -> None:
        self._expected.update(addresses)

    @property
    def connections(self) -> list[str]:
        return [line["at"] for line in self._lines() if line["what"] == "connect"]

    @property
    def lookups(self) -> list[str]:
        return [line["at"] for line in self._lines() if line["what"] == "lookup"]

    def check(self) -> None:
        """Raises AssertionError if anything in this process or its children went where it must not."""
        strays = [f"{line['what']} {line['at']}" for line in self._lines() if not line["allowed"]]
        assert not strays, f"not allowed: {', '.join(strays)}"

    def child_environment(self) -> dict[str, str]:
        """Environment variables by which a Python child is watched with what is allowed now; ``check`` covers it."""
        path = os.pathsep.join(filter(None, (str(SITE), os.environ.get("PYTHONPATH"))))
        return {"PYTHONPATH": path, LOG: str(self._log), ALLOWED: json.dumps(sorted(self._allowed))}

    def __enter__(self) -> Self:
        global _hooked
        if not _hooked:
            _hooked = True
            sys.addaudithook(_hook)
        _watching.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _watching.remove(self)

    def see(self, what: str, host: str, port: int | None) -> None:
        """Raises PermissionError for what is not allowed."""
        at = host if port is None else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        names = {host, f"[{host}]", at}
        allowed, expected = not names.isdisjoint(self._allowed), not names.isdisjoint(self._expected)
        line = json.dumps({"what": what, "at": at, "allowed": allowed or expected})
        handle = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, line.encode() + b"\n")
        finally:
            os.close(handle)
        if not allowed:
            raise PermissionError(f"the spy refuses: {what} {at}")

    def _lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []


def watch_from_environment() -> None:
    """In a child: watch until its end."""
    if LOG in os.environ:
        Spy(Path(os.environ[LOG]), tuple(json.loads(os.environ[ALLOWED]))).__enter__()


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _watching or not event.startswith("socket."):
        return
    seen: tuple[str, str, int | None] | None = None
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        connection, address = args[0], args[1]
        if connection.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple):
            seen = ("connect", str(address[0]), int(address[1]))
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = args[0].decode() if isinstance(args[0], bytes) else args[0]
        if host and not _is_address(host):
            seen = ("lookup", host, None)
    if seen is not None:
        for spy in tuple(_watching):
            spy.see(*seen)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
