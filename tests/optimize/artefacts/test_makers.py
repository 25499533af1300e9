from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from optimize.artefacts.makers import NET_PROFILES, Source, make_openvino, why_not_here
from worker.backends.artefact import Gpu
from worker.errors import ConfigError
from worker.extras import missing
from worker.model.mtcnn import FILE_NAMES
from worker.model.packaged import weights_folder

ROOT = Path(__file__).resolve().parents[3]


def rnet() -> Source:
    graph = (weights_folder() / FILE_NAMES["rnet"]).read_bytes()
    return Source(name="rnet", graph=graph, profile=NET_PROFILES["rnet"], precision="fp32")


def test_an_export_to_openvino_reports_no_usage(tmp_path: Path) -> None:
    """Its maker's reports go with the converter, which ``import openvino`` brings along: no test's process may have it.

    That loading OpenVINO leaves nothing in the home folder: ``tests/worker/backends/test_openvino.py``.
    """
    if missing(("openvino",)):
        pytest.skip("needs openvino: make setup")
    made = make_openvino(rnet(), tmp_path, ())
    assert made.run is not None, made.reason
    assert not {"openvino.tools.ovc", "openvino_telemetry"} & sys.modules.keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rnet.bin", "rnet.xml"]


def test_what_openvino_cannot_write_is_told(tmp_path: Path) -> None:
    """As on a full disk: OpenVINO raises RuntimeError."""
    if missing(("openvino",)):
        pytest.skip("needs openvino: make setup")
    (tmp_path / "rnet.bin").mkdir()
    with pytest.raises(ConfigError, match=r"cannot write rnet\.xml: "):
        make_openvino(rnet(), tmp_path, ())


def test_engines_for_other_architectures_are_made_but_not_run_here() -> None:
    hopper = Gpu(name="NVIDIA H200", compute_capability="9.0")
    assert why_not_here(("SM89", "SM120"), lambda what: hopper) == (
        "built for SM89, SM120, but the card here, NVIDIA H200, is SM90"
    )
    assert why_not_here(("SM89", "SM90"), lambda what: hopper) is None
    assert why_not_here((), lambda what: hopper) is None

    def no_card(what: str) -> Gpu:
        raise ConfigError(f"{what} needs an NVIDIA GPU")

    assert why_not_here(("SM89",), no_card) == "running the engine needs an NVIDIA GPU"


def test_openvino_is_imported_in_one_place_alone() -> None:
    imports = re.compile(r"""^\s*(?:import|from) openvino\b|import_module\("openvino\b|__import__\("openvino\b""", re.MULTILINE)
    files = [path for package in ("worker", "optimize", "training") for path in (ROOT / package).rglob("*.py")]
    found = [str(path.relative_to(ROOT)) for path in files if imports.search(path.read_text(encoding="utf-8"))]
    assert found == ["worker/openvino_runtime.py"]
