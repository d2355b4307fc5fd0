"""The page that compares several runs of one task; the first is the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from tfproj.errors import InputError
from tfproj.report import figures, format, multi_label
from tfproj.report.assets import Assets
from tfproj.report.classify import MEANS
from tfproj.report.load import RunData, read_run
from tfproj.report.page import page_path, render
from tfproj.report.segment import MEASURES
from tfproj.report.single import COLUMNS
from tfproj.runs.run import Run

# How a value is shown, and how its difference to that of the first run.
POINTS = (format.percent, format.signed)
FINE_POINTS = (partial(format.percent, digits=2), partial(format.signed, digits=2))
THOUSANDTHS = (format.decimal, partial(format.signed, digits=3, scale=1))
DASHED_RUNS = 3  # with more runs the training curves would hide the others
# Of metrics.json, class by class, and what the page calls it.
PER_CLASS = {
    "classify": {"per_class_accuracy": "Accuracy"},
    "segment": {"average_precision_softmax": "Average precision, softmax", "iou": "IoU"},
    "multi_label": {"average_precision": "Average precision", "f1": "F1"},
}


class Row(NamedTuple):
    """One line of a table: a value for each run, shown beside its difference to the first.

    Attributes:
        label: of the line.
        values: None where a run has none.
        show: value -> text.
        change: difference -> text; None: differences are not shown.
    """

    label: str
    values: list
    show: Callable[[Any], str]
    change: Callable[[float], str] | None = None


def write(runs: Sequence[Run], output: str | Path) -> Path:
    """Write the comparison and its figures and numbers; returns the page."""
    data = [read_run(run) for run in runs]
    if len(kinds := {d.kind for d in data}) > 1:
        listed = " and ".join(sorted(kinds))
        raise InputError(f"runs of different tasks cannot be compared: {listed}")
    path = page_path(output)
    assets = Assets(path.with_suffix(""))
    names, split = labels(data), common_split(data)
    colors = [figures.COLORS[i % len(figures.COLORS)] for i in range(1, len(data) + 1)]
    values = {
        "data": data,
        "names": names,
        "colors": colors,
        "dashed": len(data) <= DASHED_RUNS,
        "numbers": numbers(data),
        "curves": curve_figures(data, names, colors, assets),
        "settings": differences(data),
        "split": split,
        "per_class": per_class(data, split) if split else {},
        "titles": PER_CLASS[data[0].kind],
        "same_data": len({_identity(d) for d in data}) == 1,
    }
    _save_numbers(assets, values)
    return render("compare.html", path, values)


def labels(data: Sequence[RunData]) -> list[str]:
    """A different label for each run: its name, or its number and path where names are equal."""
    names = [d.name for d in data]
    return [
        name if names.count(name) == 1 else f"{d.run.path} ({number})"
        for number, (name, d) in enumerate(zip(names, data, strict=True), start=1)
    ]


def common_split(data: Sequence[RunData]) -> str | None:
    """The held-out split that every evaluated run was evaluated on."""
    evaluated = [d for d in data if d.splits]
    shared = [s for s in ("test", "val") if all(s in d.splits for d in evaluated)]
    return shared[0] if evaluated and shared else None


def _identity(data: RunData) -> tuple[str | None, ...]:
    """What tells whether two runs saw the same data in the same splits."""
    return tuple(data.dataset.get(key) for key in ("fingerprint", "contents"))


def numbers(data: Sequence[RunData]) -> list[Row]:
    """The headline numbers of all runs."""
    rows = [
        row
        for split in ("test", "val", "train")
        if any(split in d.splits for d in data)
        for row in _split_rows(data, split)
    ]
    return [
        *rows,
        Row("parameters", [d.parameters for d in data], format.count),
        Row("training time", [d.seconds for d in data], format.duration),
        Row("epochs", [len(d.history) or None for d in data], format.count),
        Row("epoch kept", [d.kept_epoch for d in data], format.count),
    ]


def _split_rows(data: Sequence[RunData], split: str) -> list[Row]:
    def of_all(key: str) -> list[float | None]:
        return [d.splits.get(split, {}).get(key) for d in data]

    if data[0].kind == "classify":
        measures = {"accuracy": "accuracy", **MEANS}
        rows = [Row(f"{split} {label}", of_all(k), *FINE_POINTS) for k, label in measures.items()]
        return [row for row in rows if any(value is not None for value in row.values)]
    measures = multi_label.MEASURES if data[0].kind == "multi_label" else MEASURES
    return [Row(f"{split} {label}", of_all(key), *THOUSANDTHS) for _, key, label in measures]


def curve_figures(
    data: Sequence[RunData], names: Sequence[str], colors: Sequence[str], assets: Assets
) -> list[Markup]:
    """Accuracy and loss of all runs over each other: validation solid, training dashed."""
    found = []
    for column in COLUMNS[data[0].kind] if any(d.history for d in data) else ():
        lines = [
            figures.Line(d.history, f"val_{column}", color, name, marked=d.kept_epoch)
            for d, name, color in zip(data, names, colors, strict=True)
        ]
        if len(data) <= DASHED_RUNS:
            lines += [
                figures.Line(d.history, column, color, dashed=True)
                for d, color in zip(data, colors, strict=True)
            ]
        figure = figures.curves(lines, column)
        found.append(assets.figure(column, figure, f"Validation {column} of the runs by epoch"))
    return found


def differences(data: Sequence[RunData]) -> list[Row]:
    """Entries of the configuration that are not the same everywhere."""
    configs = [d.config.to_dict() for d in data]
    settings = [config | config.pop("model_options") for config in configs]
    keys = dict.fromkeys(key for one in settings for key in one)
    rows = [Row(key, [setting(one.get(key)) for one in settings], str) for key in keys]
    return [row for row in rows if len(set(row.values)) > 1]


def setting(value: Any) -> str:
    """A value of a configuration, for a table."""
    if isinstance(value, float):
        return f"{value:g}"
    return format.NONE if value is None else str(value)


def per_class(data: Sequence[RunData], split: str) -> dict[str, list[Row]]:
    """Measure -> one line for each class that all runs have."""
    shared = [name for name in data[0].classes if all(name in d.classes for d in data)]
    ways = POINTS if data[0].kind == "classify" else THOUSANDTHS
    return {
        key: [
            Row(name, [d.splits[split][key][name] if d.splits else None for d in data], *ways)
            for name in shared
        ]
        for key in PER_CLASS[data[0].kind]
    }


def _save_numbers(assets: Assets, values: dict[str, Any]) -> None:
    names = values["names"]
    record = {
        "runs": names,
        "numbers": {row.label: row.values for row in values["numbers"]},
        "configuration": {row.label: row.values for row in values["settings"]},
    }
    assets.json("numbers", record)
    rows = [
        {"measure": key, "class": row.label, **dict(zip(names, row.values, strict=True))}
        for key, part in values["per_class"].items()
        for row in part
    ]
    assets.csv("per_class", rows)
