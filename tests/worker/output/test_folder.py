"""What stands in the folder of --out, and what an earlier run's is worth."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.worker.pages.reports import report
from worker.content import Content
from worker.errors import StorageDown
from worker.output.folder import STATE, ReportFolder

CLIP = Path("/clips/a.mp4")
CONTENT = Content(sha256="ab" * 32, size_bytes=5)
(EVIDENCE,) = report().tracks[0].evidence
PICTURES = {str(name): b"jpeg" for name in (EVIDENCE.crop, EVIDENCE.frame, EVIDENCE.explanation)}


@pytest.fixture
def folder(tmp_path: Path) -> ReportFolder:
    """In which a report was kept with its pictures."""
    folder = ReportFolder(tmp_path / "new" / "out")
    folder.save(CLIP, report(), PICTURES, CONTENT, "f")
    return folder


def test_what_was_kept_is_found_again(folder: ReportFolder) -> None:
    stored = folder.load(CLIP)
    assert stored is not None
    assert (stored.report, stored.state.fingerprint, stored.state.size_bytes) == (report(), "f", 5)
    assert folder.load(Path("/clips/b.mp4")) is None


@pytest.mark.parametrize("name", PICTURES)
def test_a_report_without_one_of_its_pictures_is_not_whole(folder: ReportFolder, name: str) -> None:
    (folder.place(CLIP) / name).unlink()
    assert folder.load(CLIP) is None


@pytest.mark.parametrize("name", ["../a.jpg", "a.html"])
def test_a_run_that_ends_midway_leaves_nothing_to_go_on_from(folder: ReportFolder, name: str) -> None:
    with pytest.raises(ValueError, match="crop name"):
        folder.save(CLIP, report(), {**PICTURES, name: b"jpeg"}, CONTENT, "f")
    assert folder.load(CLIP) is None
    assert not (folder.place(CLIP) / name).exists()


def test_a_report_of_bytes_that_nobody_knows_is_never_gone_on_from(folder: ReportFolder) -> None:
    folder.save(CLIP, report(), PICTURES, None, "f")
    assert not (folder.place(CLIP) / STATE).exists()


def test_the_longest_name_that_a_file_may_have_is_kept(folder: ReportFolder) -> None:
    path = Path("/clips") / f"{'a' * 251}.mp4"
    folder.save(path, report(), {}, CONTENT, "f")
    assert (folder.place(path) / STATE).is_file()


def test_a_folder_that_is_gone_is_told(folder: ReportFolder) -> None:
    shutil.rmtree(folder.root)
    with pytest.raises(StorageDown, match=r"--out .*: No such file or directory; mend that"):
        folder.save(CLIP, report(), {}, CONTENT, "f")
