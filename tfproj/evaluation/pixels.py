"""Average precision over all pixels of a split, from counts: memory does not grow with pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfproj.core.probabilities import softmax
from tfproj.data.masks import IGNORE

BITS = 19  # of a score that are kept: sign, exponent and ten of the fraction
CURVE_POINTS = 201
KINDS = ("raw", "softmax")


class PixelScores:
    """Counts the pixels of a split by class and score, as average precision needs them.

    A score is known by the upper 19 bits of its float32, so scores that differ by less than a
    thousandth of their size count as equal. Average precision is within 1e-4 of that of the exact
    scores in the tests. It takes 17 MB for each class, or twice that where the network's scores are
    no log probabilities: the rank of those by softmax is their own.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes: int):
        self.pixels = 0
        # kind -> int64 (classes, whether a pixel is of the class, score by its upper bits)
        self._counts: dict[str, np.ndarray] = {}
        self._low, self._high = np.full(classes, np.inf), np.full(classes, -np.inf)
        self._sums, self._squares = np.zeros(classes), np.zeros(classes)
        self._zeros = np.zeros(classes, np.int64)

    def add(self, scores: np.ndarray, masks: np.ndarray) -> None:
        """Count scores float32 (B, H, W, classes) and masks uint8 (B, H, W), where not void."""
        scores, labels = scores.reshape(-1, scores.shape[-1]), masks.ravel()
        if (labels == IGNORE).any():
            scores, labels = scores[labels != IGNORE], labels[labels != IGNORE]
        if not labels.size:
            return
        if not self._counts:
            kinds = KINDS[:1] if _are_log_probabilities(scores) else KINDS
            shape = (scores.shape[-1], 2, 1 << BITS)
            self._counts = {kind: np.zeros(shape, np.int64) for kind in kinds}
        self.pixels += labels.size
        alike = len(self._counts) == 1
        with np.errstate(divide="ignore"):  # of a probability of 0, which ranks last
            log_p = scores if alike else np.log(softmax(scores))
        # Class by class: arrays of all classes in float64 would be the largest of the evaluation.
        for index, of_class in enumerate(labels == c for c in range(scores.shape[-1])):
            self._describe(index, scores[:, index])
            odds = _log_odds(log_p[:, index], scores.shape[-1])
            for kind, counts in self._counts.items():
                values = odds if alike or kind == "softmax" else scores[:, index]
                place = _upper_bits(values) + (of_class.astype(np.int64) << BITS)
                counts[index] += np.bincount(place, minlength=2 << BITS).reshape(2, -1)

    def _describe(self, index: int, scores: np.ndarray) -> None:
        self._low[index] = min(self._low[index], scores.min())
        self._high[index] = max(self._high[index], scores.max())
        self._sums[index] += scores.sum(dtype=np.float64)
        self._squares[index] += np.square(scores, dtype=np.float64).sum()
        self._zeros[index] += np.count_nonzero(scores == 0)

    def _by_kind(self) -> dict[str, np.ndarray]:
        return {kind: self._counts.get(kind, self._counts["raw"]) for kind in KINDS}

    def average_precisions(self) -> dict[str, list[float | None]]:
        """AP of each class by ``raw`` scores and by ``softmax``; None for one without pixels.

        Area under the precision-recall curve: sum over n of (R_n - R_(n-1)) P_n, as scikit-learn's
        ``average_precision_score`` has it.
        """
        return {
            kind: [_average_precision(*counts) for counts in of_kind]
            for kind, of_kind in self._by_kind().items()
        }

    def precision_recall(self, points: int = CURVE_POINTS) -> dict[str, list[dict | None]]:
        """Points of each class's precision-recall curve by ``raw`` scores and by ``softmax``.

        They lie evenly in recall. At threshold t precision is TP / (TP + FP) and recall
        TP / (TP + FN) over the pixels with a score of at least t.

        Returns:
            For each class ``{"recall": [...], "precision": [...]}`` by rising recall, None for a
            class that no pixel is of.
        """
        return {
            kind: [_curve(*counts, points) for counts in of_kind]
            for kind, of_kind in self._by_kind().items()
        }

    def statistics(self, classes: Sequence[str]) -> dict[str, dict[str, float]]:
        """Minimum, maximum, standard deviation of each class's raw scores, and the share of zeros.

        A class whose score is the same everywhere has collapsed: its average precision is that of
        a guess. Zeros are counted because a final ReLU leaves nothing else of a silenced class.
        """
        mean = self._sums / self.pixels
        deviation = np.sqrt(np.maximum(self._squares / self.pixels - mean**2, 0))
        return {
            name: {
                "min": float(self._low[index]),
                "max": float(self._high[index]),
                "std": float(deviation[index]),
                "zero_share": float(self._zeros[index] / self.pixels),
            }
            for index, name in enumerate(classes)
        }


def _log_odds(log_p: np.ndarray, classes: int) -> np.ndarray:
    """float32 values that rank as the probabilities do whose logarithms are given.

    log((classes - 1) p / (1 - p)), which is 0 for a guess: it lies where floats are dense, and so
    do the probabilities next to 0 and 1.
    """
    log_p = np.minimum(log_p, 0, dtype=np.float64)
    with np.errstate(divide="ignore"):  # a probability of 1 becomes infinite, and ranks first
        odds = log_p - np.log(-np.expm1(log_p))
    return (odds + np.log(max(classes - 1, 1))).astype(np.float32)


def _are_log_probabilities(scores: np.ndarray) -> bool:
    return bool(np.allclose(np.exp(scores).sum(axis=-1), 1, atol=1e-3))


def _upper_bits(values: np.ndarray) -> np.ndarray:
    """The upper bits of float32 values as int64 that rank as the values do."""
    bits = (values + np.float32(0)).view(np.uint32)  # -0 becomes 0
    # Positive floats rank as their bits, negative ones the other way round.
    ranked = bits ^ np.where(bits >> 31, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))
    return (ranked >> (32 - BITS)).astype(np.int64)


def _passed(others: np.ndarray, of_class: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(pixels gained, TP, FP) at each threshold that a pixel of the class has, from high to low."""
    places = np.flatnonzero(of_class)[::-1]
    true, false = of_class[::-1].cumsum()[::-1], others[::-1].cumsum()[::-1]
    return of_class[places], true[places], false[places]


def _average_precision(others: np.ndarray, of_class: np.ndarray) -> float | None:
    gained, true, false = _passed(others, of_class)
    return float((gained * (true / (true + false))).sum() / true[-1]) if true.size else None


def _curve(others: np.ndarray, of_class: np.ndarray, points: int) -> dict | None:
    _, true, false = _passed(others, of_class)
    if not true.size:
        return None
    wanted = np.linspace(1, true[-1], points)
    chosen = np.unique(np.searchsorted(true, wanted))
    recall, precision = true[chosen] / true[-1], true[chosen] / (true[chosen] + false[chosen])
    return {"recall": _rounded(recall), "precision": _rounded(precision)}


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(v), 5) for v in values]
