"""What the history of a run says: its best epoch, and whether it may stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfproj.runs.config import TrainConfig

# One mapping per finished epoch: "epoch" (from 1), the loss, the metrics.
History = Sequence[dict[str, float]]


def best_epoch(history: History, column: str) -> int | None:
    """The epoch (from 1) of the best value in a column: of equals the least loss, then the latest.

    Few validation images give the same value often, and the first epoch that does has learned the
    least. None where no value is finite.
    """
    rows = tied_epochs(history, column)
    return int(max(rows, key=lambda row: (-_loss(row), row["epoch"]))["epoch"]) if rows else None


def tied_epochs(history: History, column: str) -> list[dict[str, float]]:
    """The rows of the epochs that share the best value in a column; empty where none is finite."""
    finite = [row for row in history if math.isfinite(row.get(column, math.nan))]
    best = max((row[column] for row in finite), default=None)
    return [row for row in finite if row[column] == best]


def _loss(row: dict[str, float]) -> float:
    loss = row.get("val_loss", math.inf)
    return loss if math.isfinite(loss) else math.inf


def out_of_patience(history: History, column: str, patience: int | None) -> bool:
    """Whether the column's value of the last ``patience`` epochs was no better than before."""
    tied = tied_epochs(history, column)
    if patience is None or not tied:
        return False
    return int(history[-1]["epoch"] - tied[0]["epoch"]) >= patience


def has_ended(config: TrainConfig, history: History) -> bool:
    """Whether a run has all of its epochs, or its patience is out."""
    done = out_of_patience(history, config.monitored, config.patience)
    return done or len(history) >= config.epochs
