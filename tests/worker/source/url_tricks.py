"""Addresses that lead, in one way or another, to where a scanner must not go. ``{port}``: of a server on this machine."""

from __future__ import annotations

import socket
from collections.abc import Sequence

ALLOWED = "allowed.example"
"""The one private host that the tests' operator allows, on one port."""

LITERALS = (
    *("http://127.0.0.1:{port}/", "http://127.0.0.2:{port}/", "http://127.255.255.254/", "http://0.0.0.0:{port}/"),
    *("http://10.0.0.1/", "http://10.255.255.255/", "http://172.16.0.1/", "http://172.31.255.254/", "http://192.168.1.1/"),
    *("http://100.64.0.1/", "http://100.100.100.200/latest/meta-data/", "http://169.254.169.254/latest/meta-data/"),
    *("http://169.254.170.2/v2/credentials", "http://168.63.129.16/", "http://192.0.0.192/opc/v1/", "http://192.0.0.1/"),
    *("http://192.0.2.1/", "http://198.51.100.1/", "http://203.0.113.1/", "http://192.88.99.1/", "http://198.18.0.1/"),
    *("http://224.0.0.251/", "http://239.255.255.250:1900/", "http://240.0.0.1/", "http://255.255.255.255/"),
)
NUMBERS = (
    *("http://2130706433:{port}/", "http://0x7f000001:{port}/", "http://017700000001:{port}/", "http://0x7F.0.0.1:{port}/"),
    *("http://0177.0.0.1:{port}/", "http://127.1:{port}/", "http://127.0.1:{port}/", "http://0x7f.1:{port}/"),
    *("http://127.0.0.0x1:{port}/", "http://127.000.000.001:{port}/", "http://0:{port}/", "http://4294967297:{port}/"),
    *(
        "http://127.0.0.1.:{port}/",
        "http://1.2.3.4.5/",
        "http://0xa9fea9fe/",
        "http://2852039166/",
        "http://0251.0376.0251.0376/",
    ),
)
IPV6 = (
    *("http://[::1]:{port}/", "http://[::]:{port}/", "http://[0:0:0:0:0:0:0:1]:{port}/", "http://[::ffff:127.0.0.1]:{port}/"),
    *("http://[::ffff:7f00:1]:{port}/", "http://[::127.0.0.1]:{port}/", "http://[::ffff:0:127.0.0.1]:{port}/"),
    *("http://[64:ff9b::127.0.0.1]/", "http://[64:ff9b::a9fe:a9fe]/", "http://[64:ff9b:1::10.0.0.1]/", "http://[2002:7f00:1::]/"),
    *(
        "http://[2002:a9fe:a9fe::]/",
        "http://[2001:0:7f00:1::]/",
        "http://[fe80::1]/",
        "http://[fe80::1%25lo]/",
        "http://[::1%25lo]/",
    ),
    *(
        "http://[fc00::1]/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://[fec0::1]/",
        "http://[ff02::1]/",
        "http://[2001:db8::1]/",
    ),
    *("http://[5f00::1]/", "http://[100::1]/", "http://[::ffff:169.254.169.254]/"),
)
NAMES = (
    *("http://localhost:{port}/", "http://LOCALHOST:{port}/", "http://localhost.:{port}/", "http://metadata.example/"),
    *("http://loop.example:{port}/", "http://two-faced.example/", "http://mapped.example/", "http://nat64.example/"),
    *("http://sixtofour.example/", "http://scoped.example/", "http://nonsense.example/", "http://none.example/"),
    *("http://allowed.example/", "http://allowed.example:22/", "http://sub.allowed.example:{port}/", "http://denied.example/"),
    *("http://under.denied.example/", "http://public.example:22/", "http://public.example:6379/", "http://public.example:25/"),
)
DISGUISES = (
    *("http://public.example@127.0.0.1:{port}/", "http://public.example:80@127.0.0.1:{port}/", "http://@127.0.0.1:{port}/"),
    *(
        "http://127.0.0.1:{port}@loop.example:{port}/",
        "http://user:word@allowed.example:{port}/",
        "http://%31%32%37.0.0.1:{port}/",
    ),
    *("http://loop.example%00.public.example/", "http://public.example%2f@127.0.0.1:{port}/", "http://127.0.0.1%2f:{port}/"),
    *(
        "http://public.example\\@127.0.0.1:{port}/",
        "http://127.0.0.1\\.public.example/",
        "http://127.0.0.1:{port}\\@public.example/",
    ),
    *(
        "http://\uff11\uff12\uff17.0.0.1:{port}/",
        "http://127\u30020\u30020\u30021:{port}/",
        "http://\u2460\u2461\u2466.0.0.1:{port}/",
    ),
    *("http://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3:{port}/", "http://loop\u200b.example:{port}/"),
    *("http://loop.example:0/", "http://loop.example:99999/", "http://loop.example:-1/", "http://127.0.0.1 :{port}/"),
    *(
        "http://loop.example\t:{port}/",
        "http://lo\top.example/",
        "http://[::1/",
        "http://[127.0.0.1]:{port}/",
        "http:///127.0.0.1/",
    ),
    *("http://-loop.example/", "http://loop..example/", "http://*/", "http://loop.example:{port}" + "/a" * 5000),
)
SCHEMES = (
    *(
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "gopher://127.0.0.1:{port}/_GET",
        "dict://127.0.0.1/",
    ),
    *("ldap://127.0.0.1/", "data:text/plain,x", "javascript:alert(1)", "jar:http://127.0.0.1!/", "ws://127.0.0.1:{port}/"),
    *(
        "wss://127.0.0.1:{port}/",
        "rtmp://127.0.0.1/live",
        "rtsp://127.0.0.1/live",
        "http+unix://%2Ftmp%2Fsocket/",
        "unix:/tmp/socket",
    ),
    *("concat:/etc/passwd|/etc/hosts", "crypto:/etc/passwd", "pipe:0", "fd:0", "subfile,,start,0,end,9,,:/etc/passwd"),
)
TRICKS = (*LITERALS, *NUMBERS, *IPV6, *NAMES, *DISGUISES, *SCHEMES)

_ANSWERS = {
    ALLOWED: ["127.0.0.1"],
    "sub.allowed.example": ["127.0.0.1"],
    "loop.example": ["127.0.0.1"],
    "localhost": ["::1", "127.0.0.1"],
    "metadata.example": ["169.254.169.254"],
    "two-faced.example": ["93.184.215.14", "10.0.0.1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "nat64.example": ["64:ff9b::7f00:1"],
    "sixtofour.example": ["2002:7f00:1::"],
    "scoped.example": ["fe80::1%lo"],
    "nonsense.example": ["127.0.0.1 or so"],
}


def resolve(host: str, port: int) -> Sequence[str]:
    """The name server of these tests. Every other name is private too: should a trick's host be read as one, it is refused."""
    if host == "none.example":
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return _ANSWERS.get(host, ["10.9.9.9"])
