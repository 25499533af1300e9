from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.errors import ConfigError, FetchGone, FetchRefused, FetchTimeout
from worker.source.guard import AddressGuard, Resolve, is_private, is_public, look_up

CLOSED = [
    *(
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "168.63.129.16",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.169.254",
    ),
    *("172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255"),
    *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::7f00:1", "::127.0.0.1", "100::1", "fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1", "5f00::1"),
    *("2001::1", "2001:db8::1", "2001:20::1", "3fff::1", "4000::1"),
    *("2002:7f00:1::", "2002:0808:0808::1"),  # 6to4, of whatever address
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1"),
    *("64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::8.8.8.8"),
    *("fe80::1%eth0", "2a00:1450::1%lo"),
]
OPEN = [
    *("1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1", "172.15.255.255", "172.32.0.0"),
    *("192.0.1.1", "198.17.255.255", "223.255.255.255", "2606:4700::1111", "2a00:1450:4001::1"),
    *("::ffff:8.8.8.8", "64:ff9b::8.8.8.8"),
]


def resolving(*answers: str) -> Resolve:
    return lambda host, port: answers


@pytest.mark.parametrize("text", CLOSED)
def test_closed_addresses(text: str) -> None:
    assert not is_public(ip_address(text))
    with pytest.raises(FetchRefused):
        AddressGuard(resolve=resolving("8.8.8.8", text)).resolve("media.example", 443)


@pytest.mark.parametrize("text", OPEN)
def test_open_addresses(text: str) -> None:
    assert is_public(ip_address(text))
    assert AddressGuard(resolve=resolving(text)).resolve("media.example", 443) == (text,)


@given(st.ip_addresses(v=4))
@example(IPv4Address("192.88.99.1"))
def test_an_open_address_is_open_to_python_too(address: IPv4Address) -> None:
    if is_public(address):
        assert address.is_global
        assert not address.is_multicast
    assert not (is_public(address) and is_private(address))


@given(st.ip_addresses(v=6) | st.ip_addresses(v=6, network="2000::/3"))
def test_an_open_ipv6_address_is_open_to_python_too(address: IPv6Address) -> None:
    if is_public(address):
        assert address.is_global
        assert not address.is_multicast
        assert address.sixtofour is None
        assert address.teredo is None
    assert not (is_public(address) and is_private(address))


@given(st.ip_addresses(v=4))
@example(IPv4Address("127.0.0.1"))
def test_an_address_that_carries_another_is_judged_by_it(inner: IPv4Address) -> None:
    assert is_public(IPv6Address(f"::ffff:{inner}")) == is_public(inner)
    assert is_public(IPv6Address(f"64:ff9b::{inner}")) == is_public(inner)
    for closed in (f"::{inner}", f"64:ff9b:1::{inner}", f"2002:{int(inner) >> 16:x}:{int(inner) & 0xFFFF:x}::"):
        assert not is_public(IPv6Address(closed))


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://media.example/a", "file:///etc/passwd", "gopher://media.example/", "//media.example/a", "media.example/a", ""),
        *("http://", "http:///a", "http://user@media.example/", "http://user:word@media.example/", "http://:word@media.example/"),
        *(
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://0x7f000001/",
            "http://1.2.3.4.5/",
        ),
        *("http://media.example.0x10/", "http://010.8.8.8/", "http://8.8.8.8./", "http://media.256/"),
        *("http://media..example/", "http://-media.example/", "http://me dia.example/", "http://media.example%00/"),
        *("http://media.example%2eevil/", "http://media.example\\@127.0.0.1/", "http://127.0.0.1\\.example/", "http://*/"),
        *("http://media.example:0/", "http://media.example:99999/", "http://media.example:x/", "http://media.example:-1/"),
        *("http://[::1", "http://[::1]x/", "http://[fe80::1%25eth0]/", "http://[v1.x]/", "http://[]/"),
        *(
            "http://\uff11\uff12\uff17.0.0.1/",
            "http://127。0。0。1/",
            "http://①②⑦.0.0.1/",
            "http://xn--/",
            f"http://{'a' * 64}.example/",
        ),
        *("http://media.example/\n", "http://media.example/\x00", "http://\udcff.example/", f"http://{'a.' * 130}example/"),
        f"http://media.example/{'a' * 8192}",
        *(f"http://[{text}]/" if ":" in text else f"http://{text}/" for text in CLOSED if "%" not in text),
    ],
)
def test_urls_refused_for_how_they_are_written(url: str) -> None:
    with pytest.raises(FetchRefused):
        AddressGuard().check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        *("http://media.example", "https://media.example/a?b=c#d", "HTTP://MEDIA.EXAMPLE:8080/", "https://media.example./"),
        *("https://bücher.example/ä", "https://xn--bcher-kva.example/", "https://a_b.media.example/", "http://8.8.8.8:81/a@b"),
        *("http://[2606:4700::1111]:8080/", "https://1password.example/", "https://media.example/http://127.0.0.1/"),
    ],
)
def test_urls_that_pass(url: str) -> None:
    AddressGuard().check_url(url)


@given(st.text(max_size=60) | st.builds("http://{}/{}".format, st.text(max_size=30), st.text(max_size=10)))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    guard = AddressGuard(resolve=resolving("127.0.0.1"))
    try:
        guard.check_url(text)
    except FetchRefused:
        return


@given(st.lists(st.ip_addresses().map(str), min_size=1, max_size=6))
def test_one_closed_address_closes_a_name(answers: list[str]) -> None:
    guard = AddressGuard(resolve=resolving(*answers))
    if all(is_public(ip_address(answer)) for answer in answers):
        assert guard.resolve("media.example", 80) == tuple(dict.fromkeys(answers))
    else:
        with pytest.raises(FetchRefused):
            guard.resolve("media.example", 80)


def test_a_closed_address_behind_many_is_found() -> None:
    answers = [f"8.8.{i}.8" for i in range(200)]
    assert len(AddressGuard(resolve=resolving(*answers)).resolve("media.example", 80)) == 16
    with pytest.raises(FetchRefused):
        AddressGuard(resolve=resolving(*answers, "127.0.0.1")).resolve("media.example", 80)


@pytest.mark.parametrize(
    ("entry", "host", "port", "passes"),
    [
        ("intern.example", "intern.example", 80, True),
        ("intern.example", "intern.example", 8443, True),
        ("INTERN.example", "Intern.Example.", 80, True),
        ("intern.example:8080", "intern.example", 8080, True),
        ("intern.example:8080", "intern.example", 8081, False),
        ("intern.example", "a.intern.example", 80, False),
        ("intern.example", "xintern.example", 80, False),
        ("bücher.example", "xn--bcher-kva.example", 80, True),
        ("127.0.0.1", "127.0.0.1", 80, True),
        ("127.0.0.1:81", "127.0.0.1", 80, False),
        ("127.0.0.1", "localhost", 80, False),  # exactly as the URL names it
        ("127.0.0.1", "::ffff:127.0.0.1", 80, False),
        ("::1", "::1", 80, True),
        ("[::1]:81", "0:0::1", 81, True),
        ("[::1]:81", "::1", 80, False),
        ("[fd00::7]", "fd00::7", 80, True),
        ("169.254.169.254", "169.254.169.254", 80, False),  # never, whoever allows it
        ("224.0.0.1", "224.0.0.1", 80, False),
        ("0.0.0.0", "0.0.0.0", 80, False),
    ],
)
def test_private_hosts_that_are_allowed(entry: str, host: str, port: int, passes: bool) -> None:
    guard = AddressGuard(allow_private_hosts=[entry], resolve=resolving("10.0.0.7"))
    if passes:
        assert guard.resolve(host, port)
    else:
        with pytest.raises(FetchRefused):
            guard.resolve(host, port)


METADATA = [
    "169.254.169.254", "100.100.100.200", "::ffff:100.100.100.200", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254",
    "fd00:c1::a9fe:a9fe", "fd00:42::42", "fd00:100::100:200", "fd00:a9fe:a9fe::1",
]  # fmt: skip


@pytest.mark.parametrize("answer", [*METADATA, "0.0.0.0", "224.0.0.1", "fe80::1", "2002:7f00:1::", "64:ff9b::10.0.0.1"])
def test_an_allowed_name_has_no_other_closed_addresses(answer: str) -> None:
    guard = AddressGuard(allow_private_hosts=["intern.example"], resolve=resolving("10.0.0.7", answer))
    with pytest.raises(FetchRefused):
        guard.resolve("intern.example", 80)


@pytest.mark.parametrize("address", METADATA)
def test_no_entry_opens_a_clouds_metadata_server(address: str) -> None:
    with pytest.raises(FetchRefused):
        AddressGuard(allow_private_hosts=[address]).resolve(address, 80)


@pytest.mark.parametrize("answer", ["100.64.0.1", "100.100.100.201", "fd00:ec3::254", "fd20:ce::255", "fd00:42::43"])
def test_private_addresses_beside_those_of_metadata_servers_pass(answer: str) -> None:
    assert AddressGuard(allow_private_hosts=["intern.example"], resolve=resolving(answer)).resolve("intern.example", 80)


@pytest.mark.parametrize("answer", ["10.0.0.1", "127.0.0.1", "172.16.0.1", "192.168.1.1", "::ffff:192.168.1.1", "::1", "fd00::7"])
def test_an_allowed_name_may_have_an_address_of_any_private_network(answer: str) -> None:
    assert AddressGuard(allow_private_hosts=["intern.example"], resolve=resolving(answer)).resolve("intern.example", 80)


def test_an_allowed_address_passes_in_a_url_on_its_port() -> None:
    guard = AddressGuard(allow_private_hosts=["127.0.0.1:80", "[::1]:8080"])
    guard.check_url("http://127.0.0.1/")
    guard.check_url("http://[::1]:8080/")
    for url in ("https://127.0.0.1/", "http://127.0.0.1:81/", "http://[::1]/"):
        with pytest.raises(FetchRefused):
            guard.check_url(url)


EIGHTS = ("https://8.8.8.8/", "https://[::ffff:8.8.8.8]/", "https://[::ffff:808:808]/", "https://[64:ff9b::808:808]/")
SPELLED = ("8.8.8.8", "::ffff:8.8.8.8", "[64:ff9b::808:808]")


@pytest.mark.parametrize(
    ("lists", "url", "passes"),
    [
        ({"ports": [443]}, "https://media.example/", True),
        ({"ports": [443]}, "https://media.example:443/", True),
        ({"ports": [443]}, "http://media.example/", False),
        ({"ports": [443]}, "https://media.example:22/", False),
        ({"ports": [443], "allow_private_hosts": ["10.0.0.7"]}, "http://10.0.0.7:9000/", True),
        ({"ports": [443], "allow_private_hosts": ["10.0.0.7:9000"]}, "http://10.0.0.7:9001/", False),
        ({"allow_hosts": ["media.example"]}, "https://media.example./", True),
        ({"allow_hosts": ["media.example"]}, "https://a.b.MEDIA.example/", True),
        ({"allow_hosts": ["media.example"]}, "https://xmedia.example/", False),
        ({"allow_hosts": ["media.example"]}, "https://media.example.evil.example/", False),
        ({"allow_hosts": ["media.example"]}, "https://8.8.8.8/", False),
        *(({"allow_hosts": [entry]}, url, True) for entry in SPELLED for url in EIGHTS),
        *(({"deny_hosts": [entry]}, url, False) for entry in SPELLED for url in EIGHTS),
        ({"deny_hosts": ["8.8.8.8"]}, "https://[2606:4700::808:808]/", True),
        ({"allow_hosts": ["2606:4700::1111"]}, "https://[2606:4700:0::1111]/", True),
        ({"deny_hosts": ["media.example"]}, "https://media.example/", False),
        ({"deny_hosts": ["media.example"]}, "https://a.media.example/", False),
        ({"deny_hosts": ["bücher.example"]}, "https://xn--bcher-kva.example/", False),
        ({"deny_hosts": ["media.example"]}, "https://other.example/", True),
        ({"allow_hosts": ["example"], "deny_hosts": ["media.example"]}, "https://media.example/", False),
    ],
)
def test_lists_of_ports_and_hosts(lists: dict[str, Any], url: str, passes: bool) -> None:
    guard = AddressGuard(**lists, resolve=resolving("8.8.8.8"))
    parsed = httpx.URL(url)
    port = parsed.port or (443 if parsed.scheme == "https" else 80)
    if passes:
        guard.check_url(url)
        assert guard.resolve(parsed.host, port)
        return
    with pytest.raises(FetchRefused):
        guard.check_url(url)
    with pytest.raises(FetchRefused):
        guard.resolve(parsed.host, port)


@pytest.mark.parametrize("host", ["straße.de", "faß.de", "bücher.example", "BÜCHER.example"])
@pytest.mark.parametrize("setting", ["allow_hosts", "deny_hosts", "allow_private_hosts"])
def test_a_name_in_a_list_is_the_one_that_its_url_names(setting: str, host: str) -> None:
    lists: dict[str, Any] = {setting: [host]}
    guard = AddressGuard(**lists, resolve=resolving("10.0.0.7" if setting == "allow_private_hosts" else "8.8.8.8"))

    def passes(host: str) -> bool:
        url = httpx.URL(f"https://{host}/")
        try:
            guard.check_url(str(url))
            return bool(guard.resolve(url.raw_host.decode("ascii"), 443))
        except FetchRefused:
            return False

    assert passes(host) == (setting != "deny_hosts")
    for other in ("strasse.de", "fass.de", "bucher.example"):
        assert passes(other) == (setting == "deny_hosts")


@pytest.mark.parametrize("setting", ["allow_hosts", "deny_hosts"])
@pytest.mark.parametrize("entry", ["", "media.example:80", "*.example", "https://media.example"])
def test_lists_name_hosts_alone(setting: str, entry: str) -> None:
    lists: dict[str, Any] = {setting: [entry]}
    with pytest.raises(ConfigError, match=setting):
        AddressGuard(**lists)


@pytest.mark.parametrize(
    "entry",
    [
        *("", "a b", "http://intern.example", "a.example:", "10.0.0.0/8", "*.example", "[::1", "1.1"),
        *("ü b", "ü/x", "☃.example"),  # not a name for the client either
    ],
)
def test_an_entry_that_is_no_host_is_told(entry: str) -> None:
    with pytest.raises(ConfigError, match="allow_private_hosts"):
        AddressGuard(allow_private_hosts=[entry])


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), FetchGone),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), FetchTimeout),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"), FetchTimeout),
        (TimeoutError(), FetchTimeout),
    ],
)
def test_a_name_that_does_not_exist_is_gone_and_a_dumb_name_server_is_late(failure: OSError, error: type[Exception]) -> None:
    def resolve(host: str, port: int) -> Sequence[str]:
        raise failure

    with pytest.raises(error, match=r"media\.example"):
        AddressGuard(resolve=resolve).resolve("media.example", 80)


@pytest.mark.parametrize("answers", [(), ("nonsense",), ("8.8.8.8", "")])
def test_a_strange_answer_is_no_address(answers: tuple[str, ...]) -> None:
    with pytest.raises((FetchGone, FetchRefused)):
        AddressGuard(resolve=resolving(*answers)).resolve("media.example", 80)


def test_the_system_resolver_knows_this_machine() -> None:
    assert {"127.0.0.1", "::1"} & set(look_up("localhost", 80))
