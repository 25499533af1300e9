"""The address guard: which URLs may be asked for, and which addresses may be connected to.

A name is resolved once, every address that it has is checked, and a connection is made to one of these and no other, so that a
second answer of the name server's cannot lead elsewhere (DNS rebinding). What counts as closed follows IANA's registries of
special-purpose addresses (RFC 6890); IPv6 is open only within 2000::/3. Addresses that carry an IPv4 address are taken by that
one (IPv4-mapped, NAT64's 64:ff9b::/96) or refused whole (6to4, Teredo, IPv4-compatible).

It sees this process's connections alone and knows neither a NAT64 prefix of one's own nor what a public address of one's own
leads to: in a cluster, an egress proxy or a network policy is the boundary and this is the second layer.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

import httpx

from worker.errors import ConfigError, FetchGone, FetchRefused, FetchTimeout

MAX_URL: Final = 8192
MAX_ADDRESSES: Final = 16
"""Addresses of one name that are looked at; it takes no more to reach a server."""


class AddressRefused(FetchRefused):
    """A name leads to an address that we do not go to. Name servers err and change: another time it may lead elsewhere."""


Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Sequence[str]]
"""A name's addresses, as text. Raises OSError: ``socket.gaierror`` tells a name that is not there from a server that is not."""

_SCHEMES = ("http", "https")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ENTRY = re.compile(r"\[(?P<six>[^\]]+)\](?::(?P<port6>\d+))?|(?P<host>[^:\[\]]+)(?::(?P<port>\d+))?")

_CLOSED_4 = [
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # the host below an Azure machine: public by its number alone
        "169.254.0.0/16",  # link-local, the clouds' metadata servers
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
]
_OPEN_6 = IPv6Network("2000::/3")
_CLOSED_6 = [
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
]
_NAT64 = IPv6Network("64:ff9b::/96")
_PRIVATE_4 = [IPv4Network(text) for text in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
_PRIVATE_6 = [IPv6Network("::1/128"), IPv6Network("fc00::/7")]
_METADATA_4 = [IPv4Network("100.100.100.200/32")]  # Alibaba
_METADATA_6 = [
    IPv6Network(text)
    for text in (
        "fd00:42::42/128",  # Scaleway
        "fd00:100::100:200/128",  # Alibaba
        "fd00:a9fe:a9fe::1/128",  # Linode
        "fd00:c1::a9fe:a9fe/128",  # Oracle
        "fd00:ec2::/32",  # AWS: its metadata and its pods' credentials
        "fd20:ce::254/128",  # Google
    )
]
"""Clouds' metadata servers with private addresses: they give out credentials, whoever allows it."""


class AddressGuard:
    """Checks URLs and addresses.

    ``allow_private_hosts``: names or addresses, ``HOST`` or ``HOST:PORT`` (``[::1]:80``), that a URL may name exactly so and that
    may then have private and loopback addresses; metadata, link-local, multicast, reserved and transition addresses stay closed.
    ``ports``: those that a URL may name, empty for any; hosts of ``allow_private_hosts`` are asked on the ports said there.
    ``allow_hosts``: if there are any, only these; ``deny_hosts``: these never. A name stands for itself and all names below it,
    an address for itself, one of IPv4 also for the IPv6 ones that carry it. Raises ConfigError for an entry that is none of this.
    """

    def __init__(
        self,
        *,
        allow_private_hosts: Iterable[str] = (),
        ports: Iterable[int] = (),
        allow_hosts: Iterable[str] = (),
        deny_hosts: Iterable[str] = (),
        resolve: Resolve | None = None,
    ) -> None:
        private = [_entry(text, "allow_private_hosts") for text in allow_private_hosts]
        self._private = frozenset((str(host), port) for host, port in private)
        self._ports = frozenset(ports)
        self._allowed = frozenset(_whole(text, "allow_hosts") for text in allow_hosts)
        self._denied = frozenset(_whole(text, "deny_hosts") for text in deny_hosts)
        self._resolve = resolve or look_up

    def check_url(self, url: str) -> None:
        """Refuse a URL for how it is written, or for the address in it, without asking a name server. Raises FetchRefused."""
        if len(url) > MAX_URL:
            raise FetchRefused(f"a URL of more than {MAX_URL} characters")
        try:
            parsed = httpx.URL(url)
            port = parsed.port
        except (httpx.InvalidURL, ValueError) as exc:
            raise FetchRefused("not a valid URL") from exc
        if parsed.scheme not in _SCHEMES:
            raise FetchRefused("only http and https URLs are fetched")
        if parsed.userinfo:
            raise FetchRefused("a URL with a user name or password in it")
        if port is not None and not 0 < port < 65536:
            raise FetchRefused("a URL without a valid port")
        host = _host(parsed.raw_host.decode("ascii"))
        port = port or {"http": 80, "https": 443}[parsed.scheme]
        self._check_lists(host, port)
        if not isinstance(host, str):
            self._check(host, str(host), port)

    def resolve(self, host: str, port: int) -> tuple[str, ...]:
        """The addresses to which ``host`` may be connected; all of its are fit.

        Raises AddressRefused if one is not, FetchRefused if ``host`` itself is a closed address or no name, FetchGone for a name
        that does not exist and FetchTimeout if no name server says. It waits as long as the system's resolver does.
        """
        named = _host(host.lower())
        self._check_lists(named, port)
        if not isinstance(named, str):
            self._check(named, str(named), port)
            return (str(named),)
        try:
            answers = self._resolve(named, port)
        except socket.gaierror as exc:
            if exc.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
                raise FetchGone(f"{named}: there is no such host") from exc
            raise FetchTimeout(f"{named}: its address could not be looked up") from exc
        except (OSError, UnicodeError) as exc:
            raise FetchTimeout(f"{named}: its address could not be looked up") from exc
        if not answers:
            raise FetchGone(f"{named}: there is no such host")
        addresses = tuple(dict.fromkeys(answers))
        for text in addresses:
            try:
                address = ip_address(text)
            except ValueError as exc:
                raise AddressRefused(f"{named}: its address is not one") from exc
            if not self._is_open(address, named, port):
                raise AddressRefused(f"{named}: a private or reserved address")
        return addresses[:MAX_ADDRESSES]

    def _check(self, address: Address, name: str, port: int) -> None:
        if not self._is_open(address, name, port):
            raise FetchRefused(f"{name}: a private or reserved address")

    def _check_lists(self, host: str | Address, port: int) -> None:
        name, listed = str(host), _listed(host)
        if _is_below(listed, self._denied) or (self._allowed and not _is_below(listed, self._allowed)):
            raise FetchRefused(f"{name}: not a host that is fetched from here (source.allow_hosts, source.deny_hosts)")
        if self._ports and port not in self._ports and not self._is_named(name, port):
            raise FetchRefused(f"port {port} is none of source.ports")

    def _is_open(self, address: Address, name: str, port: int) -> bool:
        return is_public(address) or (self._is_named(name, port) and is_private(address))

    def _is_named(self, name: str, port: int) -> bool:
        return (name, None) in self._private or (name, port) in self._private


def is_public(address: Address) -> bool:
    """Whether anybody on the Internet may have this address."""
    address = _carried(address)
    if isinstance(address, IPv4Address):
        return not _is_in(address, _CLOSED_4)
    if address.scope_id is not None or address not in _OPEN_6:
        return False
    return not _is_in(address, _CLOSED_6)


def is_private(address: Address) -> bool:
    """Whether this is an address of a private network, of a carrier's, or of this machine, and no cloud's metadata server."""
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if isinstance(address, IPv4Address):
        return _is_in(address, _PRIVATE_4) and not _is_in(address, _METADATA_4)
    return address.scope_id is None and _is_in(address, _PRIVATE_6) and not _is_in(address, _METADATA_6)


def _is_in(address: Address, networks: Iterable[IPv4Network] | Iterable[IPv6Network]) -> bool:
    return any(address in network for network in networks)


def look_up(host: str, port: int) -> list[str]:
    """The system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in found]


def _carried(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where the system or a NAT64 gateway connects to that."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _host(text: str) -> str | Address:
    """A name in lower case without a dot at its end, or an address. Raises FetchRefused for anything else.

    A name that ends in a number is refused, as browsers do (https://url.spec.whatwg.org/#ends-in-a-number-checker): C libraries
    read 127.1, 0x7f.0.0.1 and 2130706433 as addresses.
    """
    try:
        return ip_address(text)
    except ValueError:
        pass
    name = text.removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise FetchRefused("a URL without a valid host")
    if _NUMBER.fullmatch(labels[-1]):
        raise FetchRefused("a host that is a number")
    return name


def _listed(host: str | Address) -> str:
    """What stands for a host in lists of those that are allowed and denied."""
    return host if isinstance(host, str) else str(_carried(host))


def _is_below(name: str, hosts: frozenset[str]) -> bool:
    """Whether one of ``hosts`` is this name, or one that it lies below."""
    labels = name.split(".")
    return any(".".join(labels[i:]) in hosts for i in range(len(labels))) if hosts else False


def _whole(text: str, setting: str) -> str:
    """An entry of a list of hosts. Raises ConfigError."""
    host, port = _entry(text, setting)
    if port is not None:
        raise ConfigError(f"source.{setting}: {text!r}: give the host without a port")
    return _listed(host)


def _entry(text: str, setting: str) -> tuple[str | Address, int | None]:
    """Host and port of an entry, its name encoded as the client encodes that of a URL. Raises ConfigError."""
    try:
        return ip_address(text), None
    except ValueError:
        match = _ENTRY.fullmatch(text.strip().lower())
    try:
        if match is None:
            raise FetchRefused("neither HOST nor HOST:PORT")
        host = match["six"] or match["host"]
        named = _host(host if host.isascii() else httpx.URL(scheme="http", host=host).raw_host.decode("ascii"))
    except (FetchRefused, httpx.InvalidURL) as exc:
        raise ConfigError(f"source.{setting}: {text!r}: give a host name or an address, with :PORT or without") from exc
    port = match["port6"] or match["port"]
    return named, int(port) if port else None
