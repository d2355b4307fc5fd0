"""The parts of a report that only classification runs have."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from tfproj.report import figures
from tfproj.report.assets import Assets, data_uri
from tfproj.report.load import RunData, read_answers
from tfproj.report.sentences import hardest_and_easiest, trust
from tfproj.report.statistics import calibration, wilson

TABLE_CLASSES = 25  # up to here the confusion matrix is a table with links
OPEN_CLASSES = 30  # up to here the gallery shows every class without a click
BAR_CLASSES = 40  # more bars are no picture any more: the hardest are drawn
TOP_CONFUSIONS = 30
TOP_MISTAKES = 12
GALLERY_RIGHT, GALLERY_WRONG = 4, 6


def values(data: RunData, assets: Assets) -> dict[str, Any]:
    """What the template ``classify.html`` needs."""
    headline = [accuracy_card(data, name) for name in ("test", "val", "train")]
    result = {
        "headline": [card for card in headline if card],
        "per_class": [],
        "bars_limit": BAR_CLASSES,
        "numbers": {"kept_epoch": data.kept_epoch, "accuracy": {}},
    }
    if not data.splits:
        return result
    shown = data.splits[data.shown]
    matrix = np.array(shown["confusion_matrix"], np.int64)
    examples = thumbnails(data)
    result["per_class"] = per_class_rows(data, matrix, with_gallery=bool(examples))
    result["sentence"] = hardest_and_easiest(
        shown["per_class_accuracy"], matrix, data.classes, data.shown
    )
    result["bars"] = _bars(data, result["per_class"], assets)
    result["confusion"] = confusion_values(data, matrix, examples, assets)
    result["gallery"] = gallery(data, examples, result["per_class"])
    result["mistakes"] = _wrong(examples)[:TOP_MISTAKES]
    result["calibration"] = calibration_values(data, assets)
    result["numbers"] = _numbers(data, result)
    assets.csv("per_class", [_plain_row(row) for row in result["per_class"]])
    return result


def accuracy_card(data: RunData, split: str) -> dict[str, Any] | None:
    """Accuracy of a split with its interval; of training from the history where not evaluated."""
    if split in data.splits:
        metrics = data.splits[split]
        low, high = wilson(metrics["accuracy"], metrics["examples"])
        return {
            "split": split, "value": metrics["accuracy"], "low": low, "high": high,
            "examples": metrics["examples"],
        }  # fmt: skip
    row = next((r for r in data.history if r["epoch"] == data.kept_epoch), {})
    column = {"train": "accuracy", "val": "val_accuracy"}.get(split)
    if column not in row:
        return None
    return {"split": split, "value": row[column], "epoch": data.kept_epoch}


def per_class_rows(
    data: RunData, matrix: np.ndarray, with_gallery: bool = False
) -> list[dict[str, Any]]:
    """One row per class, the hardest in the shown split first; absent classes last."""
    rows = []
    for index, name in enumerate(data.classes):
        wrong = matrix[index].copy()
        wrong[index] = 0
        target = int(wrong.argmax())
        rows.append(
            {
                "index": index,
                "name": name,
                "link": f"class-{index}" if with_gallery and matrix[index].any() else None,
                "examples": int(matrix[index].sum()),
                "accuracy": {s: data.splits[s]["per_class_accuracy"][name] for s in data.held_out},
                "taken_for": data.classes[target] if wrong[target] else None,
                "taken_count": int(wrong[target]),
            }
        )
    return sorted(rows, key=lambda r: _last_if_none(r["accuracy"][data.shown]))


def _last_if_none(value: float | None) -> tuple[bool, float]:
    return (value is None, value or 0.0)


def _plain_row(row: dict[str, Any]) -> dict[str, Any]:
    flat = {"class": row["name"], "examples": row["examples"]}
    flat.update({f"accuracy_{split}": value for split, value in row["accuracy"].items()})
    return {**flat, "taken_for": row["taken_for"] or "", "taken_count": row["taken_count"]}


def _bars(data: RunData, rows: list[dict[str, Any]], assets: Assets):
    rows = rows[:BAR_CLASSES]
    groups = {s: [row["accuracy"][s] for row in rows] for s in data.held_out}
    figure = figures.bars([row["name"] for row in rows], groups, "accuracy")
    return assets.figure("per_class_accuracy", figure, "Accuracy of each class, hardest first")


def thumbnails(data: RunData) -> list[dict[str, Any]]:
    """The stored examples as the template shows them, most probable first."""
    found = []
    for example in data.examples:
        content = data.picture(example["file"])
        if content is None:
            continue
        width, height = example["size"]
        factor = max(1, 84 // max(width, height))
        found.append(
            {
                **example,
                "uri": data_uri(content, example["file"][-4:]),
                "width": width * factor,
                "height": height * factor,
                "pixelated": factor > 1,
                "right": example["label"] == example["prediction"],
            }
        )
    return sorted(found, key=lambda r: -r["probability"])


def _wrong(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [example for example in examples if not example["right"]]


def confusion_values(
    data: RunData, matrix: np.ndarray, examples: list[dict[str, Any]], assets: Assets
) -> dict[str, Any]:
    """The matrix as a table (or a picture, with many classes), and what lies behind its cells."""
    names = data.classes
    place = {name: index for index, name in enumerate(names)}
    behind = defaultdict(list)
    for example in _wrong(examples):
        behind[place[example["label"]], place[example["prediction"]]].append(example)
    figure = assets.figure(
        "confusion_matrix", figures.confusion(matrix, names), "Confusion matrix of all classes"
    )
    assets.csv(
        "confusion_matrix",
        [
            {"true class": name, **dict(zip(names, map(int, row), strict=True))}
            for name, row in zip(names, matrix, strict=True)
        ],
    )
    pairs = _largest_cells(matrix)
    as_table = len(names) <= TABLE_CLASSES
    linked = [pair for pair in (behind if as_table else pairs) if pair in behind]
    totals = matrix.sum(axis=1)
    return {
        "figure": None if as_table else figure,
        "rows": _cells(matrix, set(linked), bool(examples)) if as_table else [],
        "pairs": [
            {
                "true": names[i], "predicted": names[j], "count": int(matrix[i, j]),
                "share": float(matrix[i, j] / totals[i]),
                "link": f"cell-{i}-{j}" if (i, j) in behind else None,
            }
            for i, j in (pairs[:10] if as_table else pairs)
        ],
        "behind": [
            {
                "id": f"cell-{i}-{j}", "true": names[i], "predicted": names[j],
                "count": int(matrix[i, j]), "examples": behind[i, j],
            }
            for i, j in sorted(linked)
        ],
    }  # fmt: skip


def _largest_cells(matrix: np.ndarray) -> list[tuple[int, int]]:
    """(true, predicted) of the most frequent mistakes."""
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:TOP_CONFUSIONS]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(i), int(j)) for i, j in pairs if wrong[i, j] > 0]


def _cells(
    matrix: np.ndarray, linked: set[tuple[int, int]], with_gallery: bool
) -> list[list[dict[str, Any]]]:
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return [
        [
            {
                "count": int(matrix[i, j]),
                "share": float(shares[i, j]),
                # The root makes rare mistakes visible beside a diagonal near one.
                "strength": round(100 * float(shares[i, j]) ** 0.5),
                "link": f"cell-{i}-{j}"
                if (i, j) in linked
                else f"class-{i}"
                if with_gallery and i == j and matrix[i, i]
                else None,
            }
            for j in range(len(matrix))
        ]
        for i in range(len(matrix))
    ]


def gallery(
    data: RunData, examples: list[dict[str, Any]], rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Right and wrong examples of each class, in the order of ``rows``."""
    right, wrong = defaultdict(list), defaultdict(list)
    for example in examples:
        (right if example["right"] else wrong)[example["label"]].append(example)
    return [
        {
            **row,
            "right": right[row["name"]][:GALLERY_RIGHT],
            "wrong": wrong[row["name"]][:GALLERY_WRONG],
            "open": len(rows) <= OPEN_CLASSES or number < 10,
        }
        for number, row in enumerate(rows)
        if row["examples"]
    ]


def calibration_values(data: RunData, assets: Assets) -> dict[str, Any] | None:
    """Reliability diagram and expected calibration error of the shown split."""
    probability, right = read_answers(data.run, data.shown)
    if not len(probability):
        return None
    measured = calibration(probability, right)
    assets.csv("reliability", measured.rows())
    figure = figures.reliability(measured)
    return {
        "error": measured.error,
        "sentence": trust(measured, data.shown),
        "figure": assets.figure("reliability", figure, "Accuracy by predicted probability"),
    }


def _numbers(data: RunData, result: dict[str, Any]) -> dict[str, Any]:
    return {
        "kept_epoch": data.kept_epoch,
        "parameters": data.parameters,
        "training_seconds": data.seconds,
        "accuracy": {
            card["split"]: {
                "value": card["value"], "low_95": card["low"], "high_95": card["high"],
                "examples": card["examples"],
            }
            for card in result["headline"]
            if "low" in card
        },
        "shown_split": data.shown,
        "per_class": [_plain_row(row) for row in result["per_class"]],
        "expected_calibration_error": (result["calibration"] or {}).get("error"),
        "summary": result["sentence"],
    }  # fmt: skip
