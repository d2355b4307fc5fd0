"""The few numbers that a report derives from those of the run."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Z_95 = 1.959963984540054  # two-sided 95 % of the normal distribution
BINS = 15


def wilson(share: float, count: int, z: float = Z_95) -> tuple[float, float]:
    """Score interval of a share, (low, high) within 0..1.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal
    of the American Statistical Association 22 (1927). Unlike the interval from the normal
    distribution it is sound near 0 and 1 and for few examples.

    Args:
        share: of successes, 0..1.
        count: examples, at least 1.
        z: quantile of the normal distribution.
    """
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


@dataclass(frozen=True)
class Reliability:
    """How far the probabilities can be taken at their word.

    Attributes:
        count: int (bins,) examples whose probability falls into each bin.
        confidence: float (bins,) mean probability, NaN in empty bins.
        accuracy: float (bins,) share that was right, NaN in empty bins.
    """

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error, 0..1: sum over bins of n_b / N * |accuracy - confidence|.

        C. Guo et al., "On calibration of modern neural networks" (ICML 2017).
        """
        gaps = np.abs(self.accuracy - self.confidence)
        return float(np.nansum(gaps * self.count) / self.count.sum())

    def rows(self) -> list[dict]:
        """One entry per bin; confidence and accuracy are None where it is empty."""
        edges = np.linspace(0, 1, len(self.count) + 1).round(6)
        return [
            {
                "from": float(edges[i]),
                "to": float(edges[i + 1]),
                "examples": int(n),
                "confidence": float(self.confidence[i]) if n else None,
                "accuracy": float(self.accuracy[i]) if n else None,
            }
            for i, n in enumerate(self.count)
        ]


def reliability(probability: np.ndarray, right: np.ndarray, bins: int = BINS) -> Reliability:
    """Accuracy by probability in bins ((b - 1)/bins, b/bins] of equal width.

    Args:
        probability: float (N,) of the predicted class, N at least 1.
        right: bool (N,) whether the prediction was right.
        bins: number of bins.
    """
    index = np.clip(np.ceil(probability * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(index, probability, bins) / count
        accuracy = np.bincount(index, right.astype(float), bins) / count
    return Reliability(count, confidence, accuracy)
