"""The parts of a report that only classification runs have."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from markupsafe import Markup

from tfproj.report import confusion, figures
from tfproj.report.assets import Assets
from tfproj.report.load import RunData, read_answers
from tfproj.report.sentences import hardest_and_easiest, trust
from tfproj.report.statistics import calibration_error, reliability, wilson

BAR_CLASSES = 40  # more bars are no picture any more: the hardest are drawn
TOP_CONFUSIONS = 30
# Of metrics.json, and what the page calls them: they count every class alike.
MEANS = {"balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}


def values(data: RunData, assets: Assets) -> dict[str, Any]:
    """What the template ``classify.html`` needs of an evaluated run."""
    matrix = np.array(data.splits[data.shown]["confusion_matrix"], np.int64)
    rows, examples = per_class(data, matrix), thumbnails(data)
    measured = reliability_values(data, assets)
    sentence = hardest_and_easiest(rows, data.shown)
    accuracy = {split: accuracy_interval(metrics) for split, metrics in data.splits.items()}
    assets.csv("per_class", rows)
    return {
        "accuracy": accuracy,
        "means": MEANS,
        "per_class": rows,
        "sentence": sentence,
        "bars": _bars(data, rows[:BAR_CLASSES], assets),
        "bars_limit": BAR_CLASSES,
        "examples": examples,
        "reliability": measured,
        **confusion_values(data, matrix, examples, assets),
        "numbers": {
            "accuracy": accuracy,
            "per_class": rows,
            "expected_calibration_error": measured.get("error"),
            "summary": sentence,
        },
    }


def accuracy_interval(metrics: dict[str, Any]) -> dict[str, Any]:
    """Accuracy of a split with its interval, and the means over its classes."""
    low, high = wilson(metrics["accuracy"], metrics["examples"])
    return {
        "value": metrics["accuracy"], "low_95": low, "high_95": high,
        "examples": metrics["examples"],
        **{key: metrics.get(key) for key in MEANS},  # evaluations of before have none
    }  # fmt: skip


def per_class(data: RunData, matrix: np.ndarray) -> list[dict[str, Any]]:
    """One row per class, the hardest in the shown split first; absent classes last."""
    wrong = matrix - np.diag(np.diag(matrix))
    rows = [
        {
            "class": name,
            "examples": int(matrix[index].sum()),
            **{f"accuracy_{s}": data.splits[s]["per_class_accuracy"][name] for s in data.held_out},
            "taken_for": data.classes[wrong[index].argmax()] if wrong[index].any() else "",
            "taken_count": int(wrong[index].max()),
        }
        for index, name in enumerate(data.classes)
    ]
    return sorted(rows, key=lambda row: (not row["examples"], row[f"accuracy_{data.shown}"] or 0))


def _bars(data: RunData, rows: list[dict[str, Any]], assets: Assets) -> Markup:
    groups = {split: [row[f"accuracy_{split}"] for row in rows] for split in data.held_out}
    figure = figures.bars([row["class"] for row in rows], groups, "accuracy")
    return assets.figure("per_class_accuracy", figure, "Accuracy of each class, hardest first")


def thumbnails(data: RunData) -> list[dict[str, Any]]:
    """The stored examples, the most probable first."""
    found = [
        {
            **example,
            "content": data.picture(example["file"]),
            "heat": data.picture(example.get("heat", "")),
            "right": example["label"] == example["prediction"],
        }
        for example in data.examples
    ]
    shown = [example for example in found if example["content"]]
    return sorted(shown, key=lambda example: -example["probability"])


def confusion_values(
    data: RunData, matrix: np.ndarray, examples: list[dict[str, Any]], assets: Assets
) -> dict[str, Any]:
    """The matrix, its largest mistakes, and the examples behind its cells."""
    shown = confusion.values(matrix, data.classes, assets, "Confusion matrix of all classes")
    mistakes = confusion.largest_mistakes(matrix, TOP_CONFUSIONS)
    behind = defaultdict(list)
    for example in examples:
        pair = data.classes.index(example["label"]), data.classes.index(example["prediction"])
        if not example["right"] and (shown["as_table"] or pair in mistakes):
            behind[pair].append(example)
    return {"confusion": shown, "confused": mistakes, "behind": dict(sorted(behind.items()))}


def reliability_values(data: RunData, assets: Assets) -> dict[str, Any]:
    """Reliability diagram and expected calibration error; empty without predictions."""
    probability, right = read_answers(data.run, data.shown)
    if not len(probability):
        return {}
    rows = reliability(probability, right)
    assets.csv("reliability", rows)
    figure = figures.reliability(rows)
    return {
        "error": calibration_error(rows),
        "sentence": trust(float(probability.mean()), float(right.mean()), data.shown),
        "figure": assets.figure("reliability", figure, "Accuracy by predicted probability"),
    }
