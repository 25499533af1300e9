from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from worker.backends.remembered import MAX_BYTES, Choice, machine_key, recall, remember
from worker.backends.trial import Trial

NAMES = ["onnxruntime", "openvino", "openvino-bf16"]
TRIALS = (
    Trial(name="onnxruntime", ms=16.0, max_dp=0, mean_dp=0),
    Trial(name="openvino", reason="not installed"),
    Trial(name="openvino-bf16", ms=8.0, max_dp=0.01, mean_dp=0.001),
)


def key(digest: str = "a" * 64, threads: int = 1) -> dict[str, str]:
    return machine_key(digest, NAMES, threads=threads)


def choice(backend: str = "openvino-bf16") -> Choice:
    return Choice(key=key(), backend=backend, chosen_at=datetime(2026, 11, 28, tzinfo=UTC), trials=TRIALS)


def kept(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_what_is_remembered_is_recalled_for_the_same_key_alone(tmp_path: Path) -> None:
    assert recall(tmp_path, key()) is None
    remember(tmp_path, choice())
    assert recall(tmp_path, key()) == choice()
    assert recall(tmp_path, key("b" * 64)) is None
    assert recall(tmp_path, key(threads=2)) is None


def test_what_was_not_tried_or_a_card_that_did_not_answer_keeps_no_backend_out(tmp_path: Path) -> None:
    hurried = Trial(name="openvino", reason="not tried: the others took 30 s")
    there, none = key() | {"gpu": "NVIDIA H200"}, key() | {"gpu": ""}
    cases = [(hurried, none, False)]
    for name in ("onnxruntime-cuda", "tensorrt", "tensorrt-rtx", "torch-tensorrt"):
        silent = Trial(name=name, reason="no NVIDIA GPU answers here")
        differs = Trial(name=name, max_dp=0.5, mean_dp=0.1, reason="scores differ by up to 0.5")
        cases += [(silent, there, False), (silent, none, True), (differs, there, True)]
    for trial, its_key, known in cases:
        kept_one = choice("onnxruntime").model_copy(update={"key": its_key, "trials": (TRIALS[0], trial)})
        remember(tmp_path, kept_one)
        assert (recall(tmp_path, its_key) is not None) is known


@pytest.mark.parametrize(("age", "counts"), [(59, True), (61, False), (-59, True), (-61, False)])
def test_what_was_not_tried_is_left_at_that_for_an_hour(tmp_path: Path, age: int, counts: bool) -> None:
    """Minutes; a clock that was set back makes no hour longer than two."""
    hurried = Trial(name="openvino", reason="not tried: the others took 30 s")
    chosen_at = datetime.now(UTC) - timedelta(minutes=age)
    remember(tmp_path, choice("onnxruntime").model_copy(update={"chosen_at": chosen_at, "trials": (TRIALS[0], hurried)}))
    assert (recall(tmp_path, key()) is not None) is counts


def test_a_time_without_a_zone_counts_for_nothing(tmp_path: Path) -> None:
    hurried = Trial(name="openvino", reason="not tried: the others took 30 s")
    remember(tmp_path, choice("onnxruntime").model_copy(update={"trials": (TRIALS[0], hurried)}))
    path = kept(tmp_path)
    path.write_text(path.read_text().replace("2026-11-28T00:00:00Z", "2026-11-28T00:00:00"))
    assert recall(tmp_path, key()) is None


def test_the_key_tells_machine_and_libraries() -> None:
    parts = ("checkpoint", "export", "parts", "veriframe", "candidates", "libraries", "cpu", "gpu", "threads", "artefacts")
    assert set(key()) == set(parts)
    assert machine_key("a" * 64, NAMES, threads=1, artefacts=["tensorrt-aaaa-1@2"]) != key()
    assert "onnxruntime" in key()["libraries"]
    assert len(key()["cpu"]) > 5


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 2}'])
def test_a_broken_file_counts_for_nothing(tmp_path: Path, content: bytes) -> None:
    remember(tmp_path, choice())
    kept(tmp_path).write_bytes(content)
    assert recall(tmp_path, key()) is None


@pytest.mark.parametrize(("size_bytes", "counts"), [(MAX_BYTES, True), (MAX_BYTES + 1, False)])
def test_a_file_larger_than_any_of_ours_counts_for_nothing(tmp_path: Path, size_bytes: int, counts: bool) -> None:
    remember(tmp_path, choice())
    path = kept(tmp_path)
    path.write_bytes(path.read_bytes().ljust(size_bytes))
    assert (recall(tmp_path, key()) is not None) is counts


@pytest.mark.parametrize("backend", ["openvino", "torch", "../../evil"])
def test_only_a_candidate_that_passed_may_be_named(tmp_path: Path, backend: str) -> None:
    remember(tmp_path, choice(backend))
    assert recall(tmp_path, key()) is None


def test_a_choice_of_another_key_under_this_name_and_a_link_count_for_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    remember(folder, choice())
    path = kept(folder)
    text = path.read_text()
    path.write_text(text.replace("a" * 64, "b" * 64))
    assert recall(folder, key()) is None
    (tmp_path / "elsewhere").write_text(text)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    assert recall(folder, key()) is None


def test_it_says_why() -> None:
    assert choice().why() == "8.0 ms a crop against 16.0 by onnxruntime; probabilities differ by at most 0.0100 (mean 0.00100)"
    assert "no other" in choice("onnxruntime").why()
