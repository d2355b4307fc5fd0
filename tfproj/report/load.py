"""Everything a report needs of one run, read from its directory; what is missing stays empty."""

from __future__ import annotations

import csv
import shlex
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.core.files import read_object
from tfproj.core.spec import ModelSpec
from tfproj.errors import InputError
from tfproj.runs.config import TrainConfig
from tfproj.runs.history import best_epoch
from tfproj.runs.run import SHOWN_SPLITS, Run, shown_split


@dataclass(frozen=True)
class RunData:
    """The content of a run directory.

    Attributes:
        run, config, spec: as elsewhere.
        history: one mapping per epoch.
        environment: versions, command, origin of the data.
        measured: ``metrics.json``.
        dataset: ``splits.json``.
        data_check: ``data_check.json``.
        warnings: code -> sentence: what speaks against the result.
        model: ``model.json`` of the report data.
        examples: what is known of each example, all of split :attr:`shown`.
        curves: ``raw`` and ``softmax`` -> one curve (or None) per class.
        filters: arrays of ``filters.npz``.
    """

    run: Run
    config: TrainConfig
    spec: ModelSpec
    history: list[dict[str, float]]
    environment: dict[str, Any]
    measured: dict[str, Any]
    dataset: dict[str, Any]
    data_check: dict[str, Any]
    warnings: dict[str, str]
    model: dict[str, Any]
    examples: list[dict[str, Any]]
    curves: dict[str, list]
    filters: dict[str, np.ndarray]

    name = property(lambda self: self.run.name)
    task = property(lambda self: self.config.task)
    kind = property(lambda self: self.config.kind)
    classes = property(lambda self: self.spec.classes)
    parameters = property(lambda self: self.measured.get("parameters"))
    # Metrics of splits, averaged with the mirror image.
    mirrored = property(lambda self: self.measured.get("mirrored", {}))
    # Where the data lie that it was evaluated on, unless they are those of the training.
    other_data = property(lambda self: _other_origin(self.measured.get("data", {})))

    @property
    def splits(self) -> dict[str, dict[str, Any]]:
        """Metrics of each evaluated split, the shown one first."""
        found = self.measured.get("splits", {})
        return {name: found[name] for name in SHOWN_SPLITS if name in found}

    @property
    def shown(self) -> str | None:
        """The split whose examples and confusions are shown; None: not evaluated."""
        return next(iter(self.splits), None)

    @property
    def held_out(self) -> list[str]:
        """Evaluated splits by which the run is judged, the shown one first."""
        return [name for name in self.splits if name in (self.shown, "test", "val")]

    @property
    def evaluate_command(self) -> str:
        return f"tfproj evaluate {shlex.quote(str(self.run.path))}"

    @property
    def kept(self) -> dict[str, float]:
        """The line of the history of the epoch whose weights the run holds; empty without one."""
        if self.config.keep == "last":
            return self.history[-1] if self.history else {}
        best = best_epoch(self.history, self.config.monitored)
        return next((row for row in self.history if row["epoch"] == best), {})

    @property
    def kept_epoch(self) -> int | None:
        """The epoch (from 1) whose weights the run holds; None without a history."""
        return int(self.kept["epoch"]) if self.kept else None

    @property
    def seconds(self) -> float | None:
        """Time spent in the epochs; None without a history."""
        return sum(row.get("seconds", 0) for row in self.history) if self.history else None

    def picture(self, file: str) -> bytes | None:
        """A file of the report data, None where it is gone or lies elsewhere."""
        folder = self.run.report_data.resolve()
        path = (folder / file).resolve()
        if not path.is_relative_to(folder) or not path.is_file():
            return None
        return path.read_bytes()


def _other_origin(data: dict[str, Any]) -> str | None:
    return None if data.get("of_training", True) else data["origin"]


def read_run(run: Run) -> RunData:
    """Read a run at any stage; only its configuration and spec must be there.

    Raises:
        InputError: these are missing, or a file is damaged.
    """
    run.require(run.config_file, run.spec_file)
    measured = _optional(run.metrics_file)
    splits = measured.get("splits")
    examples = _optional(run.report_data / "examples.json")
    history = run.history()
    if any("epoch" not in row for row in history):
        raise InputError(f"{run.history_file}: damaged (no column 'epoch')")
    # Examples of another split than the metrics' are of an evaluation that was cut short.
    fitting = bool(splits) and examples.get("split") == shown_split(splits)
    return RunData(
        run=run,
        config=run.config(),
        spec=run.spec(),
        history=history,
        environment=_optional(run.environment_file),
        measured=measured,
        dataset=_optional(run.splits_file),
        data_check=_optional(run.data_check_file),
        warnings=run.warnings(),
        model=_optional(run.report_data / "model.json"),
        examples=examples["examples"] if fitting else [],
        curves=_optional(run.report_data / "curves.json") if fitting else {},
        filters=_arrays(run.report_data / "filters.npz"),
    )


def _optional(file: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file."""
    return read_object(file) if file.exists() else {}


def _arrays(file: Path) -> dict[str, np.ndarray]:
    if not file.exists():
        return {}
    try:
        with np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{file}: damaged ({error})") from None


def read_answers(run: Run, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(probability of the predicted class float (N,), whether it was right bool (N,))."""
    if not run.predictions_file.exists():
        return np.empty(0), np.empty(0, bool)
    try:
        with run.predictions_file.open(
            newline="", encoding="utf-8", errors="surrogateescape"
        ) as file:
            rows = [
                (float(row["probability"]), row["label"] == row["prediction"])
                for row in csv.DictReader(file)
                if row["split"] == split
            ]
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(f"{run.predictions_file}: damaged ({error})") from None
    return np.array([p for p, _ in rows], float), np.array([r for _, r in rows], bool)
