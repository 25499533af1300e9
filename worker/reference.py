"""Reference pages of the documentation, written from what the program itself goes by: its settings and its OpenAPI document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from worker.types import Json

BOUNDS = (
    ("minimum", "≥ {}"),
    ("exclusiveMinimum", "> {}"),
    ("maximum", "≤ {}"),
    ("exclusiveMaximum", "< {}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("maxItems", "at most {} items"),
)
SETTINGS_HEAD = """\
# Configuration

Every setting of `configs/worker.yaml`, written from the program by `veriframe schema --settings`. A file wins over the defaults
below, environment variables over the file, flags over both. `SECTION.KEY` here is the variable `VERIFRAME_SECTION__KEY`:
`decode.timeout_s` is `VERIFRAME_DECODE__TIMEOUT_S`. A variable of a text, a path or a password is taken as it stands, without
quotes; others are written as in YAML, lists `[a, b]`. An empty one unsets a key that may be null; so does `null`, but for a
password. In a file, a password of digits, or with one of `@%*!&#[]{}"'` or `: ` in it, needs quotes.
A key that does not exist, or a value out of its bounds, is an error that names it, and quotes nothing that a password may be in.
Without `--config`, a checkout's own `configs/worker.yaml` is read.
"""
API_HEAD = """\
# API reference

Every operation and every field, written from the program by `veriframe schema --reference`. How they work together, errors and
limits: [api.md](api.md); the machine-readable form: [openapi.json](openapi.json).
"""


def settings_reference(model: type[BaseModel]) -> str:
    """Markdown: a table for each section of a settings model: key, default, what is allowed, what it is for."""
    document = model.model_json_schema()
    parts = [SETTINGS_HEAD]
    for section, field in document["properties"].items():
        schema = _resolved(field, document)
        lines = [f"## {section}", ""]
        if words := schema.get("description"):
            lines += [_line(words), ""]
        lines += ["| key | default | allowed | meaning |", "|---|---|---|---|"]
        for key, value in schema["properties"].items():
            row = (f"`{section}.{key}`", _default(value), _allowed(value, document), _line(value.get("description", "")))
            lines.append(f"| {' | '.join(_cell(part) for part in row)} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def api_reference(document: Json) -> str:
    """Markdown of an OpenAPI 3.1 document: a chapter for each operation, then a table for each model."""
    parts = [API_HEAD]
    for path, operations in document["paths"].items():
        parts += [_operation(f"{method.upper()} {path}", operation) for method, operation in operations.items()]
    parts.append("# Models\n")
    models = document["components"]["schemas"]
    sent = _named([operation.get("requestBody") for each in document["paths"].values() for operation in each.values()], models)
    parts += [_model(name, schema, is_sent=name in sent) for name, schema in sorted(models.items())]
    return "\n".join(parts)


def _named(part: object, models: Json) -> set[str]:
    """The models that a part of the document names, and those that they name."""
    named: set[str] = set()
    while more := set(re.findall(r"#/components/schemas/(\w+)", json.dumps([part, *(models[name] for name in named)]))) - named:
        named |= more
    return named


def _operation(title: str, operation: Json) -> str:
    lines = [f"## {title}", "", _line(operation.get("description", "")), ""]
    if parameters := operation.get("parameters"):
        lines += ["| parameter | in | allowed | meaning |", "|---|---|---|---|"]
        for one in parameters:
            name = f"`{one['name']}`" + (" (required)" if one.get("required") else "")
            row = (name, one["in"], _allowed(one["schema"], {}) + _else(one["schema"]), _line(_words(one)))
            lines.append(f"| {' | '.join(_cell(part) for part in row)} |")
        lines.append("")
    if body := operation.get("requestBody"):
        lines += ["Body: " + "; ".join(_contents(body)) + ".", ""]
    answers = []
    for status, answer in operation["responses"].items():
        contents = [text for text in _contents(answer) if "Problem" not in text]
        answers.append(f"{status} {'; '.join(contents)}".strip())
    return "\n".join([*lines, "Answers: " + ", ".join(answers) + ".", ""])


def _contents(body: Json) -> Iterator[str]:
    for media, content in body.get("content", {}).items():
        schema = content.get("schema", {})
        known = "$ref" in schema
        yield f"{_allowed(schema, {})} (`{media}`)" if known else f"`{media}`"


def _model(name: str, schema: Json, *, is_sent: bool) -> str:
    """``is_sent``: by callers, who may leave out what has a default."""
    lines = [f"### {name}", ""]
    if words := schema.get("description"):
        lines += [_line(words), ""]
    if "properties" not in schema:
        return "\n".join([*lines, _allowed(schema, {}), ""])
    lines += ["| field | type | meaning |", "|---|---|---|"]
    for key, value in schema["properties"].items():
        shown = f"`{key}`" + (" (required)" if key in schema.get("required", ()) else "")
        row = (shown, _allowed(value, {}) + (_else(value) if is_sent else ""), _line(value.get("description", "")))
        lines.append(f"| {' | '.join(_cell(part) for part in row)} |")
    return "\n".join([*lines, ""])


def _words(parameter: Json) -> str:
    return str(parameter.get("description") or parameter["schema"].get("description") or "")


def _else(schema: Json) -> str:
    return f"; {_default(schema)} by default" if isinstance(schema.get("default"), str | int | float) else ""


def _default(schema: Json) -> str:
    if "default" not in schema:
        return ""
    value = schema["default"]
    shown = "null" if value is None else value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1 << 30 and value % (1 << 30) == 0:
        return f"`{shown}` ({value >> 30} GiB)"
    return f"`{shown}`"


def _allowed(schema: Json, document: Json) -> str:
    """The type, its members or its bounds, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return _allowed(_resolved(schema, document), document) if document else f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{member}`" for member in schema["enum"])
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return " or ".join(dict.fromkeys(_allowed(option, document) for option in schema[choice]))
    kind = schema.get("type", "anything")
    if kind == "array":
        items = schema.get("items") or {"anyOf": schema.get("prefixItems", [{}])}
        return "list of " + _allowed(items, document) + _bounds(schema)
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return "map to " + _allowed(schema["additionalProperties"], document)
    form = f" ({schema['format']})" if "format" in schema else ""
    return f"{kind}{form}{_bounds(schema)}"


def _bounds(schema: Json) -> str:
    found = [words.format(schema[key]) for key, words in BOUNDS if key in schema]
    if "pattern" in schema:
        found.append(f"like `{schema['pattern']}`")
    return "".join(f", {bound}" for bound in found)


def _resolved(schema: Json, document: Json) -> Json:
    if "$ref" not in schema:
        return schema
    found: Any = document
    for name in schema["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return dict(found)


def _line(words: str) -> str:
    return " ".join(words.split())


def _cell(text: str) -> str:
    """A table's cell: a bar would begin the next one."""
    return text.replace("|", "\\|")
