"""Whatever is sent, answers are as documented and never a fault of the service's: schemathesis over the OpenAPI document, and
hypothesis below it, with requests that no document describes.
"""

from __future__ import annotations

import json
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished

from tests.worker.api.conftest import Service, call

REFUSALS = ["2xx", "401", "403", "404", "409", "422"]
"""What fits the schema may still be refused: an upload that is not there, a private address, a scan that has not ended."""


def test_nothing_that_is_sent_breaks_the_service(service: Service) -> None:
    """Examples, edge values, invalid values, other methods, missing keys, and chains of requests by the document's links."""
    service.parts.roster.tell("w1", {"ready": True})
    config = SchemathesisConfig.from_dict(
        {
            "seed": 7,
            "headers": service.as_("acme", "admin"),
            "continue-on-failure": True,
            "generation": {"max-examples": 8, "database": "none", "deterministic": True},
            "checks": {"positive_data_acceptance": {"expected-statuses": REFUSALS}},
            "phases": {"stateful": {"max-steps": 6, "generation": {"max-examples": 8}}},
        }
    )
    schema = schemathesis.openapi.from_asgi("/openapi.json", service.app, config=config)
    requests, operations, failures = 0, set(), set()
    for event in from_schema(schema).execute():
        if isinstance(event, NonFatalError | FatalError):
            failures.add(repr(event))
        if not isinstance(event, ScenarioFinished):
            continue
        requests += len(event.recorder.interactions)
        operations |= {case.value.operation.label for case in event.recorder.cases.values()}
        for checks in event.recorder.checks.values():
            for check in checks:
                if check.failure_info is not None:
                    failures.add(f"{check.name}: {check.failure_info.failure}\n{check.failure_info.code_sample}")
    assert not failures, "\n\n".join(sorted(failures))
    assert operations == {operation.ok().label for operation in schema.get_all_operations()}
    assert requests > 300


SCAN_ID = "0" * 32
ROUTES = ["/v1/scans", "/v1/uploads", "/v1/feedback", "/livez", "/metrics", "/openapi.json", f"/v1/scans/{SCAN_ID}"]
ROUTES += [f"/v1/scans/{SCAN_ID}/{action}" for action in ("cancel", "retry", "feedback")]
PATHS = st.sampled_from(ROUTES) | st.text(max_size=40).map(lambda text: "/v1/scans/" + text) | st.text(max_size=20)
NAMES = [b"content-type", b"content-length", b"idempotency-key", b"x-request-id", b"accept", b"transfer-encoding", b"expect"]
HEADERS = st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=40)), max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["source", "url", "label", "note"]), inner),
    max_leaves=6,
)
BODIES = st.lists(st.binary(max_size=64), max_size=4) | JSON.map(lambda value: [json.dumps(value).encode()])


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "BREW"]),
    path=PATHS,
    query=st.binary(max_size=30) | st.sampled_from([b"limit=9&limit=x", b"dead=%ff", b"status=%00", b"cursor=" + b"9" * 200]),
    headers=HEADERS,
    body=BODIES,
    is_json=st.booleans(),
    with_key=st.booleans(),
)
@settings(max_examples=150, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_request_is_answered_by_a_fault(
    service: Service, method: str, path: str, query: bytes, headers: Any, body: Any, is_json: bool, with_key: bool
) -> None:
    told = [*headers, *([(b"content-type", b"application/json")] if is_json else [])]
    if with_key:
        told.append((b"authorization", service.as_("acme", "admin")["Authorization"].encode()))
    answer = call(service.app, method, path, told, iter(body), query)
    assert answer.status_code < 500, answer.body
    if answer.status_code >= 400 and method != "HEAD":
        assert answer.headers["content-type"] == "application/problem+json"
        assert json.loads(answer.body)["status"] == answer.status_code
