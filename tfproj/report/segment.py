"""The parts of a report that only segmentation runs have."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfproj.core.thumbnails import encode
from tfproj.report import figures, pictures
from tfproj.report.assets import Assets, data_uri
from tfproj.report.format import listed, quoted
from tfproj.report.load import RunData
from tfproj.report.sentences import collapse

TABLE_CLASSES = 25
MAX_EXAMPLES = 40
HEADLINE = (
    ("mean_average_precision_raw", "mean AP, raw scores"),
    ("mean_average_precision_softmax", "mean AP, softmax"),
    ("mean_iou", "mean IoU"),
    ("pixel_accuracy", "pixel accuracy"),
)
COLUMNS = {
    "ap_raw": ("average_precision_raw", "mean_average_precision_raw"),
    "ap_softmax": ("average_precision_softmax", "mean_average_precision_softmax"),
    "iou": ("iou", "mean_iou"),
    "iou_full": ("iou_full", "mean_iou_full"),  # at the photographs' own sizes
    "accuracy": ("per_class_accuracy", "pixel_accuracy"),
}


def values(data: RunData, assets: Assets) -> dict[str, Any]:
    """What the template ``segment.html`` needs."""
    legend = list(zip(data.classes, data.spec.colors, strict=True))
    result: dict[str, Any] = {
        "headline": headline(data),
        "legend": legend,
        "tables": [],
        "numbers": {"kept_epoch": data.kept_epoch},
    }
    if not data.splits:
        return result
    matrix = np.array(data.splits[data.shown]["confusion_matrix"], np.int64)
    result["tables"] = [per_class(data, split) for split in data.held_out]
    result["curve_figures"] = curve_figures(data, assets)
    result["examples"] = examples(data)
    result["confusion"] = pixel_confusion(data, matrix, assets)
    result["collapse"] = collapse_values(data)
    result["numbers"] = _numbers(data, result)
    assets.csv(
        "per_class", [_csv_row(t["split"], row) for t in result["tables"] for row in t["rows"]]
    )
    return result


def headline(data: RunData) -> list[dict[str, Any]]:
    """The four numbers, each for all evaluated splits with the shown one first."""
    order = [name for name in ("test", "val", "train") if name in data.splits]
    return [
        {"key": key, "label": label, "splits": [(name, data.splits[name][key]) for name in order]}
        for key, label in HEADLINE
        if order
    ]


def per_class(data: RunData, split: str) -> dict[str, Any]:
    """The table of one split: AP, IoU, recall and pixel share of each class."""
    metrics = data.splits[split]
    matrix = np.array(metrics["confusion_matrix"], np.int64)
    true, predicted = _shares(matrix)
    rows = [
        {
            "name": name,
            "color": color,
            "share": float(true[index]),
            "predicted_share": float(predicted[index]),
            # Runs of before have no figures at the photographs' own sizes.
            **{column: metrics.get(key, {}).get(name) for column, (key, _) in COLUMNS.items()},
        }
        for index, (name, color) in enumerate(zip(data.classes, data.spec.colors, strict=True))
    ]
    means = [(key, metrics.get(key)) for _, key in COLUMNS.values()]
    return {"split": split, "rows": rows, "means": means, "images": metrics["examples"]}


def _shares(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the pixels that each class truly has, and that is predicted."""
    total = max(1, matrix.sum())
    return matrix.sum(axis=1) / total, matrix.sum(axis=0) / total


def _csv_row(split: str, row: dict[str, Any]) -> dict[str, Any]:
    return {"split": split, **{k: v for k, v in row.items() if k != "color"}}


def curve_figures(data: RunData, assets: Assets) -> list[dict[str, Any]]:
    """Precision-recall curves by raw scores and by softmax."""
    titles = {"raw": "by raw scores", "softmax": "by softmax"}
    found = []
    for kind, title in titles.items():
        curves = data.curves.get(kind)
        if curves and len(curves) == len(data.classes):
            figure = figures.precision_recall(data.classes, data.spec.colors, curves)
            name = f"precision_recall_{kind}"
            graphic = assets.figure(name, figure, f"Precision-recall curves {title}")
            found.append({"title": title, "figure": graphic})
            assets.json(name, dict(zip(data.classes, curves, strict=True)))
    return found


def examples(data: RunData) -> list[dict[str, Any]]:
    """Input, truth, prediction and errors of the chosen images."""
    found = []
    for example in data.examples[:MAX_EXAMPLES]:
        stem = example["file"][:-4]
        names = (example["file"], f"{stem}_truth.png", f"{stem}_prediction.png")
        contents = [data.picture(name) for name in names]
        if any(content is None for content in contents):
            continue
        suffixes = (example["file"][-4:], ".png", ".png")
        uris = [data_uri(c, s) for c, s in zip(contents, suffixes, strict=True)]
        errors, suffix = encode(pictures.error_map(*contents))
        width, height = example["size"]
        found.append(
            {
                "name": example["name"],
                "roles": _sentence_case(listed(example["roles"])),
                "mean_iou": example["mean_iou"],
                "pixel_accuracy": example["pixel_accuracy"],
                "width": width,
                "height": height,
                "panels": list(
                    zip(
                        ("input", "ground truth", "prediction", "errors"),
                        [*uris, data_uri(errors, suffix)],
                        strict=True,
                    )
                ),
            }
        )
    return found


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def pixel_confusion(data: RunData, matrix: np.ndarray, assets: Assets) -> dict[str, Any]:
    """Shares of the pixels of each true class by predicted class."""
    names = data.classes
    figure = assets.figure(
        "confusion_matrix",
        figures.confusion(matrix, names),
        "Pixel confusion matrix, by true class",
    )
    totals = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(totals, 1)
    assets.csv(
        "confusion_matrix",
        [
            {"true class": name, **dict(zip(names, map(float, row), strict=True))}
            for name, row in zip(names, shares, strict=True)
        ],
    )
    as_table = len(names) <= TABLE_CLASSES
    rows = [
        [
            {"share": float(s) if total else None, "strength": round(100 * float(s) ** 0.5)}
            for s in row
        ]
        for row, total in zip(shares, totals[:, 0], strict=True)
    ]
    return {"figure": None if as_table else figure, "rows": rows if as_table else []}


def collapse_values(data: RunData) -> dict[str, Any]:
    """Whether classes have collapsed: shares and scores of each, and sentences."""
    metrics = data.splits[data.shown]
    true, predicted = _shares(np.array(metrics["confusion_matrix"], np.int64))
    final_relu = bool(data.config.model_options.get("final_relu"))
    rows, findings = [], []
    for index, name in enumerate(data.classes):
        row = {
            "name": name,
            "color": data.spec.colors[index],
            "true": float(true[index]),
            "predicted": float(predicted[index]),
            "scores": metrics.get("scores", {}).get(name),
        }
        sentence = collapse(name, row, data.shown, final_relu)
        rows.append({**row, "bad": sentence is not None})
        findings += [sentence] if sentence else []
    return {
        "rows": rows,
        "findings": findings,
        "sentence": None if findings else _no_collapse(rows, data.shown),
        "final_relu": final_relu,
    }


def _no_collapse(rows: list[dict[str, Any]], split: str) -> str:
    rarest = min(rows, key=lambda r: r["predicted"] / r["true"] if r["true"] else 1)
    if not rarest["true"]:
        return f"No class has collapsed: each that occurs in the {split} split is predicted."
    part = rarest["predicted"] / rarest["true"]
    end = f"; {quoted(rarest['name'])} comes closest, predicted {part:.2f} times as often as it is"
    return (
        f"No class has collapsed: each that occurs in the {split} split is predicted and its "
        f"scores vary{end if part < 0.6 else ''}."
    )


def _numbers(data: RunData, result: dict[str, Any]) -> dict[str, Any]:
    return {
        "kept_epoch": data.kept_epoch,
        "parameters": data.parameters,
        "training_seconds": data.seconds,
        "headline": {card["key"]: dict(card["splits"]) for card in result["headline"]},
        "shown_split": data.shown,
        "per_class": [_csv_row(t["split"], row) for t in result["tables"] for row in t["rows"]],
        "collapse": result["collapse"]["findings"],
    }
