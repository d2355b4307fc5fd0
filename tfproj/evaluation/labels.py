"""Measures where an image has any number of labels. Arrays are (N, classes), labels 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfproj.core.probabilities import sigmoid
from tfproj.evaluation import metrics

DEFAULT = 0.5  # a threshold that no data chose
FEW = 10  # images with, or without, a class from which its threshold can be chosen


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Area under the precision-recall curve of one class, None without an image of it.

    Sum over n of (R_n - R_(n-1)) P_n, as scikit-learn's ``average_precision_score`` has it; equal
    scores share a threshold.

    Args:
        scores, labels: (N,) each.
    """
    ranked, true, last = _ranked(scores, labels)
    if not true.any():
        return None
    precision = np.cumsum(true)[last] / (last + 1)
    return float(precision[true].mean())


def _ranked(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores from above, bool labels in that order, and the last place of an equal score."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.searchsorted(-ranked, -ranked, side="right") - 1
    return ranked, labels[order] > 0, last


def choose_thresholds(probabilities: np.ndarray, labels: np.ndarray) -> list[float | None]:
    """For each class the threshold of the best F1, None where too few images tell.

    It lies in the middle between two probabilities; of equally good ones it is the nearest to 0.5.
    By F1 as in Lipton et al., "Optimal Thresholding of Classifiers to Maximize F1 Measure", 2014,
    which warns of classes with few images.
    """
    return [_threshold(p, y) for p, y in zip(probabilities.T, labels.T, strict=True)]


def _threshold(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    if min(np.sum(labels > 0), np.sum(labels == 0)) < FEW:
        return None
    ranked, true, last = _ranked(probabilities.astype(np.float64), labels)
    f1 = 2 * np.cumsum(true)[last] / (last + 1 + true.sum())
    places = last[f1 == f1.max()]  # the last that are given the class
    middles = (ranked[places] + np.append(ranked, 0)[places + 1]) / 2
    return float(middles[np.abs(middles - DEFAULT).argmin()])


def measure(
    scores: np.ndarray, labels: np.ndarray, thresholds: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """What ``metrics.json`` holds of one split, by scores before the sigmoid.

    Average precision, and at the thresholds precision, recall, F1 and counts of each class;
    ``exact_match``: share of images with no wrong label; ``hamming_loss``: share of labels that are
    wrong. ``confusion_matrix``: images of a class (row) that was found (diagonal), or missed where
    another (column) was given wrongly.
    """
    given, true = sigmoid(scores) >= thresholds, labels > 0
    hits, false, missed = (
        (a & b).sum(0) for a, b in ((given, true), (given, ~true), (~given, true))
    )
    values = {
        "average_precision": [
            average_precision(s, y) for s, y in zip(scores.T, labels.T, strict=True)
        ],
        "precision": metrics.ratios(hits, hits + false),
        "recall": metrics.ratios(hits, hits + missed),
        "f1": metrics.ratios(2 * hits, 2 * hits + false + missed),
        "true_positives": hits.tolist(),
        "false_positives": false.tolist(),
        "false_negatives": missed.tolist(),
    }
    swapped = (true & ~given).T.astype(np.int64) @ (given & ~true)
    return {
        "examples": len(labels),
        "loss": float(_losses(scores, labels).mean()),
        "mean_average_precision": metrics.mean(values["average_precision"]),
        "mean_f1": metrics.mean(values["f1"]),
        "exact_match": float((given == true).all(1).mean()),
        "hamming_loss": float((given != true).mean()),
        **{key: dict(zip(classes, column, strict=True)) for key, column in values.items()},
        "confusion_matrix": (swapped + np.diag(hits)).tolist(),
    }


def rows(
    names: Sequence[str],
    scores: np.ndarray,
    labels: np.ndarray,
    thresholds: np.ndarray,
    classes: Sequence[str],
) -> list[dict[str, Any]]:
    """The lines of ``predictions.csv``; labels of an image are joined by ``|``."""
    probabilities, losses = sigmoid(scores), _losses(scores, labels)
    true, given = (
        ["|".join(classes[i] for i in np.flatnonzero(one)) for one in chosen]
        for chosen in (labels, probabilities >= thresholds)
    )
    columns = [f"probability_{name}" for name in classes]
    return [
        {"name": name, "labels": a, "prediction": b, "loss": round(loss, 6)}
        | {column: round(p, 6) for column, p in zip(columns, of_each, strict=True)}
        for name, a, b, loss, of_each in zip(
            names, true, given, losses.tolist(), probabilities.tolist(), strict=True
        )
    ]


def _losses(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Binary cross entropy of each image, meaned over the classes: (N,)."""
    return (np.logaddexp(0, scores) - labels * scores).mean(1)
