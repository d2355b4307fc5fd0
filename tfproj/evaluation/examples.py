"""Which examples of a split are worth showing. Plain Python and numpy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, zip_longest

import numpy as np

from tfproj.evaluation.metrics import intersection_over_union

RIGHT_PER_CLASS = 4
WRONG_PER_CLASS = 6
TOP_MISTAKES = 24  # of the whole split
PER_CELL = 12  # behind one cell of the confusion matrix
MANY_IMAGES = 12  # from here on, two images each for best, median and worst
NOTABLE_SHARE = 0.005  # of an image's pixels: below it a class's IoU says little


def choose_classified(rows: Sequence[dict], classes: Sequence[str]) -> list[int]:
    """Indices of ``rows`` in order of importance, so that a caller may stop at any.

    First right answers and confident mistakes of every class in turn, those of the hardest
    classes before the others; then the most confident mistakes of all; then what lies behind
    the cells of the confusion matrix, the largest cells first.

    Args:
        rows: ``label``, ``prediction`` and ``probability`` of each example.
        classes: names.
    """
    right, cells = defaultdict(list), defaultdict(list)
    wrong: dict[str, list[int]] = defaultdict(list)
    for index in sorted(range(len(rows)), key=lambda i: -rows[i]["probability"]):
        label, prediction = rows[index]["label"], rows[index]["prediction"]
        if label == prediction:
            right[label].append(index)
        else:
            wrong[label].append(index)
            cells[label, prediction].append(index)
    hardest = sorted(classes, key=lambda c: _accuracy(right[c], wrong[c]))
    gallery = _in_turn([_in_pairs(spread(right[c]), wrong[c][:WRONG_PER_CLASS]) for c in hardest])
    mistakes = sorted(chain(*wrong.values()), key=lambda i: -rows[i]["probability"])
    largest = sorted(cells.values(), key=len, reverse=True)
    behind = _in_turn([cell[:PER_CELL] for cell in largest])
    return list(dict.fromkeys([*gallery, *mistakes[:TOP_MISTAKES], *behind]))


def choose_labelled(rows: Sequence[dict]) -> list[int]:
    """Indices of ``rows`` with several labels: those of the largest ``loss``, then the least."""
    order = sorted(range(len(rows)), key=lambda i: -rows[i]["loss"])
    return list(dict.fromkeys([*order[:TOP_MISTAKES], *order[: -PER_CELL - 1 : -1]]))


def _accuracy(right: list[int], wrong: list[int]) -> float:
    return len(right) / max(1, len(right) + len(wrong))


def spread(ordered: Sequence[int], count: int = RIGHT_PER_CLASS) -> list[int]:
    """First, last, then those between: the surest, the least sure, and the middle."""
    ranks = np.linspace(0, len(ordered) - 1, count).round().astype(int) if ordered else []
    picked = [ordered[rank] for rank in dict.fromkeys(map(int, ranks))]
    return picked[:1] + picked[-1:] + picked[1:-1] if len(picked) > 1 else picked


def _in_pairs(first: list[int], second: list[int]) -> list[int]:
    return _in_turn([first, second])


def _in_turn(lists: Sequence[Sequence[int]]) -> list[int]:
    """The first of each list, then the second of each, and so on."""
    return [index for turn in zip_longest(*lists) for index in turn if index is not None]


def choose_segmented(
    rows: Sequence[dict], confusions: np.ndarray, classes: Sequence[str]
) -> dict[int, list[str]]:
    """Index of each chosen image -> what it is an example of.

    The best, median and worst by mean IoU, and the worst for each class among the images in
    which the class takes a notable share.

    Args:
        rows: ``mean_iou`` of each image.
        confusions: int (N, classes, classes), rows are true classes.
        classes: names.
    """
    order = sorted(range(len(rows)), key=lambda i: -rows[i]["mean_iou"])
    count = 2 if len(order) >= MANY_IMAGES else 1
    middle = (len(order) - count + 1) // 2
    roles: dict[int, list[str]] = defaultdict(list)
    for role, indices in (
        ("best", order[:count]),
        ("median", order[middle : middle + count]),
        ("worst", order[-count:][::-1]),
    ):
        for index in indices:
            roles[index].append(role)
    for label, name in enumerate(classes):
        index = _worst_for(label, confusions)
        if index is not None:
            roles[index].append(f"worst for {name}")
    return dict(roles)


def _worst_for(label: int, confusions: np.ndarray) -> int | None:
    """Lowest IoU of the class; among equals, the image with most of it."""
    shares = confusions[:, label].sum(axis=-1) / np.maximum(confusions.sum(axis=(1, 2)), 1)
    candidates = np.flatnonzero(shares >= min(NOTABLE_SHARE, shares.max(initial=0)))
    candidates = [int(i) for i in candidates if shares[i] > 0]
    if not candidates:
        return None
    return min(
        candidates, key=lambda i: (intersection_over_union(confusions[i])[label], -shares[i])
    )
