"""The masks that a model gives of photographs in tiles, against the true ones."""

from __future__ import annotations

import sys

import numpy as np
from tqdm import tqdm

from tfproj.core import image
from tfproj.core.probabilities import softmax
from tfproj.core.tiling import Tiling, tiled_mask
from tfproj.evaluation import metrics
from tfproj.evaluation.report_data import predict_scores
from tfproj.experiment.plan import Plan


def tiled_confusion(model, planned: Plan, tiling: Tiling, split: str) -> np.ndarray:
    """int64 (classes, classes) over the pixels of a split at the photographs' own sizes."""
    spec, examples = planned.spec, planned.dataset.splits[split]
    classes = len(spec.classes)
    confusion = np.zeros((classes, classes), np.int64)
    steps = tqdm(
        range(len(examples)), desc=f"tiles of {split}", file=sys.stderr, disable=None, leave=False
    )
    for index in steps:
        picture = image.open_image(examples.read_image(index), examples.label_of(index))
        mask = tiled_mask(
            image.convert(picture, spec.channels), tiling, classes,
            lambda windows: softmax(predict_scores(model, windows)), planned.config.eval_batch_size,
        )  # fmt: skip
        confusion += metrics.confusion_matrix(examples.read_mask(index), mask, classes)
    return confusion
