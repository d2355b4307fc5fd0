"""Numbers that a file holds for reading its answers: temperature and thresholds, vetted."""

from __future__ import annotations

import numpy as np

from tfproj.core.spec import ModelSpec
from tfproj.errors import InputError

AUTO = "auto"  # the threshold in the file


def calibration_value(
    metadata: dict, key: str, least: float, most: float, name: str
) -> float | None:
    """A number of the metadata's ``calibration``, None where it has none."""
    entry = metadata.get("calibration")
    value = entry.get(key) if isinstance(entry, dict) else entry
    if value is None:
        return None
    if type(value) not in (int, float) or not least <= value <= most:
        raise InputError(f"{name}: metadata: {key} is not a number in {least:g}..{most:g}")
    return float(value)


def label_thresholds(metadata: dict, spec: ModelSpec, name: str) -> np.ndarray | None:
    """The ``thresholds`` of a file with several labels an image, float64 (classes,); else None."""
    if not spec.multi_label:
        return None
    classes = len(spec.classes)
    values = metadata.get("thresholds")
    values = values if isinstance(values, list) else []
    if len(values) != classes or not all(type(v) in (int, float) and 0 <= v <= 1 for v in values):
        raise InputError(f"{name}: metadata: thresholds are not {classes} numbers in 0..1")
    return np.array(values, np.float64)


def threshold(value: float | str | None, metadata: dict, kind: str, name: str) -> float | None:
    """``unknown_below`` of the predictor as a number; InputError where it makes no sense."""
    if value is None:
        return None
    if kind != "classify":
        other = "a segmenter" if kind == "segment" else "a model of several labels, or none"
        raise InputError(f"{name}: unknown_below is for classification; this is {other}")
    if value == AUTO:
        found = calibration_value(metadata, "unknown_threshold", 0, 1, name)
        if found is None:
            raise InputError(f"{name}: the file has no threshold for unknown images; give one")
        return found
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InputError(f"unknown_below is {value!r}; it must be in 0..1, or {AUTO!r}")
    return float(value)
