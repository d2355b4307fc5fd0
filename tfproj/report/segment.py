"""The parts of a report that only segmentation runs have."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from tfproj.core.thumbnails import encode
from tfproj.data.masks import VOID_COLOR
from tfproj.report import confusion, figures, pictures
from tfproj.report.assets import Assets
from tfproj.report.load import RunData
from tfproj.report.sentences import collapse

MAX_EXAMPLES = 40
# Of metrics.json: by class, its mean, and what the page calls the mean.
MEASURES = (
    ("average_precision_raw", "mean_average_precision_raw", "mean AP, raw scores"),
    ("average_precision_softmax", "mean_average_precision_softmax", "mean AP, softmax"),
    ("iou", "mean_iou", "mean IoU"),
    ("iou_full", "mean_iou_full", "mean IoU, own size"),  # that of the photographs
    ("per_class_accuracy", "pixel_accuracy", "pixel accuracy"),
)


def values(data: RunData, assets: Assets) -> dict[str, Any]:
    """What the template ``segment.html`` needs of an evaluated run."""
    tables = {split: per_class(data, split) for split in data.held_out}
    rows = [{"split": split, **row} for split, table in tables.items() for row in table]
    matrix = np.array(data.splits[data.shown]["confusion_matrix"], np.int64)
    findings = collapsed(data, tables[data.shown])
    shown = examples(data)
    void = any(pictures.has_void(example["panels"]["ground truth"]) for example in shown)
    assets.csv("per_class", rows)
    return {
        "measures": MEASURES,
        "legend": [
            *zip(data.classes, data.spec.colors, strict=True),
            *[("void, not counted", VOID_COLOR)] * void,
        ],
        "tables": tables,
        "curve_figures": curve_figures(data, assets),
        "examples": shown,
        "confusion": confusion.values(
            matrix, data.classes, assets, "Pixel confusion matrix, by true class"
        ),
        "collapsed": findings,
        "numbers": {
            "headline": {
                mean: {split: metrics.get(mean) for split, metrics in data.splits.items()}
                for _, mean, _ in MEASURES
            },
            "per_class": rows,
            "collapse": list(findings.values()),
        },
    }


def per_class(data: RunData, split: str) -> list[dict[str, Any]]:
    """The table of one split: AP, IoU, recall and pixel share of each class."""
    metrics = data.splits[split]
    matrix = np.array(metrics["confusion_matrix"], np.int64)
    true, predicted = (matrix.sum(axis=axis) / matrix.sum() for axis in (1, 0))
    return [
        {
            "class": name,
            **{key: metrics.get(key, {}).get(name) for key, _, _ in MEASURES},
            "share": float(true[index]),
            "predicted_share": float(predicted[index]),
        }
        for index, name in enumerate(data.classes)
    ]


def curve_figures(data: RunData, assets: Assets) -> dict[str, Markup]:
    """Precision-recall curves by raw scores and by softmax."""
    found = {}
    for kind, curves in data.curves.items():
        figure = figures.precision_recall(data.classes, data.spec.colors, curves)
        name = f"precision_recall_{kind}"
        found[kind] = assets.figure(name, figure, f"Precision-recall curves by {kind} scores")
        assets.json(name, dict(zip(data.classes, curves, strict=True)))
    return found


def examples(data: RunData) -> list[dict[str, Any]]:
    """Input, truth, prediction and errors of the chosen images."""
    found = []
    for example in data.examples[:MAX_EXAMPLES]:
        stem = example["file"].rpartition(".")[0]
        names = (example["file"], f"{stem}_truth.png", f"{stem}_prediction.png")
        contents = [data.picture(name) for name in names]
        if None in contents:
            continue
        errors, _ = encode(pictures.error_map(*contents))
        roles = ("input", "ground truth", "prediction", "errors")
        found.append({**example, "panels": dict(zip(roles, [*contents, errors], strict=True))})
    return found


def collapsed(data: RunData, rows: list[dict[str, Any]]) -> dict[str, str]:
    """Class -> what is wrong with it; only of classes that have collapsed in the shown split."""
    scores = data.splits[data.shown]["scores"]
    found = {row["class"]: collapse(row, scores[row["class"]], data.shown) for row in rows}
    return {name: sentence for name, sentence in found.items() if sentence}
