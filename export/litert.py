"""Run a TensorFlow Lite file by LiteRT, without TensorFlow."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from tfproj.core.hardware import available_cpus
from tfproj.core.spec import INPUT_NAME, PROBABILITIES_NAME, SCORES_NAME, ModelSpec
from tfproj.errors import TfprojError, first_line, missing_extra

MAGIC = b"TFL3"  # from byte 4 on


def require_litert() -> None:
    """InputError where LiteRT is not installed."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise missing_extra("ai-edge-litert", "tflite")


class LiteRunner:
    """A file that takes one image at a time.

    Args:
        data: the file.
        spec: what it was made of.
    """

    def __init__(self, data: bytes, spec: ModelSpec):
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 (an extra)

        self.spec = spec
        try:
            self._interpreter = Interpreter(model_content=data, num_threads=available_cpus())
            self._runner: Any = self._interpreter.get_signature_runner()
        except (ValueError, RuntimeError) as error:
            raise TfprojError(f"LiteRT cannot use the file ({first_line(error)})") from None

    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores and probabilities float32 of uint8 (B, H, W, C)."""
        answers = [self._runner(**{INPUT_NAME: picture[None]}) for picture in pixels]
        scores, probabilities = (
            np.concatenate([answer[name] for answer in answers])
            for name in (SCORES_NAME, PROBABILITIES_NAME)
        )
        return scores, probabilities
