"""Makes the packaged faces on which ``auto`` tries the backends: ``python -m optimize.probe_faces [OUT]``.

Of all faces in sixteen even frames of each demo clip, sixteen evenly chosen ones, side by side in one JPEG.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from optimize.artefacts.pictures import demo_pictures
from worker.backends import trial
from worker.faces.crop import MARGIN
from worker.types import UInt8

FRAMES_EACH = 16
JPEG_QUALITY = 92


def probe_sheet() -> UInt8:
    """The sheet as uint8 RGB [GRID * SIDE, GRID * SIDE, 3]; the same one each time."""
    crops_FHWC = demo_pictures(margin=MARGIN, size=trial.SIDE, frames_each=FRAMES_EACH).crops_FHWC
    chosen = np.linspace(0, len(crops_FHWC) - 1, trial.GRID**2).round().astype(int)
    rows = crops_FHWC[chosen].reshape(trial.GRID, trial.GRID, trial.SIDE, trial.SIDE, 3).swapaxes(1, 2)
    return np.ascontiguousarray(rows.reshape(trial.GRID * trial.SIDE, trial.GRID * trial.SIDE, 3))


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(trial.__file__).with_name(trial.FACES)
    bgr_HWC = cv2.cvtColor(probe_sheet(), cv2.COLOR_RGB2BGR)
    written, jpeg = cv2.imencode(".jpg", bgr_HWC, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not written:
        raise RuntimeError("OpenCV cannot write JPEG")
    out.write_bytes(jpeg.tobytes())


if __name__ == "__main__":
    main()
