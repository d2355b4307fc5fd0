"""Going on with a run: what an earlier process has left, and more epochs than it had."""

from __future__ import annotations

import sys
from dataclasses import replace

from tfproj.core.files import write_json
from tfproj.errors import InputError
from tfproj.models.checkpoint import load_weights
from tfproj.runs.history import out_of_patience
from tfproj.runs.run import Run


def extend(run: Run, epochs: int) -> None:
    """Record that the run is of more epochs; the configuration that it had is kept."""
    old, facts = run.config(), run.environment()
    if out_of_patience(run.history(), old.monitored, old.patience):
        raise InputError(f"{run.path}: stopped by its patience of {old.patience} epochs")
    kept = run.path / f"config-{old.epochs}-epochs.json"
    again = f" && tfproj train {old.task} --resume --epochs {epochs}"
    facts["repeat"] = facts.get("repeat", "").replace(str(run.config_file), str(kept)) + again
    rate = "stays" if old.schedule == "constant" else f"is now that of a cosine of {epochs} epochs"
    print(f"extended from {old.epochs} to {epochs} epochs; the rate {rate}", file=sys.stderr)
    write_json(kept, old.to_dict())
    write_json(run.environment_file, facts)
    write_json(run.config_file, replace(old, epochs=epochs).to_dict())


def restore(run: Run, model, steps: int, probe: bool) -> list[dict]:
    """Load weights and optimiser of the last whole epoch; returns the history up to it."""
    if not run.last_weights.exists():
        return []
    model.optimizer.build(model.trainable_variables)
    load_weights(model, run.last_weights)
    done = int(model.optimizer.iterations) // steps + probe
    history = run.history()[:done]
    if len(history) != done:
        raise InputError(
            f"{run.history_file}: {len(history)} epochs, but the weights are of {done}"
        )
    monitor = run.config().monitored
    if any(monitor not in row for row in history):
        raise InputError(f"{run.history_file}: damaged (no column {monitor!r})")
    return history
