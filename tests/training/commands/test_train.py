from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from training.clips import open_frames, read_clip
from training.commands import data
from training.commands.train import app
from training.folder_lock import alone_in
from worker.demo import FOLDER
from worker.model.packaged import CHECKPOINT_NAME
from worker.model.restore import load_network

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none.yaml"], "none.yaml"),
        (["configs/train/paper.yaml", "--cache", "nowhere"], "veriframe data prepare"),
        (["configs/train/baselines.yaml", "--cache", "nowhere"], "veriframe data prepare"),
    ],
)
def test_mistakes_are_told_without_a_traceback(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, [*arguments, "--run", str(tmp_path / "run")])
    assert result.exit_code == 2, result.output
    assert told in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("config", ["second.yaml", "paper.yaml", "baselines.yaml", "leave-out.yaml"])
def test_a_folder_where_another_process_trains_is_refused_by_name(config: str, tmp_path: Path) -> None:
    words = [str(ROOT / "configs" / "train" / config), "--run", str(tmp_path / "run"), "--cache", "nowhere"]
    with alone_in(tmp_path / "run", print):
        result = CliRunner().invoke(app, words)
    assert result.exit_code == 2, result.output
    assert f"{tmp_path / 'run'}: another process is at work there" in result.stderr


def test_without_torch_the_extra_is_named() -> None:
    code = "import sys; sys.modules['torch'] = None; from training.commands.train import app; app(['configs/train/first.yaml'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert "torch is not installed" in done.stderr
    assert "[train]" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_shows_a_users_own_folder_and_only_files_that_exist() -> None:
    text = CliRunner().invoke(app, ["--help"]).output
    assert "completion" not in text
    assert "veriframe data prepare FOLDER" in text
    named = {word for word in text.split() if word.startswith("configs/train/")}
    assert "configs/train/paper.yaml" in named
    assert all((ROOT / name).exists() for name in named), named
    told = (ROOT / "docs" / "training.md").read_text("utf-8")
    shipped = re.search(rf"cp runs/(\w+)/model\.safetensors \S+/{CHECKPOINT_NAME}", told)
    assert shipped is not None
    assert f"comes from (docs/training.md has all): veriframe train configs/train/{shipped[1]}.yaml" in " ".join(text.split())


def test_a_users_own_folder_becomes_a_checkpoint_by_two_commands(tmp_path: Path) -> None:
    """Those that the help names, at tiny size: seven people, each real and fake."""
    media, cache, run, tiny = (tmp_path / name for name in ("mine", "cache", "run", "tiny.yaml"))
    for label, clip in (("real", "untouched.mp4"), ("fake", "swapped.mp4")):
        (media / label).mkdir(parents=True)
        with open_frames() as source:
            for number, rgb_HWC in enumerate(read_clip(source, FOLDER / clip, 7).values()):
                Image.fromarray(rgb_HWC[60:420, 100:540]).save(media / label / f"{number}.png")
    told = {
        "network": {"backbone": "test_efficientnet", "hidden_dim": 16, "num_steps": 2},
        "hardware": {"threads": 1, "accelerator": "cpu", "devices": 1},
        "overrides": {"train": {"size": 32, "batch": 4, "epochs": 1}, "evaluate": {"size": 32}},
    }
    tiny.write_text(yaml.safe_dump(told))
    threads = torch.get_num_threads()
    first = CliRunner().invoke(data.app, ["prepare", str(media), "--cache", str(cache), "--threads", "1"])
    assert first.exit_code == 0, first.output
    second = CliRunner().invoke(
        app, [str(ROOT / "configs" / "train" / "own.yaml"), str(tiny), "--cache", str(cache), "--run", str(run)]
    )
    torch.set_num_threads(threads)
    assert second.exit_code == 0, second.output
    assert second.stdout.splitlines()[-1] == str(run / "model.safetensors")
    spec, _ = load_network(run / "model.safetensors")
    assert [(source.name, source.real, source.fake) for source in spec.training.sources] == [("mine", 6, 6)]
    assert spec.licence.notice
    assert "## Table 4" in (run / "report.md").read_text("utf-8")
