"""The OpenAPI document: the one that is committed, and complete."""

from __future__ import annotations

import json
from pathlib import Path

from tests.worker.api.conftest import Service
from worker.api.app import openapi_document
from worker.commands.schema import openapi_text

DOCS = Path(__file__).parents[3] / "docs"


def test_the_document_in_docs_is_this_one(service: Service) -> None:
    assert (DOCS / "openapi.json").read_text() == openapi_text(), "veriframe schema --openapi > docs/openapi.json"
    assert service.client.get("/openapi.json").json() == openapi_document()


def test_every_operation_tells_of_keys_and_errors() -> None:
    document = openapi_document()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"]
            if path.startswith("/v1/"):
                assert operation["security"] == [{"ApiKey": []}]
                for status in ("401", "403", "422", "429", "503"):
                    assert list(operation["responses"][status]["content"]) == ["application/problem+json"]
    names = json.dumps(document)
    for name in document["components"]["schemas"]:
        assert f"#/components/schemas/{name}" in names, f"{name} is not used"
