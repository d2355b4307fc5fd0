"""What the history of a run says: its best epoch, and whether it may stop."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Column of history.csv by which the best epoch is chosen: by the measure that is reported. The
# least loss comes long before the best average precision, as a network grows too sure of itself.
MONITORS = {
    "classify": "val_accuracy",
    "segment": "val_mean_ap",
    "multi_label": "val_mean_ap",
}

# One mapping per finished epoch: "epoch" (from 1), the loss, the metrics.
History = Sequence[dict[str, float]]


def best_epoch(history: History, kind: str) -> int | None:
    """The epoch (from 1) of the best monitored value: of equals the least loss, then the latest.

    Few validation images give the same value often, and the first epoch that does has learned the
    least. None where no value is finite.
    """
    rows = tied_epochs(history, kind)
    return int(max(rows, key=lambda row: (-_loss(row), row["epoch"]))["epoch"]) if rows else None


def tied_epochs(history: History, kind: str) -> list[dict[str, float]]:
    """The rows of the epochs that share the best monitored value; empty where none is finite."""
    column = MONITORS[kind]
    finite = [row for row in history if math.isfinite(row.get(column, math.nan))]
    best = max((row[column] for row in finite), default=None)
    return [row for row in finite if row[column] == best]


def _loss(row: dict[str, float]) -> float:
    loss = row.get("val_loss", math.inf)
    return loss if math.isfinite(loss) else math.inf


def out_of_patience(history: History, kind: str, patience: int | None) -> bool:
    """Whether the monitored value of the last ``patience`` epochs was no better than before."""
    tied = tied_epochs(history, kind)
    if patience is None or not tied:
        return False
    return int(history[-1]["epoch"] - tied[0]["epoch"]) >= patience
