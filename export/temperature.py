"""What makes a classifier's probabilities honest: a temperature, and where to doubt them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfproj.core.softmax import softmax

# Far outside what trained networks need (about 0.5 to 5), so that the search is never cut off.
BOUNDS = (0.05, 20.0)


def fit_temperature(scores: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """The T for which softmax(scores / T) has the least negative log likelihood.

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.

    Args:
        scores: float (N, classes) before softmax, of examples that were not trained on.
        labels: int (N,) class indices.

    Returns:
        ``temperature``, ``nll_before`` and ``nll_after`` (nats, mean per example), ``examples``.
    """
    from scipy.optimize import minimize_scalar

    scores = np.asarray(scores, np.float64)

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(scores, labels, np.exp(log_temperature))

    found = minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded")
    before = loss(0.0)
    # With very few examples the search may end beside 1 without gaining anything.
    temperature = float(np.exp(found.x)) if found.fun < before else 1.0
    return {
        "temperature": temperature,
        "nll_before": before,
        "nll_after": min(float(found.fun), before),
        "examples": len(labels),
    }


# Share of the images that the model knows and gets right which a threshold must let pass: 95 % is
# the usual working point (Hendrycks, Gimpel, "A Baseline for Detecting Misclassified and
# Out-of-Distribution Examples in Neural Networks", ICLR 2017).
KNOWN_SHARE = 0.95


def unknown_threshold(scores: np.ndarray, labels: np.ndarray, temperature: float) -> float | None:
    """The calibrated probability that ``KNOWN_SHARE`` of the rightly classified examples reach.

    Args:
        scores, labels: as for :func:`fit_temperature`.
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
    scaled = scores / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(scaled).sum(axis=1))
    return float(np.mean(log_sum - scaled[np.arange(len(labels)), labels]))
