"""The report of one run: what both tasks share, and the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from tfproj.report import classify, data_check, figures, multi_label, pictures, segment
from tfproj.report.assets import Assets
from tfproj.report.load import RunData, read_run
from tfproj.report.page import page_path, render
from tfproj.runs.run import Run

PARTS = {"classify": classify, "segment": segment, "multi_label": multi_label}
COLUMNS = {
    "classify": ("accuracy", "loss"),
    "segment": ("loss", "accuracy"),
    "multi_label": ("mean_ap", "loss"),
}


def write(run: Run, output: str | Path) -> Path:
    """Write the page of one run and its figures and numbers; returns the page."""
    data = read_run(run)
    path = page_path(output)
    assets = Assets(path.with_suffix(""))
    values = {
        "data": data,
        "monitor": data.config.monitored,
        "curves": curve_figures(data, assets),
        "filters": filter_pictures(data, assets),
        "data_check": data_check.values(data.data_check),
        "silent_filters": silent_filters(data.filters),
        **(PARTS[data.kind].values(data, assets) if data.splits else {}),
    }
    numbers = {
        "run": str(data.run.path),
        "kept_epoch": data.kept_epoch,
        "parameters": data.parameters,
        "training_seconds": data.seconds,
        "shown_split": data.shown,
    }
    assets.json("numbers", {**numbers, **values.get("numbers", {})})
    return render(f"{data.kind}.html", path, values)


def curve_figures(data: RunData, assets: Assets) -> list[Markup]:
    """Accuracy and loss by epoch; nothing without a history."""
    return [_curves(data, column, assets) for column in COLUMNS[data.kind] if data.history]


def _curves(data: RunData, column: str, assets: Assets) -> Markup:
    colors, kept = figures.COLORS, data.kept_epoch
    lines = [
        figures.Line(data.history, column, colors[0], "training"),
        figures.Line(data.history, f"val_{column}", colors[1], "validation", marked=kept),
    ]
    lines = [line for line in lines if line.column in data.history[0]]  # training has no mean AP
    rate = figures.Line(data.history, "learning_rate", figures.GREY)
    label = "pixel accuracy" if (data.task, column) == ("segment", "accuracy") else column
    label = label.replace("mean_ap", "mean AP")
    alt = f"Training and validation {column} by epoch, learning rate below"
    return assets.figure(column, figures.curves(lines, label, rate), alt)


def filter_pictures(data: RunData, assets: Assets) -> dict[str, dict[str, Any]]:
    """Kernels of the first two convolutions and what they make of one example."""
    arrays, layers = data.filters, data.model.get("convolutions")
    if not (arrays and layers):
        return {}
    example = pictures.enlarged(arrays["example"], 192)
    found = {"example": assets.picture("example", example, "The example shown to the filters")}
    ways = (1, pictures.first_filters, 8), (2, pictures.second_filters, 3)
    for layer, (number, draw, columns) in zip(layers, ways, strict=False):  # or one layer alone
        kernel, maps = arrays[f"kernel{number}"], arrays[f"maps{number}"]
        found[f"kernel{number}"] = assets.picture(
            f"filters{number}", draw(kernel), f"{kernel.shape[-1]} filters of layer {layer}"
        )
        found[f"maps{number}"] = assets.picture(
            f"activations{number}",
            pictures.activations(maps, columns),
            f"Activations of layer {layer} on the example",
        )
    return found


def silent_filters(arrays: dict[str, np.ndarray]) -> int:
    """How many filters of the first convolution answer nowhere on the example."""
    return int((arrays["maps1"].max(axis=(1, 2)) <= 0).sum()) if "maps1" in arrays else 0
