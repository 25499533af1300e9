"""``veriframe schema``: the JSON Schema of a report, as committed in docs/report.schema.json."""

from __future__ import annotations

import json

import typer

from worker.commands.outcome import exit_codes

app = typer.Typer()


def schema_text() -> str:
    """The schema as it stands in the file, with a line end."""
    from worker.report import Report

    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Report.model_json_schema(mode="serialization")}
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


@app.command()
def schema() -> None:
    """Print the JSON Schema of a report."""
    with exit_codes():
        typer.echo(schema_text(), nl=False)
