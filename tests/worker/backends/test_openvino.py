from __future__ import annotations

import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from worker.backends.openvino import IN_CACHE, OpenVinoClassifier, bf16_lacking
from worker.errors import ModelError
from worker.extras import missing
from worker.model.checkpoint import sha256
from worker.openvino_runtime import load_runtime
from worker.types import Float32, UInt8

pytestmark = pytest.mark.skipif(bool(missing(("openvino",))), reason="needs openvino: make setup")
ROOT = Path(__file__).parents[3]


def without_bf16() -> str | None:
    return None if missing(("openvino",)) else bf16_lacking()


def test_the_export_of_another_checkpoint_is_refused(tiny_onnx: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Also where the graphs are kept that the right one was compiled to."""
    OpenVinoClassifier(tiny_onnx, threads=1, checkpoint_sha256=sha256(tiny_checkpoint), cache=tmp_path)
    assert list(tmp_path.iterdir())
    with pytest.raises(ModelError, match="another checkpoint"):
        OpenVinoClassifier(tiny_onnx, threads=1, checkpoint_sha256="0" * 64, cache=tmp_path)


@pytest.mark.parametrize("given", [{"threads": 0}, {"threads": 1, "parallel": 0}, {"threads": 1, "max_batch": 0}])
def test_senseless_options_are_refused(tiny_onnx: Path, given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        OpenVinoClassifier(tiny_onnx, **given)


def test_a_graph_that_cannot_be_kept_is_used_all_the_same(
    tiny_onnx: Path, tmp_path: Path, make_crops: Callable[[int], UInt8], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    opened = OpenVinoClassifier(tiny_onnx, threads=1, cache=tmp_path / "cache")
    assert opened.scores(make_crops(3)).logit_F.shape == (3,)
    assert "are not kept" in caplog.text


@pytest.mark.parametrize(
    "precision",
    ["fp32", pytest.param("bf16", marks=pytest.mark.skipif(without_bf16() is not None, reason=str(without_bf16())))],
)
def test_a_damaged_compiled_graph_is_made_again(
    tiny_onnx: Path, tmp_path: Path, make_crops: Callable[[int], UInt8], precision: Literal["fp32", "bf16"]
) -> None:
    """Damage in the middle would change the weights, and OpenVINO would not notice."""
    crops = make_crops(3)

    def scored() -> Float32:
        return OpenVinoClassifier(tiny_onnx, threads=1, precision=precision, cache=tmp_path).scores(crops).logit_F

    expected = scored()
    kept = max(tmp_path.iterdir(), key=lambda path: path.stat().st_size)
    parts = len(list(tmp_path.iterdir()))
    data = bytearray(kept.read_bytes())
    data[len(data) // 2] ^= 0xFF
    kept.write_bytes(data)
    np.testing.assert_array_equal(scored(), expected)
    assert data not in [path.read_bytes() for path in tmp_path.iterdir()]
    sound = {path: path.stat().st_ino for path in tmp_path.iterdir()}
    assert len(sound) == parts
    for path in sound:
        os.utime(path, (1e9, 1e9))
    np.testing.assert_array_equal(scored(), expected)
    assert {path: path.stat().st_ino for path in tmp_path.iterdir()} == sound, "sound ones are used again"
    assert all(path.stat().st_mtime > 1e9 for path in sound), "and count as used"


def test_a_kept_network_is_not_read_again(tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    OpenVinoClassifier(tiny_onnx, threads=1, cache=tmp_path)

    def read(*_: object) -> None:
        raise AssertionError("the network is read")

    monkeypatch.setattr(load_runtime().Core, "read_model", read)
    OpenVinoClassifier(tiny_onnx, threads=1, cache=tmp_path)
    with pytest.raises(AssertionError, match="the network is read"):
        OpenVinoClassifier(tiny_onnx, threads=2, cache=tmp_path)


@pytest.mark.skipif(without_bf16() is not None, reason="this CPU does not compute in bfloat16")
def test_in_bf16_stem_and_head_stay_in_float32(tiny_onnx: Path, make_crops: Callable[[int], UInt8]) -> None:
    exact = OpenVinoClassifier(tiny_onnx, threads=1)
    mixed = OpenVinoClassifier(tiny_onnx, threads=1, precision="bf16")
    assert (exact.name, mixed.name) == ("openvino", "openvino-bf16")
    (lane,) = mixed._idle
    computed = [{_precision(node) for node in part.get_compiled_model().get_runtime_model().get_ordered_ops()} for part in lane]
    assert len(computed) == 3
    assert "bf16" in computed[1]
    assert "bf16" not in computed[0] | computed[2]
    assert not np.array_equal(exact.scores(make_crops(2)).logit_F, mixed.scores(make_crops(2)).logit_F)


@pytest.mark.skipif(without_bf16() is not None, reason="this CPU does not compute in bfloat16")
def test_the_stem_alone_takes_few_crops_at_a_time(
    tiny_onnx: Path, make_crops: Callable[[int], UInt8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a network has none, its trunk comes first: cut up, it would take 4 % longer."""
    opened = OpenVinoClassifier(tiny_onnx, threads=1, precision="bf16")
    infer, taken = load_runtime().InferRequest.infer, list[int]()

    def note(self: Any, given: Any, **options: Any) -> Any:
        taken.append(given.shape[0])
        return infer(self, given, **options)

    monkeypatch.setattr(load_runtime().InferRequest, "infer", note)
    crops = make_crops(IN_CACHE + 1)
    opened.scores(crops)
    assert taken == [IN_CACHE, 1, len(crops), len(crops)]
    (lane,) = opened._idle
    opened._idle = [lane[1:]]
    features = lane[0].get_compiled_model().output(0).partial_shape
    taken.clear()
    opened._score(np.zeros([len(crops), *(features[i].get_length() for i in (1, 2, 3))], np.float32))
    assert taken == [len(crops), len(crops)]


def test_calls_at_once_have_graphs_of_their_own(tiny_onnx: Path, make_crops: Callable[[int], UInt8]) -> None:
    """Read by the call that needs them, and kept for the next; a call beyond ``parallel`` waits."""
    opened = OpenVinoClassifier(tiny_onnx, threads=1, parallel=2)
    crops = make_crops(IN_CACHE + 1)
    alone = opened.scores(crops).logit_F
    with opened._turns:
        taken = opened._idle.pop()
        np.testing.assert_array_equal(opened.scores(crops).logit_F, alone)
        (other,) = opened._idle
        np.testing.assert_array_equal(opened.scores(crops).logit_F, alone)
        assert opened._idle == [other] != [taken]
        late: list[Float32] = []
        waiting = threading.Thread(target=lambda: late.append(opened.scores(crops).logit_F), daemon=True)
        with opened._turns:
            waiting.start()
            waiting.join(0.2)
            assert not late
        waiting.join(60)
    np.testing.assert_array_equal(late, [alone])


def test_graphs_that_cannot_be_read_once_more_fail_that_call_alone(
    tiny_onnx: Path, make_crops: Callable[[int], UInt8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next call has those of the one that ended meanwhile."""
    opened = OpenVinoClassifier(tiny_onnx, threads=1, parallel=2)
    first = opened._idle.pop()

    def refuse(*_: object) -> None:
        opened._idle.append(first)
        raise RuntimeError("no memory left")

    monkeypatch.setattr(load_runtime().Core, "import_model", refuse)
    with pytest.raises(ModelError, match="no memory left"):
        opened.scores(make_crops(1))
    assert opened.scores(make_crops(1)).logit_F.shape == (1,)
    assert opened._idle == [first]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_crops_are_not_held_once_they_are_scored(
    tiny_onnx: Path, make_crops: Callable[[int], UInt8], precision: Literal["fp32", "bf16"]
) -> None:
    if precision == "bf16" and (lacking := without_bf16()):
        pytest.skip(lacking)
    opened = OpenVinoClassifier(tiny_onnx, threads=1, precision=precision)
    crops = make_crops(3)
    expected = opened.scores(crops).logit_F
    held = weakref.ref(crops)
    crops = crops.copy()
    assert held() is None
    crops.flags.writeable = False
    np.testing.assert_array_equal(opened.scores(crops).logit_F, expected)


def test_graphs_that_failed_are_not_used_again(
    tiny_onnx: Path, make_crops: Callable[[int], UInt8], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = OpenVinoClassifier(tiny_onnx, threads=1)
    (failed,) = opened._idle

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("broken off")

    with monkeypatch.context() as patched:
        patched.setattr(load_runtime().InferRequest, "infer", fail)
        with pytest.raises(ModelError, match="broken off"):
            opened.scores(make_crops(1))
    assert opened.scores(make_crops(1)).logit_F.shape == (1,)
    assert opened._idle != [failed]


def _precision(node: object) -> str:
    about = node.get_rt_info()  # type: ignore[attr-defined]
    computes = about["layerType"].astype(str) in ("Convolution", "FullyConnected", "Eltwise", "MVN", "Pooling", "Reduce")
    return str(about["runtimePrecision"].astype(str)) if computes else ""


def test_loading_it_reports_no_usage_and_leaves_no_file(tmp_path: Path, tiny_onnx: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from worker.backends.openvino import OpenVinoClassifier
OpenVinoClassifier(Path({str(tiny_onnx)!r}), threads=1)
assert not [name for name in sys.modules if name.startswith(("openvino_telemetry", "torch", "openvino.tools.ovc"))]
"""
    environment = {**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True, timeout=120)
    assert list(tmp_path.iterdir()) == []


def test_without_openvino_it_says_how_to_get_it(tiny_onnx: Path) -> None:
    program = f"""
import sys
sys.modules["openvino"] = None  # importing it raises ImportError
from pathlib import Path
from worker.backends.openvino import OpenVinoClassifier
from worker.errors import ConfigError
try:
    OpenVinoClassifier(Path({str(tiny_onnx)!r}), threads=1)
except ConfigError as exc:
    print(exc)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert "SOURCE[openvino]" in done.stdout


def test_a_damaged_library_is_told_and_another_backend_takes_its_place(tiny_onnx: Path, tmp_path: Path) -> None:
    """Whichever part of OpenVINO asks for it first."""
    package = Path(load_runtime().__file__).parent
    (tmp_path / "openvino" / "libs").mkdir(parents=True)
    for part in (*package.iterdir(), *(package / "libs").iterdir()):
        place = tmp_path / "openvino" / part.relative_to(package)
        if not place.exists():
            place.symlink_to(part)
    (damaged,) = (tmp_path / "openvino" / "libs").glob("*intel_cpu_plugin*")
    damaged.unlink()
    damaged.write_bytes(b"")
    program = f"""
from pathlib import Path
from worker.backend_checks import backend_checks
from worker.backends.openvino import OpenVinoClassifier, bf16_lacking
from worker.errors import ModelError
from worker.settings import load_settings
path = Path({str(tiny_onnx)!r})
for use in (bf16_lacking, *(lambda: OpenVinoClassifier(path, threads=1, precision=name) for name in ("fp32", "bf16"))):
    try:
        use()
    except ModelError as exc:
        print(exc)
print(next(check for check in backend_checks(load_settings()) if check.name == "backend openvino"))
"""
    paths = os.pathsep.join(map(str, (tmp_path, ROOT)))
    command = [sys.executable, "-c", program]
    there = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, cwd=tmp_path, env=there, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    *refused, check = done.stdout.splitlines()
    assert ["does not work" in line and damaged.name in line for line in refused] == [True] * 3
    assert "status='note'" in check
    assert "does not work" in check


def test_bf16_is_refused_where_the_cpu_has_none() -> None:
    class Core:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

    assert "bfloat16" in str(bf16_lacking(Core()))


def test_calls_that_read_their_graphs_at_once_score_alike(
    tiny_onnx: Path, tmp_path: Path, make_crops: Callable[[int], UInt8]
) -> None:
    """Four of eight; the others have theirs after them."""
    OpenVinoClassifier(tiny_onnx, threads=1, cache=tmp_path)
    opened = OpenVinoClassifier(tiny_onnx, threads=1, parallel=4, cache=tmp_path)
    crops, begin = make_crops(3), threading.Barrier(8)

    def scored(_: int) -> Float32:
        begin.wait(60)
        return opened.scores(crops).logit_F

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(scored, range(8)))
    np.testing.assert_array_equal(found, [found[0]] * 8)
    assert 1 <= len(opened._idle) <= 4
