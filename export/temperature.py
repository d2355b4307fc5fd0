"""What makes a classifier's probabilities honest: a temperature, and where to doubt them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from tfproj.core.probabilities import softmax

# Far outside what trained networks need (about 0.5 to 5), so that the search is never cut off.
BOUNDS = (0.05, 20.0)
# Share of the images that the model knows and gets right which a threshold must let pass: 95 % is
# the usual working point (Hendrycks, Gimpel, "A Baseline for Detecting Misclassified and
# Out-of-Distribution Examples in Neural Networks", ICLR 2017).
KNOWN_SHARE = 0.95


@dataclass(frozen=True)
class Temperature:
    """How to read a classifier's scores.

    Attributes:
        temperature: T of softmax(scores / T).
        nll_before, nll_after: negative log likelihood with T = 1 and with T (nats, mean).
        examples: number of examples it was fitted on.
        unknown_threshold: probability by T below which an image may be of no class, 0..1.
    """

    temperature: float
    nll_before: float
    nll_after: float
    examples: int
    unknown_threshold: float | None

    def to_dict(self) -> dict[str, Any]:
        """``calibration`` in the file's metadata."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def measure_temperature(scores: np.ndarray, labels: np.ndarray) -> Temperature:
    """The T for which softmax(scores / T) has the least negative log likelihood.

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017. It is 1
    where the examples can't tell, as when all are classified rightly.

    Args:
        scores: float (N, classes) before softmax, of examples that were not trained on.
        labels: int (N,) class indices.
    """
    exact = np.asarray(scores, np.float64)

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(exact, labels, np.exp(log_temperature))

    found = minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded")
    before = loss(0.0)
    # With very few examples the search may end beside 1 without gaining anything. Where none is
    # wrong, the surest is the best, and nothing tells how sure to be.
    doubtful = found.fun >= before or (exact.argmax(axis=1) == labels).all()
    temperature = 1.0 if doubtful else float(np.exp(found.x))
    return Temperature(
        temperature=temperature,
        nll_before=before,
        nll_after=before if doubtful else float(found.fun),
        examples=len(labels),
        unknown_threshold=unknown_threshold(scores, labels, temperature),
    )


def unknown_threshold(scores: np.ndarray, labels: np.ndarray, temperature: float) -> float | None:
    """The calibrated probability that ``KNOWN_SHARE`` of the rightly classified examples reach.

    Args:
        scores, labels: as for :func:`measure_temperature`.
        temperature: from there.

    Returns:
        0..1, or None where no example is classified rightly.
    """
    probabilities = softmax(np.asarray(scores) / temperature)
    right = probabilities.argmax(axis=1) == labels
    if not right.any():
        return None
    return float(np.quantile(probabilities.max(axis=1)[right], 1 - KNOWN_SHARE))


def negative_log_likelihood(scores: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    """Mean of -log softmax(scores / temperature)[label] in nats."""
    log_probabilities = log_softmax(scores / temperature, axis=1)
    return -float(log_probabilities[np.arange(len(labels)), labels].mean())
