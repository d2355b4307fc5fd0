"""``tfproj evaluate``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from tfproj import backend
from tfproj.cli.options import common, device, number, print_json, runs_dir, say_notes, table
from tfproj.experiment.plan import plan_evaluation
from tfproj.experiment.tiling import plan_tiling
from tfproj.report import build
from tfproj.runs.run import Run, find_run


@click.command()
@click.argument("run", required=False)
@click.option(
    "--split", "splits", multiple=True, help="train, val or test; may be repeated. [default: all]"
)
@click.option("--data", metavar="DIR", help="Other data, or the run's own where they lie now.")
@click.option(
    "--flip", is_flag=True, help="Measure also with each image averaged with its mirror image."
)
@click.option(
    "--tiles", is_flag=True, help="Segmentation: measure also the masks of photographs in tiles."
)
@click.option("--tile-scale", type=float, metavar="S", help="As --tiles; see predict.")
@click.option("--report", is_flag=True, help="Also write the report.")
@device
@runs_dir
@common
def evaluate(
    run: str | None,
    splits: tuple[str, ...],
    data: str | None,
    flip: bool,
    tiles: bool,
    tile_scale: float | None,
    report: bool,
    device: str | None,
    runs_dir: str,
    as_json: bool,
) -> None:
    """Measure the best weights of RUN; writes metrics.json and predictions.csv into it."""
    found = find_run(run, runs_dir)
    click.echo(f"evaluating {found.path} ...", err=True)
    planned = plan_evaluation(found, splits, data)
    tiled = tiles or tile_scale is not None
    tiling = plan_tiling(found, planned, tile_scale) if tiled else None
    say_notes(planned.dataset)
    backend.setup()
    backend.use_device(device)
    from tfproj.evaluation.evaluate import evaluate as measure  # noqa: PLC0415 (loads TensorFlow)

    metrics = measure(found, splits, flip, planned, tiling)
    if report:
        write_report(found)
    if as_json:
        print_json({"run": str(found.path), **metrics})
    else:
        click.echo(format_metrics(metrics))


def write_report(run: Run) -> None:
    """The report of an evaluated run; says where it is."""
    click.echo(f"report: {build([run])}", err=True)


def format_metrics(metrics: dict[str, Any]) -> str:
    """Tables for people: one line per split, then one per class."""
    lines = _classification if metrics["task"] == "classify" else _segmentation
    lines = _labels if "thresholds" in metrics else lines
    parts = [table(rows, header) for header, rows in lines(metrics)]
    if metrics.get("mirrored"):
        of_mirrored = {**metrics, "splits": metrics["mirrored"]}
        parts.append("averaged with the mirror image (--flip):")
        parts += [table(rows, header) for header, rows in lines(of_mirrored)]
    if tiled := metrics.get("tiled"):
        rows, columns = tiled["scale"]
        parts.append(f"in tiles, at {rows:.3g} x {columns:.3g} of the photographs' size (--tiles):")
        parts += [table(rows, header) for header, rows in lines({**metrics, **tiled})]
    return "\n\n".join(parts)


CLASSIFICATION_COLUMNS = {
    "accuracy": "accuracy",
    "balanced accuracy": "balanced_accuracy",
    "macro F1": "macro_f1",
    "loss": "loss",
}


def _classification(metrics: dict[str, Any]) -> Iterator[tuple[list[str], list[list[str]]]]:
    splits = metrics["splits"]
    yield (
        ["split", "examples", *CLASSIFICATION_COLUMNS],
        [
            # Evaluations of before have not all.
            [
                name,
                f"{m['examples']:,}",
                *(number(m.get(c)) for c in CLASSIFICATION_COLUMNS.values()),
            ]
            for name, m in splits.items()
        ],
    )
    yield (
        ["accuracy of class", *splits],
        [
            [name, *(number(m["per_class_accuracy"][name]) for m in splits.values())]
            for name in metrics["classes"]
        ],
    )


LABEL_COLUMNS = {
    "AP": ("average_precision", "mean_average_precision"),
    "F1": ("f1", "mean_f1"),
    "precision": ("precision", None),
    "recall": ("recall", None),
}


def _labels(metrics: dict[str, Any]) -> Iterator[tuple[list[str], list[list[str]]]]:
    columns = ("exact_match", "hamming_loss", "loss")
    splits = metrics["splits"].items()
    yield (
        ["split", "examples", "no wrong label", "wrong labels", "loss"],
        [[name, f"{m['examples']:,}", *(number(m[key]) for key in columns)] for name, m in splits],
    )
    for name, m in splits:
        rows = [
            [c, *(number(m[key][c]) for key, _ in LABEL_COLUMNS.values()), number(threshold, 3)]
            for c, threshold in metrics["thresholds"].items()
        ]
        means = [number(m[mean]) if mean else "" for _, mean in LABEL_COLUMNS.values()]
        yield [f"{name}, by class", *LABEL_COLUMNS, "threshold"], [*rows, ["mean", *means, ""]]


SEGMENTATION_COLUMNS = {
    "AP raw": ("average_precision_raw", "mean_average_precision_raw"),
    "AP softmax": ("average_precision_softmax", "mean_average_precision_softmax"),
    "IoU": ("iou", "mean_iou"),
    "accuracy": ("per_class_accuracy", "pixel_accuracy"),
    # At the photographs' own sizes; the training split has none, nor have runs of before.
    "IoU, own size": ("iou_full", "mean_iou_full"),
    "accuracy, own size": ("per_class_accuracy_full", "pixel_accuracy_full"),
}


def _segmentation(metrics: dict[str, Any]) -> Iterator[tuple[list[str], list[list[str]]]]:
    for name, m in metrics["splits"].items():
        titles = [title for title, (key, _) in SEGMENTATION_COLUMNS.items() if key in m]
        columns = [SEGMENTATION_COLUMNS[title] for title in titles]
        rows = [[c, *(number(m[key][c]) for key, _ in columns)] for c in metrics["classes"]]
        rows.append(["mean (accuracy: all pixels)", *(number(m[key]) for _, key in columns)])
        yield [f"{name}, {m['examples']} images", *titles], rows
