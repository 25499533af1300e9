"""Under which terms weights are: those of the data, and of all weights that training started from. None is dropped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from training import provenance
from training.settings import TERMS
from worker.errors import ConfigError, ModelError
from worker.model import checkpoint
from worker.model.spec import Licence, ModelSpec, TrainingSource

BUNDLED = Licence(
    name="research and evaluation only",
    file="LICENSE-WEIGHTS.txt",
    notice="Trained on FaceForensics++, FFHQ and other data under research terms; retrain on your own data for production.",
)
"""Of what is trained on media of the committed splits."""
NO_FILE = "none"


def of_cache(cache: Path) -> tuple[Licence, ...]:
    """The bundled terms where the media are those of the committed splits; a cache that says nothing of itself counts as such."""
    made_of = provenance.read(cache)
    return (BUNDLED,) if made_of is None or "own" in made_of.layout.split("+") else ()


def of_start(path: Path) -> tuple[Licence, ...]:
    """The terms that a checkpoint tells; other safetensors tell none. Raises ConfigError where the file cannot be read."""
    spec = spec_of_start(path)
    return () if spec is None else (spec.licence,)


def spec_of_start(path: Path) -> ModelSpec | None:
    """Of a checkpoint; None for other safetensors. Raises ConfigError where the file cannot be read."""
    try:
        with safe_open(path, "numpy") as file:
            is_ours = checkpoint.KEY in (file.metadata() or {})
        return checkpoint.load_spec(path) if is_ours else None
    except (OSError, SafetensorError, ModelError) as exc:
        raise ConfigError(f"{path}: training started from it, so its terms hold, and it cannot be read any more: {exc}") from exc


def of_training(
    terms: str,
    sources: Sequence[TrainingSource],
    *,
    data: Sequence[Licence] = (),
    starts: Sequence[Path] = (),
    init: Path | None = None,
) -> Licence:
    """The terms of checkpoints ``starts``, those known of the ``data``, and ``terms`` with a notice of sources and backbone.

    Where the data's are known, ``terms`` joins them only if somebody chose it. Raises ConfigError as ``of_start`` does.
    """
    begun = "" if init is None else f"; started from {init.name}, whose terms hold too"
    own = Licence(name=terms, file=NO_FILE, notice=f"Trained on: {', '.join(source.name for source in sources)}{begun}")
    found = [*(licence for path in starts for licence in of_start(path)), *data]
    return together(found if data and terms == TERMS else [*found, own])


def together(licences: Sequence[Licence]) -> Licence:
    """All of them, each told once."""
    files = [licence.file for licence in licences if licence.file != NO_FILE] or [NO_FILE]
    return Licence(
        name="; ".join(dict.fromkeys(licence.name for licence in licences)),
        file=", ".join(dict.fromkeys(files)),
        notice=" ".join(dict.fromkeys(licence.notice for licence in licences)),
    )
