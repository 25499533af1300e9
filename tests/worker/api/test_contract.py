"""schemathesis over the OpenAPI document: whatever is sent, answers are as documented and never a fault of the service's."""

from __future__ import annotations

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished

from tests.worker.api.conftest import Service

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
            "generation": {"max-examples": 12, "database": "none", "deterministic": True},
            "checks": {"positive_data_acceptance": {"expected-statuses": REFUSALS}},
            "phases": {"stateful": {"max-steps": 6, "generation": {"max-examples": 12}}},
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
