"""What a segmenter's run is measured by, from scores and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfproj.core.probabilities import mask_of_size, softmax
from tfproj.errors import InputError
from tfproj.evaluation import metrics
from tfproj.evaluation.pixels import PixelScores
from tfproj.evaluation.prediction import predict_split
from tfproj.experiment.plan import Plan


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
        **overlap(confusion, classes),
        **(overlap(at_own_size, classes, "_full") if split != "train" else {}),
        "confusion_matrix": confusion.tolist(),
        "scores": pixels.statistics(classes),
    }
    for kind, values in pixels.average_precisions().items():
        result[f"average_precision_{kind}"] = metrics.named(classes, values)
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


def overlap(confusion: np.ndarray, classes: Sequence[str], suffix: str = "") -> dict[str, Any]:
    """Accuracy and IoU, of all pixels and by class, from a confusion matrix."""
    iou = metrics.intersection_over_union(confusion)
    found = {
        "pixel_accuracy": float(np.trace(confusion) / confusion.sum()),
        "mean_class_accuracy": metrics.mean(metrics.recall(confusion)),
        "mean_iou": metrics.mean(iou),
        "iou": metrics.named(classes, iou),
        "per_class_accuracy": metrics.named(classes, metrics.recall(confusion)),
    }
    return {f"{key}{suffix}": value for key, value in found.items()}


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
