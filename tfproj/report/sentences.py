"""Generated sentences: what the numbers say, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfproj.report.format import percent, quoted, significant

FITTING = 0.01  # a difference of probability and accuracy below this is not worth a word
RARE = 0.05  # predicted less often than this share of how often it occurs, a class has collapsed


def hardest_and_easiest(rows: Sequence[Mapping[str, Any]], split: str) -> str:
    """Which class is hardest, with what it is taken for, and which is easiest.

    Args:
        rows: of the classes' table, the hardest first; see :func:`classify.per_class`.
        split: of which the numbers are.
    """
    present = [row for row in rows if row["examples"]]
    hardest, easiest = present[0], present[-1]
    low, high = (percent(row[f"accuracy_{split}"]) for row in (hardest, easiest))
    if low == high:
        return f"In the {split} split, every class has an accuracy of {low}."
    return (
        f"The hardest class of the {split} split is {quoted(hardest['class'])} "
        f"({low} right, most often taken for {quoted(hardest['taken_for'])}); "
        f"the easiest is {quoted(easiest['class'])} ({high})."
    )


def trust(stated: float, right: float, split: str) -> str:
    """Whether the probabilities are too high or too low.

    Args:
        stated: mean probability of the predicted class.
        right: share of the predictions that are right.
        split: of which the numbers are.
    """
    verdict = "too high" if stated > right else "too low"
    if abs(stated - right) < FITTING:
        verdict = "right"
    return (
        f"The probability of the predicted class is {verdict} on average: {percent(stated)}, "
        f"where {percent(right)} of the {split} images are right."
    )


def collapse(row: Mapping[str, Any], scores: Mapping[str, float], split: str) -> str | None:
    """What is wrong with a class that is hardly predicted or scored the same everywhere.

    Args:
        row: of the classes' table; see :func:`segment.per_class`.
        scores: ``min`` and ``max`` of the class's scores.
        split: of which the numbers are.

    Returns:
        A sentence, or None where nothing is wrong.
    """
    if scores["min"] == scores["max"]:
        finding = f"its score is {significant(scores['min'])} for every pixel"
    elif row["predicted_share"] < RARE * row["share"]:
        finding = f"it is predicted for {percent(row['predicted_share'], 2)} of the pixels"
    else:
        return None
    return (
        f"{quoted(row['class'])} has collapsed: {finding}, and {percent(row['share'])} of the "
        f"{split} pixels belong to it."
    )
