"""The few numbers that a report derives from those of the run."""

from __future__ import annotations

import math

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


def reliability(
    probability: np.ndarray, right: np.ndarray, bins: int = BINS
) -> list[dict[str, float | None]]:
    """How far the probabilities can be taken at their word, in bins ((b - 1)/bins, b/bins].

    Args:
        probability: float (N,) of the predicted class, N at least 1.
        right: bool (N,) whether the prediction was right.
        bins: number of bins.

    Returns:
        For each bin ``from``, ``to``, ``examples``, ``confidence`` (their mean probability) and
        ``accuracy`` (the share that is right); both are None where it is empty.
    """
    place = np.clip(np.ceil(probability * bins).astype(int) - 1, 0, bins - 1)
    return [
        {
            "from": round(number / bins, 6),
            "to": round((number + 1) / bins, 6),
            "examples": int(inside.sum()),
            "confidence": float(probability[inside].mean()) if inside.any() else None,
            "accuracy": float(right[inside].mean()) if inside.any() else None,
        }
        for number, inside in enumerate(place == np.arange(bins)[:, None])
    ]


def calibration_error(rows: list[dict[str, float | None]]) -> float:
    """Expected calibration error, 0..1, of the bins of :func:`reliability`.

    Sum over bins of n_b / N * |accuracy_b - confidence_b|, as in C. Guo et al., "On calibration
    of modern neural networks" (ICML 2017).
    """
    filled = [row for row in rows if row["examples"]]
    gaps = sum(row["examples"] * abs(row["accuracy"] - row["confidence"]) for row in filled)
    return gaps / sum(row["examples"] for row in filled)
