"""Reports found for cases, wherever they were made."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from training.evaluation.cases import Case
from training.evaluation.scanning import match, read_reports
from worker.errors import ConfigError
from worker.report import Report

Cases = Callable[..., Case]
Reports = Callable[..., Report]


def test_reports_match_by_place_or_by_the_end_of_their_path(case: Cases, report: Reports) -> None:
    cases = [case("real", "x/a.mp4"), case("fake", "b.mp4"), case("fake", "c.mp4")]
    found = match(cases, [report(cases[0].path, [1.0] * 3), report(Path("/elsewhere/b.mp4"), [1.0] * 3)])
    assert found.keys() == {"x/a.mp4", "b.mp4"}


def test_cases_that_link_to_one_file_have_its_report(case: Cases, report: Reports, tmp_path: Path) -> None:
    (tmp_path / "b.mp4").symlink_to(tmp_path / "target.mp4")
    (tmp_path / "c.mp4").symlink_to(tmp_path / "target.mp4")
    cases = [replace(case("real", name), path=tmp_path / name) for name in ("a.mp4", "b.mp4", "c.mp4")]
    found = match(cases, [report(tmp_path / "a.mp4", [1.0] * 3), report(tmp_path / "target.mp4", [1.0] * 3)])
    assert {name: its.source.path for name, its in found.items()} == {
        "a.mp4": str(tmp_path / "a.mp4"),
        "b.mp4": str(tmp_path / "target.mp4"),
        "c.mp4": str(tmp_path / "target.mp4"),
    }


@pytest.mark.parametrize("turn", [1, -1])
def test_a_report_on_the_file_itself_comes_before_one_on_a_file_that_ends_alike(
    case: Cases, report: Reports, tmp_path: Path, turn: int
) -> None:
    cases = [replace(case("fake", "a.mp4"), path=tmp_path / "a.mp4")]
    own, others = report(tmp_path / "a.mp4", [1.0] * 3), report(Path("/elsewhere/a.mp4"), [-1.0] * 3)
    assert match(cases, [own, others][::turn]) == {"a.mp4": own}


def test_two_files_that_end_like_one_case_are_refused_unless_they_are_copies(case: Cases, report: Reports) -> None:
    one, other = report(Path("/one/a.mp4"), [1.0] * 3), report(Path("/other/a.mp4"), [-1.0] * 3)
    again = report(Path("/one/a.mp4"), [2.0] * 3)
    assert match([case("fake", "a.mp4")], [one, again]) == {"a.mp4": again}
    with pytest.raises(ConfigError, match=r"both /one/a\.mp4 and /other/a\.mp4"):
        match([case("fake", "a.mp4")], [one, other])
    assert one.media is not None
    copies = [each.model_copy(update={"media": one.media.model_copy(update={"sha256": "c" * 64})}) for each in (one, other)]
    assert match([case("fake", "a.mp4")], copies) == {"a.mp4": copies[1]}


def test_two_failed_reports_that_end_like_one_case_are_a_failed_one(case: Cases, report: Reports) -> None:
    one, other = (
        report(Path(f"/{folder}/a.mp4"), [1.0] * 3).model_copy(update={"status": "failed", "verdict": None, "media": None})
        for folder in ("one", "other")
    )
    assert match([case("fake", "a.mp4")], [one, other]) == {"a.mp4": other}
    with pytest.raises(ConfigError, match=r"both /one/a\.mp4 and /other/a\.mp4"):
        match([case("fake", "a.mp4")], [one, report(Path("/other/a.mp4"), [-1.0] * 3)])


def test_half_a_folder_name_is_no_match(case: Cases, report: Reports) -> None:
    with pytest.raises(ConfigError, match="none of the reports"):
        match([case("real", "x/a.mp4")], [report(Path("/media/other-x/a.mp4"), [1.0] * 3)])


def test_reports_of_two_checkpoints_are_refused(case: Cases, report: Reports) -> None:
    one, two = case("real", "a.mp4"), case("real", "b.mp4")
    first, second = report(one.path, [1.0] * 3), report(two.path, [1.0] * 3)
    assert second.model is not None
    other = second.model_copy(update={"model": second.model.model_copy(update={"sha256": "b" * 64})})
    with pytest.raises(ConfigError, match="2 checkpoints"):
        match([one, two], [first, other])


def test_lines_that_are_no_reports_are_named(report: Reports, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(report(Path("/media/a.mp4"), [1.0] * 3).model_dump_json() + "\n{}\n", "utf-8")
    with pytest.raises(ConfigError, match=r"r\.jsonl:2"):
        read_reports([path])
    with pytest.raises(ConfigError, match="cannot read"):
        read_reports([tmp_path / "none.jsonl"])


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"stopped_early": True, "stopped_by": "verdict"}, "with --exhaustive"),
        ({"start_s": 1.0}, "without --start and --end"),
        ({"end_s": 2.0}, "without --start and --end"),
    ],
)
def test_scans_of_less_than_all_are_refused(report: Reports, tmp_path: Path, changes: dict[str, object], advice: str) -> None:
    whole = report(Path("/media/a.mp4"), [1.0] * 3)
    assert whole.sampling is not None
    broken_off = whole.sampling.model_copy(update={"stopped_early": True, "stopped_by": "media"})
    less = whole.sampling.model_copy(update=changes)
    lines = [whole.model_copy(update={"sampling": sampling}) for sampling in (None, broken_off, less)]
    path = tmp_path / "r.jsonl"
    path.write_text("".join(f"{line.model_dump_json()}\n" for line in lines[:2]), "utf-8")
    assert len(read_reports([path])) == 2
    path.write_text("".join(f"{line.model_dump_json()}\n" for line in lines), "utf-8")
    with pytest.raises(ConfigError, match=rf"r\.jsonl:3 .*{advice}"):
        read_reports([path])


def test_a_video_of_a_version_that_names_no_part_is_refused(report: Reports, tmp_path: Path) -> None:
    told = report(Path("/media/a.mp4"), [1.0] * 3).model_dump(mode="json")
    del told["sampling"]["start_s"], told["sampling"]["end_s"]
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(told | {"media": told["media"] | {"kind": "picture"}}) + "\n")
    assert len(read_reports([path])) == 1, "a picture is always whole"
    path.write_text(json.dumps(told) + "\n")
    with pytest.raises(ConfigError, match=r"r\.jsonl:1 .*does not say whether it looked at the whole"):
        read_reports([path])


def test_a_name_may_hold_a_line_separator(report: Reports, tmp_path: Path) -> None:
    path, name = tmp_path / "r.jsonl", "/media/a\u2028b\x85.mp4"
    line = report(Path(name), [1.0] * 3).model_dump_json()
    assert "\u2028" in line
    path.write_text(f"{line}\n{line}", "utf-8")
    assert [found.source.path for found in read_reports([path])] == [name] * 2
