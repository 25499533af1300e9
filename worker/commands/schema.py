"""``veriframe schema``: what the program goes by, as committed in docs: the report's JSON Schema, the API, the settings."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from worker.commands.outcome import exit_codes

app = typer.Typer(add_completion=False)


def schema_text() -> str:
    """The schema as it stands in docs/report.schema.json."""
    from worker.report import Report

    return _text({"$schema": "https://json-schema.org/draft/2020-12/schema", **Report.model_json_schema(mode="serialization")})


def openapi_text() -> str:
    """The document as it stands in docs/openapi.json."""
    from worker.api.app import openapi_document

    return _text(openapi_document())


def settings_text() -> str:
    """The page as it stands in docs/configuration.md."""
    from worker.reference import settings_reference
    from worker.settings import Settings

    return settings_reference(Settings)


def reference_text() -> str:
    """The page as it stands in docs/api-reference.md."""
    from worker.api.app import openapi_document
    from worker.reference import api_reference

    return api_reference(openapi_document())


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


@app.command()
def schema(
    openapi: Annotated[bool, typer.Option("--openapi", help="The HTTP API's OpenAPI document instead.")] = False,
    reference: Annotated[bool, typer.Option("--reference", help="The HTTP API's reference page instead (Markdown).")] = False,
    settings: Annotated[bool, typer.Option("--settings", help="The page of all settings instead (Markdown).")] = False,
) -> None:
    """Print the JSON Schema of a report."""
    if openapi + reference + settings > 1:
        raise typer.BadParameter("one of --openapi, --reference and --settings at a time")
    chosen = openapi_text if openapi else reference_text if reference else settings_text if settings else schema_text
    with exit_codes():
        typer.echo(chosen(), nl=False)
