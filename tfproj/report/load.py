"""Everything a report needs of one run, read from its directory; what is missing stays empty."""

from __future__ import annotations

import csv
import shlex
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.core.files import read_json
from tfproj.core.spec import ModelSpec
from tfproj.errors import InputError
from tfproj.runs.config import TrainConfig
from tfproj.runs.history import best_epoch
from tfproj.runs.run import Run, shown_split


@dataclass(frozen=True)
class RunData:
    """The content of a run directory.

    Attributes:
        run, config, spec: as elsewhere.
        environment: versions, command, origin of the data.
        history: one mapping per epoch.
        splits: metrics of each evaluated split, as in ``metrics.json``.
        counts: examples per split.
        fingerprint, contents: of the data set, None where it was not recorded.
        parameters: of the model, None where it was not evaluated.
        mirrored: metrics of splits, averaged with the mirror image; empty where not measured.
        other_data: origin of the data it was evaluated on, where not the training's.
        model: ``model.json`` of the report data.
        examples: what is known of each example, all of split :attr:`shown`.
        curves: ``raw`` and ``softmax`` -> one curve (or None) per class.
        filters: arrays of ``filters.npz``.
    """

    run: Run
    config: TrainConfig
    spec: ModelSpec
    environment: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    fingerprint: str | None = None
    contents: str | None = None
    parameters: int | None = None
    mirrored: dict[str, dict[str, Any]] = field(default_factory=dict)
    other_data: str | None = None
    model: dict[str, Any] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, list] = field(default_factory=dict)
    filters: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def task(self) -> str:
        return self.config.task

    @property
    def name(self) -> str:
        return self.run.path.resolve().name

    @property
    def evaluate_command(self) -> str:
        return f"tfproj evaluate {shlex.quote(str(self.run.path))}"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.spec.classes

    @property
    def shown(self) -> str | None:
        """The split whose examples and confusions are shown; None: not evaluated."""
        return shown_split(self.splits) if self.splits else None

    @property
    def held_out(self) -> list[str]:
        """Evaluated splits by which the run is judged, the shown one first."""
        if not self.splits:
            return []
        names = [name for name in ("test", "val") if name in self.splits]
        return names or [self.shown]

    @property
    def kept_epoch(self) -> int | None:
        """The epoch (from 1) whose weights the run holds; None without a history."""
        if self.config.keep == "last":
            return int(self.history[-1]["epoch"]) if self.history else None
        return best_epoch(self.history, self.task)

    @property
    def seconds(self) -> float | None:
        """Time spent in the epochs; None without a history."""
        values = [row["seconds"] for row in self.history if "seconds" in row]
        return sum(values) if values else None

    def picture(self, file: str) -> bytes | None:
        """A file of the report data, None where it is gone or lies elsewhere."""
        folder = self.run.report_data.resolve()
        path = (folder / file).resolve()
        if not path.is_relative_to(folder) or not path.is_file():
            return None
        return path.read_bytes()


def read_run(run: Run) -> RunData:
    """Read a run at any stage; only its configuration and spec must be there.

    Raises:
        InputError: these are missing, or a file is damaged.
    """
    run.require(run.config_file, run.spec_file)
    metrics = _optional(run.metrics_file)
    examples = _optional(run.report_data / "examples.json")
    history = run.history()
    if any("epoch" not in row for row in history):
        raise InputError(f"{run.history_file}: damaged (no column 'epoch')")
    splits, data = metrics.get("splits", {}), _optional(run.splits_file)
    measured_on = metrics.get("data", {})
    # Examples of another split than the metrics' are of an evaluation that was cut short.
    fitting = bool(splits) and examples.get("split") == shown_split(splits)
    return RunData(
        run=run,
        config=run.config(),
        spec=run.spec(),
        environment=_optional(run.environment_file),
        history=history,
        splits=splits,
        counts=data.get("counts", {}),
        fingerprint=data.get("fingerprint"),
        contents=data.get("contents"),
        parameters=metrics.get("parameters"),
        mirrored=metrics.get("mirrored", {}),
        other_data=None if measured_on.get("of_training", True) else measured_on["origin"],
        model=_optional(run.report_data / "model.json"),
        examples=examples["examples"] if fitting else [],
        curves=_optional(run.report_data / "curves.json") if fitting else {},
        filters=_arrays(run.report_data / "filters.npz"),
    )


def _optional(file: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file."""
    if not file.exists():
        return {}
    value = read_json(file)
    if not isinstance(value, dict):
        raise InputError(f"{file}: damaged, not a JSON object")
    return value


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
