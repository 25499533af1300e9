"""Calibrations fitted on reports: which reports count, and what ends up in the checkpoint."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from training.calibration import Target
from training.labelled import Judge
from training.scans import Scanned, calibrate_checkpoint, fit_kind, fit_videos, read_reports, votes_of
from training.splits import Item
from worker.errors import ConfigError
from worker.model import checkpoint
from worker.model.spec import Calibration
from worker.report import ErrorItem, FaceItem, FrameItem, Media, Model, Report, Sampling, Source, new_id, now
from worker.types import MediaKind, Strategy

SHA = "a" * 64


def item(path: str, label: str, group: str, split: str = "heldout") -> Item:
    return Item(path=path, label=label, source="ffpp", manipulation="", group=group, split=split)


def report(path: Path, logits: list[float], kind: MediaKind = MediaKind.VIDEO, quality: float = 0.8) -> Report:
    box = (0.0, 0.0, 100.0, 100.0)
    frames = tuple(
        FrameItem(
            index=i,
            t_ms=125 * i,
            faces=(FaceItem(box=box, det_conf=0.99, score=1 / (1 + math.exp(-logit)), track=0, quality=quality),),
        )
        for i, logit in enumerate(logits)
    )
    count = len(logits)
    return Report(
        id=new_id(),
        source=Source.of(path),
        created_at=now(),
        status="completed",
        media=Media(kind=kind, duration_s=4, fps=25, width=640, height=480, codec="h264", container="mp4", decoder="pyav"),
        frames=frames,
        sampling=Sampling(
            requested=count, decoded=count, with_face=count, strategy=Strategy.AUTO, max_gap_s=0.2, stopped_early=False
        ),
        model=Model(name="m", version="1", sha256=SHA, licence="none", backend="onnxruntime"),
    )


def judged(files: dict[str, Item], sha256: str = SHA) -> list[Judge]:
    return [Judge(checkpoint=Path("model.safetensors"), sha256=sha256, files=files)]


def write(path: Path, reports: list[Report]) -> Path:
    path.write_text("".join(found.model_dump_json() + "\n" for found in reports), "utf-8")
    return path


@pytest.fixture
def scans(tmp_path: Path) -> tuple[dict[str, Item], Path]:
    """20 groups of one real and one fake clip: frame logits about -2 and +2, with clips that overlap."""
    rng = np.random.default_rng(0)
    items: dict[str, Item] = {}
    reports: list[Report] = []
    for group in range(20):
        for label, mean in (("real", -2.0), ("fake", 2.0)):
            name = f"videos/{label}_{group}.mp4"
            items[name] = item(name, label, f"g{group}")
            offset = rng.normal(mean, 1.5)
            reports.append(report(tmp_path / name, rng.normal(offset, 0.5, 12).tolist()))
    return items, write(tmp_path / "scans.jsonl", reports)


def test_a_track_is_read_back_as_it_was_scored(tmp_path: Path) -> None:
    lines = write(tmp_path / "one.jsonl", [report(tmp_path / "a.mp4", [1.0, 2.0, 3.0, 2.0])])
    (scanned,) = read_reports([lines], judged({"a.mp4": item("a.mp4", "fake", "g")}), tmp_path)
    assert scanned.logit == pytest.approx(2.0, abs=1e-6)
    assert scanned.votes == pytest.approx((1.0, 2.0, 3.0, 2.0), abs=1e-6)
    assert (scanned.quality, scanned.others) == (0.8, ())
    assert scanned.times_s == (0.0, 0.125, 0.25, 0.375)


def test_a_name_may_hold_a_line_separator(tmp_path: Path) -> None:
    name = "a\u2028b\x85.mp4"
    lines = write(tmp_path / "one.jsonl", [report(tmp_path / name, [1.0, 2.0, 3.0])])
    (scanned,) = read_reports([lines], judged({name: item(name, "fake", "g")}), tmp_path)
    assert scanned.item.path == name


def test_a_file_that_is_a_link_is_known_by_where_it_leads(tmp_path: Path) -> None:
    """A scan's report names the file that a link leads to."""
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    lines = write(tmp_path / "one.jsonl", [report(tmp_path / "elsewhere.mp4", [1.0] * 4)])
    items = {"a.mp4": item("a.mp4", "fake", "g")}
    assert [scanned.item.path for scanned in read_reports([lines], judged(items), tmp_path / "media")] == ["a.mp4"]
    with pytest.raises(ConfigError, match="was trained on"):
        read_reports([lines], judged({"a.mp4": item("a.mp4", "fake", "g", "train")}), tmp_path / "media")


def test_too_few_votes_are_no_score(tmp_path: Path) -> None:
    lines = write(tmp_path / "one.jsonl", [report(tmp_path / "a.mp4", [1.0, 2.0])])
    assert read_reports([lines], judged({"a.mp4": item("a.mp4", "fake", "g")}), tmp_path) == []


def test_a_line_that_was_torn_within_a_character_is_named(tmp_path: Path) -> None:
    lines = write(tmp_path / "scans.jsonl", [report(tmp_path / name, [1.0] * 4) for name in ("a.mp4", "\u2028ä.mp4")])
    items = {name: item(name, "fake", "g") for name in ("a.mp4", "\u2028ä.mp4")}
    assert len(read_reports([lines], judged(items), tmp_path)) == 2
    content = lines.read_bytes()
    lines.write_bytes(content[: content.rindex("ä".encode()) + 1])
    with pytest.raises(ConfigError, match=r"scans\.jsonl:2 is not a report"):
        read_reports([lines], judged(items), tmp_path)


def test_of_several_scans_of_one_file_the_last_counts_and_that_is_told(tmp_path: Path) -> None:
    items = {name: item(name, "fake", "g") for name in ("a.mp4", "b.mp4")}
    first = write(tmp_path / "one.jsonl", [report(tmp_path / name, [1.0] * 4) for name in items])
    second = write(tmp_path / "two.jsonl", [report(tmp_path / "b.mp4", [2.0] * 4)])
    told: list[str] = []
    found = read_reports([first, second], judged(items), tmp_path, told.append)
    assert [scanned.logit for scanned in found] == pytest.approx([1.0, 2.0], abs=1e-6)
    assert told == ["1 files were scanned more than once, the first of them b.mp4: the last scans count"]


def test_a_file_that_is_gone_is_told_and_stops_nothing(tmp_path: Path) -> None:
    items = {name: item(name, "fake", "g") for name in ("a.mp4", "gone.mp4")}
    error = ErrorItem(code="unsupported", message="no such file", retryable=False)
    gone = Report(id=new_id(), source=Source.of(tmp_path / "gone.mp4"), created_at=now(), status="failed", error=error)
    scans = write(tmp_path / "one.jsonl", [gone, report(tmp_path / "a.mp4", [1.0] * 4)])
    told: list[str] = []
    assert [scanned.item.path for scanned in read_reports([scans], judged(items), tmp_path, told.append)] == ["a.mp4"]
    assert told == ["1 files could not be read, the first of them gone.mp4: they do not count"]
    told.clear()
    back = write(tmp_path / "back.jsonl", [report(tmp_path / "gone.mp4", [1.0] * 4)])
    assert len(read_reports([scans, back, scans], judged(items), tmp_path, told.append)) == 2
    assert told == ["1 files were scanned more than once, the first of them a.mp4: the last scans count"], "a scan of it counts"
    read_reports([scans, scans], judged(items), tmp_path, told.append)
    assert told[1].startswith("1 files could not be read"), "once, however often it was tried"
    nameless = report(tmp_path / "a.mp4", [1.0] * 4).model_copy(update={"model": None})
    with pytest.raises(ConfigError, match="another checkpoint"):
        read_reports([write(tmp_path / "two.jsonl", [nameless])], judged(items), tmp_path)


@pytest.mark.parametrize(
    ("name", "split", "sha", "message"),
    [
        ("a.mp4", "train", SHA, "was trained on"),
        ("b.mp4", "heldout", SHA, "not of the split"),
        ("a.mp4", "heldout", "b" * 64, "another checkpoint"),
    ],
)
def test_reports_that_may_not_calibrate_are_refused(tmp_path: Path, name: str, split: str, sha: str, message: str) -> None:
    lines = write(tmp_path / "one.jsonl", [report(tmp_path / name, [1.0] * 4)])
    with pytest.raises(ConfigError, match=message):
        read_reports([lines], judged({"a.mp4": item("a.mp4", "fake", "g", split)}, sha), tmp_path)


def test_scans_that_their_verdict_ended_early_are_refused(tmp_path: Path) -> None:
    """A calibration is fitted on the full budget, so that it errs on no side."""
    whole = report(tmp_path / "a.mp4", [1.0] * 4)
    assert whole.sampling is not None
    early = whole.model_copy(
        update={"sampling": whole.sampling.model_copy(update={"stopped_early": True, "stopped_by": "verdict"})}
    )
    lines = write(tmp_path / "one.jsonl", [early])
    with pytest.raises(ConfigError, match="scan again with --exhaustive"):
        read_reports([lines], judged({"a.mp4": item("a.mp4", "fake", "g")}), tmp_path)


def test_scans_of_a_part_are_refused(tmp_path: Path) -> None:
    whole = report(tmp_path / "a.mp4", [1.0] * 4)
    assert whole.sampling is not None
    part = whole.model_copy(update={"sampling": whole.sampling.model_copy(update={"end_s": 2.0})})
    lines = write(tmp_path / "one.jsonl", [part])
    with pytest.raises(ConfigError, match="without --start and --end"):
        read_reports([lines], judged({"a.mp4": item("a.mp4", "fake", "g")}), tmp_path)


def test_lines_that_are_no_reports_and_files_elsewhere_are_refused(tmp_path: Path) -> None:
    lines = write(tmp_path / "one.jsonl", [report(Path("/elsewhere/a.mp4"), [1.0] * 4)])
    with pytest.raises(ConfigError, match=r"one\.jsonl:1"):
        read_reports([lines], judged({}), tmp_path)
    lines.write_text("{}\n", "utf-8")
    with pytest.raises(ConfigError, match=r"one\.jsonl:1"):
        read_reports([lines], judged({}), tmp_path)


def test_the_calibration_lands_in_the_checkpoint(scans: tuple[dict[str, Item], Path], tmp_path: Path, uncalibrated: Path) -> None:
    items, lines = scans
    path = uncalibrated
    table = calibrate_checkpoint(path, read_reports([lines], judged(items), tmp_path), Target(), draws=20)
    (entry,) = checkpoint.load_spec(path).calibrations
    assert entry.media is MediaKind.VIDEO
    assert entry.strategies == (Strategy.AUTO,)
    assert (entry.min_frames, entry.max_frames) == (12, 512)
    assert 0.2 < entry.a < 3.0
    assert entry.t_real <= entry.t_fake
    assert any(line.startswith("| all | 20 | 20 | 0.9") for line in table)
    assert any("quality does not count" in line for line in table)
    assert (entry.quality_full, entry.quality_slope) == (1.0, 0.0)
    assert any(line.startswith("| 5 | ") for line in table), "composites of five tracks"
    assert any(line.startswith("ECE after calibration, out of fold: 0.") for line in table)
    assert len(entry.real_log_odds) == len(entry.fake_log_odds) == 21
    assert entry.real_log_odds[10] < 0 < entry.fake_log_odds[10]


def test_c_tracks_is_fitted_on_composites_where_folds_cannot_tell_what_it_is_worth() -> None:
    """Seven people, fakes of three: a fold may have none."""
    rng, seen = np.random.default_rng(3), []
    for name, group in [*((f"real{n}.mp4", n) for n in range(7)), *((f"fake{n}.mp4", n) for n in range(3))]:
        logits = rng.normal(rng.normal(1.0 if name.startswith("fake") else -1.0), 0.5, 12).tolist()
        scanned = votes_of(report(Path(name), logits), item(name, name[:4], f"g{group}"))
        assert scanned is not None
        seen.append(scanned)
    fitted = fit_kind(MediaKind.VIDEO, seen, Target(), draws=2)
    assert any(line.startswith("c_tracks: fitted on composites; too few clips") for line in fitted.lines)
    assert fitted.calibration.c_tracks == fit_videos(seen, fitted.calibration, Target()).c_tracks


def calibrated_for_videos(path: Path, *, inherited: bool) -> Calibration:
    """Note such a calibration in the checkpoint."""
    entry = Calibration(
        media=MediaKind.VIDEO, rule="mean_logit", strategies=(Strategy.AUTO,), min_frames=4, max_frames=512,
        a=1.0, b=0.0, t_real=0.3, t_fake=0.7,
    )  # fmt: skip
    spec, arrays = checkpoint.load(path)
    changed = {"calibrations": (entry,), "calibration_is_inherited": inherited}
    checkpoint.save(path, arrays, spec.model_copy(update=changed))
    return entry


def test_without_a_score_a_checkpoint_stays_as_it_is(tmp_path: Path, uncalibrated: Path) -> None:
    calibrated_for_videos(uncalibrated, inherited=False)
    before = uncalibrated.read_bytes()
    with pytest.raises(ConfigError, match="nothing to calibrate on"):
        calibrate_checkpoint(uncalibrated, [], Target())
    assert uncalibrated.read_bytes() == before


@pytest.mark.parametrize(("inherited", "told"), [(False, "calibrated as before"), (True, "the parent's, is gone")])
def test_a_kind_without_scans_keeps_a_calibration_of_its_own(uncalibrated: Path, inherited: bool, told: str) -> None:
    rng = np.random.default_rng(0)
    seen: list[Scanned] = []
    for n in range(6):
        for label, mean in (("real", -1.0), ("fake", 1.0)):
            picture = report(Path(f"{label}{n}.jpg"), [float(rng.normal(mean))], MediaKind.PICTURE)
            seen += [found] if (found := votes_of(picture, item(f"{label}{n}.jpg", label, f"g{n}"))) else []
    videos = calibrated_for_videos(uncalibrated, inherited=inherited)
    table = calibrate_checkpoint(uncalibrated, seen, Target(), draws=2)
    spec = checkpoint.load_spec(uncalibrated)
    assert [entry for entry in spec.calibrations if entry.media is MediaKind.VIDEO] == ([] if inherited else [videos])
    assert len(spec.calibrations) == (1 if inherited else 2)
    assert not spec.calibration_is_inherited
    (line,) = (line for line in table if line.startswith("No scans of this kind"))
    assert told in line


def test_degraded_copies_say_how_much_less_poor_faces_tell(
    scans: tuple[dict[str, Item], Path], tmp_path: Path, uncalibrated: Path
) -> None:
    """Their logits are as high as ever, and mean nothing."""
    items, lines = scans
    rng = np.random.default_rng(1)
    copies = write(
        tmp_path / "copies.jsonl",
        [report(tmp_path / "copies" / name, rng.normal(rng.normal(0, 3), 0.5, 12).tolist(), quality=0.2) for name in items],
    )
    degraded = read_reports([copies], judged(items), tmp_path / "copies")
    assert len(degraded) == 40
    before = checkpoint.load_spec(uncalibrated).version
    seen = read_reports([lines], judged(items), tmp_path)
    table = calibrate_checkpoint(uncalibrated, seen, Target(), degraded, version=f"{before}.1", draws=20)
    (entry,) = checkpoint.load_spec(uncalibrated).calibrations
    assert checkpoint.load_spec(uncalibrated).version == f"{before}.1"
    assert entry.quality_full == pytest.approx(0.8)
    assert entry.quality_slope > 1.0
    assert any("40 degraded copies" in line and line.endswith("kept") for line in table)
