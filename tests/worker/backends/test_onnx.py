from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.worker.backends.failing_cuda import pretend_cuda
from worker.backends.onnx import OnnxClassifier, has_cuda
from worker.errors import ConfigError, ModelError
from worker.model.checkpoint import sha256


def test_the_export_of_another_checkpoint_is_refused(tiny_onnx: Path, tiny_checkpoint: Path) -> None:
    OnnxClassifier(tiny_onnx, threads=1, checkpoint_sha256=sha256(tiny_checkpoint))
    with pytest.raises(ModelError, match="another checkpoint"):
        OnnxClassifier(tiny_onnx, threads=1, checkpoint_sha256="0" * 64)


def test_cuda_is_refused_where_it_is_missing(tiny_onnx: Path) -> None:
    if has_cuda():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(ConfigError, match="needs onnxruntime-gpu"):
        OnnxClassifier(tiny_onnx, threads=1, cuda=True)


def test_a_card_that_cannot_be_used_is_told_and_not_replaced_unseen(
    tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Standard output is a scan's."""
    pretend_cuda(monkeypatch, "opening")
    with pytest.raises(ConfigError, match="the card cannot be used: CUDA failure 35"):
        OnnxClassifier(tiny_onnx, threads=1, cuda=True)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("error", ["EPFail", "DeviceReset"])
def test_a_card_that_fails_while_it_scores_does_not_go_on_as_the_cpu(
    error: str, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pretend_cuda(monkeypatch, "running", error)
    classifier = OnnxClassifier(tiny_onnx, threads=1, cuda=True)
    with pytest.raises(ModelError, match=r"onnxruntime-cuda failed while it scored: .*out of memory"):
        classifier.scores(np.zeros((2, 64, 64, 3), np.uint8))
    assert capfd.readouterr().out == ""


def test_scoring_where_importing_torch_is_an_error(tiny_checkpoint: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    """The cache holds the export already: opening and scoring need neither torch nor the packages of the export."""
    program = f"""
import sys
for name in ("torch", "timm", "onnx", "onnxscript"):
    sys.modules[name] = None  # importing it raises ImportError
import shutil
from pathlib import Path
import numpy as np
from worker.backends import auto, face_nets
from worker.backends.choose import cached_export, open_from, opening_of
from worker.errors import ConfigError
from worker.model.checkpoint import sha256
checkpoint, cache = Path({str(tiny_checkpoint)!r}), Path({str(tmp_path)!r})
opening = opening_of(checkpoint, cache_dir=cache)
try:
    open_from(opening, "onnxruntime")
except ConfigError as exc:
    assert 'SOURCE[train]' in str(exc), exc
else:
    raise SystemExit("exported without torch?")
cached_export(checkpoint, sha256(checkpoint), cache, lambda _, out: shutil.copy({str(tiny_onnx)!r}, out))
classifier = open_from(opening, "onnxruntime")
print(classifier.name, classifier.scores(np.zeros((3, 64, 64, 3), np.uint8)).logit_F.shape)
assert "worker.backends.listener" not in sys.modules, "it is of engines alone"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "onnxruntime (3,)\n"
