"""What a classifier's file may give beyond its answers: how unknown an image is, where it looks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tfproj.core.spec import ACTIVATION_NAME, UNKNOWN_NAME, UNKNOWN_THRESHOLD, ModelSpec
from tfproj.errors import InputError
from tfproj.inference.calibration import AUTO, calibration_value, threshold
from tfproj.inference.model_file import ModelFile
from tfproj.inference.results import Classification, Prediction

MOST_UNKNOWN = 1e30  # of a threshold that any score could exceed


def wanted(explain: bool, unknown_above: float | None, file: ModelFile, name: str) -> list[str]:
    """Outputs to ask for; InputError where the file has nothing to explain itself with."""
    if explain and (ACTIVATION_NAME not in file.outputs or file.spec.kind != "classify"):
        raise InputError(
            f"{name}: has no class activation maps; they come with a new export of a model "
            "that averages over space before its last layer: resnet, encoder"
        )
    return [UNKNOWN_NAME] * (unknown_above is not None) + [ACTIVATION_NAME] * explain


def added(
    found: list[Classification],
    outputs: Iterable[tuple[str, np.ndarray]],
    sizes: Sequence[tuple[int, int]],
    unknown_above: float | None,
    spec: ModelSpec,
) -> list[Prediction]:
    """Results with what further outputs say; ``sizes`` (height, width) are the images'."""
    for name, values in outputs:
        for result, value, size in zip(found, values, sizes, strict=True):
            if name == UNKNOWN_NAME:
                result.unknown_score, result.unknown_above = float(value), unknown_above
            else:
                result.activation, result.geometry = value, (size, spec.size, spec.resize)
    return list(found)


def score_limit(file: ModelFile, name: str) -> float | None:
    """Largest score of unknown images for a label; None where the file has no such score."""
    if file.spec.kind != "classify" or UNKNOWN_NAME not in file.outputs:
        return None
    return calibration_value(file.metadata, UNKNOWN_THRESHOLD, 0, MOST_UNKNOWN, name)


def thresholds(
    value: float | str | None, file: ModelFile, name: str
) -> tuple[float | None, float | None]:
    """(unknown_below, unknown_above) of the predictor; InputError where it makes no sense."""
    if value == AUTO and (above := score_limit(file, name)) is not None:
        return None, above
    return threshold(value, file.metadata, file.spec.kind, name), None
