"""What the history of a run says: its best epoch, and whether it may stop."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Column of history.csv by which the best epoch is chosen: by the measure that is reported. The
# least loss comes long before the best average precision, as a network grows too sure of itself.
MONITORS = {"classify": "val_accuracy", "segment": "val_mean_ap"}

# One mapping per finished epoch: "epoch" (from 1), the loss, the metrics.
History = Sequence[dict[str, float]]


def best_epoch(history: History, task: str) -> int | None:
    """The epoch (from 1) of the best monitored value, the earliest among equals.

    None where no value is finite.
    """
    column = MONITORS[task]
    finite = [row for row in history if math.isfinite(row.get(column, math.nan))]
    return int(max(finite, key=lambda row: row[column])["epoch"]) if finite else None


def out_of_patience(history: History, task: str, patience: int | None) -> bool:
    """Whether the last ``patience`` epochs brought nothing better."""
    best = best_epoch(history, task)
    return (
        patience is not None and best is not None and int(history[-1]["epoch"]) - best >= patience
    )
