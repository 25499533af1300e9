"""What carrying changes, counted."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from optimize.carrying import Effect, app, has_partner, scan_settings
from tests.worker.pages.reports import report
from worker.pipeline import ScanResult
from worker.settings import Settings
from worker.types import Label


def test_no_box_is_partner_of_two() -> None:
    boxes = np.array([[0, 0, 100, 100], [5, 0, 105, 100], [300, 0, 400, 100]], np.float32)
    assert has_partner(boxes, boxes).tolist() == [True, True, True]
    assert has_partner(boxes, boxes[:1]).tolist() == [True, False, False]
    assert has_partner(boxes[:0], boxes).tolist() == []
    assert has_partner(boxes, boxes[:0]).tolist() == [False, False, False]
    assert has_partner(boxes[:1], boxes[:1] + 60).tolist() == [False]


def test_an_effect_holds_only_without_flips_and_with_nearly_all_boxes() -> None:
    assert Effect(full=100, carried=99, matched=99, large=50, large_matched=50).holds
    assert not Effect(full=100, carried=99, matched=99, large=50, large_matched=50, flips=["a.mp4: real -> fake"]).holds
    assert not Effect(full=100, carried=104, matched=100, large=50, large_matched=50).holds
    assert not Effect(full=100, carried=100, matched=99, large=50, large_matched=48).holds


def test_both_sides_score_all_of_the_same_frames() -> None:
    full, carried = scan_settings(carry=False), scan_settings(carry=True)
    assert (full.faces.carry, carried.faces.carry) == (False, True)
    assert full.sampling.exhaustive
    assert full.sampling == carried.sampling
    assert full.faces.batch_frames == carried.faces.batch_frames == 16


def test_a_folder_without_clips_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path)])
    assert (result.exit_code, result.output) == (2, f"veriframe: no video files below {tmp_path}\n")


def test_clips_without_a_score_are_nothing_to_compare(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    result = CliRunner().invoke(app, [str(tmp_path)])
    assert result.exit_code == 2
    assert "of 1 clips none has a score" in result.output


def test_clips_that_carrying_left_without_a_score_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scanner(settings: Settings) -> nullcontext[SimpleNamespace]:
        lost = {"verdict": Label.NOT_APPLICABLE, "score": None} if settings.faces.carry else {}
        return nullcontext(SimpleNamespace(scan=lambda path: ScanResult(report=report(**lost), crops={})))

    monkeypatch.setattr("optimize.carrying.build_scanner", scanner)
    (tmp_path / "a.mp4").touch()
    result = CliRunner().invoke(app, [str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.startswith(f"{tmp_path.name}/a.mp4: fake -> not_applicable\n1 clips, verdicts that differ: 1\n")
