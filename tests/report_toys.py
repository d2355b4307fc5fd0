"""Run directories written by hand, for tests of the report that need no TensorFlow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tfproj.core.files import write_csv, write_json
from tfproj.core.spec import ModelSpec, rgb
from tfproj.evaluation.examples import choose_classified
from tfproj.evaluation.metrics import confusion_matrix, intersection_over_union, mean, recall
from tfproj.experiment.presets import make_config
from tfproj.runs.run import Run

ROW = {"kind": "Conv2d-1", "layer": "conv1", "shape": [4, 8, 8], "parameters": 40}
TABLE = {
    "rows": [ROW], "parameters": 40, "trainable": 40, "non_trainable": 0, "input_mb": 0.1,
    "activations_mb": 0.2, "parameters_mb": 0.3, "total_mb": 0.6,
}  # fmt: skip


def toy_run(folder: Path, task: str, classes: tuple[str, ...], epochs: int = 3, **config) -> Run:
    """A trained run that has not been evaluated."""
    folder.mkdir(parents=True)
    run = Run(folder)
    model = {"classify": "cnn", "segment": "unet"}[task]
    spec = ModelSpec(task, model, classes, (), 8, 8, 1 if task == "classify" else 3, "toy")
    write_json(run.spec_file, spec.to_dict())
    write_json(run.config_file, make_config(task, **{"data": "toy", **config}).to_dict())
    environment = {
        "command": ["tfproj", "train", task, "--name", "it's <b>"],
        "repeat": f"tfproj train {task} --config {run.config_file}",
        "versions": {"tensorflow": "2.0", "keras": "3.0"},
        "cpu": "a CPU",
        "precision": "float32",
        "data": {"origin": "here", "license": "public domain"},
    }
    write_json(run.environment_file, environment)
    write_json(run.splits_file, {"fingerprint": "f", "counts": {"train": 90, "val": 20}})
    write_history(run, epochs)
    return run


def write_history(run: Run, epochs: int, **last) -> None:
    """``last``: values of the last epoch that are to be different."""
    rows = [
        {
            "epoch": e, "accuracy": 1 - 0.5 / e, "loss": 1 / e, "val_accuracy": 1 - 0.6 / e,
            "val_loss": 1.2 / e, "learning_rate": 1e-3, "seconds": 20.0,
        }
        for e in range(1, epochs + 1)
    ]  # fmt: skip
    if rows:
        rows[-1].update(last)
    write_csv(run.history_file, rows)


def classified(
    folder: Path,
    classes: tuple[str, ...] = ("cat", "dog", "fox"),
    splits: tuple[str, ...] = ("train", "val", "test"),
    per_class: int = 10,
    names=lambda i: f"{i}",
    mistakes: bool = True,
    **config,
) -> Run:
    """A classification run with everything that ``evaluate`` leaves.

    Class k has k mistakes (at most half), all taken for the next class, the first one 1 more.
    """
    run = toy_run(folder, "classify", classes, **config)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(classes)), per_class)
    predictions = labels.copy()
    for k in range(len(classes) if mistakes else 0):
        wrong = min(k, per_class // 2)
        predictions[k * per_class : k * per_class + wrong] = (k + 1) % len(classes)
    metrics, rows = {}, []
    for split in splits:
        matrix = confusion_matrix(labels, predictions, len(classes))
        metrics[split] = {
            "examples": len(labels),
            "accuracy": float((labels == predictions).mean()),
            "loss": 0.5,
            "per_class_accuracy": dict(zip(classes, recall(matrix), strict=True)),
            "confusion_matrix": matrix.tolist(),
        }
        rows += [
            {
                "split": split, "name": names(i), "label": classes[label],
                "prediction": classes[guess], "probability": round(float(rng.uniform(0.4, 1)), 6),
                "label_probability": 0.1,
            }
            for i, (label, guess) in enumerate(zip(labels, predictions, strict=True))
        ]  # fmt: skip
    _write_results(run, classes, metrics, rows)
    shown = [row for row in rows if row["split"] == splits[-1]]
    records = []
    for index in choose_classified(shown, classes):
        file = f"examples/{len(records):04d}.png"
        picture = Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8))
        picture.save(run.report_data / file)
        records.append({"index": index, "file": file, "size": [8, 8], **shown[index]})
    write_json(run.report_data / "examples.json", {"split": splits[-1], "examples": records})
    _write_model(run, channels=1)
    return run


def segmented(
    folder: Path,
    classes: tuple[str, ...] = ("sky", "wall", "door"),
    silent: int | None = None,
    splits: tuple[str, ...] = ("train", "val", "test"),
    name: str = "street.jpg",
    **config,
) -> Run:
    """A segmentation run; class ``silent`` is never predicted and scores 0 everywhere."""
    run = toy_run(folder, "segment", classes, **config)
    rng = np.random.default_rng(0)
    truth = rng.integers(0, len(classes), (8, 8), dtype=np.uint8)
    guess = np.where(rng.random((8, 8)) < 0.8, truth, (truth + 1) % len(classes)).astype(np.uint8)
    if silent is not None:
        guess[guess == silent] = (silent + 1) % len(classes)
    matrix = confusion_matrix(truth, guess, len(classes))
    iou = intersection_over_union(matrix)
    ap = [0.3 + 0.6 * k / len(classes) for k in range(len(classes))]

    def named(values):
        return dict(zip(classes, values, strict=True))

    constant = {"min": 0.0, "max": 0.0, "std": 0.0, "zero_share": 1.0}
    varying = {"min": -1.5, "max": 2.5, "std": 0.7, "zero_share": 0.0}
    result = {
        "examples": 1,
        "pixel_accuracy": float((truth == guess).mean()),
        "mean_iou": mean(iou),
        "iou": named(iou),
        "mean_iou_full": mean(iou) + 0.02,
        "iou_full": named([None if v is None else v + 0.02 for v in iou]),
        "per_class_accuracy": named(recall(matrix)),
        "confusion_matrix": matrix.tolist(),
        "scores": named([constant if k == silent else varying for k in range(len(classes))]),
        "average_precision_raw": named(ap),
        "mean_average_precision_raw": mean(ap),
        "average_precision_softmax": named([a + 0.01 for a in ap]),
        "mean_average_precision_softmax": mean(ap) + 0.01,
    }
    row = {"name": name, "pixel_accuracy": result["pixel_accuracy"], "mean_iou": mean(iou)}
    rows = [{"split": split, **row} for split in splits]
    _write_results(run, classes, dict.fromkeys(splits, result), rows)
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(
        run.report_data / "examples/0000.png"
    )
    palette = [v for color in run.spec().colors for v in rgb(color)]
    for kind, mask in (("truth", truth), ("prediction", guess)):
        picture = Image.fromarray(mask)
        picture.putpalette(palette)
        picture.save(run.report_data / f"examples/0000_{kind}.png")
    roles = ["best", *(f"worst for {c}" for c in classes)]
    record = {"index": 0, "roles": roles, "file": "examples/0000.png", "size": [8, 8], **row}
    write_json(run.report_data / "examples.json", {"split": splits[-1], "examples": [record]})
    curve = {"recall": [0.1, 0.5, 1.0], "precision": [0.9, 0.7, 0.2]}
    curves = {kind: [curve, None, *[curve] * (len(classes) - 2)] for kind in ("raw", "softmax")}
    write_json(run.report_data / "curves.json", curves)
    _write_model(run, channels=3)
    return run


def _write_results(run: Run, classes, metrics: dict, rows: list[dict]) -> None:
    record = {
        "task": run.config().task, "classes": list(classes), "weights": "best.keras",
        "parameters": 1234, "splits": metrics,
    }  # fmt: skip
    write_json(run.metrics_file, record)
    write_csv(run.predictions_file, rows)
    (run.report_data / "examples").mkdir(parents=True)


def _write_model(run: Run, channels: int) -> None:
    rng = np.random.default_rng(1)
    record = {"epochs": len(run.history()), "table": TABLE, "convolutions": ["conv1", "conv2"]}
    write_json(run.report_data / "model.json", {**record, "example": "0"})
    np.savez_compressed(
        run.report_data / "filters.npz",
        example=rng.integers(0, 256, (8, 8, channels), dtype=np.uint8),
        kernel1=rng.normal(size=(3, 3, channels, 4)).astype(np.float32),
        maps1=rng.random((4, 8, 8), np.float32),
        kernel2=rng.normal(size=(3, 3, 4, 9)).astype(np.float32),
        maps2=rng.random((9, 4, 4), np.float32),
    )


def edit_json(path: Path, change) -> None:
    """Apply ``change`` to the parsed content of a JSON file and write it back."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
