"""``veriframe calibrate`` over files of the tests' own scanner: what a file holds are its log odds, or why it has none."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.worker.fake_scanner import FakeResult
from worker.cli import app
from worker.compose import build_policy
from worker.content import Content
from worker.model import checkpoint
from worker.model.spec import Calibration, ModelSpec
from worker.report import Media, Odds, Report, Source, Thresholds, new_id, now
from worker.settings import Settings, load_settings
from worker.types import Label, MediaKind, Reason, Strategy

REAL = tuple(np.linspace(-3.0, 1.0, 21).tolist())
FAKE = tuple(np.linspace(-1.0, 5.0, 21).tolist())


class MadeScanner:
    """Reads ``video -0.5`` or ``picture 2``; ``no_face`` and ``broken`` have no score."""

    def __init__(self, settings: Settings) -> None:
        assert settings.calibration.offsets("b" * 64) == {}, "an earlier offset must not be scanned with"
        assert settings.output.evidence_per_track == 0, "no faces are kept"
        self.fingerprint = str(settings.sampling.max_frames)
        self.max_bytes = 1000
        self.scanned: list[str] = []

    def scan(self, path: Path, *, content: Content | None = None, on_progress: Callable[[Any], None] | None = None) -> FakeResult:
        with Path(os.environ["SCANNED"]).open("a") as log:
            log.write(path.name + "\n")
        word, _, number = path.read_text().partition(" ")
        base = Report(id=new_id(), source=Source.of(path), created_at=now(), finished_at=now(), status="completed")
        if word == "broken":
            return FakeResult(base.model_copy(update={"status": "failed"}))
        if word == "no_face":
            values = base.model_dump() | {"verdict": Label.NOT_APPLICABLE, "reasons": ({"code": Reason.NO_FACE},)}
            return FakeResult(Report.model_validate(values))
        odds = float(number)
        media = Media(
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            kind=MediaKind(word),
            duration_s=1,
            fps=25,
            width=64,
            height=64,
            codec="h264",
            container="mp4",
            decoder="pyav",
        )
        scored = {"media": media, "score": 1 / (1 + np.exp(-odds)), "verdict": Label.UNCERTAIN, "calibrated": True}
        told = {"odds": Odds(log_odds=odds, offset=0, temperature=1), "thresholds": Thresholds(real_below=0.3, fake_above=0.7)}
        return FakeResult(Report.model_validate(base.model_dump() | scored | told))


@contextmanager
def build(settings: Settings) -> Iterator[MadeScanner]:
    yield MadeScanner(settings)


def calibration(kind: MediaKind, **changes: object) -> Calibration:
    values: dict[str, Any] = {
        "media": kind,
        "rule": "mean_logit",
        "strategies": (Strategy.AUTO,),
        "min_frames": 1,
        "max_frames": 512,
        "a": 1.0,
        "b": 0.0,
        "t_real": 0.3,
        "t_fake": 0.7,
        "real_log_odds": REAL,
        "fake_log_odds": FAKE,
    }
    return Calibration(**(values | changes))


@pytest.fixture
def model(tmp_path: Path, tiny_spec: ModelSpec) -> Path:
    path = tmp_path / "own.safetensors"
    entries = (calibration(MediaKind.VIDEO), calibration(MediaKind.PICTURE, fake_log_odds=()))
    checkpoint.save(path, {"weight": np.ones(3, np.float32)}, tiny_spec.model_copy(update={"calibrations": entries}))
    return path


@pytest.fixture
def run(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Calls the command on the folder ``real`` with what is given as files (contents)."""
    for name in [name for name in os.environ if name.startswith("VERIFRAME_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SCANNED", str(tmp_path / "scanned.txt"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()

    def call(contents: list[str], *more: str) -> Result:
        for number, text in enumerate(contents):
            (tmp_path / "real" / f"{number:03}").write_text(text)
        return CliRunner().invoke(app, ["calibrate", "real", "--out", "own.yaml", "--model", str(model), *more], obj=build)

    return call


def test_footage_that_looks_too_fake_gets_an_offset_that_a_scan_applies(
    run: Callable[..., Result], tmp_path: Path, model: Path
) -> None:
    done = run([f"video {x}" for x in np.linspace(-1.0, 1.2, 30)])
    assert done.exit_code == 0, done.output
    assert "30 files with a score; their median log odds lie +1.10 from those of held-out real ones (-1.00)" in done.output
    assert "offset -0.82 (minus the distance, times 30/(30 + 10), at most 1.50 either way)" in done.output
    assert "called fake: 5 of 30 before; 0 of 30 after" in done.output
    assert "30 files with 0 alarms: at 95% confidence, at most 9.5% of such real files are called fake" in done.output
    assert "59 files without an alarm promise at most 5% (93 with one, 124 with two); 299 without one promise 1%" in done.output
    assert "of held-out fakes 69% were called fake, 55% with this offset (14% are lost)" in done.output
    assert "picture" not in done.output, "there are none"
    settings = load_settings(tmp_path / "own.yaml")
    digest = checkpoint.sha256(model)
    assert settings.calibration.offsets(digest) == {MediaKind.VIDEO: pytest.approx(-0.825)}
    assert build_policy(settings, checkpoint.load_spec(model), digest).offsets[MediaKind.VIDEO] == pytest.approx(-0.825)
    assert settings.model.checkpoint == model


def test_pictures_have_an_offset_of_their_own_and_the_cost_may_be_unknown(run: Callable[..., Result], tmp_path: Path) -> None:
    done = run([f"picture {x}" for x in np.linspace(-3.0, -1.0, 20)] + ["video 0", "no_face", "no_face", "broken"])
    assert done.exit_code == 0, done.output
    assert "without a score: 1 failed, 2 no_face" in done.output
    assert "they look more real than expected" in done.output
    assert "cost: unknown" in done.output
    assert load_settings(tmp_path / "own.yaml").calibration.offset_picture == pytest.approx(2 / 3, abs=1e-4)
    assert load_settings(tmp_path / "own.yaml").calibration.offset_video is None


def test_an_implausible_distance_is_capped_warned_of_and_the_suspects_named(run: Callable[..., Result], tmp_path: Path) -> None:
    done = run(["video 6"] * 12)
    assert done.exit_code == 0
    assert "offset -1.50" in done.output
    assert "WARNING: a distance of +7.00 is implausibly great" in done.output
    assert "still called fake" in done.output
    assert str(tmp_path / "real" / "000") in done.output
    assert "and 7 more" in done.output


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (["video 0"] * 7 + ["picture 0", "no_face"], "too few files with a face: video 7, picture 1; an offset needs 8"),
        (["no_face"] * 20, "too few files with a face: video 0, picture 0"),
        ([], "nothing to scan: no files there (links inside a folder are passed over)"),
    ],
)
def test_too_few_files_are_refused_and_nothing_is_written(
    run: Callable[..., Result], tmp_path: Path, contents: list[str], message: str
) -> None:
    done = run(contents)
    assert done.exit_code == 2
    assert message in done.output
    assert not (tmp_path / "own.yaml").exists()


def test_it_goes_on_where_it_was(run: Callable[..., Result], tmp_path: Path) -> None:
    assert run(["video 0"] * 10).exit_code == 0
    assert run(["video 0"] * 12).exit_code == 0
    assert sorted((tmp_path / "scanned.txt").read_text().split()) == [f"{number:03}" for number in range(12)]
    assert "12 files" in (tmp_path / "own.yaml").read_text()


def test_other_settings_are_kept_and_an_earlier_offset_is_not(run: Callable[..., Result], tmp_path: Path) -> None:
    earlier = {"sampling": {"max_frames": 64}, "calibration": {"model_sha256": "a" * 64, "offset_video": 1.0}}
    earlier["redis"] = {"url": "redis://me:secret@queue.example/0", "password": "secret"}
    (tmp_path / "studio.yaml").write_text(json.dumps(earlier))
    assert run(["video -1"] * 9, "--config", "studio.yaml").exit_code == 0
    settings = load_settings(tmp_path / "own.yaml")
    assert settings.sampling.max_frames == 64
    assert settings.calibration.offset_video == pytest.approx(0.0)
    assert settings.calibration.model_sha256 != "a" * 64
    assert "redis" not in (tmp_path / "own.yaml").read_text(), "nothing of the service: passwords"


def test_what_the_config_names_from_here_is_found_from_anywhere(run: Callable[..., Result], tmp_path: Path, model: Path) -> None:
    (tmp_path / "studio.yaml").write_text(json.dumps({"model": {"checkpoint": model.name, "cache_dir": "cache"}}))
    assert run(["video -1"] * 9).exit_code == 0
    arguments = ["calibrate", "real", "--out", "own.yaml", "--config", "studio.yaml"]
    done = CliRunner().invoke(app, arguments, obj=build)
    assert done.exit_code == 0, done.output
    found = load_settings(tmp_path / "own.yaml").model
    assert (found.checkpoint, found.cache_dir) == (model, tmp_path / "cache")


def test_a_file_that_is_not_ours_is_not_written_over(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("decode: {threads: 2}\n")
    done = run(["video 0"] * 10)
    assert done.exit_code == 2
    assert "did not write" in done.output
    assert not (tmp_path / "scanned.txt").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--out", "."], "name a file"),
        (["--out", "x.reports"], "reports are kept"),
        (["--reports", "own.yaml"], "reports are kept"),
    ],
)
def test_a_file_that_cannot_be_is_refused_before_the_scan(
    run: Callable[..., Result], tmp_path: Path, flags: list[str], said: str
) -> None:
    done = run(["video -1"] * 9, *flags)
    assert done.exit_code == 2
    assert said in done.output
    assert not (tmp_path / "scanned.txt").exists()


def test_a_model_that_expects_nothing_is_refused(run: Callable[..., Result], tmp_path: Path, tiny_spec: ModelSpec) -> None:
    bare = tmp_path / "bare.safetensors"
    checkpoint.save(bare, {"weight": np.ones(3, np.float32)}, tiny_spec)
    done = run(["video 0"] * 10, "--model", str(bare))
    assert done.exit_code == 2
    assert "does not say what it expects of real files" in done.output


@pytest.mark.parametrize("is_inherited", [False, True])
def test_an_adapted_model_is_said_to_expect_what_its_parent_did(
    run: Callable[..., Result], tmp_path: Path, tiny_spec: ModelSpec, is_inherited: bool
) -> None:
    adapted = tmp_path / "adapted.safetensors"
    changed = {"calibrations": (calibration(MediaKind.VIDEO),), "calibration_is_inherited": is_inherited}
    checkpoint.save(adapted, {"weight": np.ones(3, np.float32)}, tiny_spec.model_copy(update=changed))
    done = run(["video 0"] * 32, "--model", str(adapted))
    assert done.exit_code == 0, done.output
    assert ("fitted on its parent's scores" in done.stderr) == is_inherited


def test_it_is_said_why_a_kind_has_no_offset(run: Callable[..., Result], tmp_path: Path, tiny_spec: ModelSpec) -> None:
    of_videos = tmp_path / "videos.safetensors"
    calibrated = tiny_spec.model_copy(update={"calibrations": (calibration(MediaKind.VIDEO),)})
    checkpoint.save(of_videos, {"weight": np.ones(3, np.float32)}, calibrated)
    contents = ["video 0"] * 9 + ["picture 0"] * 30
    done = run(contents, "--model", str(of_videos))
    assert done.exit_code == 0, done.output
    assert "picture: the checkpoint does not say what it expects of real pictures, no offset" in done.output
    assert "too few" not in done.output
    assert "picture: 7 files with a score are too few, no offset" in run(["video 0"] * 32 + ["picture 0"] * 7).output


def test_help_has_examples() -> None:
    text = CliRunner().invoke(app, ["calibrate", "--help"]).output
    assert "veriframe scan ~/Videos/new --config studio.yaml" in text
