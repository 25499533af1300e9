"""The last stage: every source of the test set apart, on clean crops as a scan would see them (Table 4)."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from training.metrics import auc
from training.paper.crops import Crops, Order, loader
from training.paper.engine import bar
from training.paper.settings import EvaluateStage, Hardware
from training.prepare import Crop
from training.room import beside
from worker.errors import ConfigError
from worker.model.network import DeepfakeNet, score_logit


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceResult:
    """One source at the threshold 0.5, picture by picture; ``auc`` is None where the source has one class."""

    source: str
    real: int
    fake: int
    accuracy: float
    auc: float | None
    log_loss: float
    seconds: float


@torch.inference_mode()
def evaluate(
    network: DeepfakeNet, rows: Sequence[Crop], *, cache: Path, stage: EvaluateStage, hardware: Hardware, fabric: Fabric
) -> list[SourceResult]:
    """A result for each source, on the device of ``fabric``."""
    judged = network.to(fabric.device).eval()
    found = []
    with bar(fabric) as progress:
        line = progress.add_task("evaluate", total=len(rows), loss="")
        for source in sorted({row.source for row in rows}):
            members = [row for row in rows if row.source == source]
            crops = Crops(cache, members, size=stage.size, plan=None, augmentation=None, seed=0)
            started = time.monotonic()
            logits = []
            for samples in loader(crops, Order(len(crops), batch=stage.batch), hardware.workers):
                pixels_FCHW = judged.normalise(samples.crops_FHWC.to(fabric.device))
                with fabric.autocast():
                    family_FK = judged.forward_normalised(pixels_FCHW.contiguous(memory_format=torch.channels_last))
                logits.append(score_logit(family_FK.float()).cpu())
                progress.update(line, advance=len(samples.fake_F), loss=source)
            fake = torch.tensor([row.label == "fake" for row in members])
            found.append(judge(source, torch.cat(logits), fake, time.monotonic() - started))
    return found


def judge(source: str, logit_F: torch.Tensor, fake_F: torch.Tensor, seconds: float) -> SourceResult:
    value = auc(fake_F.numpy(), logit_F.double().numpy())
    return SourceResult(
        source=source,
        real=int((~fake_F).sum()),
        fake=int(fake_F.sum()),
        accuracy=float(((logit_F > 0) == fake_F).float().mean()),
        auc=None if np.isnan(value) else value,
        log_loss=float(nn.functional.binary_cross_entropy_with_logits(logit_F, fake_F.to(logit_F.dtype))),
        seconds=round(seconds, 2),
    )


def write_results(results: Sequence[SourceResult], path: Path) -> None:
    with beside(path) as unfinished:
        unfinished.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n", "utf-8")


def read_results(path: Path) -> list[SourceResult]:
    """Raises ConfigError where the file is damaged or of another version."""
    try:
        return [SourceResult(**row) for row in json.loads(path.read_text("utf-8"))]
    except (ValueError, TypeError) as exc:
        raise ConfigError(f"{path} is damaged, or of another version of veriframe ({exc}): delete it, it is made again") from exc
