from __future__ import annotations

import pytest

from optimize.bench.variants import Variant, settings_know, variants_of
from worker.errors import ConfigError


def test_a_variant_looks_at_every_frame_unless_it_may_stop_early() -> None:
    flags = Variant(backend="onnxruntime").flags(32)
    assert flags["model"] == {"backend": "onnxruntime"}
    assert flags["sampling"]["max_frames"] == 32
    assert flags["sampling"].get("exhaustive", True) is True


def test_names_tell_variants_apart() -> None:
    variants = [Variant(backend="a"), Variant(backend="a", early=True), Variant(backend="a", carry=True), Variant(backend="b")]
    assert len({one.name for one in variants}) == 4
    assert Variant(backend="a", carry=False, early=True).name == "a, no carrying, early decision"


def test_settings_that_are_none_are_refused_before_anything_runs() -> None:
    assert [one.name for one in variants_of(["auto", "onnxruntime"], carry=None, early=False)] == ["auto", "onnxruntime"]
    with pytest.raises(ConfigError, match="backend"):
        variants_of(["abacus"], carry=None, early=False)


def test_settings_are_known_by_name() -> None:
    assert settings_know("model", "backend")
    assert not settings_know("model", "colour")
