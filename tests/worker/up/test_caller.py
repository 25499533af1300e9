"""What the API answers, well or badly, in words; on a real server on loopback."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler

import pytest

from tests.worker.source.loopback import Answer, Loopback, reply, serve
from worker.errors import QueueError
from worker.queue.embedded import free_port
from worker.up.caller import Caller


def caller_of(served: Loopback) -> Caller:
    return Caller(host="127.0.0.1", port=served.port, token="vf_secret")


def test_the_newest_of_a_name_is_asked_for_with_the_key() -> None:
    found = json.dumps({"scans": [{"id": "1", "status": "completed"}]}).encode()
    with serve(reply(found)) as served:
        assert caller_of(served).newest("a b&c") == {"id": "1", "status": "completed"}
    path, headers = served.requests[0]
    assert path == "/v1/scans?limit=1&external_id=a%20b%26c"
    assert headers["authorization"] == "Bearer vf_secret"
    with serve(reply(b'{"scans": []}')) as served:
        assert caller_of(served).newest("nothing") is None


def test_a_problem_is_told_in_the_apis_words() -> None:
    problem = json.dumps({"detail": "come again\x1b[31m", "code": "queue_full"}).encode()
    with serve(reply(problem, 429)) as served, pytest.raises(QueueError, match=r"429: come again\\x1b\[31m") as raised:
        caller_of(served).report("1")
    assert "vf_secret" not in str(raised.value)


def broken(request: BaseHTTPRequestHandler, served: Loopback) -> None:
    request.wfile.write(b"SSH-2.0-something\r\n")


@pytest.mark.parametrize("answer", [broken, reply(b"<html>"), reply(b"[]", 200, Content_Length="9")])
def test_what_is_no_answer_of_the_apis_is_said_so(answer: Answer) -> None:
    with serve(answer) as served:
        caller = caller_of(served)
        with pytest.raises(QueueError, match="does not answer"):
            caller.report("1")
        assert not caller.answers()


def test_nobody_there() -> None:
    assert not Caller(host="127.0.0.1", port=free_port()).answers()
    with serve(reply(b'{"status": "alive"}')) as served:
        assert caller_of(served).answers()
