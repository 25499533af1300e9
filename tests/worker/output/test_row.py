"""A report as a row: the worst moment, and what is said beside the verdict."""

from __future__ import annotations

from tests.worker.pages.reports import PART, failed, frames, report
from worker.output.row import row_of


def test_the_worst_moment_is_the_earliest_of_the_highest_score_wherever_it_is_told() -> None:
    assert row_of(report(frames=frames(0.2, 0.99, 0.99))).worst_ms == 1000
    assert row_of(report(frames=frames(0.2, 0.5, 0.5, 0.5, None))).worst_ms == 2000, "that of the track's evidence"
    assert row_of(report(tracks=(), frames=frames(None))).worst_ms is None


def test_only_a_score_can_be_not_calibrated() -> None:
    assert row_of(report(calibrated=False)).why == "not calibrated"
    assert row_of(report(calibrated=False, score=None)).why == ""
    assert row_of(failed()).why == "corrupt: moov atom not found"


def test_that_there_are_more_videos_stands_beside_the_verdict() -> None:
    media = report().media
    assert media is not None
    assert row_of(report(media=media.model_copy(update={"more_videos": 2}))).why == "one video stream of several"


def test_that_a_part_could_not_be_decoded_stands_beside_the_verdict() -> None:
    assert row_of(report(sampling=PART.model_copy(update={"undecodable_s": 0.5}))).why == "part only, partly undecodable"


def test_that_faces_of_a_crowd_were_left_out_stands_beside_the_verdict() -> None:
    crowd = PART.model_copy(update={"crowded": True, "start_s": None, "end_s": None})
    assert row_of(report(sampling=crowd, reasons=({"code": "sparse_coverage"},))).why == "sparse coverage, largest faces only"


def test_a_file_is_named_by_its_path_also_where_it_has_an_address_too() -> None:
    """As one whose name is not UTF-8 has."""
    source = {"kind": "path", "path": r"/clips/\xe4.mp4", "url": "file:///clips/%E4.mp4"}
    assert row_of(report(source=source)).path == r"/clips/\xe4.mp4"
