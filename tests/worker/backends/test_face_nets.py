"""The face detector's networks on other runtimes: the packaged answers, or the packaged networks in their place."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from tests.worker.backends.failing_cuda import pretend_cuda
from worker.backends import face_nets
from worker.backends.face_nets import BACKENDS, PACKAGED, Wanted, Within, check_agreement, open_face_nets
from worker.backends.onnx import has_cuda
from worker.backends.trial import probe_crops
from worker.errors import ConfigError, ModelError
from worker.extras import missing
from worker.faces.detect import MtcnnDetector
from worker.faces.nets import load_nets, packaged_nets
from worker.ports import FaceNets
from worker.settings import FaceSettings
from worker.types import Float32


@pytest.fixture(scope="module")
def packaged() -> FaceNets:
    return load_nets(packaged_nets())


def wanted(backend: str, tmp_path: Path) -> Wanted:
    return Wanted(backend=backend, folder=packaged_nets(), cache_dir=tmp_path, digest="0" * 64, parallel=2)


def shifted(net: face_nets.FaceNet) -> face_nets.FaceNet:
    return lambda pictures_NHWC: [output + np.float32(0.01) for output in net(pictures_NHWC)]


def test_only_pictures_within_the_shapes_go_through_the_network() -> None:
    seen: list[tuple[int, ...]] = []

    def engine(pictures_NHWC: Float32) -> list[Float32]:
        seen.append(pictures_NHWC.shape)
        return [np.ones(1, np.float32)]

    net = Within(engine, lambda _: [np.zeros(1, np.float32)], least=(1, 12, 12, 3), greatest=(16, 54, 96, 3))
    shapes = {(1, 12, 12, 3): 1, (40, 54, 96, 3): 1, (1, 11, 12, 3): 0, (1, 55, 96, 3): 0, (0, 20, 20, 3): 0}
    for shape, answer in shapes.items():
        assert net(np.zeros(shape, np.float32))[0] == answer
    assert seen == [shape for shape, answer in shapes.items() if answer]


def test_a_network_that_answers_otherwise_is_refused(packaged: FaceNets) -> None:
    check_agreement(packaged, packaged)
    pnet, rnet, onet = packaged
    for nets in ((shifted(pnet), rnet, onet), (pnet, shifted(rnet), onet), (pnet, rnet, shifted(onet))):
        with pytest.raises(ModelError, match=r"differs from the packaged network by up to 0\.01"):
            check_agreement(nets, packaged)
    with pytest.raises(ModelError, match="other shapes"):
        check_agreement((pnet, rnet, lambda pictures_NHWC: onet(pictures_NHWC)[:2]), packaged)

    def of_other_shapes(pictures_NHWC: Float32) -> list[Float32]:
        raise ValueError(f"the engine takes no input of shape {list(pictures_NHWC.shape)}")

    with pytest.raises(ModelError, match="onet takes no faces of 48 px"):
        check_agreement((pnet, rnet, of_other_shapes), packaged)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_output_of_no_numbers_is_refused_whichever_it_is(place: int, packaged: FaceNets) -> None:
    pnet, rnet, onet = packaged

    def spoilt(pictures_NHWC: Float32) -> list[Float32]:
        return [output * np.nan if at == place else output for at, output in enumerate(onet(pictures_NHWC))]

    with pytest.raises(ModelError, match="onet differs from the packaged network by up to nan"):
        check_agreement((pnet, rnet, spoilt), packaged)


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx", "onnxruntime-cuda"])
def test_what_this_machine_lacks_is_told_and_counted(
    backend: str, packaged: FaceNets, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if backend == "onnxruntime-cuda" and has_cuda():
        pytest.skip("this ONNX Runtime was built with CUDA")
    told: list[str] = []
    before = face_nets.fallbacks.total()
    with caplog.at_level(logging.WARNING):
        name, nets = open_face_nets(wanted(backend, tmp_path), packaged, told.append)
    assert (name, nets) == (PACKAGED, packaged)
    assert told == [backend]
    assert face_nets.fallbacks.total() == before + 1
    assert f"faces are looked for on onnxruntime instead of {backend} (missing)" in caplog.text


@pytest.mark.parametrize(("fails", "why"), [("opening", "missing"), ("running", "refused")])
def test_faces_are_looked_for_by_the_packaged_ones_where_the_card_fails(
    fails: Literal["opening", "running"],
    why: str,
    packaged: FaceNets,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    pretend_cuda(monkeypatch, fails)
    with caplog.at_level(logging.WARNING):
        assert open_face_nets(wanted("onnxruntime-cuda", tmp_path), packaged) == (PACKAGED, packaged)
    assert f"on onnxruntime instead of onnxruntime-cuda ({why})" in caplog.text
    assert capfd.readouterr().out == ""


def test_the_packaged_ones_are_the_default_and_others_have_to_be_known(packaged: FaceNets, tmp_path: Path) -> None:
    assert FaceSettings().backend == PACKAGED
    assert open_face_nets(wanted(PACKAGED, tmp_path), packaged) == (PACKAGED, packaged)
    assert set(FaceSettings.model_json_schema()["properties"]["backend"]["enum"]) == set(BACKENDS)
    with pytest.raises(ConfigError, match=r"faces\.backend 'opencl'"):
        open_face_nets(wanted("opencl", tmp_path), packaged)


@pytest.mark.skipif(bool(missing(("openvino",))), reason="openvino is not installed: the extra openvino")
def test_openvino_finds_the_packaged_faces(packaged: FaceNets, tmp_path: Path) -> None:
    name, nets = open_face_nets(wanted("openvino", tmp_path), packaged)
    assert name == "openvino"
    faces_FHWC = probe_crops(224)
    sheet_HWC = np.vstack([np.hstack(faces_FHWC[row : row + 4]) for row in range(0, 16, 4)])
    with MtcnnDetector(threads=1) as ours, MtcnnDetector(nets, threads=2) as theirs:
        expected, found = ours.detect([sheet_HWC]), theirs.detect([sheet_HWC, sheet_HWC])
    assert len(expected.boxes_N4) >= 12
    half = len(found.boxes_N4) // 2
    for part in (slice(0, half), slice(half, None)):
        np.testing.assert_allclose(found.boxes_N4[part], expected.boxes_N4, atol=0.02)
        np.testing.assert_allclose(found.landmarks_NK2[part], expected.landmarks_NK2, atol=0.05)
