"""Frames by settings; imports no network and no runtime, so that decoding can begin while those are imported."""

from __future__ import annotations

import logging
from collections.abc import Callable

from worker.frames.boot import Booted
from worker.frames.limits import Limits
from worker.frames.sandbox import SandboxedFrames
from worker.frames.wire import NVDEC
from worker.settings import Settings
from worker.telemetry.catalogue import DECODER_RESTARTS, FALLBACKS
from worker.telemetry.port import SILENT, Telemetry
from worker.types import SamplingRequest

MIB = 1 << 20
log = logging.getLogger(__name__)


def build_frames(settings: Settings, telemetry: Telemetry = SILENT, decoders: Booted | None = None) -> SandboxedFrames:
    """The sandboxed frame source of these settings; it owns ``decoders``, where they were started before."""
    decode = settings.decode
    return SandboxedFrames(
        Limits(
            max_pixels=decode.max_pixels,
            max_picture_pixels=decode.max_picture_pixels,
            max_duration_s=decode.max_duration_s,
            max_packets=decode.max_packets,
            max_streams=decode.max_streams,
            max_bytes=decode.max_bytes,
        ),
        decoder=decode.decoder,
        threads=decode.threads,
        timeout_s=decode.timeout_s,
        memory_bytes=decode.memory_mib * MIB,
        cpu_s=decode.cpu_s,
        shared_bytes=decode.shared_mib * MIB,
        on_lost=lambda why: telemetry.count(DECODER_RESTARTS, why),
        on_software=_software_told(telemetry),
        booted=decoders,
    )


def request_of(settings: Settings) -> SamplingRequest:
    """Which frames a scan looks at where it is not told otherwise."""
    sampling = settings.sampling
    return SamplingRequest(
        strategy=sampling.strategy,
        max_frames=sampling.max_frames,
        fps=sampling.fps,
        start_s=sampling.start_s,
        end_s=sampling.end_s,
        exhaustive=sampling.exhaustive,
    )


def _software_told(telemetry: Telemetry) -> Callable[[], None]:
    """Counts videos that were to be decoded on a card, and are not; the first is logged."""
    told: list[bool] = []

    def tell() -> None:
        telemetry.count(FALLBACKS, NVDEC)
        if not told:
            told.append(True)
            log.warning("a video is decoded in software instead of nvdec: veriframe doctor says whether a card decodes here")

    return tell
