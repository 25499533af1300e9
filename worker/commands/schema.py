"""``veriframe schema``: the JSON Schema of a report or the API's OpenAPI document, as committed in docs."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from worker.commands.outcome import exit_codes

app = typer.Typer()


def schema_text() -> str:
    """The schema as it stands in docs/report.schema.json."""
    from worker.report import Report

    return _text({"$schema": "https://json-schema.org/draft/2020-12/schema", **Report.model_json_schema(mode="serialization")})


def openapi_text() -> str:
    """The document as it stands in docs/openapi.json."""
    from worker.api.app import openapi_document

    return _text(openapi_document())


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


@app.command()
def schema(openapi: Annotated[bool, typer.Option("--openapi", help="The HTTP API's OpenAPI document instead.")] = False) -> None:
    """Print the JSON Schema of a report."""
    with exit_codes():
        typer.echo(openapi_text() if openapi else schema_text(), nl=False)
