from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as serialise_tensors

from worker.backends.artefact import (
    CLASSIFIER,
    KEPT,
    MANIFEST,
    PROBE,
    Gpu,
    Machine,
    Manifest,
    Network,
    Parity,
    Precision,
    StoredFile,
    TensorSpec,
    check_fits,
    check_owned,
    check_parity,
    compare,
    kept_artefacts,
    kept_marks,
    kept_prefix,
    probabilities,
    read_artefact,
    told_as,
)
from worker.errors import ConfigError, ModelError
from worker.model.checkpoint import sha256
from worker.model.graph import EXPORT_VERSION, INPUT, LOGIT
from worker.model.packaged import default_checkpoint
from worker.types import Float32

CHECKPOINT = "a" * 64
CARD = Gpu(name="NVIDIA L4", compute_capability="8.9")
MACHINE = Machine(library="tensorrt", version="11.1.0", gpu=CARD)
P = np.array([0.1, 0.5, 0.9], np.float32)
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a small artefact, its manifest changed as asked, and returns its folder."""

    def write(folder: Path = tmp_path / "artefact", **changed: Any) -> Path:
        folder.mkdir(parents=True)
        (folder / "classifier.engine").write_bytes(b"engine")
        (folder / PROBE).write_bytes(serialise_tensors({"crops": np.zeros((3, 8, 8, 3), np.uint8), "p": P}))
        manifest = Manifest(
            veriframe="0.1.0",
            kind="tensorrt",
            precision="fp16",
            checkpoint_sha256=CHECKPOINT,
            model="tiny 0",
            export_version=EXPORT_VERSION,
            created=datetime(2026, 1, 1, tzinfo=UTC),
            toolchain={"tensorrt": "11.1.0"},
            gpu=CARD,
            batch=(1, 2, 4),
            networks={
                CLASSIFIER: Network(
                    file="classifier.engine",
                    precision="fp16",
                    inputs=(TensorSpec(name=INPUT, dtype="uint8", shape=(-1, 8, 8, 3)),),
                    outputs=(TensorSpec(name=LOGIT, dtype="float32", shape=(-1,)),),
                )
            },
            files={path.name: stored(path) for path in folder.iterdir()},
            parity={CLASSIFIER: Parity(reference="eager fp32", samples=3, max_dp=0.001, mean_dp=0.0005)},
        )
        (folder / MANIFEST).write_text(manifest.model_copy(update=changed).model_dump_json())
        return folder

    return write


def stored(path: Path) -> StoredFile:
    data = path.read_bytes()
    return StoredFile(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def test_what_was_written_is_read(write: Write) -> None:
    artefact = read_artefact(write())
    assert artefact.manifest.gpu == CARD
    assert artefact.path().read_bytes() == b"engine"
    probe = artefact.probe()
    assert probe.crops_FHWC.shape == (3, 8, 8, 3)
    np.testing.assert_array_equal(probe.p_F, P)
    check_fits(artefact, checkpoint_sha256=CHECKPOINT, machine=MACHINE)


@pytest.mark.parametrize("name", ["classifier.engine", PROBE])
def test_a_changed_or_missing_file_is_refused(name: str, write: Write) -> None:
    folder = write()
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-1] + b"!")
    with pytest.raises(
        ModelError, match=r"not the file that was exported; .*veriframe export CHECKPOINT --to tensorrt --precision fp16"
    ):
        read_artefact(folder)
    (folder / name).unlink()
    with pytest.raises(ModelError, match="veriframe export"):
        read_artefact(folder)


@pytest.mark.parametrize("name", ["classifier.engine", PROBE])
def test_a_file_without_a_hash_is_refused(name: str, write: Write) -> None:
    """The probe too: it is what the gate measures by."""
    folder = write()
    files = {path.name: stored(path) for path in folder.iterdir() if path.name not in (name, MANIFEST)}
    manifest = read_artefact(folder).manifest.model_copy(update={"files": files})
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    with pytest.raises(ModelError, match=f"no hash of {name}"):
        read_artefact(folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"format": 2}, "format"), ({"unheard_of": 1}, "unheard_of"), ({"checkpoint_sha256": "x"}, "checkpoint_sha256")],
)
def test_unknown_manifests_are_refused(changed: dict[str, Any], message: str, write: Write) -> None:
    folder = write()
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | changed))
    with pytest.raises(ModelError, match=message):
        read_artefact(folder)


def test_a_file_elsewhere_cannot_be_named(write: Write) -> None:
    folder = write()
    text = (folder / MANIFEST).read_text().replace("classifier.engine", "../classifier.engine")
    (folder / MANIFEST).write_text(text)
    with pytest.raises(ModelError, match="pattern"):
        read_artefact(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "\0"])
def test_what_is_no_manifest_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no artefact"):
        read_artefact(tmp_path)
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ModelError, match="make the artefact anew"):
        read_artefact(tmp_path)


def other(**changed: Any) -> Machine:
    return Machine(**({"library": "tensorrt", "version": "11.1.0", "gpu": CARD} | changed))


@pytest.mark.parametrize(
    ("machine", "checkpoint", "message"),
    [
        (MACHINE, "b" * 64, "made for checkpoint"),
        (other(version="11.2.0"), CHECKPOINT, r"made for tensorrt 11\.1\.0, but here it is 11\.2\.0"),
        (other(library="tensorrt_rtx"), CHECKPOINT, "made for tensorrt_rtx None"),
        (other(gpu=None), CHECKPOINT, "but here is no GPU"),
        (other(gpu=Gpu(name="NVIDIA L40", compute_capability="8.9")), CHECKPOINT, "NVIDIA L40"),
    ],
)
def test_what_does_not_fit_says_what_to_run(machine: Machine, checkpoint: str, message: str, write: Write) -> None:
    artefact = read_artefact(write())
    with pytest.raises(ModelError, match=message) as refused:
        check_fits(artefact, checkpoint_sha256=checkpoint, machine=machine)
    assert "`veriframe export CHECKPOINT --to tensorrt --precision fp16 --batch 1,2,4 --rebuild`" in str(refused.value)


def test_the_command_names_no_checkpoint_where_scans_use_the_bundled_one(write: Write) -> None:
    with pytest.raises(ModelError, match="made for checkpoint") as refused:
        check_fits(read_artefact(write()), checkpoint_sha256=sha256(default_checkpoint()), machine=MACHINE)
    assert str(refused.value).endswith("`veriframe export --to tensorrt --precision fp16 --batch 1,2,4 --rebuild`")


def test_an_older_graph_is_refused(write: Write) -> None:
    with pytest.raises(ModelError, match="graph version"):
        check_fits(read_artefact(write(export_version=EXPORT_VERSION - 1)), checkpoint_sha256=CHECKPOINT, machine=MACHINE)


def test_targets_hold_for_cards_of_their_architecture(write: Write) -> None:
    artefact = read_artefact(write(gpu=None, targets=("SM80", "SM89")))
    check_fits(artefact, checkpoint_sha256=CHECKPOINT, machine=MACHINE)
    hopper = other(gpu=Gpu(name="NVIDIA H100", compute_capability="9.0"))
    with pytest.raises(ModelError, match=r"built for SM80, SM89, but NVIDIA H100 .* is SM90; .* --target SM90 --rebuild"):
        check_fits(artefact, checkpoint_sha256=CHECKPOINT, machine=hopper)


@pytest.mark.parametrize(
    ("precision", "off", "fits"),
    [("fp32", 0.00099, True), ("fp32", 0.00101, False)]
    + [(half, off, fits) for half in ("fp16", "bf16") for off, fits in ((0.0, True), (0.0029, True), (0.0031, False))],
)
def test_the_gate_on_the_mean(precision: Precision, off: float, fits: bool, write: Write) -> None:
    artefact = read_artefact(write(precision=precision))
    if fits:
        assert check_parity(artefact, P + np.float32(off)).samples == 3
    else:
        with pytest.raises(ModelError, match="differ from eager float32"):
            check_parity(artefact, P + np.float32(off))


@pytest.mark.parametrize("p_F", [P[:2], np.array([0.1, 0.5, np.nan], np.float32), P + np.array([0, 0, 0.031], np.float32)])
def test_the_gate_on_one_score_and_on_what_are_no_scores(p_F: Float32, write: Write) -> None:
    with pytest.raises(ModelError, match="differ from eager float32"):
        check_parity(read_artefact(write()), p_F)


def test_its_name_tells_its_precision(write: Write, tmp_path: Path) -> None:
    """Else a resumed run would take the scores of another precision for its own."""
    told = {p: told_as(read_artefact(write(tmp_path / p, precision=p)).manifest) for p in ("fp32", "fp16", "bf16")}
    assert told == {"fp32": "tensorrt", "fp16": "tensorrt-fp16", "bf16": "tensorrt-bf16"}


def test_figures() -> None:
    found = compare(np.array([0.2, 0.5], np.float32), np.array([0.1, 0.5], np.float32))
    assert (found.max_dp, found.mean_dp, found.samples) == (pytest.approx(0.1), pytest.approx(0.05), 2)
    none = compare(np.array([0.2], np.float32), np.array([np.nan], np.float32))
    assert (none.max_dp, none.mean_dp, none.samples) == (None, None, 1), "the reference's are no numbers, either"


def test_probabilities_of_extreme_logits() -> None:
    np.testing.assert_array_equal(probabilities(np.array([-1e4, 0, 1e4], np.float32)), [0, 0.5, 1])


def test_a_damaged_probe_and_an_unknown_network_are_refused(write: Write) -> None:
    artefact = read_artefact(write())
    (artefact.folder / PROBE).write_bytes(b"cut")
    with pytest.raises(ModelError, match="damaged"):
        artefact.probe()
    with pytest.raises(ModelError, match="no network 'pnet'"):
        artefact.path("pnet")


def test_kept_ones_come_newest_first(write: Write, tmp_path: Path) -> None:
    kept = tmp_path / KEPT
    folders = [write(folder=kept / f"{kept_prefix('tensorrt', CHECKPOINT)}{key}") for key in ("one", "two")]
    write(folder=kept / f"{kept_prefix('tensorrt-rtx', CHECKPOINT)}three")
    os.utime(folders[0] / MANIFEST, (2e9, 2e9))
    assert kept_artefacts(tmp_path, "tensorrt", CHECKPOINT) == folders
    assert kept_artefacts(tmp_path, "tensorrt", "b" * 64) == []
    marks = kept_marks(tmp_path, "tensorrt", CHECKPOINT)
    assert [mark.split("@")[0] for mark in marks] == [folder.name for folder in folders]
    os.utime(folders[1] / MANIFEST, (1e9, 1e9))
    assert kept_marks(tmp_path, "tensorrt", CHECKPOINT) != marks, "made anew"


def test_folders_that_others_could_have_written_are_refused(tmp_path: Path) -> None:
    """A saved program can carry code, and what reads engines trusts them."""
    own, open_to_all, link = tmp_path / "own", tmp_path / "open", tmp_path / "link"
    own.mkdir(mode=0o700)
    check_owned(own)
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    link.symlink_to(own)
    for folder in (open_to_all, link, tmp_path / "none"):
        with pytest.raises(ConfigError):
            check_owned(folder)
