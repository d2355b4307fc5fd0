"""Whether validation images can tell one epoch from another."""

from __future__ import annotations

import numpy as np

from tfproj.data import Dataset


def validation_warnings(dataset: Dataset) -> dict[str, str]:
    """What speaks against it, code -> sentence; empty: nothing does."""
    train, val = dataset.splits.get("train"), dataset.splits.get("val")
    if not train or not val or train.labels is None or val.labels is None:
        return {}
    of_each = (np.flatnonzero(s.class_counts(len(dataset.classes))) for s in (train, val))
    (learned, measured), alone = of_each, train.labels.ndim == 1
    missing = [dataset.classes[label] for label in learned if label not in measured]
    if alone and len(measured) < 2 <= len(learned):
        doubt = f"every validation image is of class {dataset.classes[measured[0]]!r}"
    elif alone and len(val) < len(learned):
        doubt = f"{len(val)} validation images are too few for {len(learned)} classes"
    elif missing:
        doubt = f"no validation image is of class {missing[0]!r}" + (
            f" (and {len(missing) - 1} more)" if missing[1:] else ""
        )
    else:
        return {}
    remedy = "give a val split with every class, a larger --val-fraction, or --keep last"
    return {"validation": f"{doubt}: the best epoch may be none; {remedy}"}
