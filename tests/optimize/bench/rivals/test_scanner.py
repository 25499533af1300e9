from __future__ import annotations

from pathlib import Path

import pytest

from optimize.bench.rivals.scanner import build


def test_faces_that_fell_back_from_a_card_are_told_as_such(tmp_path: Path) -> None:
    flags = {"model": {"backend": "onnxruntime", "cache_dir": str(tmp_path)}, "faces": {"backend": "tensorrt"}}
    with (
        pytest.raises(RuntimeError, match="onnxruntime would look for faces in the place of tensorrt"),
        build({"flags": flags}, 1),
    ):
        raise AssertionError("not reached")
