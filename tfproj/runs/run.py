"""Run directories: what lies where, and writes that are whole or not there. No TensorFlow.

``runs/<task>/<name>/`` holds::

    config.json         the configuration; ``tfproj train TASK --config`` reads it back
    config-N-epochs.json  the configuration before the run was extended
    environment.json    versions, CPU, precision, git commit, the command
    spec.json           task, classes, input: what the model needs to be used
    splits.json         which examples were in which split, the hash of the data
    history.csv         one line per epoch
    warnings.json       what speaks against the result, if anything: code -> sentence
    last.keras          weights and optimiser after the last whole epoch (to resume)
    best.keras          weights of the epoch with the best validation value (or the last: --keep)
    metrics.json        written by evaluate
    predictions.csv     written by evaluate
    report_data/        written by evaluate: what the report shows of the model and the data
    data_check.json     written by data check --deep --run: what is doubtful of its data
    model.onnx          written by export
    model.int8.onnx     written by export --int8
    report.html         written by report, with its figures and numbers in report/
    .lock               held by the process that trains the run

What evaluate, export and report wrote goes when a training changes what it was made from.
"""

from __future__ import annotations

import csv
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tfproj.core.file_kinds import kind_of
from tfproj.core.files import exists, read_json, read_object, sha256, write_json, writing
from tfproj.core.spec import ModelSpec
from tfproj.errors import InputError, unknown_name
from tfproj.runs import DEFAULT_ROOT
from tfproj.runs.config import TrainConfig, config_from_dict
from tfproj.runs.history import best_epoch, has_ended
from tfproj.runs.lock import LOCK_FILE, require_unlocked, was_killed

PRUNED = "pruned"  # the warning of a run that a search ended early
T = TypeVar("T")
SHOWN_SPLITS = ("test", "val", "train")  # the first of them that was evaluated is shown


@dataclass(frozen=True)
class Run:
    """The paths of one run directory and typed access to its files."""

    path: Path

    name = property(lambda self: self.path.resolve().name)  # also of "." and ".."
    config_file = property(lambda self: self.path / "config.json")
    environment_file = property(lambda self: self.path / "environment.json")
    spec_file = property(lambda self: self.path / "spec.json")
    splits_file = property(lambda self: self.path / "splits.json")
    history_file = property(lambda self: self.path / "history.csv")
    last_weights = property(lambda self: self.path / "last.keras")
    best_weights = property(lambda self: self.path / "best.keras")
    metrics_file = property(lambda self: self.path / "metrics.json")
    predictions_file = property(lambda self: self.path / "predictions.csv")
    data_check_file = property(lambda self: self.path / "data_check.json")
    report_data = property(lambda self: self.path / "report_data")
    onnx_file = property(lambda self: self.path / "model.onnx")
    int8_file = property(lambda self: self.path / "model.int8.onnx")
    report_file = property(lambda self: self.path / "report.html")
    warnings_file = property(lambda self: self.path / "warnings.json")
    report_folder = property(lambda self: self.path / "report")

    def config(self) -> TrainConfig:
        return _parsed(self.config_file, config_from_dict)

    def spec(self) -> ModelSpec:
        return _parsed(self.spec_file, ModelSpec.from_dict)

    def environment(self) -> dict[str, Any]:
        return read_object(self.environment_file)

    def history(self) -> list[dict[str, float]]:
        """One mapping per finished epoch; empty before the first."""
        if not self.history_file.exists():
            return []
        try:
            with self.history_file.open(newline="", encoding="utf-8") as file:
                rows = [
                    {k: int(float(v)) if k == "epoch" else float(v) for k, v in row.items()}
                    for row in csv.DictReader(file)
                ]
        except (OSError, ValueError, OverflowError, TypeError, csv.Error) as error:
            raise InputError(f"{self.history_file}: damaged ({error})") from None
        if [row.get("epoch") for row in rows] != [*range(1, len(rows) + 1)]:
            raise InputError(f"{self.history_file}: damaged (its epochs are not 1, 2, 3 ...)")
        return rows

    def ended(self) -> bool:
        """Whether it has all of its epochs, or its patience was out, and nothing is left to do."""
        # Killed after that, its last weights or what is said of them may be missing.
        return has_ended(self.config(), self.history()) and not was_killed(self.path)

    def kept_value(self) -> float:
        """The validation measure that chooses among epochs, of the one whose weights are kept."""
        config, history = self.config(), self.history()
        best = None if config.keep == "last" else best_epoch(history, config.monitored)
        return history[best - 1 if best else -1][config.monitored]

    def counts(self) -> dict[str, int]:
        """Examples of each split that the run was started with."""
        return read_object(self.splits_file)["counts"]

    def warnings(self) -> dict[str, str]:
        """Code -> sentence: what speaks against the result."""
        return read_object(self.warnings_file) if self.warnings_file.exists() else {}

    def add_warnings(self, found: Mapping[str, str]) -> None:
        """Keep them, each in place of an earlier one of its code."""
        if found:
            write_json(self.warnings_file, {**self.warnings(), **found})

    def drop_warning(self, code: str) -> None:
        """Forget one that holds no longer."""
        write_json(self.warnings_file, {k: v for k, v in self.warnings().items() if k != code})

    def write_data_check(self, record: dict[str, Any]) -> Path:
        """Keep what is doubtful of the data, for the report."""
        write_json(self.data_check_file, record)
        return self.data_check_file

    def weights_digest(self) -> str:
        """SHA-256 of ``best.keras``, by which it is known what was made from it."""
        return sha256(self.best_weights)

    def retire(self, new_weights: bool) -> None:
        """Remove what a further epoch makes stale, and say so.

        Args:
            new_weights: whether ``best.keras`` changes, else only the history does.
        """
        stale = [self.report_file, self.report_folder]
        if new_weights:
            stale += [self.metrics_file, self.predictions_file, self.report_data]
            stale += [self.onnx_file, self.int8_file]
            for kind in ("tflite*", "labels.txt", "xml", "bin"):
                stale += self.path.glob(f"model*.{kind}")
        removed = [path for path in stale if path.exists()]
        for path in removed:
            with writing(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if removed:
            names = ", ".join(path.name for path in removed)
            print(f"removed, since the run goes on: {names}", file=sys.stderr)

    def require(self, *files: Path) -> None:
        """Raise InputError for the first of ``files`` that is not there."""
        for file in files:
            if not file.is_file():
                raise InputError(
                    f"{self.path}: {file.name} is missing; the run is not complete: "
                    f"repeat it or pick another run"
                )


def _parsed(file: Path, parse: Callable[[Any], T]) -> T:
    value = read_json(file)
    try:
        return parse(value)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def check_place(root: str | Path, task: str, name: str | None, overwrite: bool) -> bool:
    """Whether a new run would replace an old one; changes nothing but missing folders above it.

    Args: as for :func:`create_run`.

    Raises:
        InputError: the name is none, it is taken or in training, or one may not write there.
    """
    parent = Path(root) / task
    if name is not None and (not name or Path(name).name != name or name.startswith(".")):
        raise InputError(f"run name {name!r} must be one plain directory name")
    with writing(parent):
        parent.mkdir(parents=True, exist_ok=True)
        if not os.access(parent, os.W_OK):
            raise InputError(f"{parent}: cannot be written (no permission)")
        path = parent / name if name is not None else None
        if path is None or not path.exists():
            return False
        # Empty, or of a training that was killed as it began: nothing is lost.
        ours = (path / LOCK_FILE).exists() or not any(path.iterdir())
        begun = ours and not (path / "config.json").exists()
        if not overwrite and not begun:
            raise InputError(
                f"{path} exists; choose another --name, --resume it, or --overwrite it"
            )
        if not (ours or (path / "config.json").exists()):
            raise InputError(f"{path} is not a run directory; it is left as it is")
        require_unlocked(path)
    return True


def create_run(root: str | Path, task: str, name: str | None, stem: str, overwrite: bool) -> Run:
    """Make an empty run directory ``root/task/name``.

    Without a ``name`` the next free ``<stem>-<number>`` is taken. An existing directory is
    replaced only where ``overwrite`` is set and it is a run directory; one that a training was
    killed in before it was a run is used as it is.
    """
    replaces = check_place(root, task, name, overwrite)
    parent = Path(root) / task
    with writing(parent):
        if name is None:
            return Run(_next_free(parent, stem))
        path = parent / name
        if replaces and overwrite:
            shutil.rmtree(path)
        path.mkdir(exist_ok=not overwrite)
        return Run(path)


def _next_free(parent: Path, stem: str) -> Path:
    number = 1
    while True:
        path = parent / f"{stem}-{number}"
        try:
            path.mkdir()
            return path
        except FileExistsError:
            number += 1


def find_run(
    name: str | None,
    root: str | Path = DEFAULT_ROOT,
    task: str | None = None,
    others: Iterable[str] = (),
    trained: bool = True,
) -> Run:
    """The run that a command means.

    Args:
        name: a path, a ``task/name`` or ``name`` below ``root``, or None for the newest run.
        root: where runs live.
        task: only runs of this task, for the newest and for a bare name.
        others: what else the name could have meant, for the message.
        trained: the newest is one that has weights; says so where it is not the newest of all.

    Raises:
        InputError: there is none; says the closest name. Or a bare name is that of several runs.
    """
    root = Path(root)
    everyone = sorted(
        (path.parent for path in root.glob("*/*/config.json")),
        key=lambda p: (p / "config.json").stat().st_mtime_ns,
    )
    runs = [path for path in everyone if task in (None, path.parent.name)]
    if name is None:
        if not runs:
            kind = task or "classify"
            raise InputError(f"no run in {root}/; start one: tfproj train {kind}")
        return _newest(runs, trained)
    for candidate in (Path(name), root / name):
        if exists(Path.is_file, candidate / "config.json"):
            return Run(candidate)
    called = [path for path in runs if path.name == name]
    if len(called) > 1:
        raise InputError(f"{name!r} is the name of {' and of '.join(map(str, called))}; say which")
    if called:
        return Run(called[0])
    for path in everyone:
        if path.name == name:
            raise InputError(f"{path}: a run for {path.parent.name}, not {task}")
    if exists(Path.is_file, Path(name)):
        raise InputError(f"{name}: not a run directory, but {kind_of(Path(name)) or 'a file'}")
    if exists(Path.is_dir, Path(name)):
        raise InputError(f"{name}: not a run directory (config.json is missing)")
    problem = "unknown model or run" if others else "unknown run"
    raise unknown_name(problem, name, [*others, *(p.relative_to(root).as_posix() for p in runs)])


def _newest(runs: list[Path], trained: bool) -> Run:
    """The last of the runs, or the last that has weights."""
    usable = [path for path in runs if not trained or Run(path).best_weights.is_file()]
    if not usable:
        raise InputError(f"{runs[-1]}: no finished epoch yet, and no older run has one")
    if usable[-1] != runs[-1]:
        print(f"note: {runs[-1]} has no finished epoch; taking {usable[-1]}", file=sys.stderr)
    return Run(usable[-1])


def shown_split(splits: Iterable[str]) -> str:
    """The split whose examples are shown."""
    splits = list(splits)
    return next(name for name in SHOWN_SPLITS if name in splits)
