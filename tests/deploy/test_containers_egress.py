"""The egress proxy: what squid.conf refuses, by its text, and by squid itself where that is installed."""

from __future__ import annotations

import http.client
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import pytest

from tests.deploy.dockerfile import ROOT
from tests.worker.queue.receivers import soon
from worker.queue.embedded import free_port
from worker.settings import Settings
from worker.source import guard

CONF = ROOT / "deploy" / "squid" / "squid.conf"
needs_squid = pytest.mark.skipif(shutil.which("squid") is None, reason="squid is not installed (Debian's package squid)")


def listed(acl: str, kind: str = "dst") -> list[str]:
    return [word for line in re.findall(rf"^acl {acl} {kind} (.+)$", CONF.read_text(), re.MULTILINE) for word in line.split()]


def test_it_refuses_at_least_what_the_address_guard_refuses() -> None:
    refused = [ip_network(text) for acl in ("private", "private6") for text in listed(acl)]
    for closed in [*guard._CLOSED_4, *guard._CLOSED_6, *guard._PRIVATE_6]:
        assert any(closed.subnet_of(net) for net in refused if type(net) is type(closed)), closed  # type: ignore[arg-type]
    six = [net for net in refused if isinstance(net, IPv6Network)]
    assert not any(net.overlaps(IPv6Network("::ffff:0:0/96")) for net in six), "squid keeps every IPv4 address in that form"
    outside = [net for net in IPv6Network("::/0").address_exclude(guard._OPEN_6) if net.prefixlen > 0]
    for net in outside:
        parts = [IPv6Network(text) for text in ("::/96", "64:ff9b::/96")] if net == IPv6Network("::/3") else [net]
        assert all(any(part.subnet_of(other) or other.subnet_of(part) for other in six) for part in parts), net
    assert not any(net.overlaps(IPv4Network("8.8.8.8/32")) for net in refused if isinstance(net, IPv4Network))


def test_it_knows_the_ports_that_addresses_may_name() -> None:
    assert {int(port) for port in listed("known_ports", "port")} == set(Settings().source.ports)


def test_every_refusal_stands_before_the_only_permission() -> None:
    rules = re.findall(r"^http_access (.+)$", CONF.read_text(), re.MULTILINE)
    assert rules[-1] == "allow all"
    assert all(rule.startswith("deny ") for rule in rules[:-1])
    assert {"deny private", "deny private6", "deny !clients", "deny !known_ports"} <= set(rules)


@needs_squid
def test_squid_reads_it_without_an_error() -> None:
    done = subprocess.run(["squid", "-k", "parse", "-f", CONF], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    warned = [line.partition("| ")[2] for line in done.stderr.splitlines() if re.search("WARNING|ERROR|FATAL", line)]
    assert warned == ["WARNING: HTTP requires the use of Via"]


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[int]:
    """Squid with our configuration, on a free port of the loopback interface."""
    for _ in range(5):
        port = free_port()
        # Where root starts it, it becomes another user, who may not open this test's own output.
        text = re.sub(r"^(access_log|cache_log) .*$", "", CONF.read_text(), flags=re.MULTILINE)
        text = text.replace("http_port 3128", f"http_port 127.0.0.1:{port}") + "access_log none\ncache_log /dev/null\n"
        (tmp_path / "squid.conf").write_text(text)
        command = ["squid", "-N", "-f", tmp_path / "squid.conf"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                soon(lambda: process.poll() is not None or answers(port), within_s=120)  # noqa: B023
                if process.poll() is None:
                    yield port
                    return
            finally:
                process.kill()
    pytest.fail("squid did not start: its port was taken each time, or its configuration is refused")


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@needs_squid
def test_squid_refuses_what_leads_inside(proxy: int) -> None:
    """Nothing listens behind the addresses that it is asked for: they are refused, not tried."""

    def asked(method: str, target: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", proxy, timeout=30)
        connection.request(method, target, headers={"Host": "x"})
        status = connection.getresponse().status
        connection.close()
        return status

    inside = (
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "2130706433",
        "10.1.2.3",
        "169.254.169.254",
    )
    inside += ("168.63.129.16", "[fd00::1]", "[fe80::1]", "[ff02::1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]")
    assert {host: asked("GET", f"http://{host}/") for host in inside} == dict.fromkeys(inside, 403)
    assert {host: asked("CONNECT", f"{host}:443") for host in inside} == dict.fromkeys(inside, 403)
    assert asked("GET", "http://8.8.8.8:22/") == 403
    assert asked("CONNECT", "8.8.8.8:80") == 403
    assert asked("POST", "http://8.8.8.8/") == 403
