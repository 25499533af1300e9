from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from pydantic import ValidationError

from worker.commands.schema import schema_text
from worker.errors import BY_CODE, MediaError
from worker.output.jsonl import json_line
from worker.report import FRAMES_IN_REPORT, FrameItem, Report, Source, new_id, now

REPOSITORY = Path(__file__).parents[2]
DESIGNED = {
    *("schema_version", "id", "kind", "source", "external_id", "owner", "created_at", "started_at", "finished_at", "retry_of"),
    *("status", "dead", "progress", "attempt", "media", "near_duplicates", "verdict", "decided_by", "reasons", "score", "odds"),
    *(
        "calibrated",
        "thresholds",
        "uncertainty",
        "tracks",
        "segments",
        "frames",
        "sampling",
        "model",
        "timings_ms",
        "watch",
        "error",
    ),
}


def report(**changes: object) -> Report:
    values = {"id": new_id(), "source": Source.of(Path("a.mp4")), "created_at": now(), "status": "completed"}
    return Report.model_validate(values | changes)


def test_the_committed_schema_is_that_of_the_code() -> None:
    assert (REPOSITORY / "docs" / "report.schema.json").read_text() == schema_text(), "veriframe schema > docs/report.schema.json"


def test_every_field_of_the_contract_is_there_from_the_start() -> None:
    line = json.loads(json_line(report()))
    assert line.keys() == DESIGNED
    assert line["verdict"] is None
    assert line["score"] is None


def test_a_report_survives_json() -> None:
    one = report(frames=[FrameItem(index=0, t_ms=0, faces=())])
    assert Report.model_validate_json(json_line(one)) == one


def test_json_lines_are_printable_ascii() -> None:
    one = report(source=Source.of(Path("/x/\x1b]0;t\x07\x9b31m\u2028\n\u202e\x7f é.mp4")))
    line = json_line(one)
    assert all(" " <= char <= "~" for char in line)
    assert json.loads(line)["source"]["path"] == one.source.path


@pytest.mark.parametrize("name", [b"caf\xe9.mp4", b"\xff\xfe", b"ok\\xff\xc3", b"a b%20\xf0"])
def test_a_name_that_is_not_utf8_is_shown_and_kept_exactly(name: bytes) -> None:
    path = Path(os.fsdecode(b"/x/" + name))
    source = Report.model_validate_json(json_line(report(source=Source.of(path)))).source
    assert source.path is not None
    assert source.path.startswith("/x/")
    assert "\\x" in source.path
    assert source.url is not None
    assert unquote_to_bytes(urlsplit(source.url).path) == os.fsencode(path)


def test_other_names_are_kept_as_they_are() -> None:
    assert Source.of(Path("/x/é\n.mp4")) == Source(kind="path", path="/x/é\n.mp4")
    assert Source.of(Path("a.mp4")).path == os.path.abspath("a.mp4")


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "done"},
        {"verdict": "maybe"},
        {"score": 1.5},
        {"score": float("nan")},
        {"schema_version": 2},
        {"unknown": 1},
        {"error": {"code": "oops", "message": "", "retryable": False}},
        {"frames": [FrameItem(index=0, t_ms=0, faces=())] * (FRAMES_IN_REPORT + 1)},
    ],
)
def test_what_the_contract_does_not_know_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        report(**changes)


def test_every_media_error_has_a_code_of_the_contract() -> None:
    codes = [code for code, error in BY_CODE.items() if issubclass(error, MediaError)]
    assert codes
    for code in codes:
        report(status="failed", error={"code": code, "message": "", "retryable": False})
