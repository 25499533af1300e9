"""Compiles a checkpoint ahead of time by torch-tensorrt. Not verified on hardware: neither library nor card was at hand.

Precision is by explicit types, as for the other engines: the backbone's weights are cast, its maps follow, normalisation and head
stay float32. (``enabled_precisions`` is ignored since TensorRT 11. ``enable_autocast`` goes by the kind of an operation, and
would lower the head's too.) Its engine cache is left off: it unpickles entries from the system's folder of temporary files.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from worker.backends.artefact import Precision
from worker.errors import ModelError
from worker.model.card import CardHead
from worker.model.network import DeepfakeNet, score_logit

TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class TypedScorer(nn.Module):
    """The network with all outputs of the exported graph; the backbone in ``precision``, cast in place."""

    def __init__(self, network: DeepfakeNet, precision: Precision) -> None:
        super().__init__()
        self.network = network
        self.dtype = TYPES[precision]
        network.backbone.to(self.dtype)
        if not all(torch.isfinite(value).all() for value in network.backbone.state_dict().values() if value.is_floating_point()):
            raise ModelError(f"weights beyond the range of {precision}: export with --precision bf16 or fp32")

    def forward(self, crops_FHWC: Tensor) -> tuple[Tensor, ...]:
        pixels_FCHW = self.network.normalise(crops_FHWC).to(self.dtype)
        features_FD = self.network.backbone(pixels_FCHW).float()
        head = self.network.head
        if isinstance(head, CardHead):
            families_FK, draws_FN = head.outputs(features_FD)
            return score_logit(families_FK), families_FK, draws_FN
        families_FK = head(features_FD)
        return score_logit(families_FK), families_FK


def trace(scorer: TypedScorer, *, size: int, batch: tuple[int, int, int]) -> torch.export.ExportedProgram:
    """The program with a dynamic batch. The example's lies strictly inside: torch.export would take one of 1 for a constant."""
    least, usual, greatest = batch
    device = next(scorer.parameters()).device
    example = torch.zeros(max(2, usual), size, size, 3, dtype=torch.uint8, device=device)
    faces = torch.export.Dim("faces", min=least, max=max(greatest, 2 + len(example)))
    return torch.export.export(scorer.eval(), (example,), dynamic_shapes=({0: faces},))


def compile_program(
    library: Any, network: DeepfakeNet, out: Path, *, size: int, precision: Precision, batch: tuple[int, int, int]
) -> None:
    """Compile for the card at hand and save to ``out``; ``library`` is torch_tensorrt. Raises ModelError where it refuses."""
    shapes = dict(zip(("min_shape", "opt_shape", "max_shape"), ((n, size, size, 3) for n in batch), strict=True))
    crops = library.Input(**shapes, dtype=torch.uint8)
    try:
        program = trace(TypedScorer(network, precision).cuda(), size=size, batch=batch)
        with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
            compiled = library.dynamo.compile(
                program,
                arg_inputs=[crops],
                disable_tf32=precision == "fp32",
                require_full_compilation=True,
                min_block_size=1,
                cache_built_engines=False,
                reuse_cached_engines=False,
                timing_cache_path=str(Path(scratch) / "timing.bin"),
            )
        library.save(compiled, str(out), output_format="exported_program", arg_inputs=[crops])
    except (RuntimeError, AssertionError) as exc:
        raise ModelError(f"torch-tensorrt does not compile the network: {exc}") from exc
