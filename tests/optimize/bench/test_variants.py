from __future__ import annotations

import pytest

from optimize.bench.variants import Variant, can_replay, variants_of
from worker.errors import ConfigError
from worker.settings import load_settings


def test_a_variant_looks_at_every_frame_unless_it_may_stop_early() -> None:
    settings = load_settings(flags=Variant(backend="onnxruntime").flags(32))
    assert (settings.model.backend, settings.sampling.max_frames, settings.sampling.exhaustive) == ("onnxruntime", 32, True)
    assert load_settings(flags=Variant(backend="auto", early=True).flags(32)).sampling.exhaustive is False


@pytest.mark.parametrize("carry", [True, False])
def test_carrying_is_set_only_where_it_is_asked_for(carry: bool) -> None:
    assert load_settings(flags=Variant(backend="auto", carry=carry).flags(8)).faces.carry is carry
    assert "faces" not in Variant(backend="auto").flags(8)


def test_names_tell_variants_apart() -> None:
    variants = [Variant(backend="a"), Variant(backend="a", early=True), Variant(backend="a", carry=True), Variant(backend="b")]
    assert len({one.name for one in variants}) == 4
    assert Variant(backend="a", carry=False, early=True).name == "a, no carrying, early decision"


def test_early_variants_come_after_all_exhaustive_ones() -> None:
    names = [one.name for one in variants_of(["auto", "onnxruntime"], carry=None, early=True)]
    assert names == ["auto", "onnxruntime", "auto, early decision", "onnxruntime, early decision"]


def test_settings_that_are_none_are_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="backend"):
        variants_of(["abacus"], carry=None, early=False)


@pytest.mark.parametrize(
    ("classifier", "detector", "can"),
    [
        ("onnxruntime", "onnxruntime", True),
        ("openvino-bf16", "openvino", True),
        ("onnxruntime-cuda", "onnxruntime", False),
        ("tensorrt-fp16", "onnxruntime", False),
        ("torch", "onnxruntime", False),
        ("onnxruntime", "tensorrt", False),
    ],
)
def test_only_networks_on_processors_can_be_replayed(classifier: str, detector: str, can: bool) -> None:
    assert can_replay(classifier, detector) is can
