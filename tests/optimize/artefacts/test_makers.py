from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from optimize.artefacts.makers import NET_PROFILES, Source
from worker.extras import missing
from worker.model.mtcnn import FILE_NAMES
from worker.model.packaged import weights_folder

ROOT = Path(__file__).resolve().parents[3]

MAKE_OPENVINO = """
import sys
from pathlib import Path
from optimize.artefacts.makers import make_openvino
from tests.optimize.artefacts.test_makers import rnet
made = make_openvino(rnet(), Path(sys.argv[1]), ())
assert made.run is not None, made.reason
print(*sorted({"openvino.tools.ovc", "openvino_telemetry"} & sys.modules.keys()))
"""


def rnet() -> Source:
    graph = (weights_folder() / FILE_NAMES["rnet"]).read_bytes()
    return Source(name="rnet", graph=graph, profile=NET_PROFILES["rnet"], precision="fp32")


def test_an_export_to_openvino_reports_no_usage(tmp_path: Path) -> None:
    """Its maker's reports go with the converter, which ``import openvino`` brings along, and leave files in the home folder."""
    if missing(("openvino",)):
        pytest.skip("needs openvino: make setup")
    home, out = tmp_path / "home", tmp_path / "out"
    home.mkdir()
    out.mkdir()
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", MAKE_OPENVINO, str(out)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
    assert list(home.iterdir()) == []
    assert sorted(path.name for path in out.iterdir()) == ["rnet.bin", "rnet.xml"]


def test_openvino_is_imported_in_one_place_alone() -> None:
    imports = re.compile(r"""^\s*(?:import|from) openvino\b|import_module\("openvino\b|__import__\("openvino\b""", re.MULTILINE)
    files = [path for package in ("worker", "optimize", "training") for path in (ROOT / package).rglob("*.py")]
    found = [str(path.relative_to(ROOT)) for path in files if imports.search(path.read_text(encoding="utf-8"))]
    assert found == ["worker/openvino_runtime.py"]
