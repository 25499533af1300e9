from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from optimize.artefacts.folder import is_sound, key_of, put_in_place, write_artefact
from worker.backends.artefact import CLASSIFIER, MANIFEST, PROBE, Manifest, Network, Parity, read_artefact
from worker.errors import ConfigError, ModelError


def fill(folder: Path, content: bytes = b"engine") -> Manifest:
    (folder / "classifier.onnx").write_bytes(content)
    (folder / PROBE).write_bytes(b"crops and scores")
    return Manifest(
        veriframe="0.1.0",
        kind="onnx",
        precision="fp32",
        checkpoint_sha256="a" * 64,
        model="tiny 0",
        export_version=1,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        toolchain={},
        batch=(1, 1, 1),
        networks={CLASSIFIER: Network(file="classifier.onnx", precision="fp32", inputs=(), outputs=())},
        files={},
        parity={CLASSIFIER: Parity(reference="eager fp32", samples=0, reason="not run")},
    )


def test_a_new_folder_is_written_whole_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "artefact"
    write_artefact(out, fill)
    artefact = read_artefact(out)
    assert set(artefact.manifest.files) == {"classifier.onnx", PROBE}
    assert sorted(path.name for path in out.iterdir()) == ["classifier.onnx", MANIFEST, PROBE]
    assert [path.name for path in out.parent.iterdir()] == ["artefact"]


def test_an_artefact_is_replaced_and_an_empty_folder_filled(tmp_path: Path) -> None:
    out = tmp_path / "artefact"
    out.mkdir()
    write_artefact(out, fill)
    write_artefact(out, lambda folder: fill(folder, b"newer"))
    assert read_artefact(out).path().read_bytes() == b"newer"
    assert [path.name for path in tmp_path.iterdir()] == ["artefact"]


def test_what_killed_ones_left_is_removed_and_no_folder_in_use(tmp_path: Path) -> None:
    out = tmp_path / "artefact"
    for name in (".artefact.abcd_123", ".artefact.mine", ".another.abcd_123"):
        (tmp_path / name / "fresh").mkdir(parents=True)
    (tmp_path / ".artefact.previous" / "mine").mkdir(parents=True)
    (tmp_path / ".artefact.efgh_123" / "old-0").mkdir(parents=True)

    def fill_while_another_is_written(folder: Path) -> Manifest:
        assert (tmp_path / ".artefact.efgh_123").is_dir(), "no other artefact is there yet"
        write_artefact(out, fill)
        return fill(folder, b"last")

    write_artefact(out, fill_while_another_is_written)
    assert read_artefact(out).path().read_bytes() == b"last"
    write_artefact(out, fill)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".another.abcd_123",
        ".artefact.mine",
        ".artefact.previous",
        "artefact",
    ]


def test_what_fails_leaves_the_old_one_and_no_trace(tmp_path: Path) -> None:
    out = tmp_path / "artefact"
    write_artefact(out, fill)

    def fail(folder: Path) -> Manifest:
        fill(folder, b"half")
        raise ModelError("no")

    with pytest.raises(ModelError):
        write_artefact(out, fail)
    assert read_artefact(out).path().read_bytes() == b"engine"
    assert [path.name for path in tmp_path.iterdir()] == ["artefact"]


def test_of_two_exports_into_one_folder_at_once_the_last_one_stays(tmp_path: Path) -> None:
    """The other one's is put there between the two moves of this one's."""
    out, scratch = tmp_path / "artefact", tmp_path / "scratch"
    write_artefact(out, fill)
    write_artefact(scratch / "fresh", lambda folder: fill(folder, b"last"))

    class Overtaken:
        def __init__(self) -> None:
            self.others = [b"first", b"second"]

        def rename(self, target: Path) -> None:
            if self.others:
                write_artefact(target, lambda folder: fill(folder, self.others.pop()))
            (scratch / "fresh").rename(target)

    put_in_place(Overtaken(), out, scratch)  # type: ignore[arg-type]
    assert read_artefact(out).path().read_bytes() == b"last"


def test_what_is_no_artefact_is_never_replaced(tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    (folder / "mine.txt").touch()
    file.touch()
    for out in (folder, file):
        with pytest.raises(ConfigError, match="is no artefact"):
            write_artefact(out, fill)
    with pytest.raises(ConfigError, match="cannot write"):
        write_artefact(file / "below", fill)
    assert (folder / "mine.txt").exists()


@pytest.mark.parametrize("strange", ["index.html", "pictures/"])
def test_an_artefact_beside_something_else_is_never_replaced(strange: str, tmp_path: Path) -> None:
    out = tmp_path / "app"
    write_artefact(out, fill)
    (out / strange).mkdir() if strange.endswith("/") else (out / strange).touch()
    with pytest.raises(ConfigError, match="is no artefact"):
        write_artefact(out, fill)
    assert (out / strange).exists()


def test_a_manifest_that_nobody_can_read_is_none_of_ours(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / MANIFEST).write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="is no artefact"):
        write_artefact(out, fill)


def test_files_that_only_look_like_ours_are_never_replaced(tmp_path: Path) -> None:
    """Other programs write a manifest.json too, and networks in ONNX are everywhere."""
    web, broken, mixed = tmp_path / "web", tmp_path / "broken", tmp_path / "mixed"
    for folder, manifest in ((web, '{"name": "app", "icons": []}'), (broken, "{")):
        folder.mkdir()
        (folder / MANIFEST).write_text(manifest)
    write_artefact(mixed, fill)
    for folder in (web, broken, mixed):
        (folder / "mine.onnx").write_bytes(b"mine")
        with pytest.raises(ConfigError, match="is no artefact"):
            write_artefact(folder, fill)
        assert (folder / "mine.onnx").read_bytes() == b"mine"


def test_what_somebody_puts_there_while_it_is_made_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def slowly(folder: Path) -> Manifest:
        out.mkdir()
        (out / "thesis.txt").write_text("years")
        return fill(folder)

    with pytest.raises(ConfigError, match="is no artefact"):
        write_artefact(out, slowly)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["out", "thesis.txt"]


def test_an_artefact_whose_manifest_is_damaged_is_made_anew(tmp_path: Path) -> None:
    out = tmp_path / "artefact"
    write_artefact(out, fill)
    for damaged in (b"", (out / MANIFEST).read_bytes()[:100]):
        (out / MANIFEST).write_bytes(damaged)
        write_artefact(out, lambda folder: fill(folder, b"newer"))
        assert read_artefact(out).path().read_bytes() == b"newer"


def test_what_lies_beside_a_damaged_manifest_is_never_replaced(tmp_path: Path) -> None:
    out = tmp_path / "artefact"
    write_artefact(out, fill)
    (out / MANIFEST).write_bytes(b"")
    (out / "thesis.txt").write_text("years")
    with pytest.raises(ConfigError, match="is no artefact"):
        write_artefact(out, fill)
    assert (out / "thesis.txt").exists()


def test_soundness(tmp_path: Path) -> None:
    out = tmp_path / "artefact"
    assert not is_sound(out)
    write_artefact(out, fill)
    assert is_sound(out)
    (out / "classifier.onnx").write_bytes(b"other!")
    assert not is_sound(out)


def test_keys_differ_by_every_part() -> None:
    parts = {"checkpoint": "a", "batch": (1, 2, 4), "gpu": None}
    keys = {key_of(parts | changed) for changed in ({}, {"checkpoint": "b"}, {"batch": (1, 2, 8)}, {"gpu": "NVIDIA L4"})}
    assert len(keys) == 4
    assert key_of(parts) == key_of(dict(reversed(parts.items())))
