"""kill -9 at random moments, then ``--resume`` or the same command: as if nothing had happened.

Half of the moments are drawn from the time that the command takes, half from the changes of files
that it makes. Of those who go on, one in three is killed as well.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from . import state
from .command import TIMEOUT
from .frame import Case, Trial
from .jobs import JOBS, Uninterrupted, alone

MORE = 1 / 3  # how often the process that goes on is killed, too
# Shares of the time, where not 1; what needs TensorFlow takes longer.
WEIGHTS = {"train": 3.0, "export": 2.0, "tune": 3.0}


def crash(trial: Trial, alone: Uninterrupted) -> None:
    """Kill it, go on, and compare."""
    job = alone.job
    folder, argv = job.put(alone.shared, trial.folder / "work"), job.argv
    while _killed(trial, alone, argv, folder) and job.view(folder) != alone.files:
        argv = job.go_on(folder)
        if trial.rng.random() > MORE:
            job.command(argv, folder).wait().require()
            break
    state.require_same(job.view(folder), alone.files)
    state.require_clean(folder)


def _killed(trial: Trial, alone: Uninterrupted, argv: Sequence[str], folder: Path) -> bool:
    """Start it and kill it; False if it ended before."""
    rng, hook, seconds = trial.rng, {}, TIMEOUT
    if rng.random() < 0.5:
        hook["kill_at"] = rng.randint(1, alone.changes)
    else:
        seconds = rng.uniform(0, alone.seconds)
    command = alone.job.command(argv, folder, **hook)
    if not command.killed_after(seconds):
        ended = command.wait()
        if ended.code != -9:
            ended.require()
            return False
    command.require_alone()
    return True


def _no_page() -> str | None:
    from tfproj.export.web import RUNTIME, _cache

    kept = _cache() / f"{RUNTIME.replace('@', '-')}.tgz"
    return None if kept.is_file() else f"{RUNTIME} is not in the cache: tfproj export --web once"


def _no_dask() -> str | None:
    return None if importlib.util.find_spec("distributed") else "distributed is not installed"


MISSING = {"export web": _no_page, "predict engine": _no_dask}
CASES = [
    Case(
        f"crashes: {name}", crash, functools.partial(alone, name),
        weight=WEIGHTS.get(name.partition(" ")[0], 1.0),
        missing=MISSING.get(name, lambda: None),
    )
    for name in JOBS
]  # fmt: skip
