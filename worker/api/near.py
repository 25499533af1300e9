"""``/v1/scans/{id}/near-duplicates``: what was said of near-identical media."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from worker.api.parts import Reader, TheParts, shown_to
from worker.api.problems import documented
from worker.api.scans import END_S, START_S, ScanId
from worker.report import Probability
from worker.types import Label

router = APIRouter(tags=["scans"])


class NearDuplicate(BaseModel):
    """A completed scan of media that look almost the same. It decides nothing: a fake and its original look almost the same."""

    model_config = ConfigDict(frozen=True)

    id: str
    distance: float = Field(description="mean number of differing bits of 64 between looked-at frames; 0: no difference seen")
    finished_at: datetime | None
    verdict: Label | None
    decided_by: Literal["model", "human"]
    score: Probability | None
    calibrated: bool
    start_s: float | None = Field(description=START_S)
    end_s: float | None = Field(description=END_S)


class NearDuplicates(BaseModel):
    """Newest first, at most 20."""

    model_config = ConfigDict(frozen=True)

    near_duplicates: tuple[NearDuplicate, ...]


@router.get("/v1/scans/{scan_id}/near-duplicates", responses=documented(404, 409))
def list_near_duplicates(key: Reader, scan_id: ScanId, parts: TheParts) -> NearDuplicates:
    """The same owner's completed scans of near-identical media, earlier and later ones, with their verdicts as they are now.
    Empty for scans that are not completed, and for watched streams."""
    found = parts.desk.near_duplicates(scan_id, shown_to(key))
    return NearDuplicates(
        near_duplicates=tuple(
            NearDuplicate(
                id=report.id,
                distance=round(distance, 2),
                finished_at=report.finished_at,
                verdict=report.verdict,
                decided_by=report.decided_by,
                score=report.score,
                calibrated=report.calibrated,
                start_s=report.start_s,
                end_s=report.end_s,
            )
            for report, distance in found
        )
    )
