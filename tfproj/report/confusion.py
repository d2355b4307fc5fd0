"""The confusion matrix of both tasks: as a table, or as a picture where it has many classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfproj.report import figures
from tfproj.report.assets import Assets

TABLE_CLASSES = 25  # a larger table would be too wide


def values(
    matrix: np.ndarray, names: Sequence[str], assets: Assets, alt: str,
    totals: np.ndarray | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write the matrix beside the page; returns what the templates show of it.

    Args:
        matrix: int (classes, classes), rows are true classes.
        names: of the classes.
        assets: of the page.
        alt: what the figure shows.
        totals: int (classes,), of which the cells of each row are shares; None: the row's sum.

    Returns:
        ``counts`` and ``shares`` (of each true class) as nested lists; ``as_table``; ``figure``.
    """
    totals = matrix.sum(axis=1) if totals is None else totals
    shares = matrix / np.maximum(totals[:, None], 1)
    rows = zip(names, matrix.tolist(), strict=True)
    assets.csv(
        "confusion_matrix",
        [{"true class": name, **dict(zip(names, row, strict=True))} for name, row in rows],
    )
    return {
        "counts": matrix.tolist(),
        "shares": shares.tolist(),
        "as_table": len(names) <= TABLE_CLASSES,
        "figure": assets.figure("confusion_matrix", figures.confusion(shares, names), alt),
    }


def largest_mistakes(matrix: np.ndarray, limit: int) -> list[tuple[int, int]]:
    """(true, predicted) of the most frequent mistakes, at most ``limit``."""
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit].tolist()
    pairs = [divmod(place, len(matrix)) for place in order]
    return [(i, j) for i, j in pairs if wrong[i, j]]
