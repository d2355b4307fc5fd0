"""The same training with several seeds."""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import keras

from tfproj.experiment.plan import Plan, plan_resume
from tfproj.runs.run import Run, check_place
from tfproj.training.train import resume, stem, train


def train_seeds(
    planned: Plan,
    count: int,
    root: str | Path,
    name: str | None = None,
    overwrite: bool = False,
    trackers: Collection[str] = (),
) -> list[Run]:
    """Train ``count`` runs, ``NAME-seed0`` and so on, from the plan's own seed on.

    Runs of this very configuration are there from an earlier call that was interrupted: they are
    kept, or continued. The data and their splits are the same for all.

    Raises:
        InputError: another run has one of the names, before anything is trained.
    """
    prefix, seed = name or stem(planned), planned.config.seed
    plans = [replace(planned, config=replace(planned.config, seed=seed + i)) for i in range(count)]
    runs = [Run(Path(root) / planned.config.task / f"{prefix}-seed{p.config.seed}") for p in plans]
    begun = [not overwrite and _is_of(run, p) for run, p in zip(runs, plans, strict=True)]
    for run, known in zip(runs, begun, strict=True):
        if not known:
            check_place(root, planned.config.task, run.name, overwrite)
    for run, single, known in zip(runs, plans, begun, strict=True):
        print(f"seed {single.config.seed}: {run.path}", file=sys.stderr)
        if not known:
            train(single.config, root, run.name, overwrite, trackers, single)
        elif not run.ended():
            resume(run, trackers, plan_resume(run))
        keras.backend.clear_session()  # or the graphs of all runs stay in memory
    return runs


def _is_of(run: Run, planned: Plan) -> bool:
    return run.config_file.is_file() and run.config().to_dict() == planned.config.to_dict()
