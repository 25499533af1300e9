"""The choice on the tiny network: real backends, whatever of them this machine has."""

from __future__ import annotations

import json
import logging
import stat
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from worker.backends.auto import candidates, choose, open_auto, remembered_choice
from worker.backends.candidates import AUTO, Opening
from worker.backends.kept import private_cache
from worker.backends.remembered import Choice, remember
from worker.backends.tensorrt import fallbacks
from worker.errors import ConfigError
from worker.extras import missing
from worker.model.checkpoint import sha256

needs_openvino = pytest.mark.skipif(bool(missing(("openvino",))), reason="needs openvino: make setup")


@pytest.fixture
def opening(tiny_checkpoint: Path, tiny_onnx: Path, tmp_path: Path) -> Opening:
    return Opening(
        checkpoint=tiny_checkpoint,
        digest=sha256(tiny_checkpoint),
        onnx=lambda: tiny_onnx,
        cache_dir=tmp_path / "cache",
        threads=1,
        parallel=1,
        max_batch=8,
    )


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a loaded machine the reference alone takes long, and nothing else would be tried."""
    monkeypatch.setattr("worker.backends.trial.PATIENCE_S", 600.0)


@needs_openvino
def test_what_there_was_no_time_to_try_is_tried_after_an_hour(
    opening: Opening, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as loaded:
        loaded.setattr("worker.backends.trial.PATIENCE_S", -1.0)
        hurried = choose(opening)
    assert hurried.backend == "onnxruntime"
    assert all(trial.is_untried for trial in hurried.trials[1:])
    assert "for an hour" in caplog.text
    assert remembered_choice(opening) == choose(opening) == hurried
    monkeypatch.setattr("worker.backends.remembered.PASSING", timedelta(0))
    assert remembered_choice(opening) is None
    calm = choose(opening)
    assert not any(trial.is_untried for trial in calm.trials)
    assert remembered_choice(opening) == calm


@needs_openvino
def test_it_measures_once_remembers_and_says_so(opening: Opening, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert remembered_choice(opening) is None
    first = choose(opening)
    assert [trial.name for trial in first.trials] == candidates(opening.cache_dir, opening.digest)
    assert first.trials[0].ms is not None
    assert first.backend in AUTO
    assert f"the backend is {first.backend}: " in caplog.text
    assert choose(opening) == first == remembered_choice(opening)
    assert stat.S_IMODE((opening.cache_dir / "backends").stat().st_mode) == 0o700
    assert open_auto(opening).name == first.backend
    assert choose(opening, anew=True).chosen_at > first.chosen_at


@needs_openvino
def test_a_broken_memory_is_made_again(opening: Opening) -> None:
    choose(opening)
    (path,) = (opening.cache_dir / "backends").glob("*.json")
    path.write_text("{}")
    choose(opening)
    assert json.loads(path.read_text())["version"] == 1


@needs_openvino
def test_several_at_once_choose_the_same(opening: Opening) -> None:
    found: list[Choice] = []
    threads = [threading.Thread(target=lambda: found.append(choose(opening))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(found) == 3
    assert len({choice.chosen_at for choice in found}) == 1, "one measures, the others wait for it"


@needs_openvino
def test_what_no_longer_opens_is_replaced_and_logged(
    opening: Opening, tiny_onnx: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = choose(opening)
    trials = tuple(t.model_copy(update={"reason": None, "ms": 1.0}) for t in chosen.trials)
    remember(opening.cache_dir / "backends", chosen.model_copy(update={"backend": "openvino", "trials": trials}))
    answers = [tmp_path / "gone.onnx", tiny_onnx]
    broken = replace(opening, onnx=lambda: answers.pop(0))
    before = fallbacks.total()
    assert open_auto(broken).name == "onnxruntime"
    assert fallbacks.total() == before + 1
    assert "onnxruntime runs instead of openvino" in caplog.text


@needs_openvino
def test_where_nothing_can_be_remembered_it_is_the_reference(opening: Opening, caplog: pytest.LogCaptureFixture) -> None:
    opening.cache_dir.write_text("a file where the folder should be")
    assert choose(opening).backend == "onnxruntime"
    assert "could not be remembered" in caplog.text


@needs_openvino
def test_where_no_lock_can_be_made_it_is_the_reference(opening: Opening, caplog: pytest.LogCaptureFixture) -> None:
    """As in a folder of one's own on a file system that may only be read, or that knows no locks."""
    (private_cache(opening.cache_dir / "backends") / "lock").mkdir()
    assert choose(opening).backend == "onnxruntime"
    assert "could not be remembered" in caplog.text


@needs_openvino
def test_what_fails_while_it_is_measured_is_told(opening: Opening) -> None:
    def not_exported() -> Path:
        raise ConfigError("exporting needs torch")

    with pytest.raises(ConfigError, match="exporting needs torch"):
        choose(replace(opening, onnx=not_exported))


@needs_openvino
def test_a_choice_that_cannot_be_written_is_the_reference_too(opening: Opening, caplog: pytest.LogCaptureFixture) -> None:
    choose(opening)
    (path,) = (opening.cache_dir / "backends").glob("*.json")
    path.unlink()
    path.mkdir()  # as a full disk: the file cannot be put there
    assert choose(opening).backend == "onnxruntime"
    assert "could not be remembered" in caplog.text


def test_where_nothing_else_is_installed_nothing_is_measured_or_written(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    absent = ("openvino", "tensorrt", "tensorrt_rtx", "torch_tensorrt")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else real(name))
    choice = choose(opening)
    assert (choice.backend, choice.why()) == ("onnxruntime", "the only one that can be used here")
    assert remembered_choice(opening) is not None
    assert not opening.cache_dir.exists()
