"""False alarms on recompressed real video: what is tried, what counts, and by which thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.evaluation.conftest import make_failed, make_report, sigmoid
from training.alarms import COPIES, NAMES, report_lines, seen_of, trials
from training.calibration import Target
from training.evaluation.robustness import Key
from training.scans import votes_of
from training.splits import Item
from worker.errors import ConfigError
from worker.report import Report

DATA = Path("/media")


def item(path: str, label: str, group: str, source: str) -> Item:
    return Item(path=path, label=label, source=source, manipulation="", group=group, split="heldout")


def clip(path: str, logit: float, count: int = 12) -> Report:
    return make_report(DATA / path, [logit] * count)


@pytest.fixture(scope="module")
def scanned() -> tuple[dict[str, Item], dict[str, Report]]:
    """A real and a fake FF++ clip of each of eight groups, two real ones from elsewhere, and a real picture."""
    rng = np.random.default_rng(0)
    items = {"faces/a.jpg": item("faces/a.jpg", "real", "a", "lfw")}
    reports = {"faces/a.jpg": clip("faces/a.jpg", -1.0)}
    for n in range(10):
        for label, mean in (("real", -2.0), ("fake", 2.0)) if n < 8 else (("real", -2.0),):
            path = f"videos/{label}_{n}.mp4"
            items[path] = item(path, label, f"g{n}", "ffpp" if n < 8 else "talking")
            reports[path] = clip(path, rng.normal(mean, 0.8))
    return items, reports


def copied(items: dict[str, Item], logits: Sequence[float]) -> dict[Key, Report]:
    """Copies of every real video, the kinds of them by ``COPIES`` with these logits."""
    return {
        (family, level, path): clip(path, logit)
        for (family, level), logit in zip(COPIES, logits, strict=True)
        for path, one in items.items()
        if one.label == "real" and one.is_video
    }


def beside(report: Report, count: int, logit: float, quality: float) -> Report:
    """So many more tracks, seen in every frame."""
    frames = [
        frame.model_copy(
            update={
                "faces": frame.faces
                + tuple(
                    frame.faces[0].model_copy(update={"track": track, "score": sigmoid(logit), "quality": quality})
                    for track in range(1, count + 1)
                )
            }
        )
        for frame in report.frames
    ]
    return report.model_copy(update={"frames": tuple(frames)})


def known(items: dict[str, Item], reports: dict[str, Report]) -> dict[str, tuple[Item, Report]]:
    return {name: (items[name], report) for name, report in reports.items()}


def cells(lines: Sequence[str], name: str) -> list[str]:
    return next([cell.strip() for cell in line.split("|")[2:-1]] for line in lines if line.startswith(f"| {name} |"))


def test_every_real_video_with_a_verdict_is_tried_in_every_way(scanned: tuple[dict[str, Item], dict[str, Report]]) -> None:
    items, reports = scanned
    faceless = reports | {"videos/real_3.mp4": clip("videos/real_3.mp4", 0.0, count=0)}
    wanted = trials([(items[name], told) for name, told in faceless.items()], DATA)
    assert {trial.item.case.name for trial in wanted} == {f"videos/real_{n}.mp4" for n in range(10) if n != 3}
    assert {(trial.family.name, trial.level) for trial in wanted} == set(COPIES)
    assert len({trial.key for trial in wanted}) == len(wanted) == 9 * 4
    assert wanted[0].item.case.path == DATA / "videos/real_0.mp4"


def test_alarms_are_counted_by_copy_and_source(scanned: tuple[dict[str, Item], dict[str, Report]]) -> None:
    items, reports = scanned
    copies = copied(items, [-3.0, 4.0, -3.0, -3.0])
    copies |= {("rows", 360.0, "videos/real_9.mp4"): clip("videos/real_9.mp4", 4.0)}
    copies[("h264", 35.0, "videos/real_2.mp4")] = make_failed(DATA / "videos/real_2.mp4")
    seen, lost = seen_of(known(items, reports), copies)
    lines = report_lines(seen, Target())
    assert lost == 1
    assert cells(lines, "CRF 23")[:3] == ["10", "10", "0 of 10: 0.000 (0.000-0.308)"]
    assert cells(lines, "CRF 28")[4:] == ["8 of 8", "2 of 2", "0.00"]
    assert cells(lines, "CRF 35")[0] == "9"
    assert cells(lines, "360 rows, CRF 23")[4:6] == ["0 of 8", "1 of 2"]
    assert cells(lines, "all of these")[:2] == ["49", "10"]
    own = int(cells(lines, "as it is")[4].split()[0]) + int(cells(lines, "as it is")[5].split()[0])
    assert cells(lines, "all of these")[2].startswith(f"{own + 11} of 49")
    assert any(line.startswith("Held-out FF++ fakes called fake, as they are: ") and " of 8: " in line for line in lines)
    assert any(" uncertain, as they are: " in line and " of 16: " in line for line in lines)
    assert set(NAMES) == set(COPIES)


def test_a_clip_of_several_tracks_needs_more_to_be_an_alarm(scanned: tuple[dict[str, Item], dict[str, Report]]) -> None:
    """As in a scan's verdict: more people are more chances of a false alarm, but if all are high and can be seen well."""
    items, reports = scanned
    others = {"CRF 28": (-3.0, 0.8), "CRF 35": (0.5, 0.8), "360 rows, CRF 23": (0.5, 0.1)}
    seen = [
        replace(one, report=beside(one.report, 19, *others[one.copy])) if one.copy in others else one
        for one in seen_of(known(items, reports), copied(items, [0.5] * 4))[0]
    ]
    lines = report_lines(seen, Target())
    alone, crowd, high, poor = (int(cells(lines, name)[2].split()[0]) for name in NAMES.values())
    assert min(alone, high) > 8
    assert max(crowd, poor) < alone - 4


def with_one_group_apart() -> tuple[dict[str, Item], dict[str, Report]]:
    """A real and a fake clip of each of six groups; those of the first look like each other."""
    items: dict[str, Item] = {}
    reports: dict[str, Report] = {}
    for n in range(6):
        for label, sign in (("real", -1), ("fake", 1)):
            path = f"videos/{label}_{n}.mp4"
            items[path], reports[path] = item(path, label, f"g{n}", "mine"), clip(path, sign * (2.0 if n else -1.0))
    return items, reports


def poor(path: str, logit: float) -> Report:
    """A clip of faces that can hardly be seen."""
    report = clip(path, logit)
    frames = [
        frame.model_copy(update={"faces": tuple(face.model_copy(update={"quality": 0.1}) for face in frame.faces)})
        for frame in report.frames
    ]
    return report.model_copy(update={"frames": tuple(frames)})


def test_degraded_copies_of_the_other_groups_say_what_poor_faces_are_worth() -> None:
    """As with ``release calibrate --degraded``: where poor faces were as often wrong as right, they raise no alarm. One pair of
    clips that look like each other gives thresholds with room between them."""
    items, reports = with_one_group_apart()
    copies: dict[Key, Report] = {("h264", 28.0, path): poor(path, 3.0) for path, one in items.items() if one.label == "real"}
    seen = seen_of(known(items, reports), copies)[0]
    found = [votes_of(poor(path, 4.0 if n // 2 % 2 else -4.0), items[path]) for n, path in enumerate(items)]
    degraded = [one for one in found if one is not None]
    plain, told = (report_lines(seen, Target(fpr=0, fnr=0, coverage=0), more) for more in ((), degraded))
    alarms = [int(cells(lines, "CRF 28")[2].split()[0]) for lines in (plain, told)]
    assert alarms[0] == 6
    assert alarms[1] <= 1, "but for the group that is judged by the others, whose thresholds meet"
    assert cells(told, "as it is")[2] == cells(plain, "as it is")[2]


def test_a_group_is_judged_by_what_was_fitted_on_the_others() -> None:
    """Of one group the real clip looks like a fake and the fake like a real one: fitted without them, they are called so; what is
    fitted with them has a wide band, in which the copies lie."""
    items, reports = with_one_group_apart()
    copies: dict[Key, Report] = {("h264", 28.0, path): clip(path, 0.5) for path, one in items.items() if one.label == "real"}
    lines = report_lines(seen_of(known(items, reports), copies)[0], Target(fpr=0.0, fnr=0.0, coverage=0.0))
    rows = [[cell.strip().split(":")[0] for cell in line.split("|")] for line in lines[2:5]]
    assert [(row[1], row[4], row[8]) for row in rows] == [
        ("as it is", "1 of 6", "0.00"),
        ("CRF 28", "1 of 6", "0.83"),
        ("all of these", "2 of 12", "0.42"),
    ]
    assert [line.rpartition(":")[0] for line in lines[5:]] == [
        "",
        "Held-out fakes called fake, as they are: 5 of 6",
        "Held-out clips, real and fake, uncertain, as they are: 0 of 12",
    ]


def test_a_bound_of_many_copies_of_few_groups_is_that_of_the_groups(scanned: tuple[dict[str, Item], dict[str, Report]]) -> None:
    items = {path: one for path, one in scanned[0].items() if one.group in {f"g{n}" for n in range(6)}}
    calm = {path: clip(path, -3.0) if one.label == "real" else scanned[1][path] for path, one in items.items()}
    lines = report_lines(seen_of(known(items, calm), copied(items, [-3.0] * 4))[0], Target())
    bound = 1 - 0.05 ** (1 / 6)
    assert [cells(lines, name)[3] for name in ("CRF 23", "all of these")] == [f"{bound:.3f}"] * 2


def test_clips_of_one_label_cannot_be_calibrated(scanned: tuple[dict[str, Item], dict[str, Report]]) -> None:
    items, reports = scanned
    real = {path: report for path, report in reports.items() if items[path].label == "real"}
    with pytest.raises(ConfigError, match="cannot calibrate video"):
        report_lines(seen_of(known(items, real), {})[0], Target())
