"""The parts of a report that only runs with several labels an image have."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfproj.report import confusion, figures
from tfproj.report.assets import Assets
from tfproj.report.load import RunData

BAR_CLASSES = 40
TOP_CONFUSIONS = 30
# Of metrics.json: by class, its mean, and what the page calls it.
MEASURES = (
    ("average_precision", "mean_average_precision", "mean AP"),
    ("f1", "mean_f1", "mean F1"),
)
HEADLINES = {**{mean: label for _, mean, label in MEASURES}, "exact_match": "no wrong label"}
COUNTS = ("true_positives", "false_positives", "false_negatives")
COLUMNS = ("average_precision", "precision", "recall", "f1", *COUNTS)


def values(data: RunData, assets: Assets) -> dict[str, Any]:
    """What the template ``multi_label.html`` needs of an evaluated run."""
    tables = {split: per_class(data, split) for split in data.held_out}
    rows = [{"split": split, **row} for split, table in tables.items() for row in table]
    assets.csv("per_class", rows)
    shown = data.splits[data.shown]
    matrix = np.array(shown["confusion_matrix"], np.int64)
    found, missed = (np.array([*shown[key].values()]) for key in COUNTS[::2])
    ap = {s: [row["average_precision"] for row in table] for s, table in tables.items()}
    few = {split: column[:BAR_CLASSES] for split, column in ap.items()}
    figure = figures.bars(data.classes[:BAR_CLASSES], few, "average precision")
    return {
        "headlines": HEADLINES,
        "tables": tables,
        "columns": COLUMNS,
        "bars": assets.figure("average_precision", figure, "Average precision of each class"),
        "examples": examples(data),
        "confusion": confusion.values(
            matrix,
            data.classes,
            assets,
            "Classes missed, by the class given instead",
            found + missed,
        ),
        "confused": confusion.largest_mistakes(matrix, TOP_CONFUSIONS),
        "numbers": {
            "headline": {key: {s: m[key] for s, m in data.splits.items()} for key in HEADLINES},
            "per_class": rows,
            "thresholds": data.measured["thresholds"],
        },
    }


def per_class(data: RunData, split: str) -> list[dict[str, Any]]:
    """The table of one split: threshold, measures and counts of each class."""
    metrics, thresholds = data.splits[split], data.measured["thresholds"]
    return [
        {
            "class": name,
            "threshold": thresholds[name],
            **{key: metrics[key][name] for key in COLUMNS},
        }
        for name in data.classes
    ]


def examples(data: RunData) -> list[dict[str, Any]]:
    """The stored examples, the worst first: labels that were found, missed, and given wrongly."""
    found = []
    for example in data.examples:
        true, given = ({*example[key].split("|")} - {""} for key in ("labels", "prediction"))
        sets = {"found": true & given, "missed": true - given, "wrong": given - true}
        content = data.picture(example["file"])
        if content:
            found.append({**example, "content": content, **{k: sorted(v) for k, v in sets.items()}})
    return found
