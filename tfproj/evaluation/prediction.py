"""The scores of a trained model for the examples of a split."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from tfproj.evaluation import report_data
from tfproj.evaluation.tiled import photographs
from tfproj.experiment.plan import Plan
from tfproj.training.cache import make_cache


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
