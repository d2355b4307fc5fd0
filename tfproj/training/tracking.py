"""What MLflow is told of a training, which goes on where that fails: one line says so."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import keras

from tfproj.core.files import read_object, write_json
from tfproj.core.words import without_password
from tfproj.errors import first_line
from tfproj.runs.run import Run

RECORD = "mlflow.json"  # in the run: which of MLflow's runs it is
EXPERIMENT = "tfproj"  # unless MLFLOW_EXPERIMENT_NAME says another
LIMIT = 6000  # characters of a parameter
# Nothing is reported to MLflow's makers, and a server that is away costs seconds, not minutes.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class Tracker:
    """One of MLflow's runs for a run: the one that it has, or a new one.

    The store is the one that MLflow's own variables name, such as ``MLFLOW_TRACKING_URI``. None of
    them is kept in the run.
    """

    def __init__(self, run: Run):
        self._run, self._client = run, None
        with self._trying():
            self._open()

    def _open(self) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient, entities  # noqa: PLC0415 (an extra)

        self._entities, client, file = entities, MlflowClient(), self._run.path / RECORD
        if file.is_file():
            self._id = read_object(file)["run_id"]
        else:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
            known = client.get_experiment_by_name(name)
            experiment = known.experiment_id if known else client.create_experiment(name)
            tags = {"tfproj.run": str(self._run.path.resolve())}
            opened = client.create_run(experiment, run_name=self._run.name, tags=tags)
            self._id = opened.info.run_id
            values = self._run.config().to_dict().items()
            given = [entities.Param(key, str(value)[:LIMIT]) for key, value in values]
            client.log_batch(self._id, params=given)
            write_json(file, {"run_id": self._id})
        self._client = client

    def epochs(self) -> None:
        """Tell the epochs of the history that MLflow does not know."""
        with self._trying():
            if self._client:
                known = self._client.get_metric_history(self._id, "loss")
                last = max((metric.step for metric in known), default=0)
                for row in self._run.history():
                    if row["epoch"] > last:
                        self._log(row, step=int(row["epoch"]))

    def set_status(self, status: str) -> None:
        """``RUNNING``, or the end: ``FINISHED``, ``FAILED`` or ``KILLED``."""
        with self._trying():
            if self._client:
                change = "update_run" if status == "RUNNING" else "set_terminated"
                getattr(self._client, change)(self._id, status)

    def result(self, metrics: dict[str, Any] | None) -> None:
        """See :func:`tell_result`."""
        with self._trying():
            if not self._client:
                return
            for split, found in (metrics or {}).get("splits", {}).items():
                self._log({f"{split}/{key}": value for key, value in found.items()})
            run = self._run
            for file in (run.config_file, run.history_file, run.metrics_file, run.report_file):
                if file.is_file():
                    self._client.log_artifact(self._id, str(file))

    def _log(self, values: dict[str, Any], step: int = 0) -> None:
        now, numbers = int(time.time() * 1000), (int, float)
        found = [
            self._entities.Metric(key, value, now, step)
            for key, value in values.items()
            if isinstance(value, numbers) and key != "epoch"
        ]
        self._client.log_batch(self._id, metrics=found)

    @contextlib.contextmanager
    def _trying(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of MLflow, a database or a server; none is worth a training
            self._client = None
            said = without_password(first_line(error))
            print(f"warning: MLflow: {said}; the run goes on without it", file=sys.stderr)


class _Listener(keras.callbacks.Callback):
    """Told of epochs after they were saved."""

    def __init__(self, tracker: Tracker):
        super().__init__()
        self._tracker = tracker

    def on_epoch_end(self, epoch, logs=None):
        self._tracker.epochs()


@contextlib.contextmanager
def tracked(run: Run, wanted: bool) -> Iterator[list[keras.callbacks.Callback]]:
    """Callbacks for a training within the block, whose end MLflow learns."""
    if not wanted:
        yield []
        return
    tracker = Tracker(run)
    tracker.set_status("RUNNING")
    try:
        yield [_Listener(tracker)]
    except BaseException as error:
        tracker.set_status("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    tracker.set_status("FINISHED")


def tell_result(run: Run, metrics: dict[str, Any] | None) -> None:
    """Tell the metrics of the splits, as ``SPLIT/NAME``, and keep what a person reads as artifacts.

    Where MLflow could not be told of the training, there is nothing to add to.
    """
    if (run.path / RECORD).is_file():
        tracker = Tracker(run)
        tracker.epochs()  # what a training that was killed left untold
        tracker.result(metrics)
        tracker.set_status("FINISHED")
