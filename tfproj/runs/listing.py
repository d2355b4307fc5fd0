"""What runs there are, in a line each, and the removal of some. No TensorFlow."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tfproj.core.files import writing
from tfproj.errors import InputError, unknown_name
from tfproj.runs.history import best_epoch
from tfproj.runs.lock import LOCK_FILE, require_unlocked
from tfproj.runs.run import PRUNED, Run

# Fields of a listed run by which it may be sorted.
FIELDS = ("run", "task", "data", "preset", "state", "metric", "value", "epochs", "age", "exported")


def list_runs(
    root: str | Path,
    names: Sequence[str] = (),
    task: str | None = None,
    data: str | None = None,
    preset: str | None = None,
    state: str | None = None,
) -> list[dict[str, Any]]:
    """The runs below ``root``, the newest first; damaged ones are named on stderr and left out.

    Args:
        root: where runs live.
        names: patterns as of the shell, for the name or ``task/name``; none: all runs.
        task, data, preset, state: only runs of exactly this.

    Raises:
        InputError: a name without ``*?[`` that no run has.
    """
    root = Path(root)
    found = []
    for file in root.glob("*/*/config.json"):
        try:
            found.append(describe(Run(file.parent), root))
        except InputError as error:
            print(f"warning: left out: {error}", file=sys.stderr)
    called: set[str] = set()
    for name in names:
        these = _called(found, name)
        if not these and not set(name) & set("*?["):
            raise unknown_name("unknown run", name, [run["run"] for run in found])
        called |= these
    wanted = {"task": task, "data": data, "preset": preset, "state": state}
    return sorted(
        (
            run
            for run in found
            if (not names or run["path"] in called)
            and all(value in (None, run[key]) for key, value in wanted.items())
        ),
        key=lambda run: run["age"],
    )


def _called(found: Sequence[dict[str, Any]], name: str) -> set[str]:
    """Paths of the runs that are called so, or else of those that the pattern matches."""
    name = Path(name).as_posix()  # the shell completes the name of a folder with a slash
    for same in (str.__eq__, fnmatchcase):
        called = {run["path"] for run in found if any(same(of, name) for of in _names(run))}
        if called:
            break
    return called


def _names(run: dict[str, Any]) -> tuple[str, ...]:
    path = Path(run["path"])
    return run["run"], path.name, path.as_posix(), path.absolute().as_posix()


def describe(run: Run, root: Path) -> dict[str, Any]:
    """The ``FIELDS`` and ``path`` of a run; ``value`` is its best one on the validation split.

    ``epochs`` are the finished ones, ``of`` those it is to have, ``age`` seconds since its start.
    ``state`` is training, finished, pruned or stopped.
    """
    config, history = run.config(), run.history()
    best = best_epoch(history, config.monitored)
    return {
        "run": run.path.relative_to(root).as_posix(),
        "path": str(run.path),
        "task": config.task,
        "data": config.data,
        "preset": config.preset,
        "state": _state(run),
        "metric": config.monitored,
        "value": history[best - 1][config.monitored] if best else None,
        "epochs": len(history),
        "of": config.epochs,
        "age": max(0.0, time.time() - run.config_file.stat().st_mtime),
        "exported": run.onnx_file.is_file() or run.int8_file.is_file(),
    }


def _state(run: Run) -> str:
    try:
        if os.access(run.path / LOCK_FILE, os.W_OK):  # else it can't be told
            require_unlocked(run.path)
    except InputError:
        return "training"
    if PRUNED in run.warnings():
        return "pruned"
    return "finished" if run.ended() else "stopped"


def remove(paths: Sequence[Path]) -> None:
    """Remove run directories: all of them, or none.

    Raises:
        InputError: one is a link, no run directory, or in training.
    """
    for path in paths:
        if path.is_symlink() or not (path / "config.json").is_file():
            raise InputError(f"{path} is not a run directory; nothing was removed")
        require_unlocked(path)
    for path in paths:
        with writing(path):
            shutil.rmtree(path)
