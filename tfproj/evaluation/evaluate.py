"""Measure a trained run on its splits: ``metrics.json``, ``predictions.csv``, ``report_data/``.

The best weights are evaluated in float32, as they are exported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tfproj import backend
from tfproj.core.files import read_object, write_csv, write_json
from tfproj.core.probabilities import sigmoid, softmax
from tfproj.core.tiling import Tiling
from tfproj.errors import InputError
from tfproj.evaluation import labels as label_sets
from tfproj.evaluation import metrics, report_data
from tfproj.evaluation.prediction import predict_split
from tfproj.evaluation.segmentation import overlap, segmentation_metrics
from tfproj.evaluation.tiled import tiled_confusion
from tfproj.experiment.plan import Plan, plan_evaluation
from tfproj.models.checkpoint import load_model
from tfproj.runs.run import Run, shown_split


def evaluate(
    run: Run,
    splits: Sequence[str] | None = None,
    flip: bool = False,
    planned: Plan | None = None,
    tiling: Tiling | None = None,
) -> dict[str, Any]:
    """Evaluate the best weights of a run.

    Args:
        run: a run with at least one finished epoch.
        splits: of ``train``, ``val``, ``test``; None: all that exist.
        flip: also average the scores of every image with those of its mirror image.
        planned: the result of :func:`plan_evaluation` where it was already made.
        tiling: also measure the masks of photographs in tiles, of all splits but ``train``.

    Returns:
        The content of ``metrics.json``: ``splits`` and, averaged with the mirror image,
        ``mirrored``; in tiles, ``tiled`` (their ``scale``, ``window`` and ``splits``). An
        evaluation of the same weights and data without ``flip`` or ``tiling`` keeps these. See
        :func:`classification_metrics`, :func:`label_metrics` and :func:`segmentation_metrics` for
        one split. With several labels an image also ``thresholds`` by class.

    Raises:
        InputError: files missing, no such split, or the data changed since training.
    """
    planned = planned or plan_evaluation(run, splits)
    if tiling is not None and set(splits or planned.dataset.splits) == {"train"}:
        raise InputError("tiles are measured on val and test; name one of them with --split")
    backend.setup()
    digest = run.weights_digest()  # before they are read: a training may replace them
    model = load_model(run)
    results, mirrored, rows, facts = {}, {}, [], {}
    measure, chosen = METRICS[planned.config.kind], {}
    if planned.config.multi_label:
        chosen = choose_thresholds(model, planned, run)
        measure = partial(label_metrics, thresholds=np.array(chosen["thresholds"]))
        chosen["thresholds"] = metrics.named(planned.spec.classes, chosen["thresholds"])
    for name in splits or planned.dataset.splits:
        results[name], examples, facts[name] = measure(model, planned, name)
        rows += [{"split": name, **example} for example in examples]
        if flip:
            mirrored[name], _, _ = measure(model, planned, name, flip=True)
    measured = {**_describe(run, planned, digest, model.count_params()), **chosen}
    measured["splits"] = results
    before = _before(run, measured)
    measured["mirrored"] = mirrored or before.get("mirrored", {})
    measured["tiled"] = before.get("tiled", {})
    if tiling is not None:
        measured["tiled"] = _tiled(model, planned, tiling, results)
    shown = shown_split(results)
    of_shown = [row for row in rows if row["split"] == shown]
    split = planned.dataset.splits[shown]
    report_data.save(run, model, split, shown, of_shown, facts[shown])
    write_csv(run.predictions_file, rows)
    write_json(run.metrics_file, measured)  # last: its presence says that all of it is there
    return measured


def _describe(run: Run, planned: Plan, digest: str, parameters: int) -> dict[str, Any]:
    """What was measured, on what."""
    dataset = planned.dataset
    return {
        "task": planned.config.task,
        "classes": list(planned.spec.classes),
        "weights": run.best_weights.name,
        "weights_sha256": digest,
        "parameters": parameters,
        "data": {
            "name": dataset.name,
            "origin": dataset.origin,
            "of_training": planned.own_data,
        },
    }


def _before(run: Run, measured: dict[str, Any]) -> dict[str, Any]:
    """What an earlier evaluation of the same weights on the same data found."""
    before = read_object(run.metrics_file) if run.metrics_file.is_file() else {}
    same = all(before.get(key) == measured[key] for key in ("weights_sha256", "data"))
    return before if same else {}


def _tiled(model, planned: Plan, tiling: Tiling, splits: Iterable[str]) -> dict[str, Any]:
    """Accuracy and IoU of the masks of photographs in tiles, at the photographs' own sizes."""
    found, classes = {}, planned.spec.classes
    for name in (name for name in splits if name != "train"):  # which says little, as elsewhere
        confusion = tiled_confusion(model, planned, tiling, name)
        examples = len(planned.dataset.splits[name])
        found[name] = {"examples": examples, **overlap(confusion, classes, "_full")}
    return {"scale": list(tiling.scale), "window": list(tiling.window), "splits": found}


def classification_metrics(
    model, planned: Plan, split: str, flip: bool = False
) -> tuple[dict, list[dict], dict]:
    """Accuracy, per-class accuracy (recall), confusion matrix, loss; one row per example.

    ``balanced_accuracy`` is the mean recall of the classes that occur, ``macro_f1`` the mean F1 of
    those that occur or are predicted, as in scikit-learn.

    The third part is what only the report needs: nothing here, see :func:`report_data.save`.
    """
    batches = list(predict_split(model, planned, split, flip))
    probabilities = softmax(np.concatenate([scores for scores, _ in batches]))
    labels = np.concatenate([targets for _, targets in batches])
    predictions = probabilities.argmax(axis=-1)
    classes = planned.spec.classes
    confusion = metrics.confusion_matrix(labels, predictions, len(classes))
    of_label = probabilities[np.arange(len(labels)), labels]
    result = {
        "examples": len(labels),
        "accuracy": float(np.mean(predictions == labels)),
        "balanced_accuracy": metrics.mean(metrics.recall(confusion)),
        "macro_f1": metrics.mean(metrics.f1(confusion)),
        "loss": float(-np.log(np.maximum(of_label, 1e-12)).mean()),
        "per_class_accuracy": metrics.named(classes, metrics.recall(confusion)),
        "confusion_matrix": confusion.tolist(),
    }
    rows = [
        {
            "name": name,
            "label": classes[label],
            "prediction": classes[prediction],
            "probability": round(float(p[prediction]), 6),
            "label_probability": round(float(p[label]), 6),
        }
        for name, label, prediction, p in zip(
            planned.dataset.splits[split].names, labels, predictions, probabilities, strict=True
        )
    ]
    return result, rows, {}


def choose_thresholds(model, planned: Plan, run: Run) -> dict[str, Any]:
    """From which probability on an image has a label, by the validation split.

    On other data, or none, those stay that an earlier evaluation chose for the same weights.

    Returns:
        ``thresholds``, one of each class, and ``threshold_choice``: the number of ``examples``, and
        the classes that have the ``default`` of 0.5, since too few images tell.
    """
    classes = planned.spec.classes
    known = read_object(run.metrics_file) if run.metrics_file.is_file() else {}
    if not planned.own_data and known.get("weights_sha256") == run.weights_digest():
        thresholds = [known["thresholds"][name] for name in classes]
        return {"thresholds": thresholds, "threshold_choice": known["threshold_choice"]}
    scores = labels = np.empty((0, len(classes)))
    if "val" in planned.dataset.splits:
        batches = predict_split(model, planned, "val")
        scores, labels = map(np.concatenate, zip(*batches, strict=True))
    found = label_sets.choose_thresholds(sigmoid(scores), labels)
    default = [name for name, value in zip(classes, found, strict=True) if value is None]
    if default:
        names = ", ".join(map(repr, default[:5])) + (" ..." if default[5:] else "")
        few = f"fewer than {label_sets.FEW} of {len(labels):,} validation images with or without"
        print(f"note: threshold {label_sets.DEFAULT} for {names}: {few}", file=sys.stderr)
    return {
        "thresholds": [label_sets.DEFAULT if value is None else value for value in found],
        "threshold_choice": {"by": "F1", "examples": len(labels), "default": default},
    }


def label_metrics(
    model, planned: Plan, split: str, flip: bool = False, *, thresholds: np.ndarray
) -> tuple[dict, list[dict], dict]:
    """See :func:`tfproj.evaluation.labels.measure`, and the loss; one row per example."""
    batches = predict_split(model, planned, split, flip)
    scores, labels = map(np.concatenate, zip(*batches, strict=True))
    classes, names = planned.spec.classes, planned.dataset.splits[split].names
    result = label_sets.measure(scores, labels, thresholds, classes)
    return result, label_sets.rows(names, scores, labels, thresholds, classes), {}


METRICS = {
    "classify": classification_metrics,
    "segment": segmentation_metrics,
    "multi_label": label_metrics,
}
