"""Replay the images and answers that a model file carries (``golden`` in its metadata).

docs/onnx-contract.md says how they are stored; any port of the predictor can do the same.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfproj.errors import InputError, TfprojError

MAX_VECTORS = 100


@dataclass(frozen=True)
class SelfTest:
    """What :meth:`tfproj.Predictor.selftest` found.

    Attributes:
        vectors: images that were predicted.
        max_difference: largest difference in a probability.
        tolerance: largest one that the file allows.
    """

    vectors: int
    max_difference: float
    tolerance: float


@dataclass(frozen=True)
class Vector:
    """One image and its answer.

    Attributes:
        name: for messages.
        image: an encoded PNG.
        probabilities: float32 (classes,) or (rows, columns, classes), 0..1.
        stride: every how many-th row and column of the model's output that is.
    """

    name: str
    image: bytes
    probabilities: np.ndarray
    stride: int

    def difference(self, answer: np.ndarray) -> float:
        """Largest difference to an answer of the model; infinite for another shape."""
        if answer.ndim == 3:
            answer = answer[:: self.stride, :: self.stride]
        if answer.shape != self.probabilities.shape:
            return math.inf
        return float(np.abs(answer - self.probabilities).max())


def replay(metadata: dict[str, Any], answer: Callable[[bytes], np.ndarray]) -> SelfTest:
    """Compare every golden vector of a model's metadata.

    Args:
        metadata: what the file says of itself.
        answer: an encoded image -> probabilities.

    Raises:
        InputError: there are no vectors, or they are damaged.
        TfprojError: a difference above the tolerance.
    """
    tolerance, vectors = read_vectors(metadata)
    worst = 0.0
    for vector in vectors:
        difference = vector.difference(answer(vector.image))
        if not difference <= tolerance:
            raise TfprojError(
                f"self-test failed: {vector.name[:40]!r} differs by {difference:.2g} from the "
                f"answer in the file (tolerance {tolerance:g})"
            )
        worst = max(worst, difference)
    return SelfTest(len(vectors), worst, tolerance)


def read_vectors(metadata: dict[str, Any]) -> tuple[float, list[Vector]]:
    """(tolerance, golden vectors) of a file; InputError where there are none or damaged ones."""
    if metadata.get("golden") is None:
        raise InputError("the file has no golden vectors to test itself with")
    try:
        entry = metadata["golden"]
        tolerance, vectors = float(entry["tolerance"]), [_vector(v) for v in entry["vectors"]]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise InputError("its golden vectors are damaged") from None
    if not 0 < tolerance <= 1 or not 0 < len(vectors) <= MAX_VECTORS:
        raise InputError("its golden vectors are damaged")
    return tolerance, vectors


def _vector(entry: dict[str, Any]) -> Vector:
    picture = base64.b64decode(entry["image_base64"], validate=True)
    values = base64.b64decode(entry["probabilities_base64"], validate=True)
    probabilities = np.frombuffer(values, "<f4").reshape([int(n) for n in entry["shape"]])
    stride = int(entry.get("stride", 1))
    if stride < 1 or probabilities.size == 0 or not np.isfinite(probabilities).all():
        raise ValueError
    return Vector(str(entry["name"]), picture, probabilities, stride)
