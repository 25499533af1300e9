"""Requests from outside: whatever comes, it is a request or BadRequest."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from worker.errors import BadRequest
from worker.queue.requests import MAX_REQUEST_BYTES, ScanRequest, read_request
from worker.service_settings import ApiSettings

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
"""Any JSON, with the NaN and the lone surrogates that Python writes too."""
FIELDS = ("schema_version", "kind", "source", "external_id", "idempotency_key", "priority", "callback_url", "options")
URLS = st.sampled_from(
    ["https://a.example/x", "http://", "https://[", "ftp://a", "https://a b", "https://\x7f", "https://é.example/"]
)
SOURCES = st.dictionaries(st.sampled_from(["url", "path", "upload", "more"]), URLS | JSON, max_size=3)
OPTIONS = st.dictionaries(
    st.sampled_from(["max_frames", "fps", "start_s", "end_s", "strategy", "exhaustive", "window_s", "hop_s", "more"]),
    st.integers() | st.floats() | st.sampled_from(["auto", "fps", "1"]) | JSON,
    max_size=4,
)
NEARLY = st.fixed_dictionaries(
    {"source": SOURCES},
    optional={name: JSON for name in FIELDS if name not in ("source", "options", "kind")}
    | {"options": OPTIONS | JSON, "kind": st.sampled_from(["scan", "watch"]) | JSON},
)


def taken(data: Any) -> None:
    try:
        request = read_request(data)
    except BadRequest:
        return
    assert read_request(request.coded()) == request, "what is stored is read again"
    assert len(request.body_sha256()) == 64


@given(st.binary(max_size=200))
@settings(max_examples=150)
def test_any_bytes(data: bytes) -> None:
    taken(data)


@given(JSON | NEARLY)
@settings(max_examples=150)
def test_any_json(value: Any) -> None:
    taken(json.dumps(value))
    taken(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


@given(NEARLY)
@settings(max_examples=100)
def test_any_dictionary(value: dict[str, Any]) -> None:
    taken(value)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 60000,
        b'{"source":' * 6000,
        b'{"source": {"url": "https://a.example/"}, "options": {"max_frames": ' + b"9" * 5000 + b"}}",
        b" " * (MAX_REQUEST_BYTES + 1),
        b'{"source": {"url": "https://a.example/\\ud800"}}',
        b'{"source": {"url": "https://a.example/\\u0000"}}',
        b'{"source": {"url": "https://a.example/"}, "options": {"fps": NaN, "strategy": "fps"}}',
        b'{"source": {"url": "https://a.example/"}, "schema_version": 2}',
        b'{"source": {"url": "https://a.example/"}, "schema_version": true}',
        b'{"source": {"url": "https://a.example/"}, "options": {"max_frames": "8"}}',
        b'{"source": {"url": "https://a.example/"}, "options": {"start_s": 2, "end_s": 1}}',
    ],
)
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BadRequest):
        read_request(data)


LIVE = {"url": "https://a.example/live.m3u8"}


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "scan", "source": LIVE, "options": {"window_s": 10}},
        {"kind": "watch", "source": LIVE, "options": {"max_frames": 8}},
        {"kind": "watch", "source": LIVE, "options": {"exhaustive": True}},
        {"kind": "watch", "source": LIVE, "options": {"window_s": 4, "hop_s": 5}},
        {"kind": "watch", "source": LIVE, "options": {"window_s": 121}},
        {"kind": "watch", "source": LIVE, "options": {"max_duration_s": 0}},
        {"kind": "watch", "source": {"path": "/media/a.ts"}},
        {"kind": "watch", "source": {"upload": "0" * 32}},
    ],
)
def test_scans_and_watches_have_options_and_sources_of_their_own(body: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        read_request(json.dumps(body))


def test_watches_wait_in_a_queue_of_their_own() -> None:
    body = {"kind": "watch", "source": LIVE, "options": {"window_s": 4, "hop_s": 2, "max_duration_s": 60}, "priority": "live"}
    watch = read_request(json.dumps(body))
    assert (watch.kind, watch.queue) == ("watch", "watch")
    assert read_request(json.dumps(body | {"kind": "scan", "options": {}})).queue == "live"


def test_a_refusal_repeats_no_value() -> None:
    for body in ({"source": {"url": "https://hush"}, "kind": "hush"}, {"source": {"url": "hush://hush"}}, {"source": "hush"}):
        with pytest.raises(BadRequest) as refused:
            read_request(json.dumps(body))
        assert "hush" not in str(refused.value)


def test_a_request_is_what_it_was() -> None:
    body = {
        "source": {"url": "https://a.example/?q=1"},
        "external_id": "post 7",
        "priority": "live",
        "callback_url": "https://b.example/",
        "options": {"max_frames": 8, "start_s": 1, "end_s": 2.5, "strategy": "fps", "fps": 2},
    }
    request = read_request(json.dumps(body))
    assert request == read_request(body) == ScanRequest.model_validate(body)
    assert request.body_sha256() == read_request({**body, "idempotency_key": "x"}).body_sha256()
    assert request.body_sha256() != read_request({**body, "priority": "low"}).body_sha256()


def test_no_body_is_taken_that_would_be_no_request() -> None:
    assert ApiSettings(max_body_bytes=MAX_REQUEST_BYTES).max_body_bytes == MAX_REQUEST_BYTES
    with pytest.raises(ValidationError):
        ApiSettings(max_body_bytes=MAX_REQUEST_BYTES + 1)
