"""The arithmetic of evaluation, on numpy arrays."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score

from tfproj.core.softmax import softmax


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """int64 (classes, classes): rows are true classes, columns predicted ones."""
    index = labels.astype(np.int64).ravel() * classes + predictions.ravel()
    return np.bincount(index, minlength=classes * classes).reshape(classes, classes)


def recall(confusion: np.ndarray) -> list[float | None]:
    """Share of each true class that was predicted right; None for a class without examples."""
    return _ratios(np.diag(confusion), confusion.sum(axis=1))


def intersection_over_union(confusion: np.ndarray) -> list[float | None]:
    """IoU = TP / (TP + FP + FN) of each class; None where it is neither true nor predicted."""
    hits = np.diag(confusion)
    return _ratios(hits, confusion.sum(axis=0) + confusion.sum(axis=1) - hits)


def _ratios(part: np.ndarray, whole: np.ndarray) -> list[float | None]:
    return [float(p / w) if w else None for p, w in zip(part, whole, strict=True)]


def mean(values: list[float | None]) -> float | None:
    """Mean of those that are defined; None where none is."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def average_precision(is_class: np.ndarray, scores: np.ndarray) -> float | None:
    """Area under the precision-recall curve: sum over n of (R_n - R_(n-1)) P_n.

    scikit-learn's ``average_precision_score``, over all pixels (or examples).

    Args:
        is_class: bool (N,).
        scores: float (N,), higher means more likely.

    Returns:
        0..1, or None where no pixel is of the class.
    """
    return float(average_precision_score(is_class, scores)) if is_class.any() else None


class PixelScores:
    """Raw scores and true classes of every pixel of a split: what average precision needs.

    17 to 21 bytes a pixel at five classes, allocated once; everything else is streamed.

    Args:
        pixels: in the whole split.
        classes: number of classes.
    """

    CHUNK = 1 << 22  # pixels turned into probabilities at a time

    def __init__(self, pixels: int, classes: int):
        self.scores = np.empty((classes, pixels), np.float32)
        self.labels = np.empty(pixels, np.uint8)
        self._used = 0

    def add(self, scores: np.ndarray, masks: np.ndarray) -> None:
        """Append scores float32 (B, H, W, classes) and masks uint8 (B, H, W)."""
        end = self._used + masks.size
        self.labels[self._used : end] = masks.ravel()
        self.scores[:, self._used : end] = scores.reshape(-1, scores.shape[-1]).T
        self._used = end

    def average_precisions(self) -> dict[str, list[float | None]]:
        """AP of each class by ``raw`` scores and by ``softmax``; the latter replaces the former."""
        raw = self._by_class()
        for start in range(0, self.scores.shape[1], self.CHUNK):
            chunk = self.scores[:, start : start + self.CHUNK]
            chunk[:] = softmax(chunk.T).T
        return {"raw": raw, "softmax": self._by_class()}

    def _by_class(self) -> list[float | None]:
        return [average_precision(self.labels == c, s) for c, s in enumerate(self.scores)]
