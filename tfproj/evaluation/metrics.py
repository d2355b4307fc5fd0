"""The arithmetic of evaluation, on numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

CHUNK = 2**20  # pixels: a photograph's would take sixteen times the memory of its mask


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """int64 (classes, classes): rows are true classes, columns predicted ones; void is left out."""
    labels, predictions = labels.ravel(), predictions.ravel()
    if not (counted := labels < classes).all():
        labels, predictions = labels[counted], predictions[counted]
    counts = np.zeros(classes * classes, np.int64)
    for start in range(0, len(labels), CHUNK):
        part = slice(start, start + CHUNK)
        index = labels[part].astype(np.int64) * classes + predictions[part]
        counts += np.bincount(index, minlength=len(counts))
    return counts.reshape(classes, classes)


def recall(confusion: np.ndarray) -> list[float | None]:
    """Share of each true class that was predicted right; None for a class without examples."""
    return ratios(np.diag(confusion), confusion.sum(axis=1))


def intersection_over_union(confusion: np.ndarray) -> list[float | None]:
    """IoU = TP / (TP + FP + FN) of each class; None where it is neither true nor predicted."""
    hits = np.diag(confusion)
    return ratios(hits, confusion.sum(axis=0) + confusion.sum(axis=1) - hits)


def f1(confusion: np.ndarray) -> list[float | None]:
    """F1 = 2 TP / (2 TP + FP + FN) of each class; None where it is neither true nor predicted."""
    return ratios(2 * np.diag(confusion), confusion.sum(axis=0) + confusion.sum(axis=1))


def ratios(part: np.ndarray, whole: np.ndarray) -> list[float | None]:
    """Share of each; None where the whole is 0."""
    return [float(p / w) if w else None for p, w in zip(part, whole, strict=True)]


def mean(values: list[float | None]) -> float | None:
    """Mean of those that are defined; None where none is."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def named(classes: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """A value for each class, by its name."""
    return dict(zip(classes, values, strict=True))
