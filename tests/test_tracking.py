"""``--tracker mlflow``: a store on this disk holds what the run directory does."""

import json

import pytest

pytest.importorskip("mlflow", reason="the extra mlflow is not installed")

from tfproj.cli.main import main  # noqa: E402
from tfproj.experiment.presets import make_config  # noqa: E402
from tfproj.runs.run import Run  # noqa: E402
from tfproj.training import callbacks  # noqa: E402
from tfproj.training.train import train  # noqa: E402

TOY = ["classify", "--data", "digits", "--preset", "original", "--limit", "64"]
TOY += ["--batch-size", "32", "--augment", "none", "--epochs", "3", "--tracker", "mlflow"]


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A database for MLflow, below the working directory; returns its client."""
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'a.db'}")
    return MlflowClient()


def only_run(client, experiment="tfproj"):
    found = client.get_experiment_by_name(experiment).experiment_id
    (one,) = client.search_runs([found])
    return one


def test_a_resumed_run_goes_on_in_the_same_run_of_mlflow(store, monkeypatch, tmp_path):
    original = callbacks.Reseed.on_epoch_begin

    def stop(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt
        original(self, epoch, logs)

    with monkeypatch.context() as patched:
        patched.setattr(callbacks.Reseed, "on_epoch_begin", stop)
        assert main(["train", *TOY, "--name", "a"]) == 1
    first, run = only_run(store), Run(tmp_path / "runs" / "classify" / "a")
    assert first.info.status == "KILLED" and first.info.run_name == "a"
    assert first.data.tags["tfproj.run"] == str(run.path)
    assert first.data.params["learning_rate"] == "0.001" and first.data.params["data"] == "digits"
    again = ["train", "classify", "--resume", "--tracker", "mlflow", "--report"]
    assert main(again) == 0
    told = only_run(store)
    assert told.info.run_id == first.info.run_id and told.info.status == "FINISHED"
    for column in ("val_accuracy", "loss", "learning_rate"):
        known = store.get_metric_history(told.info.run_id, column)
        expected = [(row["epoch"], row[column]) for row in run.history()]
        assert sorted((m.step, m.value) for m in known) == expected
    splits = json.loads(run.metrics_file.read_text())["splits"]
    for split in ("val", "test"):
        assert told.data.metrics[f"{split}/accuracy"] == splits[split]["accuracy"]
    kept = {a.path for a in store.list_artifacts(told.info.run_id)}
    assert kept == {"config.json", "history.csv", "metrics.json", "report.html"}
    assert "sqlite" not in (run.path / "mlflow.json").read_text()


def test_a_tracker_that_fails_is_said_once(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    assert main(["train", *TOY, "--name", "b"]) == 0
    said = capsys.readouterr().err
    assert said.count("warning: MLflow: ") == 1 and "the run goes on without it" in said
    assert "secret" not in said
    assert len(Run(tmp_path / "runs" / "classify" / "b").history()) == 3


def test_a_training_that_breaks_off_is_failed(store, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    config = make_config("classify", "original", data="digits", limit=64, learning_rate=1e38)
    with pytest.raises(callbacks.Diverged):
        train(config, tmp_path, trackers=["mlflow"])
    assert only_run(store, "other").info.status == "FAILED"
