"""Generated sentences: what the numbers say, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tfproj.report.format import listed, percent, quoted
from tfproj.report.statistics import Calibration

CALIBRATED = 0.01  # a difference of certainty and accuracy below this is not worth a word


def hardest_and_easiest(
    accuracy: Mapping[str, float | None], matrix: np.ndarray, classes: Sequence[str], split: str
) -> str:
    """One sentence: the hardest classes with what they are taken for, and the easiest.

    Args:
        accuracy: share of each class's examples that is right, None for an absent class.
        matrix: int (classes, classes), rows are true classes.
        classes: names.
        split: of which the numbers are.
    """
    present = sorted((v, name) for name, v in accuracy.items() if v is not None)
    if not present:
        return f"The {split} split has no examples."
    if present[0][0] == 1:
        return f"Every class is right on all of its {split} images."
    if len(present) == 1:
        value, name = present[0]
        return f"All {split} images are of {quoted(name)}; {percent(value)} of them are right."
    if present[0][0] == present[-1][0]:
        return f"All classes are equally hard: {percent(present[0][0])} of each are right."
    many = len(present) >= 6
    hard = [pair for pair in present[: 2 if many else 1] if pair[0] < present[-1][0]]
    easy = present[: -4 if many else -2 : -1]
    parts = [_hard_part(value, name, matrix, classes) for value, name in hard]
    return (
        f"Of the {split} images, {listed(parts)} {'are' if len(hard) > 1 else 'is'} hardest; "
        f"{listed([f'{quoted(n)} ({percent(v)})' for v, n in easy])} "
        f"{'are' if len(easy) > 1 else 'is'} easiest."
    )


def _hard_part(value: float, name: str, matrix: np.ndarray, classes: Sequence[str]) -> str:
    index = list(classes).index(name)
    wrong = matrix[index].copy()
    wrong[index] = 0
    total = matrix[index].sum()
    # A second class is worth naming where it takes at least half as many as the first.
    order = [j for j in np.argsort(-wrong, kind="stable")[:2] if wrong[j] * 2 >= wrong.max() > 0]
    taken = listed([f"{quoted(classes[j])} ({percent(wrong[j] / total)})" for j in order])
    return f"{quoted(name)} ({percent(value)} right{f', taken for {taken}' if taken else ''})"


def trust(measured: Calibration, split: str) -> str:
    """Whether the probabilities are too high or too low, in one sentence."""
    gap = measured.mean_confidence - measured.mean_accuracy
    pair = f"{percent(measured.mean_confidence)} on average, and {percent(measured.mean_accuracy)}"
    if abs(gap) < CALIBRATED:
        verdict = "on the whole it can be taken at its word"
    elif gap > 0:
        verdict = "the model is surer than it should be"
    else:
        verdict = "the model is better than it believes"
    return (
        f"The probability of the predicted class is {pair} of the {split} images are right: "
        f"{verdict}."
    )


def collapse(name: str, facts: Mapping, split: str, final_relu: bool) -> str | None:
    """What is wrong with a class that is never or hardly predicted, or scored the same everywhere.

    Args:
        name: of the class.
        facts: ``true`` and ``predicted`` share of pixels; where known ``scores`` with ``min``,
            ``max``, ``std`` and ``zero_share``; ``ap``, average precision by raw scores.
        split: of which the numbers are.
        final_relu: whether the model ends in a ReLU on the scores.

    Returns:
        A sentence, or None where nothing is wrong.
    """
    scores = facts.get("scores") or {}
    constant = bool(scores) and scores["min"] == scores["max"]
    never = facts["predicted"] == 0 < facts["true"]
    rare = facts["predicted"] < 0.05 * facts["true"]
    if not (constant or never or rare):
        return None
    share = f"{percent(facts['true'])} of the {split} pixels belong to it"
    if constant:
        value = scores["min"]
        cause = (
            "the ReLU on the scores has silenced it: its score is 0 for every pixel"
            if final_relu and value == 0
            else f"its score is {value:.4g} for every pixel"
        )
        guess = (
            ", so its average precision by raw scores is only its share of the pixels"
            if facts["true"] else ""
        )  # fmt: skip
        return f"{quoted(name)} has collapsed: {cause}{guess} ({share})."
    rarely = f"is hardly ever predicted ({percent(facts['predicted'], 2)} of the pixels)"
    how = "is never predicted" if never else rarely
    silent = scores.get("zero_share", 0)
    relu = (
        f"; the ReLU on the scores makes its score 0 for {percent(silent)} of all pixels"
        if final_relu and silent > 0.5
        else ""
    )
    return f"{quoted(name)} {how}, though {share}{relu}."
