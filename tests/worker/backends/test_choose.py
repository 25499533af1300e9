from __future__ import annotations

import shutil
import stat
import sys
import threading
from pathlib import Path
from typing import get_args

import pytest

from worker.backends.auto import choose
from worker.backends.choose import BACKENDS, cached_export, export_in_process, is_at_hand, open_from, opening_of
from worker.errors import ConfigError, ModelError
from worker.extras import missing
from worker.model import packaged
from worker.model.checkpoint import sha256
from worker.settings import ModelSettings

needs_openvino = pytest.mark.skipif(bool(missing(("openvino",))), reason="needs openvino: make setup")


class CopyExport:
    """Stands in for the export process, and counts."""

    def __init__(self, onnx: Path) -> None:
        self.onnx = onnx
        self.calls = 0

    def __call__(self, checkpoint: Path, out: Path) -> None:
        self.calls += 1
        shutil.copy(self.onnx, out)


def test_an_export_is_made_once_and_kept_privately(tiny_checkpoint: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    export = CopyExport(tiny_onnx)
    digest = sha256(tiny_checkpoint)
    first = cached_export(tiny_checkpoint, digest, tmp_path, export)
    assert cached_export(tiny_checkpoint, digest, tmp_path, export) == first
    assert export.calls == 1
    assert first.read_bytes() == tiny_onnx.read_bytes()
    assert stat.S_IMODE(first.parent.stat().st_mode) == 0o700
    assert sorted(path.name for path in first.parent.iterdir()) == [first.name, f"{digest}.lock"]


def test_a_damaged_kept_export_is_replaced(tiny_checkpoint: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    export = CopyExport(tiny_onnx)
    digest = sha256(tiny_checkpoint)
    kept = cached_export(tiny_checkpoint, digest, tmp_path, export)
    kept.write_bytes(kept.read_bytes()[:-1] + b"!")
    again = cached_export(tiny_checkpoint, digest, tmp_path, export)
    assert export.calls == 2
    assert again.read_bytes() == tiny_onnx.read_bytes()


def test_a_failed_export_leaves_nothing_behind(tiny_checkpoint: Path, tmp_path: Path) -> None:
    def fail(checkpoint: Path, out: Path) -> None:
        out.write_bytes(b"half")
        raise ModelError("no")

    with pytest.raises(ModelError):
        cached_export(tiny_checkpoint, sha256(tiny_checkpoint), tmp_path, fail)
    assert [path.suffix for path in (tmp_path / "onnx").iterdir()] == [".lock"]


def test_of_several_at_once_one_exports(tiny_checkpoint: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    begun = threading.Event()
    go_on = threading.Event()
    copy = CopyExport(tiny_onnx)
    found: list[Path] = []

    def export(checkpoint: Path, out: Path) -> None:
        begun.set()
        assert go_on.wait(30)
        copy(checkpoint, out)

    def work() -> None:
        found.append(cached_export(tiny_checkpoint, sha256(tiny_checkpoint), tmp_path, export))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(30)
    threads[0].join(timeout=0.3)  # time for the others to meet the lock
    go_on.set()
    for thread in threads:
        thread.join(timeout=60)
    assert (len(found), len(set(found)), copy.calls) == (4, 1, 1)
    assert found[0].read_bytes() == tiny_onnx.read_bytes()


def test_a_folder_open_to_others_is_closed_and_a_link_is_refused(tiny_checkpoint: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    digest = sha256(tiny_checkpoint)
    loose = tmp_path / "loose" / "onnx"
    loose.mkdir(parents=True)
    loose.chmod(0o777)
    cached_export(tiny_checkpoint, digest, loose.parent, CopyExport(tiny_onnx))
    assert stat.S_IMODE(loose.stat().st_mode) == 0o700
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "onnx").symlink_to(loose)
    with pytest.raises(ConfigError, match="link"):
        cached_export(tiny_checkpoint, digest, linked, CopyExport(tiny_onnx))


def test_the_export_process_runs_nothing_from_the_users_folder(tiny_onnx: Path, foreign_torch: Path) -> None:
    """The export was made while that folder was the working one."""
    assert tiny_onnx.is_file()
    assert [path.name for path in foreign_torch.iterdir()] == ["torch.py"]


def test_an_export_process_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_checkpoint: Path) -> None:
    """A program in Python's place fails as ``worker.model.export`` does (whose own tests hold it to that), but in no time."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'a warning\ndamaged checkpoint: x' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(ModelError, match=r"cannot export .*tiny\.safetensors: damaged checkpoint: x$"):
        export_in_process(tiny_checkpoint, tmp_path / "out.onnx")
    program.write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(ModelError, match="exit status 0"):
        export_in_process(tiny_checkpoint, tmp_path / "out.onnx")


def test_backends_by_name(tiny_checkpoint: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    cached_export(tiny_checkpoint, sha256(tiny_checkpoint), tmp_path, CopyExport(tiny_onnx))
    opening = opening_of(tiny_checkpoint, cache_dir=tmp_path)
    assert open_from(opening, "onnxruntime").name == "onnxruntime"
    assert open_from(opening, "torch").name == "torch"
    assert open_from(opening, "tensorrt").name == "onnxruntime", "no artefact: logged, counted"
    with pytest.raises(ConfigError, match="unknown backend 'tpu'"):
        open_from(opening, "tpu")
    with pytest.raises(ModelError, match="cannot read"):
        opening_of(tmp_path / "none.safetensors", cache_dir=tmp_path)


def test_at_hand_is_what_needs_no_export_and_no_choice_first(tiny_checkpoint: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    opening = opening_of(tiny_checkpoint, cache_dir=tmp_path)
    assert not is_at_hand(opening, "onnxruntime"), "to be exported"
    cached_export(tiny_checkpoint, sha256(tiny_checkpoint), tmp_path, CopyExport(tiny_onnx))
    assert is_at_hand(opening, "onnxruntime")
    choose(opening)
    assert is_at_hand(opening, "auto")
    assert not is_at_hand(opening, "torch"), "it takes seconds to import, and runs no export"
    assert not is_at_hand(opening, "tensorrt")
    assert is_at_hand(opening_of(None, cache_dir=tmp_path / "other"), "onnxruntime"), "the packaged export"


@needs_openvino
def test_a_choice_still_to_be_made_is_not_at_hand(tmp_path: Path) -> None:
    assert not is_at_hand(opening_of(None, cache_dir=tmp_path), "auto")


def test_the_settings_name_every_backend() -> None:
    assert get_args(ModelSettings.model_fields["backend"].annotation) == BACKENDS


def test_the_bundled_checkpoint_is_told_by_what_it_holds_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hash is made once, as long as the file stays as it is."""
    bundled = tmp_path / "weights.safetensors"
    monkeypatch.setattr(packaged, "default_checkpoint", lambda: bundled)
    for content in (b"one", b"two"):
        bundled.unlink(missing_ok=True)
        bundled.write_bytes(content)
        assert packaged.bundled_sha256() == sha256(bundled)
        assert packaged.is_bundled(sha256(bundled))
    assert not packaged.is_bundled("0" * 64)
