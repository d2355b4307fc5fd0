"""What a model answers, of photographs in tiles, too."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image
from tqdm import tqdm

from tfproj.core import image
from tfproj.core.probabilities import mean_with_mirrored, softmax
from tfproj.core.tiling import Tiling, blocks, tiled_mask
from tfproj.data.masks import require_same_size
from tfproj.evaluation import metrics
from tfproj.experiment.plan import Plan
from tfproj.experiment.tiling import tiling_of

BATCH = 8  # windows at once


def predict_scores(model, images: np.ndarray, mirrored: Sequence[int] = ()) -> np.ndarray:
    """Scores float32 (B, classes) or (B, H, W, classes) of uint8 images (B, H, W, C).

    Args:
        mirrored: the class of each class's mirror image, to average with these; empty: not.
    """
    if mirrored:
        return mean_with_mirrored(model.predict_on_batch, images, mirrored)
    return model.predict_on_batch(images)


def photograph_scores(
    model, picture: Image.Image, tiling: Tiling, classes: int, mirrored: Sequence[int] = ()
) -> np.ndarray:
    """Logarithms of probabilities float32 (H, W, classes) of a photograph in tiles at scale 1."""

    def answer(windows: np.ndarray) -> np.ndarray:
        return softmax(predict_scores(model, windows, mirrored))

    size = picture.height, picture.width
    scores = np.empty((*size, classes), np.float32)
    for top, left, block in blocks(picture, size, tiling, classes, answer, BATCH):
        rows, columns = block.shape[1:]
        scores[top : top + rows, left : left + columns] = np.moveaxis(block, 0, -1)
    return np.log(np.maximum(scores, np.finfo(np.float32).tiny), out=scores)


def photographs(
    model, planned: Plan, split: str, mirrored: Sequence[int] = ()
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(scores (1, H, W, classes), mask uint8 (1, H, W)) of each, at its own size."""
    spec = planned.spec
    tiling = tiling_of(spec, planned.config.model_options)
    for picture, mask in _pictures(planned, split, "evaluate"):
        scores = photograph_scores(model, picture, tiling, len(spec.classes), mirrored)
        yield scores[None], mask[None]


def tiled_confusion(model, planned: Plan, tiling: Tiling, split: str) -> np.ndarray:
    """int64 (classes, classes) over the pixels of a split at the photographs' own sizes."""
    classes, batch = len(planned.spec.classes), planned.config.eval_batch_size
    confusion = np.zeros((classes, classes), np.int64)
    for picture, truth in _pictures(planned, split, "tiles of"):
        mask = tiled_mask(
            picture, tiling, classes, lambda windows: softmax(predict_scores(model, windows)), batch
        )
        confusion += metrics.confusion_matrix(truth, mask, classes)
    return confusion


def _pictures(planned: Plan, split: str, what: str) -> Iterator[tuple[Image.Image, np.ndarray]]:
    """(picture as the model takes it, mask) of each example."""
    examples = planned.dataset.splits[split]
    steps = range(len(examples))
    for index in tqdm(steps, desc=f"{what} {split}", file=sys.stderr, disable=None, leave=False):
        label = examples.label_of(index)
        picture = image.open_image(examples.read_image(index), label)
        mask = examples.read_mask(index)
        require_same_size(picture.size[::-1], mask.shape, label)
        yield image.convert(picture, planned.spec.channels), mask
