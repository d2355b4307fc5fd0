"""What a server is told; it is pickled on its way to the process that answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfproj.core.hardware import available_cpus

MAX_IMAGES = 64  # of one request
MAX_JSON = 4 * 2**20  # bytes: Python reads JSON in one go, in which nobody else is answered
IN_TRANSIT = 8  # bodies of the largest size that may be in memory at a time


@dataclass(frozen=True)
class Settings:
    """See ``tfproj serve --help``.

    Attributes:
        models: name -> (ONNX file, options of its :class:`tfproj.Predictor`).
        host: name or address that is listened on.
        token: that requests must carry; None: anyone may ask.
        queue: images that may wait beside those in work.
        max_body: bytes of a request.
        max_pixels: of an image.
        timeout: seconds for a request to arrive, and for an answer to be taken.
        workers: threads that decode and predict, each one image at a time.
    """

    models: dict[str, tuple[Path, dict[str, Any]]]
    host: str = "127.0.0.1"
    token: str | None = None
    queue: int = 64
    max_body: int = 32 * 2**20
    max_pixels: int = 50_000_000
    timeout: float = 30.0
    workers: int = field(default_factory=available_cpus)
