"""The report of one run: what both tasks share, and the page."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from tfproj.report import classify, figures, pictures, segment
from tfproj.report.assets import Assets, Graphic
from tfproj.report.format import count, duration, numbered, plural
from tfproj.report.load import RunData, read_run
from tfproj.report.page import page_path, render
from tfproj.runs.history import MONITORS
from tfproj.runs.run import Run

# The measure by which a run is judged, of those in metrics.json.
HEADLINE = {"classify": "accuracy", "segment": "mean_average_precision_softmax"}
TASK_NAMES = {"classify": "Classification", "segment": "Segmentation"}


def write(run: Run, output: str | Path) -> Path:
    """Write the page of one run and its figures and numbers; returns the page."""
    data = read_run(run)
    path = page_path(output)
    assets = Assets(path.with_suffix(""))
    part = {"classify": classify, "segment": segment}[data.task]
    values = {
        "title": f"{data.name}: {TASK_NAMES[data.task].lower()} report",
        "heading": data.name,
        "kind": TASK_NAMES[data.task],
        "facts": facts(data),
        "commands": commands(data),
        "notes": notes(data),
        "curves": history_figures(data, assets),
        "data": data,
        "table": data.model.get("table"),
        "filters": filter_pictures(data, assets),
        **part.values(data, assets),
    }
    assets.json("numbers", {"run": str(data.run.path), **values["numbers"]})
    return render(f"{data.task}.html", path, values)


def facts(data: RunData) -> list[tuple[str, str]]:
    """(term, value) pairs of the headline."""
    config, environment = data.config, data.environment
    sizes = ", ".join(f"{count(n)} {name}" for name, n in data.counts.items())
    origin = environment.get("data", {})
    trained = f"{duration(data.seconds)} for {plural(len(data.history), 'epoch')}"
    shape = (
        f"{data.spec.height} × {data.spec.width} px, {['', 'grey', '', 'RGB'][data.spec.channels]}"
    )
    rows = [
        ("Data set", data.spec.data or config.data),
        ("Examples", sizes),
        ("Preset", config.preset),
        ("Model", config.model),
        ("Parameters", count(data.parameters) if data.parameters else ""),
        ("Input", shape),
        ("Training time", trained if data.history else "not trained yet"),
        ("Epoch kept", _kept(data)),
        ("Computed on", _machine(environment)),
        ("Source of the data", origin.get("license", "")),
    ]
    return [(term, str(value)) for term, value in rows if value]


def _kept(data: RunData) -> str:
    if data.kept_epoch is None:
        return ""
    column = MONITORS[data.task]
    row = next(row for row in data.history if row["epoch"] == data.kept_epoch)
    return f"{data.kept_epoch} of {len(data.history)} ({column} {row[column]:.4f})"


def _machine(environment: dict[str, Any]) -> str:
    versions = environment.get("versions", {})
    parts = [environment.get("cpu", ""), environment.get("precision", "")]
    parts += [f"{name} {versions[name]}" for name in ("tensorflow", "keras") if name in versions]
    return ", ".join(part for part in parts if part)


def commands(data: RunData) -> dict[str, str]:
    """The command that was given, and the one that repeats the run."""
    environment = data.environment
    found = {}
    if environment.get("command"):
        found["Command"] = shlex.join(map(str, environment["command"]))
    if environment.get("repeat"):
        found["To repeat it"] = str(environment["repeat"])
    return found


def notes(data: RunData) -> list[str]:
    """What the reader must know of an incomplete run."""
    found = []
    command = data.evaluate_command
    if not data.splits:
        found.append(f"This run has not been evaluated; for numbers and examples: {command}")
    elif not data.model:
        found.append(f"The examples and the layer table are missing; to make them: {command}")
    elif data.model.get("epochs", len(data.history)) < len(data.history):
        found.append(
            f"Evaluated after {plural(data.model['epochs'], 'epoch')}; by now the run has been "
            f"trained for {len(data.history)}. To bring it up to date: {command}"
        )
    if data.history and len(data.history) < data.config.epochs:
        wanted = data.config.epochs
        found.append(f"Trained for {len(data.history)} of at most {wanted} epochs.")
    if data.other_data:
        found.append(f"Evaluated on data that it was not trained on: {data.other_data}.")
    name = HEADLINE[data.task]
    for split, measured in data.mirrored.items():
        found.append(
            f"Averaged with the mirror image (tfproj evaluate --flip), the {split} "
            f"{name.replace('_', ' ')} is {measured[name]:.4f}."
        )
    if data.splits and "test" not in data.splits:
        missing = (
            f"The test split was not evaluated (to do so: {command})"
            if data.counts.get("test") else "There is no test split here"
        )  # fmt: skip
        found.append(f"{missing}; examples are from the {data.shown} split.")
    return found


def history_figures(data: RunData, assets: Assets) -> list[Graphic]:
    """Accuracy and loss by epoch; nothing without a history."""
    if not data.history:
        return []
    rate = figures.history_line("rate", data.history, "learning_rate", figures.GREY)
    kinds = {"accuracy": "accuracy", "loss": "loss"}
    order = ("accuracy", "loss") if data.task == "classify" else ("loss", "accuracy")
    return [
        assets.figure(
            column,
            figures.curves(
                [
                    figures.history_line("training", data.history, column, figures.COLORS[0]),
                    figures.history_line(
                        "validation", data.history, f"val_{column}", figures.COLORS[1],
                        marked=data.kept_epoch,
                    ),
                ],
                kinds[column] if data.task == "classify" or column == "loss" else "pixel accuracy",
                [rate],
            ),
            f"Training and validation {column} by epoch, learning rate below",
        )
        for column in order
    ]  # fmt: skip


def filter_pictures(data: RunData, assets: Assets) -> dict[str, Graphic]:
    """Kernels of the first two convolutions and what they make of one example."""
    arrays, found = data.filters, {}
    if "kernel1" not in arrays:
        return {}
    names = [*data.model.get("convolutions", []), "conv1", "conv2"][:2]
    example = pictures.enlarged(arrays["example"], 192)
    found["example"] = assets.picture("example", example, "The example shown to the filters")
    for number, draw in ((1, pictures.first_filters), (2, pictures.second_filters)):
        if f"kernel{number}" not in arrays:
            break
        kernel, maps = arrays[f"kernel{number}"], arrays[f"maps{number}"]
        layer = names[number - 1]
        found[f"kernel{number}"] = assets.picture(
            f"filters{number}", draw(kernel), f"{kernel.shape[-1]} filters of layer {layer}"
        )
        columns = 8 if number == 1 else 3
        found[f"maps{number}"] = assets.picture(
            f"activations{number}",
            pictures.activations(maps, columns),
            f"Activations of layer {layer} on the example",
        )
    found["name"] = numbered(data.model.get("example", ""))
    found["silent"] = int(
        (arrays["maps1"].reshape(len(arrays["maps1"]), -1).max(axis=1) <= 0).sum()
    )
    return found
