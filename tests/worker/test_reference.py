"""The reference pages say what the program goes by."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import pytest
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from worker.cli import app
from worker.commands.schema import reference_text, settings_text
from worker.reference import api_reference, settings_reference
from worker.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Paint(BaseModel):
    """What is
    painted."""

    colour: Colour = Field(default=Colour.RED, description="one | of two")
    coats: int | None = Field(default=None, gt=0, le=3)
    names: tuple[str, ...] = ()
    bytes: int = 2 << 30


class House(BaseModel):
    paint: Paint = Paint()


def test_a_setting_has_its_default_its_bounds_and_its_meaning() -> None:
    page = settings_reference(House)
    assert "## paint\n\nWhat is painted.\n" in page
    assert "| `paint.colour` | `red` | `red`, `blue` | one \\| of two |" in page
    assert "| `paint.coats` | `null` | integer, > 0, ≤ 3 or null |  |" in page
    assert "| `paint.names` | `[]` | list of string |  |" in page
    assert "| `paint.bytes` | `2147483648` (2 GiB) | integer |  |" in page


def test_every_setting_is_there_and_explained() -> None:
    page = settings_text()
    for section, model in Settings():
        for key, field in type(model).model_fields.items():
            assert f"| `{section}.{key}` |" in page
            assert field.description, f"{section}.{key} has no description"


def test_an_operation_names_its_parameters_body_and_answers() -> None:
    operation = {
        "description": "Paint\nit.",
        "parameters": [
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "pattern": "a|b"}},
            {"name": "n", "in": "query", "schema": {"type": "integer", "minimum": 1, "default": 5, "description": "how many"}},
        ],
        "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Paint"}}}},
        "responses": {
            "200": {"content": {"image/png": {"schema": {"type": "string"}}}},
            "404": {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
        },
    }
    models = {name: Paint.model_json_schema() for name in ("Paint", "Colour", "Painted")}
    models["Paint"]["properties"]["inner"] = {"$ref": "#/components/schemas/Colour"}
    page = api_reference({"paths": {"/x/{id}": {"post": operation}}, "components": {"schemas": models}})
    assert "## POST /x/{id}\n\nPaint it.\n" in page
    assert "| `id` (required) | path | string, like `a\\|b` |  |" in page
    assert "| `n` | query | integer, ≥ 1; `5` by default | how many |" in page
    assert "Body: [Paint](#paint) (`application/json`)." in page
    assert "Answers: 200 `image/png`, 404." in page
    assert "| `coats` | integer, > 0, ≤ 3 or null |  |" in page
    of_models = (page.partition(f"### {name}\n")[2].partition("###")[0] for name in models)
    assert ["`2147483648` (2 GiB) by default" in text for text in of_models] == [True, True, False]


def test_the_pages_are_as_they_stand_in_the_docs() -> None:
    assert (DOCS / "configuration.md").read_text() == settings_text(), "veriframe schema --settings > docs/configuration.md"
    assert (DOCS / "api-reference.md").read_text() == reference_text(), "veriframe schema --reference > docs/api-reference.md"


@pytest.mark.parametrize("flags", [["--openapi", "--settings"], ["--reference", "--settings"]])
def test_one_at_a_time(flags: list[str]) -> None:
    result = CliRunner().invoke(app, ["schema", *flags])
    assert result.exit_code == 2
    assert "at a time" in result.output
