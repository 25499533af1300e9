from __future__ import annotations

import logging
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest

from tests.worker.source.loopback import Loopback, by_path, raw, reply, serve
from tests.worker.spy import Spy
from worker.errors import FetchRefused
from worker.source.client import guarded_client, plain_url, retry_after_s
from worker.source.guard import AddressGuard


class NameServer:
    """A resolver of which every next question gets the next answer."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self._answers[min(len(self.asked), len(self._answers)) - 1]


@pytest.fixture
def server(spy: Spy) -> Iterator[Loopback]:
    hops = {
        "bytes": reply(),
        "cookie": reply(Set_Cookie="session=1"),
        "away": reply(b"", 302, Location="http://192.168.0.1/router?token=SECRET"),
    }
    with serve(by_path(**hops)) as served:
        yield served


def test_a_private_address_is_not_connected_to(server: Loopback, spy: Spy) -> None:
    with guarded_client(AddressGuard()) as client, pytest.raises(FetchRefused):
        client.get(server.url("/bytes"))
    assert spy.connections == []


def test_nor_is_it_by_name(server: Loopback, spy: Spy) -> None:
    with guarded_client(AddressGuard(resolve=NameServer(["127.0.0.1"]))) as client, pytest.raises(FetchRefused):
        client.get(server.url("/bytes", host="media.example"))
    assert spy.connections == []


def test_a_second_answer_of_the_name_server_leads_nowhere(server: Loopback, spy: Spy) -> None:
    """DNS rebinding: a public address for the check, this machine's for the connection."""
    names = NameServer(["93.184.216.34"], ["127.0.0.1"])
    spy.expect(f"93.184.216.34:{server.port}")
    with guarded_client(AddressGuard(resolve=names)) as client:
        with pytest.raises(httpx.ConnectError):
            client.get(server.url("/bytes", host="media.example"))
        assert names.asked == ["media.example"]
        with pytest.raises(FetchRefused):
            client.get(server.url("/bytes", host="media.example"))
    assert spy.connections == [f"93.184.216.34:{server.port}"]
    assert server.requests == []


def test_an_allowed_host_is_asked_by_its_name(server: Loopback, spy: Spy) -> None:
    spy.allow(server.at)
    guard = AddressGuard(allow_private_hosts=["media.example"], resolve=NameServer(["127.0.0.1"]))
    with guarded_client(guard) as client:
        assert client.get(server.url("/bytes", host="media.example")).content == b"bytes of a video"
    assert server.requests[0][1]["host"] == f"media.example:{server.port}"


def test_the_next_address_is_tried_where_one_is_closed(server: Loopback, spy: Spy) -> None:
    spy.allow(server.at)
    spy.expect(f"127.0.0.2:{server.port}")
    guard = AddressGuard(allow_private_hosts=["media.example"], resolve=NameServer(["127.0.0.2", "127.0.0.1"]))
    with guarded_client(guard) as client:
        assert client.get(server.url("/bytes", host="media.example")).is_success
    assert spy.connections == [f"127.0.0.2:{server.port}", server.at]


def test_redirects_are_answers_and_pass_the_guard_when_followed(server: Loopback, spy: Spy) -> None:
    spy.allow(server.at)
    with guarded_client(AddressGuard(allow_private_hosts=[server.at])) as client:
        assert client.get(server.url("/away")).status_code == 302
        with pytest.raises(FetchRefused):
            client.get(server.url("/away"), follow_redirects=True)
    assert set(spy.connections) == {server.at}


def test_the_environment_says_nothing(server: Loopback, spy: Spy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.2:9")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password word\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    spy.allow(server.at)
    with guarded_client(AddressGuard(allow_private_hosts=[server.at])) as client:
        assert client.get(server.url("/bytes")).is_success
    assert "authorization" not in server.requests[0][1]


def test_behind_a_proxy_only_the_proxy_is_connected_to(server: Loopback, spy: Spy) -> None:
    """It resolves; what is written in a URL is still checked here."""
    spy.allow(server.at)
    guard = AddressGuard(resolve=NameServer())
    with guarded_client(guard, proxy=f"http://{server.at}") as client:
        with serve(reply(b"by proxy")) as proxy, guarded_client(guard, proxy=f"http://{proxy.at}") as other:
            spy.allow(proxy.at)
            assert other.get("http://media.example/clip?token=1").content == b"by proxy"
        assert proxy.requests[0][0] == "http://media.example/clip?token=1"
        for url in ("http://127.0.0.1/", "http://169.254.169.254/", "file:///etc/passwd", "http://0x7f.1/"):
            with pytest.raises(FetchRefused):
                client.get(url)
    assert spy.connections == [proxy.at]
    assert spy.lookups == []


def test_a_proxy_that_refuses_a_tunnel(spy: Spy) -> None:
    with serve(raw(b"HTTP/1.1 403 Forbidden\r\n\r\n")) as proxy:
        spy.allow(proxy.at)
        with guarded_client(AddressGuard(), proxy=f"http://{proxy.at}") as client, pytest.raises(httpx.ProxyError):
            client.get("https://media.example/")


def test_cookies_are_not_kept(server: Loopback, spy: Spy) -> None:
    spy.allow(server.at)
    with guarded_client(AddressGuard(allow_private_hosts=[server.at])) as client:
        client.get(server.url("/cookie"))
        client.get(server.url("/bytes"))
    assert "cookie" not in server.requests[1][1]


def test_no_secret_of_a_url_is_logged(server: Loopback, spy: Spy, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    spy.allow(server.at)
    with guarded_client(AddressGuard(allow_private_hosts=[server.at])) as client:
        client.get(server.url("/away?token=SECRET#SECRET"))
    assert f"GET {server.url('/away')} " in caplog.text
    assert "SECRET" not in caplog.text


def test_an_answer_without_an_end_ends(spy: Spy) -> None:
    """A byte now and then keeps httpx's own limits from ending it: within headers and within the body."""
    trickles = {
        "headers": raw(b"HTTP/1.1 200 OK\r\nA: ", b"a", every_s=0.02, forever=True),
        "body": raw(b"HTTP/1.1 200 OK\r\n\r\n", b"a", every_s=0.02, forever=True),
    }
    with serve(by_path(**trickles)) as server:
        spy.allow(server.at)
        guard = AddressGuard(allow_private_hosts=[server.at])
        for path in trickles:
            begun = time.monotonic()
            with guarded_client(guard, ends_at=begun + 0.4) as client, pytest.raises(httpx.ReadTimeout):
                client.get(server.url(f"/{path}"))
            assert 0.4 <= time.monotonic() - begun < 5


def test_a_handshake_without_an_end_ends(spy: Spy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        spy.allow(f"127.0.0.1:{port}")
        guard = AddressGuard(allow_private_hosts=["127.0.0.1"])
        with guarded_client(guard, ends_at=time.monotonic() + 0.3) as client, pytest.raises(httpx.ConnectTimeout):
            client.get(f"https://127.0.0.1:{port}/")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of media.example, signed by itself, in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    key, made = path.with_name("key.pem"), path.with_name("certificate.pem")
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=media.example"
    names = ["-addext", "subjectAltName=DNS:media.example", "-keyout", str(key), "-out", str(made)]
    subprocess.run([openssl, *options.split(), *names], check=True, capture_output=True)
    path.write_bytes(key.read_bytes() + made.read_bytes())
    return path


def test_certificates_are_for_the_name_not_the_address(certificate: Path, spy: Spy) -> None:
    asked: list[str | None] = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    tls.sni_callback = lambda connection, name, context: asked.append(name)
    trust = ssl.create_default_context(cafile=certificate)
    with serve(reply(), tls=tls) as server:
        spy.allow(server.at)
        names = ["media.example", "other.example", "127.0.0.1"]
        guard = AddressGuard(allow_private_hosts=names, resolve=NameServer(["127.0.0.1"]))
        with guarded_client(guard, ssl_context=trust) as client:
            assert client.get(server.url(host="media.example")).is_success
            for other in names[1:]:
                with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                    client.get(server.url(host=other))
        with guarded_client(guard) as stranger, pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            stranger.get(server.url(host="media.example"))
    assert asked == ["media.example", "other.example", None, "media.example"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        (" 0 ", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("9" * 30, None),
        ("\u0967", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert retry_after_s(httpx.Response(429, headers={"retry-after": text.encode()})) == seconds


def test_retry_after_a_date() -> None:
    answer = httpx.Response(503, headers={"retry-after": formatdate(time.time() + 100, usegmt=True)})
    assert retry_after_s(answer) == pytest.approx(100, abs=5)


def test_a_plain_url_has_no_secrets() -> None:
    assert plain_url(httpx.URL("https://user:word@media.example:81/a%20b?token=1#part")) == "https://media.example:81/a%20b"
