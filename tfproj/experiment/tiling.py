"""How a run's model takes large images in tiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfproj.core.spec import ModelSpec
from tfproj.core.tiling import Tiling, trained_scale
from tfproj.data.dataset import median_size
from tfproj.errors import InputError
from tfproj.experiment.plan import Plan
from tfproj.models.registry import input_multiple, input_reach
from tfproj.runs.run import Run


def plan_tiling(run: Run, planned: Plan, scale: float | None = None) -> Tiling:
    """The tiles that the predictor would take with the run's export.

    Args:
        scale: the model's pixels for one of the image; None: that of the training.

    Raises:
        InputError: it is no segmenter, or the scale is unknown or makes no sense.
    """
    spec = planned.spec
    if spec.task != "segment":
        raise InputError(f"{run.path}: tiles are for segmentation; this model classifies images")
    size = run.environment().get("data", {}).get("median_size")
    if size is None and planned.own_data:  # a run of before that was recorded
        size = median_size(planned.dataset.splits["train"])
    scales = trained_scale(spec, size, scale)
    if scales is None:
        raise InputError(
            f"{run.path}: does not say how large its training images were; give --tile-scale, the "
            "model's pixels for one of the image"
        )
    return dataclasses.replace(tiling_of(spec, planned.config.model_options), scale=scales)


def tiling_of(spec: ModelSpec, options: Mapping[str, Any]) -> Tiling:
    """At the images' own scale, for a model with these options of its builder."""
    multiple, reach = (find(spec.model, options) for find in (input_multiple, input_reach))
    return Tiling(spec.size, multiple=multiple, reach=reach)
