"""What a classifier's file may give beyond its answers: how unknown an image is, where it looks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tfproj.core.spec import ACTIVATION_NAME, UNKNOWN_NAME, UNKNOWN_THRESHOLD, ModelSpec
from tfproj.errors import InputError
from tfproj.inference.model_file import ModelFile
from tfproj.inference.results import Classification, calibration_value

AUTO = "auto"
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
) -> list[Classification]:
    """Results with what further outputs say; ``sizes`` (height, width) are the images'."""
    for name, values in outputs:
        for result, value, size in zip(found, values, sizes, strict=True):
            if name == UNKNOWN_NAME:
                result.unknown_score, result.unknown_above = float(value), unknown_above
            else:
                result.activation, result.geometry = value, (size, spec.size, spec.resize)
    return found


def thresholds(
    value: float | str | None, file: ModelFile, name: str
) -> tuple[float | None, float | None]:
    """(unknown_below, unknown_above) of the predictor; InputError where it makes no sense."""
    if value is None:
        return None, None
    if file.spec.kind != "classify":
        other = (
            "a segmenter" if file.spec.kind == "segment" else "a model of several labels, or none"
        )
        raise InputError(f"{name}: unknown_below is for classification; this is {other}")
    if value == AUTO:
        above = calibration_value(file.metadata, UNKNOWN_THRESHOLD, 0, MOST_UNKNOWN, name)
        if above is not None and UNKNOWN_NAME in file.outputs:
            return None, above
        found = calibration_value(file.metadata, "unknown_threshold", 0, 1, name)
        if found is None:
            raise InputError(f"{name}: the file has no threshold for unknown images; give one")
        return found, None
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InputError(f"unknown_below is {value!r}; it must be in 0..1, or {AUTO!r}")
    return float(value), None
