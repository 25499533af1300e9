from __future__ import annotations

import sys

import pytest

from worker.errors import ConfigError
from worker.extras import missing
from worker.openvino_runtime import load_runtime


def test_it_is_the_runtime_and_its_converter_can_still_be_imported() -> None:
    if missing(("openvino",)):
        pytest.skip("needs openvino: make setup")
    assert load_runtime() is load_runtime()
    assert hasattr(load_runtime(), "Core")
    assert sys.modules.get("openvino.tools.ovc", "absent") is not None, "what was kept out is not blocked for good"


def test_without_it_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"SOURCE\[openvino\]"):
        load_runtime()
