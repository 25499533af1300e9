from __future__ import annotations

import subprocess
import sys

import pytest

from worker.errors import ConfigError
from worker.extras import missing
from worker.openvino_runtime import load_runtime

FIRST_ARRAYS = """
import sys, threading
import numpy as np
from worker.openvino_runtime import load_runtime
runtime = load_runtime()
from openvino import opset13
x = opset13.parameter([-1, 4], runtime.Type.f32)
compiled = runtime.Core().compile_model(runtime.Model([opset13.relu(x)], [x], "relu"), "CPU")
requests = [compiled.create_infer_request() for _ in range(4)]
together = threading.Barrier(4)
def run(request):
    together.wait()
    request.infer({0: np.zeros((2, 4), np.float32)})
threads = [threading.Thread(target=run, args=(request,)) for request in requests]
sys.setswitchinterval(1e-7)
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.parametrize("turn", range(3))
def test_threads_that_get_their_first_arrays_at_once_do_not_wait_for_each_other(turn: int) -> None:
    """Without care two of three such processes hang."""
    if missing(("openvino",)):
        pytest.skip("needs openvino: make setup")
    subprocess.run([sys.executable, "-c", FIRST_ARRAYS], check=True, timeout=60)


def test_it_is_the_runtime_and_its_converter_can_still_be_imported() -> None:
    if missing(("openvino",)):
        pytest.skip("needs openvino: make setup")
    assert load_runtime() is load_runtime()
    assert hasattr(load_runtime(), "Core")
    assert sys.modules.get("openvino.tools.ovc", "absent") is not None, "what was kept out is not blocked for good"


def test_loading_it_imports_no_operators_and_all_of_them_can_be_had_later() -> None:
    if missing(("openvino",)):
        pytest.skip("needs openvino: make setup")
    check = """
import importlib, sys
from worker.openvino_runtime import load_runtime, operators
runtime = load_runtime()
print([name for name in sys.modules if name.startswith("openvino.opset")], [name for name in vars(runtime) if "opset" in name])
print(callable(operators().relu), callable(importlib.import_module("openvino.opset1").add), runtime.opset13 is operators())
"""
    done = subprocess.run([sys.executable, "-c", check], check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[] []", "True True True"]


def test_without_it_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"SOURCE\[openvino\]"):
        load_runtime()
