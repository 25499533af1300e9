"""Robustness curves: what is tried, kept over a stop, and drawn from the answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.worker.fake_scanner import FakeResult
from training.evaluation import plots
from training.evaluation.judged import Judged
from training.evaluation.robustness import levels, read_lines, run, trials
from training.evaluation.sections import level_table
from worker.content import Content
from worker.errors import ConfigError, CorruptMedia
from worker.pixels import rgb_frame
from worker.report import Report
from worker.types import Frame, MediaInfo, MediaKind, SamplingRequest

PICTURE = MediaInfo(kind=MediaKind.PICTURE, container="png", codec="png", width=32, height=32, duration_s=0, fps=0, n_frames=1)


@dataclass
class OnePicture:
    """Every file holds the same grey picture; ``torn.jpg`` cannot be opened."""

    info: MediaInfo = PICTURE
    lost_share: float = 0.0

    @contextmanager
    def open(self, path: Path) -> Iterator[OnePicture]:
        if path.name == "torn.jpg":
            raise CorruptMedia("torn")
        yield self

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        yield rgb_frame(0.0, np.full((32, 32, 3), 128, np.uint8))


@dataclass
class Counting:
    """Scores every file alike, and counts the scans."""

    report: Callable[..., Report]
    fingerprint: str = "f"
    max_bytes: int = 1 << 20
    scans: int = 0
    logits: Sequence[float] = (1.0,)

    def scan(self, path: Path, *, content: Content | None = None, on_progress: Callable[[Any], None] | None = None) -> FakeResult:
        assert path.is_file()
        self.scans += 1
        return FakeResult(self.report(path, self.logits, MediaKind.PICTURE))


@pytest.fixture
def files(judged: Callable[..., Judged]) -> list[Judged]:
    return [
        judged("real", -1.0, "a.jpg", kind=MediaKind.PICTURE),
        judged("fake", 2.0, "b.jpg", kind=MediaKind.PICTURE),
        judged("fake", None, "faceless.jpg", kind=MediaKind.PICTURE),
    ]


def test_each_level_is_tried_on_files_that_had_a_score(files: list[Judged]) -> None:
    wanted = trials(files, videos=5, pictures=5)
    assert {trial.item.case.name for trial in wanted} == {"a.jpg", "b.jpg"}
    assert {trial.family.name for trial in wanted} == {"jpeg", "blur", "resize", "noise", "gray", "flip"}
    assert len({trial.key for trial in wanted}) == len(wanted)
    assert trials(files, videos=5, pictures=0) == []


def test_a_run_goes_on_whatever_ends_a_line_elsewhere_in_a_files_name(
    judged: Callable[..., Judged], report: Callable[..., Report], tmp_path: Path
) -> None:
    files = [judged("real", -1.0, f"a{end}b.jpg", kind=MediaKind.PICTURE) for end in "\u2028\x85\n\r"]
    wanted, path = trials(files, videos=0, pictures=5)[:4], tmp_path / "robustness.jsonl"
    assert len({trial.item.case.name for trial in wanted}) == 4
    first, second = Counting(report), Counting(report)
    run(wanted, path, first, OnePicture())
    assert run(wanted, path, second, OnePicture()).keys() == {trial.key for trial in wanted}
    assert (first.scans, second.scans) == (4, 0)


def test_a_stopped_run_goes_on_and_a_torn_line_is_cut_off(
    files: list[Judged], report: Callable[..., Report], tmp_path: Path
) -> None:
    wanted, path = trials(files, videos=0, pictures=5), tmp_path / "robustness.jsonl"
    first = Counting(report)
    run(wanted[:7], path, first, OnePicture())
    with path.open("a") as file:
        file.write('{"fingerprint": "f", "fam')
    second = Counting(report)
    heard: list[str] = []
    found = run(wanted, path, second, OnePicture(), on_done=lambda: heard.append("done"))
    assert (first.scans, second.scans) == (7, len(wanted) - 7)
    assert len(found) == len(heard) == len(wanted)
    assert len(path.read_text().splitlines()) == len(wanted)


def test_a_line_may_be_torn_within_a_character(
    judged: Callable[..., Judged], report: Callable[..., Report], tmp_path: Path
) -> None:
    wanted = trials([judged("real", -1.0, "ä.jpg", kind=MediaKind.PICTURE)], videos=0, pictures=5)[:2]
    path, again = tmp_path / "robustness.jsonl", Counting(report)
    run(wanted, path, Counting(report), OnePicture())
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex("ä".encode()) + 1])
    run(wanted, path, again, OnePicture())
    assert again.scans == 1
    assert len(list(read_lines(path, "f"))) == 2


def test_lines_of_other_options_do_not_count_and_foreign_ones_are_refused(
    files: list[Judged], report: Callable[..., Report], tmp_path: Path
) -> None:
    wanted, path = trials(files, videos=0, pictures=5)[:3], tmp_path / "robustness.jsonl"
    run(wanted, path, Counting(report), OnePicture())
    again = Counting(report, fingerprint="other")
    run(wanted, path, again, OnePicture())
    assert again.scans == 3
    path.write_text(json.dumps({"other": 1}) + "\n")
    with pytest.raises(ConfigError, match=r"robustness\.jsonl:1"):
        list(read_lines(path, "f"))


def test_lines_of_a_file_that_was_replaced_since_do_not_count(
    files: list[Judged], report: Callable[..., Report], tmp_path: Path
) -> None:
    wanted = trials(
        [replace(item, case=replace(item.case, path=tmp_path / item.case.name)) for item in files], videos=0, pictures=5
    )
    for item in files:
        (tmp_path / item.case.name).write_text(item.case.name)
    path, again, old = tmp_path / "robustness.jsonl", Counting(report), Counting(report)
    run(wanted, path, Counting(report), OnePicture())
    (tmp_path / "a.jpg").write_text("replaced")
    run(wanted, path, again, OnePicture())
    assert again.scans == sum(trial.item.case.name == "a.jpg" for trial in wanted)
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    path.write_text("".join(json.dumps({key: line[key] for key in line if key != "original_sha256"}) + "\n" for line in lines))
    run(wanted, path, old, OnePicture())
    assert old.scans == len(wanted), "lines that do not name the file's bytes"


def test_what_cannot_be_degraded_is_a_failed_file(
    judged: Callable[..., Judged], report: Callable[..., Report], tmp_path: Path
) -> None:
    wanted = trials([judged("real", 1.0, "torn.jpg", kind=MediaKind.PICTURE)], videos=0, pictures=1)[:1]
    (found,) = run(wanted, tmp_path / "r.jsonl", Counting(report), OnePicture()).values()
    assert found.answer == "failed"


def test_points_hold_shares_and_shifts_against_the_untouched_file(
    files: list[Judged], report: Callable[..., Report], tmp_path: Path
) -> None:
    wanted = trials(files, videos=0, pictures=5)
    found = run(wanted, tmp_path / "r.jsonl", Counting(report, logits=[1.0]), OnePicture())
    clean, *points = levels(wanted, found, draws=10)
    assert (clean.family, clean.real, clean.fake, clean.auc) == ("none", 1, 1, 1.0)
    assert len(points) == len({(trial.family.name, trial.level) for trial in wanted})
    assert {point.auc for point in points} == {0.5}
    assert points[0].false_alarms is not None
    assert points[0].false_alarms.share == 1.0
    assert points[0].shift_real == pytest.approx(2.0, abs=1e-5)
    assert points[0].shift_fake == pytest.approx(-1.0, abs=1e-5)


def test_curves_are_drawn_for_every_family_and_the_tables_name_every_level(
    files: list[Judged], report: Callable[..., Report], tmp_path: Path
) -> None:
    wanted = trials(files, videos=0, pictures=5)
    points = levels(wanted, run(wanted, tmp_path / "r.jsonl", Counting(report), OnePicture()), draws=10)
    png = plots.robustness(points)
    assert png is not None
    assert png.startswith(b"\x89PNG")
    assert plots.robustness(points[:1]) is None
    table = level_table(MediaKind.PICTURE, points)
    assert table.rows[0][0] == "as they are"
    assert [row[1] for row in table.rows if row[0] == "jpeg"] == [f"quality {level}" for level in (90, 75, 60, 40, 20)]
