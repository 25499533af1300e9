"""What can be tested of TensorRT's runtime without a card: all but the card's own part (``Engine``)."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from worker.backends import tensorrt, torch_tensorrt
from worker.backends.tensorrt import (
    Engine,
    TensorRtClassifier,
    TensorRtNet,
    Why,
    open_tensorrt,
    or_fall_back,
    run_padded,
    this_gpu,
)
from worker.errors import ConfigError, ModelError, VeriframeError
from worker.extras import missing
from worker.model.graph import DRAWS, LOGIT
from worker.ports import Classifier
from worker.types import UInt8

no_card = pytest.mark.skipif(torch.cuda.is_available(), reason="a card is at hand")


class MeanEngine:
    """An engine (``Runs``) whose logit is the mean of each picture, with ``draws`` about it; it remembers the batches it saw."""

    def __init__(self, least: int, greatest: int, draws: int = 0) -> None:
        self.least, self.greatest, self.draws = least, greatest, draws
        self.batches: list[int] = []

    def __call__(self, pictures: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        assert self.least <= len(pictures) <= self.greatest
        self.batches.append(len(pictures))
        means = pictures.mean((1, 2, 3), dtype=np.float32)
        drawn = {DRAWS: means[:, None] + np.arange(self.draws)} if self.draws else {}
        return {LOGIT: means, "offset": np.stack([means, -means], 1)} | drawn


class Library:
    """What ``Engine`` uses of ``tensorrt``, as far as to a context; an ``engine`` that it refuses is None, as there."""

    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")

    class ILogger:
        Severity = IntEnum("Severity", ["ERROR", "WARNING"])

        def log(self, severity: int, message: str) -> None: ...

    def __init__(self, engine: Any = None, error: str = "no word") -> None:
        self.__name__, self._engine, self._error = "tensorrt", engine, error

    def Runtime(self, logger: ILogger) -> Any:
        logger.log(self.ILogger.Severity.ERROR, self._error)
        return SimpleNamespace(deserialize_cuda_engine=lambda data: self._engine)


def crops(n: int) -> UInt8:
    return np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 4, 4, 3))


@pytest.mark.parametrize(
    ("n", "max_batch", "batches"), [(0, 8, []), (1, 8, [2]), (5, 8, [5]), (7, 3, [3, 3, 2]), (11, 99, [8, 3]), (9, 99, [8, 2])]
)
def test_batches_are_cut_to_the_engine_and_filled_up(n: int, max_batch: int, batches: list[int]) -> None:
    engine = MeanEngine(least=2, greatest=8)
    logits = TensorRtClassifier(engine, name="tensorrt", size=4, max_batch=max_batch).scores(crops(n)).logit_F
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, np.arange(n))
    assert engine.batches == batches


def test_draws_are_cut_and_joined_like_the_logits() -> None:
    engine = MeanEngine(least=2, greatest=2, draws=3)
    scores = TensorRtClassifier(engine, name="tensorrt", size=4, max_batch=8).scores(crops(5))
    np.testing.assert_array_equal(scores.draws_FN, np.arange(5)[:, None] + np.arange(3))
    assert TensorRtClassifier(MeanEngine(2, 2), name="tensorrt", size=4, max_batch=8).scores(crops(5)).draws_FN is None


def test_wrong_crops_and_options_are_refused() -> None:
    classifier = TensorRtClassifier(MeanEngine(1, 8), name="tensorrt", size=4, max_batch=8)
    with pytest.raises(ValueError, match="crops must be uint8"):
        classifier.scores(np.zeros((2, 5, 5, 3), np.uint8))
    with pytest.raises(ValueError, match="must be positive"):
        TensorRtClassifier(MeanEngine(1, 8), name="tensorrt", size=4, max_batch=0)


@pytest.mark.parametrize("n", [0, 1, 4, 5, 9])
def test_a_net_gives_its_outputs_in_order_for_any_number_of_pictures(n: int) -> None:
    net = TensorRtNet(MeanEngine(least=1, greatest=4), ["offset", LOGIT])
    offset, logit = net(crops(n).astype(np.float32))
    np.testing.assert_array_equal(logit, np.arange(n))
    np.testing.assert_array_equal(offset, np.stack([np.arange(n), -np.arange(n)], 1))


def test_filling_up_changes_no_output() -> None:
    engine = MeanEngine(least=4, greatest=4)
    outputs = run_padded(engine, crops(3))
    assert engine.batches == [4]
    np.testing.assert_array_equal(outputs[LOGIT], [0, 1, 2])


@pytest.mark.parametrize(("error", "why"), [(ConfigError("no card"), Why.MISSING), (ModelError("another card"), Why.REFUSED)])
def test_falling_back_is_logged_and_counted(error: VeriframeError, why: Why, caplog: pytest.LogCaptureFixture) -> None:
    other = TensorRtClassifier(MeanEngine(1, 8), name="onnxruntime", size=4, max_batch=8)

    def refuse() -> Classifier:
        raise error

    told: list[str] = []
    before = tensorrt.fallbacks[why]
    with caplog.at_level(logging.WARNING):
        assert or_fall_back(refuse, lambda: other, "tensorrt", told.append) is other
    assert told == ["tensorrt"]
    assert tensorrt.fallbacks[why] == before + 1
    assert caplog.messages == [f"onnxruntime runs instead of tensorrt ({why}): {error}"]


def test_what_opens_is_used_and_nothing_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    wanted = TensorRtClassifier(MeanEngine(1, 8), name="tensorrt", size=4, max_batch=8)

    def fail() -> Classifier:
        raise AssertionError("opened in vain")

    def fail_to_tell(wanted: str) -> None:
        raise AssertionError("nothing fell back")

    before = tensorrt.fallbacks.total()
    assert or_fall_back(lambda: wanted, fail, "tensorrt", fail_to_tell) is wanted
    assert tensorrt.fallbacks.total() == before
    assert not caplog.messages


def test_an_engine_that_the_library_refuses_says_what_to_run() -> None:
    """With a new driver, say: the kept artefact is whole, so it takes ``--rebuild`` to replace it."""
    remedy = "; export it anew on this machine: `veriframe export --to tensorrt --rebuild`"
    with pytest.raises(ModelError, match=f"the engine was refused .*another card.*: no word{remedy}"):
        Engine(Library(), b"", remedy=remedy)


@pytest.mark.parametrize("said", ["Error Code 1: Cuda Runtime (out of memory)", "Error Code 2: OutOfMemory (no more is known)"])
def test_a_card_without_memory_is_no_other_version(said: str) -> None:
    with pytest.raises(ModelError) as refused:
        Engine(Library(error=said), b"", remedy="; export it anew")
    assert str(refused.value) == f"the card has no room for the engine: {said}"


def test_the_library_writes_to_the_log_and_not_to_standard_output(
    rtx: Any, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A scan's output is there. The library is real, and needs no card to refuse this."""
    with pytest.raises(ModelError, match="Serialization assertion"), caplog.at_level(logging.WARNING):
        Engine(rtx, b"of another version" * 20)
    assert "Serialization assertion" in caplog.text
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("context", [None, SimpleNamespace(set_input_shape=lambda name, shape: False)])
def test_where_the_card_has_no_room_for_an_engine_another_backend_runs(context: object, caplog: pytest.LogCaptureFixture) -> None:
    """TensorRT raises nothing then."""
    other = TensorRtClassifier(MeanEngine(1, 8), name="onnxruntime", size=4, max_batch=8)
    engine = SimpleNamespace(
        num_io_tensors=1,
        get_tensor_name=lambda place: "crops",
        get_tensor_mode=lambda name: Library.TensorIOMode.INPUT,
        get_tensor_profile_shape=lambda name, profile: [(1, 4, 4, 3), (8, 4, 4, 3), (16, 4, 4, 3)],
        create_execution_context=lambda: context,
    )
    wanted = lambda: TensorRtClassifier(Engine(Library(engine), b""), name="tensorrt", size=4, max_batch=8)  # noqa: E731
    assert or_fall_back(wanted, lambda: other, "tensorrt") is other
    assert "onnxruntime runs instead of tensorrt (refused): TensorRT could not make the engine's context: no word" in caplog.text


class Without(Library):
    """One that makes no runtime: what pybind11 raises where a factory gives null."""

    def Runtime(self, logger: Library.ILogger) -> Any:
        logger.log(self.ILogger.Severity.ERROR, self._error)
        raise TypeError("pybind11::init(): factory function returned nullptr")


@no_card
@pytest.mark.parametrize(
    ("open_wanted", "reason"),
    [
        (lambda: this_gpu("tensorrt"), "(missing): tensorrt needs an NVIDIA GPU, and the one here cannot be used"),
        (lambda: Engine(Without(error="error 2"), b""), "(refused): TensorRT does not start here: error 2"),
        (torch_tensorrt.load_library, "(missing): torch_tensorrt is installed but does not load: no TensorRT"),
    ],
    ids=["a card that is counted and cannot be used", "no runtime", "a library that raises anything"],
)
def test_whatever_the_libraries_raise_at_opening_another_backend_runs(
    open_wanted: Callable[[], Any], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "torch_tensorrt.py").write_text("raise Exception('no TensorRT')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch_tensorrt", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    other = TensorRtClassifier(MeanEngine(1, 8), name="onnxruntime", size=4, max_batch=8)
    assert or_fall_back(open_wanted, lambda: other, "tensorrt") is other
    assert f"onnxruntime runs instead of tensorrt {reason}" in caplog.text


SECOND = """
import logging
import tensorrt_rtx as trt
from worker.backends.listener import made_with, new_listener
logging.basicConfig(level=logging.WARNING)
listeners = [new_listener(trt) for _ in range(2)]
runtimes = [made_with(trt.Runtime, listener) for listener in listeners]
logging.warning("both are made")
runtimes[1].deserialize_cuda_engine(b"no engine" * 99)
"""


@pytest.mark.skipif(bool(missing(("tensorrt_rtx",))), reason="tensorrt_rtx is not installed")
def test_a_second_engine_says_nothing_of_the_listener_of_the_first() -> None:
    done = subprocess.run([sys.executable, "-c", SECOND], capture_output=True, text=True, timeout=120, check=True)
    before, after = done.stderr.split("both are made")
    assert (before, done.stdout) == ("WARNING:root:", "")
    assert "deserializeCudaEngine" in after


@pytest.mark.skipif(not missing(("tensorrt",)), reason="tensorrt is installed")
def test_a_missing_library_says_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tensorrt needs tensorrt: .*SOURCE\[gpu\]"):
        open_tensorrt(tmp_path, checkpoint_sha256="0" * 64)


@no_card
def test_without_a_card_nothing_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the test needs an NVIDIA GPU"):
        this_gpu("the test")
    if not missing(("tensorrt_rtx",)):
        with pytest.raises(ConfigError, match="the tensorrt-rtx backend needs an NVIDIA GPU"):
            open_tensorrt(tmp_path, kind="tensorrt-rtx", checkpoint_sha256="0" * 64)


def test_an_engine_that_somebody_else_could_have_written_is_not_opened(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="others may write to it"):
        open_tensorrt(tmp_path, checkpoint_sha256="0" * 64)
