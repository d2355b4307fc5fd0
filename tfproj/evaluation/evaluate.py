"""Measure a trained run on its splits: ``metrics.json``, ``predictions.csv``, ``report_data/``.

The best weights are evaluated in float32, as they are exported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from tfproj import backend
from tfproj.core.files import read_object, write_csv, write_json
from tfproj.core.probabilities import mask_of_size, sigmoid, softmax
from tfproj.core.tiling import Tiling
from tfproj.errors import InputError
from tfproj.evaluation import labels as label_sets
from tfproj.evaluation import metrics, report_data
from tfproj.evaluation.pixels import PixelScores
from tfproj.evaluation.tiled import photographs, tiled_confusion
from tfproj.experiment.plan import Plan, plan_evaluation
from tfproj.models.checkpoint import load_model
from tfproj.runs.run import Run, shown_split
from tfproj.training.cache import make_cache


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
        chosen["thresholds"] = _named(planned.spec.classes, chosen["thresholds"])
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
    write_json(run.metrics_file, measured)
    write_csv(run.predictions_file, rows)
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
        found[name] = {"examples": examples, **_overlap(confusion, classes, "_full")}
    return {"scale": list(tiling.scale), "window": list(tiling.window), "splits": found}


def predict_split(
    model, planned: Plan, split: str, flip: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of (scores float32, labels or masks) over a split, in its order.

    Of a model trained on crops, photographs one by one at their own sizes.
    """
    mirrored = planned.spec.mirrored if flip else ()
    if planned.spec.resize == "tiles":
        yield from photographs(model, planned, split, mirrored)
        return
    cache, batch = make_cache(planned, split), planned.config.eval_batch_size
    starts = range(0, len(cache), batch)
    for start in tqdm(starts, desc=f"evaluate {split}", file=sys.stderr, disable=None, leave=False):
        images, targets = cache.batch(np.arange(start, min(start + batch, len(cache))))
        yield report_data.predict_scores(model, images, mirrored), targets


def classification_metrics(
    model, planned: Plan, split: str, flip: bool = False
) -> tuple[dict, list[dict], dict]:
    """Accuracy, per-class accuracy (recall), confusion matrix, loss; one row per example.

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
        "loss": float(-np.log(np.maximum(of_label, 1e-12)).mean()),
        "per_class_accuracy": _named(classes, metrics.recall(confusion)),
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


def segmentation_metrics(
    model, planned: Plan, split: str, flip: bool = False
) -> tuple[dict, list[dict], dict]:
    """AP by raw and softmax scores, pixel accuracy, IoU, confusion matrix; one row per image.

    All are measured at the network's size; of a model trained on crops, at the images' own and
    from blended windows, whose scores are logarithms of probabilities. Splits
    other than ``train`` have accuracy and IoU at the images' own sizes, too, by the masks that the
    predictor gives: ``pixel_accuracy_full``, ``per_class_accuracy_full``, ``mean_iou_full`` and
    ``iou_full``.

    The third part is what only the report needs: see :func:`report_data.save`.
    """
    classes, examples = planned.spec.classes, planned.dataset.splits[split]
    pixels = PixelScores(len(classes))
    confusions, at_own_size = [], np.zeros((len(classes), len(classes)), np.int64)
    for scores, masks in predict_split(model, planned, split, flip):
        pixels.add(scores, masks)
        for one, mask in zip(scores, masks, strict=True):
            confusion = metrics.confusion_matrix(mask, one.argmax(axis=-1), len(classes))
            if split != "train":  # which would take long, and says little
                truth = examples.read_mask(len(confusions))
                at_own_size += _confusion_at_own_size(one, truth, confusion)
            confusions.append(confusion)
    confusion = np.sum(confusions, axis=0)
    if not confusion.any():
        raise InputError(f"{planned.dataset.name}: every pixel of {split!r} is void; label some")
    result = {
        "examples": len(examples),
        **_overlap(confusion, classes),
        **(_overlap(at_own_size, classes, "_full") if split != "train" else {}),
        "confusion_matrix": confusion.tolist(),
        "scores": pixels.statistics(classes),
    }
    for kind, values in pixels.average_precisions().items():
        result[f"average_precision_{kind}"] = _named(classes, values)
        result[f"mean_average_precision_{kind}"] = metrics.mean(values)
    rows = [_image_row(n, c, classes) for n, c in zip(examples.names, confusions, strict=True)]
    curves = pixels.precision_recall()
    return result, rows, {"confusions": np.stack(confusions), "precision_recall": curves}


def _confusion_at_own_size(
    scores: np.ndarray, truth: np.ndarray, confusion: np.ndarray
) -> np.ndarray:
    """The confusion matrix of one image by the mask that the predictor gives for it.

    Args:
        scores: float32 (H, W, classes) at the network's size.
        truth: uint8 (height, width) at the image's own size.
        confusion: that at the network's size, which stands where the sizes are equal.
    """
    if truth.shape == scores.shape[:2]:
        return confusion
    mask = mask_of_size(softmax(scores), truth.shape)
    return metrics.confusion_matrix(truth, mask, len(confusion))


def _overlap(confusion: np.ndarray, classes: Sequence[str], suffix: str = "") -> dict[str, Any]:
    iou = metrics.intersection_over_union(confusion)
    found = {
        "pixel_accuracy": float(np.trace(confusion) / confusion.sum()),
        "mean_iou": metrics.mean(iou),
        "iou": _named(classes, iou),
        "per_class_accuracy": _named(classes, metrics.recall(confusion)),
    }
    return {f"{key}{suffix}": value for key, value in found.items()}


METRICS = {
    "classify": classification_metrics,
    "segment": segmentation_metrics,
    "multi_label": label_metrics,
}


def _image_row(name: str, confusion: np.ndarray, classes: Sequence[str]) -> dict:
    iou = metrics.intersection_over_union(confusion)
    columns = {
        f"iou_{c}": "" if v is None else round(v, 6) for c, v in zip(classes, iou, strict=True)
    }
    return {
        "name": name,
        "pixel_accuracy": round(float(np.trace(confusion) / max(1, confusion.sum())), 6),
        "mean_iou": round(metrics.mean(iou) or 0.0, 6),
        **columns,
    }


def _named(classes: Sequence[str], values: Sequence) -> dict[str, Any]:
    return dict(zip(classes, values, strict=True))
