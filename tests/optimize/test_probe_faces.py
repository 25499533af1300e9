from __future__ import annotations

import numpy as np

from optimize.probe_faces import probe_sheet
from worker.backends.trial import SIDE, probe_crops


def test_the_packaged_faces_are_those_of_the_demo_clips() -> None:
    crops_FHWC = probe_crops(SIDE)
    rebuilt_FHWC = probe_sheet().reshape(4, SIDE, 4, SIDE, 3).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)
    difference_F = np.abs(crops_FHWC.astype(int) - rebuilt_FHWC).mean(axis=(1, 2, 3))
    assert difference_F.max() < 3, "but for JPEG"
