"""The page that compares several runs of one task; the first is the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfproj.errors import InputError
from tfproj.report import figures, format
from tfproj.report.assets import Assets, Graphic
from tfproj.report.load import RunData, read_run
from tfproj.report.page import page_path, render
from tfproj.report.segment import HEADLINE
from tfproj.runs.run import Run

DASHED_RUNS = 3  # with more runs the training curves would hide the others
PER_CLASS = {
    "classify": (("per_class_accuracy", "Accuracy"),),
    "segment": (("average_precision_softmax", "Average precision, softmax"), ("iou", "IoU")),
}


def write(runs: Sequence[Run], output: str | Path) -> Path:
    """Write the comparison and its figures and numbers; returns the page."""
    if not runs:
        raise InputError("no run to report on")
    data = [read_run(run) for run in runs]
    tasks = {d.task for d in data}
    if len(tasks) > 1:
        raise InputError("runs of different tasks cannot be compared: classify and segment")
    path = page_path(output)
    assets = Assets(path.with_suffix(""))
    names = labels(data)
    split = common_split(data)
    parts = [per_class(data, split, key, name) for key, name in PER_CLASS[data[0].task]]
    values = {
        "title": "Comparison of runs",
        "heading": format.listed(names),
        "kind": "Comparison",
        "names": names,
        "colors": [_color(i) for i in range(len(data))],
        "notes": notes(data, split),
        "numbers": numbers(data),
        "curves": curve_figures(data, names, assets),
        "differences": differences(data),
        "split": split,
        "per_class": [part for part in parts if part["rows"]],
    }
    _save_numbers(assets, values, names)
    return render("compare.html", path, values)


def labels(data: Sequence[RunData]) -> list[str]:
    """A different label for each run: its name, its path where names are equal, a number."""
    names = [d.name for d in data]
    names = [
        n if names.count(n) == 1 else str(d.run.path) for n, d in zip(names, data, strict=True)
    ]
    return [
        name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names, start=1)
    ]


def _color(index: int) -> str:
    return figures.COLORS[(index + 1) % len(figures.COLORS)]


def common_split(data: Sequence[RunData]) -> str | None:
    """The held-out split that every evaluated run was evaluated on."""
    found = [d.splits for d in data if d.splits]
    return next((s for s in ("test", "val") if found and all(s in f for f in found)), None)


def notes(data: Sequence[RunData], split: str | None) -> list[str]:
    """Why the numbers might not be comparable."""
    found = []
    contents = {d.contents for d in data} - {None}
    if len({d.fingerprint for d in data}) > 1 or len(contents) > 1:
        found.append(
            "The runs saw different data or other splits: differences are not only theirs."
        )
    for d in data:
        if not d.splits:
            found.append(f"{d.name} has not been evaluated: {d.evaluate_command}")
    if split is None and any(d.splits for d in data):
        found.append("There is no held-out split on which all of the runs were evaluated.")
    if len({d.other_data for d in data if d.splits}) > 1:
        others = format.listed([d.name for d in data if d.other_data])
        found.append(f"Evaluated on other data (tfproj evaluate --data): {others}.")
    if len({d.classes for d in data}) > 1:
        found.append("The runs have different classes; those that all of them have are compared.")
    return found


def row(
    label: str, values: Sequence[float | None], show: Callable, change: Callable | None = None
) -> dict[str, Any]:
    """One line of a table: each value as text and its difference to the first.

    Args:
        label: of the line.
        values: one for each run.
        show: value -> text.
        change: difference -> text; None: differences are not shown.
    """
    cells = []
    for index, value in enumerate(values):
        known = change and index and value is not None and values[0] is not None
        difference = value - values[0] if known else None
        cells.append(
            {
                "value": value,
                "text": show(value),
                "difference": difference,
                "change": change(difference) if known else "",
            }
        )
    return {"label": label, "cells": cells}


def numbers(data: Sequence[RunData]) -> list[dict[str, Any]]:
    """The headline numbers of all runs."""
    rows = []
    for split in ("test", "val", "train"):
        if any(split in d.splits for d in data):
            rows += _split_rows(data, split)
    rows.append(row("parameters", [d.parameters for d in data], format.count))
    rows.append(row("training time", [d.seconds for d in data], format.duration))
    rows.append(row("epochs", [len(d.history) or None for d in data], format.count))
    rows.append(row("epoch kept", [d.kept_epoch for d in data], format.count))
    return rows


def _split_rows(data: Sequence[RunData], split: str) -> list[dict[str, Any]]:
    if data[0].task == "classify":
        values = [d.splits.get(split, {}).get("accuracy") for d in data]
        return [row(f"{split} accuracy", values, lambda v: format.percent(v, 2), _points)]
    return [
        row(
            f"{split} {label}", [d.splits.get(split, {}).get(key) for d in data], format.decimal,
            _thousandths,
        )
        for key, label in HEADLINE
    ]  # fmt: skip


def _points(value: float) -> str:
    return format.signed(value, 2)


def _thousandths(value: float) -> str:
    return format.signed(value, 3, scale=1)


def curve_figures(data: Sequence[RunData], names: Sequence[str], assets: Assets) -> list[Graphic]:
    """Accuracy and loss of all runs over each other: validation solid, training dashed."""
    if not any(d.history for d in data):
        return []
    found = []
    for column in ("accuracy", "loss") if data[0].task == "classify" else ("loss", "accuracy"):
        lines = []
        for index, (d, name) in enumerate(zip(data, names, strict=True)):
            color = _color(index)
            lines.append(
                figures.history_line(
                    name, d.history, f"val_{column}", color, marked=d.kept_epoch
                )
            )  # fmt: skip
            if len(data) <= DASHED_RUNS:
                # An underscore keeps a line out of the legend.
                lines.append(figures.history_line("", d.history, column, color, dashed=True))
        figure = figures.curves(lines, column)
        found.append(assets.figure(column, figure, f"Validation {column} of the runs by epoch"))
    return found


def differences(data: Sequence[RunData]) -> list[tuple[str, list[str]]]:
    """(key, values) of the configuration entries that are not the same everywhere."""
    configs = [d.config.to_dict() for d in data]
    settings = [config | config.pop("model_options") for config in configs]
    keys = dict.fromkeys(key for one in settings for key in one)
    rows = [(key, [_setting(one.get(key)) for one in settings]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def _setting(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return format.NONE if value is None else str(value)


def per_class(data: Sequence[RunData], split: str | None, key: str, name: str) -> dict[str, Any]:
    """A table with one line per class that all runs have."""
    rows = []
    if split:
        shared = [c for c in data[0].classes if all(c in d.classes for d in data)]
        show, change = (format.percent, format.signed) if key.endswith("accuracy") else _DECIMALS
        for label in shared:
            values = [d.splits[split][key][label] if d.splits else None for d in data]
            rows.append(row(label, values, show, change))
    return {"key": key, "name": name, "rows": rows}


_DECIMALS = (format.decimal, _thousandths)


def _save_numbers(assets: Assets, values: dict[str, Any], names: Sequence[str]) -> None:
    assets.json(
        "numbers",
        {
            "runs": list(names),
            "numbers": {r["label"]: [c["value"] for c in r["cells"]] for r in values["numbers"]},
            "configuration": dict(values["differences"]),
        },
    )
    rows = [
        {
            "measure": part["key"],
            "class": r["label"],
            **{name: c["value"] for name, c in zip(names, r["cells"], strict=True)},
        }
        for part in values["per_class"]
        for r in part["rows"]
    ]
    assets.csv("per_class", rows)
