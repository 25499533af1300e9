"""``veriframe evaluate`` from the command line: finished reports, scans, a stop, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.worker.fake_scanner import FakeResult
from training.commands.evaluate import app
from worker.model import checkpoint
from worker.model.spec import TrainingData, TrainingSource
from worker.report import FaceItem, FrameItem, Media, Model, Report, Sampling, Source, Thresholds, new_id, now
from worker.settings import Settings
from worker.types import Label, MediaKind, Strategy

MODEL = Model(name="made-up", version="1", sha256="a" * 64, licence="none", backend="onnxruntime")
RUN = CliRunner()


def report(path: Path, logit: float) -> Report:
    p = 1 / (1 + math.exp(-logit))
    verdict = Label.FAKE if p > 0.7 else Label.REAL if p < 0.3 else Label.UNCERTAIN
    face = FaceItem(box=(0, 0, 99, 99), det_conf=0.99, score=p, track=0, quality=0.8)
    kind = MediaKind.VIDEO if path.suffix == ".mp4" else MediaKind.PICTURE
    return Report(
        id=new_id(),
        source=Source.of(path),
        created_at=now(),
        status="completed",
        media=Media(kind=kind, duration_s=4, fps=25, width=640, height=480, codec="h264", container="mp4", decoder="pyav"),
        verdict=verdict,
        score=p,
        calibrated=True,
        thresholds=Thresholds(real_below=0.3, fake_above=0.7),
        frames=tuple(FrameItem(index=i, t_ms=125 * i, faces=(face,)) for i in range(4)),
        sampling=Sampling(requested=4, decoded=4, with_face=4, strategy=Strategy.AUTO, max_gap_s=0.2, stopped_early=False),
        model=MODEL,
    )


@pytest.fixture
def media(tmp_path: Path) -> tuple[Path, Path]:
    """A manifest of 24 videos (two of them for training) and 24 pictures in groups of two, and reports: fakes are higher by 2."""
    rng = np.random.default_rng(0)
    rows, reports = ["path,label,source,group,split,original,sex,race"], []
    for suffix in ("mp4", "jpg"):
        for n in range(12):
            for label, mean in (("real", -1.0), ("fake", 1.0)):
                path = tmp_path / f"{label}{n}.{suffix}"
                path.touch()
                original = f"real{n}.{suffix}" if label == "fake" else ""
                split = "train" if (n, suffix) == (11, "mp4") else "heldout"
                rows.append(f"{path.name},{label},s{n % 2},g{suffix}{n},{split},{original},{('male', 'female')[n % 2]},x")
                reports.append(report(path, float(rng.normal(mean, 1.5))))
    manifest, lines = tmp_path / "set.csv", tmp_path / "scans.jsonl"
    manifest.write_text("\n".join(rows) + "\n", "utf-8")
    lines.write_text("".join(found.model_dump_json() + "\n" for found in reports), "utf-8")
    return manifest, lines


def test_finished_reports_become_a_report_of_every_part(media: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, lines = media
    out = tmp_path / "out"
    done = RUN.invoke(app, [str(manifest), "--out", str(out), "--reports", str(lines), "--draws", "20"])
    assert done.exit_code == 0, done.output
    assert "real called fake" in done.output
    found = json.loads((out / "report.json").read_text())
    assert found["files"] == 46
    assert found["left_out"] == {"training files (--split train would take them)": 2}
    assert [(row["kind"], row["name"]) for row in found["rows"]] == [
        (kind, name) for kind in ("video", "picture") for name in ("all", "s0", "s1")
    ]
    assert found["rows"][0]["ranking"]["auc"] > 0.6
    assert {row["rule"] for row in found["rules"]} == {"mean_logit", "confident", "weighted", "consecutive"}
    assert found["pairs"][0]["above"]["total"] == 23
    assert {row["axis"] for row in found["demographics"]} == {"sex", "race", "sex and race"}
    assert len((out / "scores.csv").read_text().splitlines()) == 47
    html = (out / "report.html").read_text()
    for title in ("Videos", "Pictures", "Matched pairs", "Aggregation rules", "Groups of people"):
        assert f">{title}</h2>" in html
    assert "Robustness" not in html
    figures = {path.name for path in (out / "figures").iterdir()}
    assert figures == {f"{kind}-{plot}.png" for kind in ("video", "picture") for plot in ("roc", "reliability", "risk", "scores")}
    assert all((out / "figures" / name).read_bytes().startswith(b"\x89PNG") for name in figures)


def test_training_files_are_judged_when_asked_for_and_the_report_warns(media: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, lines = media
    arguments = [str(manifest), "--out", str(tmp_path / "o"), "--reports", str(lines), "--draws", "10", "--split", "train"]
    assert RUN.invoke(app, arguments).exit_code == 0
    assert "WARNING: 2 of the files are marked as training files" in (tmp_path / "o" / "report.md").read_text()


def test_left_out_files_of_a_source_that_the_checkpoint_learnt_from_are_training_files(
    media: tuple[Path, Path], tmp_path: Path, uncalibrated: Path
) -> None:
    manifest, lines = media
    manifest.write_text(manifest.read_text().replace("heldout", "leftout").replace("train", "heldout"))
    spec, arrays = checkpoint.load(uncalibrated)
    learnt = TrainingData(sources=(TrainingSource(name="s1", leftout=3),))
    checkpoint.save(uncalibrated, arrays, spec.model_copy(update={"training": learnt}))
    lines.write_text(lines.read_text().replace("a" * 64, checkpoint.sha256(uncalibrated)))
    given = [
        str(manifest),
        "--out",
        str(tmp_path / "out"),
        "--reports",
        str(lines),
        "--draws",
        "10",
        "--model",
        str(uncalibrated),
    ]
    done = RUN.invoke(app, given)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (found["files"], found["seen_in_training"]) == (26, 0)
    assert found["left_out"] == {"training files (--split train would take them)": 22}


@dataclass(frozen=True)
class Whole:
    decoded: int = 1
    wanted: int | None = 1


class Scanner:
    """Reports alike on all files; notes each scan; sends Ctrl-C after ``stop_after`` of them, and the next one is cut by it."""

    fingerprint = "f"
    max_bytes = 1 << 20

    def __init__(self) -> None:
        self.scanned: list[str] = []
        self.stop_after = 1000
        self._lock = threading.Lock()

    def scan(
        self, path: Path, *, content: object = None, on_progress: Callable[[object], None] = lambda progress: None
    ) -> FakeResult:
        with self._lock:  # two scans at once
            self.scanned.append(path.name)
            place = len(self.scanned)
        if place == self.stop_after + 1:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # as the system does
        if place > self.stop_after:
            for _ in range(3000):
                on_progress(Whole())
                time.sleep(0.01)
            raise AssertionError("nobody cut this scan")
        made = report(path, 1.0 if "fake" in path.name else -1.0)
        assert made.media is not None
        media = made.media.model_copy(update={"sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
        return FakeResult(made.model_copy(update={"media": media}))

    @contextmanager
    def __call__(self, settings: Settings) -> Iterator[Scanner]:
        yield self


ROOT = Path(__file__).parents[3]
STOPPED = """
import sys
from tests.training.commands.test_evaluate import Scanner, app
scanner = Scanner()
scanner.stop_after = 3
app(args=sys.argv[1:], obj=scanner)
"""


def test_a_stopped_evaluation_goes_on_where_it_was(media: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, _ = media
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(line for line in lines if ".mp4" not in line) + "\n")
    arguments = [str(manifest), "--out", str(tmp_path / "out"), "--limit", "4", "--draws", "10"]
    # in a process of its own: a signal is for all of a process, and this one belongs to the other tests too
    stopped = subprocess.run([sys.executable, "-c", STOPPED, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert stopped.returncode == 130, stopped.stderr
    assert "goes on" in stopped.stderr
    assert not (tmp_path / "out" / "report.json").exists()
    scanner = Scanner()
    done = RUN.invoke(app, arguments, obj=scanner)
    assert done.exit_code == 0, done.output
    assert len(scanner.scanned) == 1, "three were scanned before"
    assert json.loads((tmp_path / "out" / "report.json").read_text())["left_out"]["beyond --limit"] == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "none"], "no file is left to judge"),
        (["--data", "nowhere"], "does not exist"),
        (["--model", "nowhere.safetensors"], "nowhere.safetensors"),
    ],
)
def test_what_cannot_be_evaluated_is_said_and_ends_with_2(
    media: tuple[Path, Path], tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = RUN.invoke(app, [str(media[0]), "--out", str(tmp_path / "out"), *arguments])
    assert done.exit_code == 2
    assert message in done.output


def test_help_shows_examples() -> None:
    assert "veriframe evaluate set.csv" in RUN.invoke(app, ["--help"], env={"COLUMNS": "120"}).output


def test_a_clip_without_a_face_is_scanned_for_real_and_counts_as_unscored_under_each_link_to_it(tmp_path: Path) -> None:
    from worker.demo import demo_files

    clip = next(file.path for file in demo_files() if file.path.name == "no_face.mp4")
    (tmp_path / "media" / "real").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "media" / "real" / name).symlink_to(clip)
    done = RUN.invoke(app, [str(tmp_path / "media"), "--out", str(tmp_path / "out"), "--draws", "10", "--robustness"])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    (row,) = found["rows"]
    assert row["unscored"]["count"] == 2
    assert row["confusion"]["real"]["not_applicable"] == 2
    assert found["robustness"] == []


def test_a_file_whose_name_is_not_utf_8_is_evaluated_like_any_other(tmp_path: Path) -> None:
    media, out = tmp_path / "media", tmp_path / "out"
    names = [f"fake/fake-{n}.jpg" for n in range(2)] + ["real/a.jpg", os.fsdecode(b"real/r\xff.jpg")]
    for name in names:
        (media / name).parent.mkdir(parents=True, exist_ok=True)
        (media / name).write_text(repr(name), "ascii")
    done = RUN.invoke(app, [str(media), "--out", str(out), "--limit", "9", "--draws", "10"], obj=Scanner())
    assert done.exit_code == 0, done.output
    found = json.loads((out / "report.json").read_text("utf-8"))
    assert (found["files"], found["left_out"]) == (4, {})
    assert found["rows"][0]["real"] == found["rows"][0]["fake"] == 2
    assert "\nreal/r\\xff.jpg,real," in (out / "scores.csv").read_text("utf-8")
    reports = ["--reports", str(out / "reports.jsonl")]
    again = RUN.invoke(app, [str(media), "--out", str(tmp_path / "again"), "--draws", "10", *reports])
    assert again.exit_code == 0, again.output
    assert json.loads((tmp_path / "again" / "report.json").read_text("utf-8"))["files"] == 4
