"""How far the metrics of several runs lie apart. No TensorFlow."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def over_seeds(runs: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Split -> metric -> ``mean``, ``deviation`` (of a sample), ``least``, ``most``, ``values``.

    Args:
        runs: two or more; each is the metrics by split, of which the single numbers are taken.
    """
    return {
        split: {
            name: _spread([run[split][name] for run in runs])
            for name in runs[0][split]
            if name != "examples" and all(_is_number(run[split][name]) for run in runs)
        }
        for split in runs[0]
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _spread(values: list[float]) -> dict[str, Any]:
    return {
        "mean": statistics.fmean(values),
        "deviation": statistics.stdev(values),
        "least": min(values),
        "most": max(values),
        "values": values,
    }
