"""Rows of CSV: what each cell holds, and what no spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime

import pytest

from tests.worker.pages.reports import failed, report
from worker.output.csv import CsvSink, safe_cell
from worker.report import Report, Sampling
from worker.types import Strategy

PART = Sampling(
    requested=8,
    decoded=8,
    with_face=8,
    strategy=Strategy.AUTO,
    start_s=0.0,
    end_s=5.9,
    max_gap_s=1,
    undecodable_s=0,
    stopped_early=False,
)


def row(**more: object) -> dict[str, str]:
    """Of a failed scan, but for what is told otherwise."""
    told = {"id": "0" * 32, "source": {"kind": "path", "path": "/clips/a.mp4"}, "status": "failed"}
    text = written(Report.model_validate(told | {"created_at": datetime(2026, 1, 1, tzinfo=UTC)} | more))
    (found,) = csv.DictReader(io.StringIO(text))
    return found


def written(one: Report) -> str:
    out = io.StringIO()
    sink = CsvSink(out)
    sink.write(one)
    sink.close()
    return out.getvalue()


def test_a_file_is_named_as_it_is_with_what_is_known_of_it() -> None:
    media = {"sha256": "ab" * 32, "kind": "video", "duration_s": 2.5, "fps": 25, "width": 64, "height": 48}
    media |= {"codec": "h264", "container": "mp4", "decoder": "pyav", "more_videos": 1}
    found = row(media=media)
    assert (found["path"], found["sha256"], found["duration_s"]) == ("/clips/a.mp4", "ab" * 32, "2.500")
    assert (found["start_s"], found["end_s"], found["more_videos"]) == ("", "", "1")
    found = row()
    unknown = ("sha256", "duration_s", "seconds", "score", "more_videos", "undecodable_s", "crowded")
    assert [found[name] for name in unknown] == [""] * len(unknown)
    assert row(error={"code": "corrupt", "message": "", "retryable": False, "sha256": "ef" * 32})["sha256"] == "ef" * 32


def test_a_score_is_told_whole_as_one_that_is_not_sure_must_not_read_so() -> None:
    assert row(score=0.99999998)["score"] == "0.99999998"


def test_a_part_of_a_video_has_its_begin_and_end() -> None:
    found = row(sampling=PART)
    assert (found["start_s"], found["end_s"], found["undecodable_s"]) == ("0.000", "5.900", "0.000")


def test_a_crowd_of_which_faces_were_left_out_is_one() -> None:
    assert [row(sampling=PART.model_copy(update={"crowded": told}))["crowded"] for told in (False, True)] == ["false", "true"]


def test_an_address_stands_where_a_path_would() -> None:
    assert row(source={"kind": "url", "url": "https://media.example/a.mp4"})["path"] == "https://media.example/a.mp4"


def test_every_cell_stands_below_its_name() -> None:
    reasons = ({"code": "near_threshold"}, {"code": "too_few_frames"})
    found = next(csv.DictReader(io.StringIO(written(report(reasons=reasons)))))
    assert (found["status"], found["verdict"], found["score"], found["calibrated"]) == ("completed", "fake", "0.9", "true")
    assert (found["reasons"], found["tracks"], found["worst_ms"]) == ("near_threshold too_few_frames", "1", "2000")
    assert (found["duration_s"], found["seconds"]) == ("10.000", "1.500")
    assert (found["model"], found["id"]) == ("tiny 2", report().id)
    found = next(csv.DictReader(io.StringIO(written(failed()))))
    assert (found["status"], found["error_code"]) == ("failed", "corrupt")
    assert (found["error_message"], found["verdict"]) == ("moov atom not found", "")


@pytest.mark.parametrize("first", "=+-@\t\r")
def test_a_cell_of_any_text_is_no_formula(first: str) -> None:
    assert safe_cell(f"{first}1") == f"'{first}1"


@pytest.mark.parametrize("first", "=+-@")
def test_what_begins_as_a_formula_is_text(first: str) -> None:
    model = {"name": f"{first}1", "version": "2", "sha256": "ab" * 32, "licence": "", "backend": "onnxruntime", "calibration": ""}
    found = row(source={"kind": "path", "path": f"{first}1.mp4"}, model=model)
    assert (found["path"], found["model"]) == (f"'{first}1.mp4", f"'{first}1 2")
