"""What was made from a run does not outlive what it was made from."""

import json
import shutil

import pytest
from PIL import Image

from tfproj import backend

backend.setup()

from tfproj.cli.main import main  # noqa: E402
from tfproj.core.files import sha256, write_json  # noqa: E402
from tfproj.core.processes import this_process  # noqa: E402
from tfproj.errors import TfprojError  # noqa: E402
from tfproj.evaluation.evaluate import evaluate  # noqa: E402
from tfproj.experiment.presets import make_config  # noqa: E402
from tfproj.export.onnx_file import export_onnx  # noqa: E402
from tfproj.inference.model_file import read_model  # noqa: E402
from tfproj.report import build  # noqa: E402
from tfproj.runs.lock import LOCK_FILE, locked  # noqa: E402
from tfproj.runs.run import Run  # noqa: E402
from tfproj.training import callbacks  # noqa: E402
from tfproj.training import train as training  # noqa: E402
from tfproj.training.train import train  # noqa: E402


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run that was stopped after one of two epochs, then evaluated, reported and exported."""

    def stop(self, number, logs=None):
        if number == 1:
            raise KeyboardInterrupt

    root = tmp_path_factory.mktemp("begun")
    config = make_config("classify", "original", data="digits", limit=200, batch_size=32, epochs=2)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(TfprojError, match="interrupted"):
        patch.setattr(callbacks.Reseed, "on_epoch_begin", stop)
        train(config, root, "a")
    run = Run(root / "classify" / "a")
    evaluate(run, ["val"])
    build([run])
    export_onnx(run)
    shutil.copy(run.onnx_file, run.int8_file)
    return run


@pytest.fixture
def run(begun, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(begun.path, tmp_path / "runs" / "classify" / "a")
    Image.new("L", (8, 8)).save("a.png")
    return Run(tmp_path / "runs" / "classify" / "a")


def training_of(path):
    return read_model(path, "model").metadata["training"]


def test_an_export_says_which_weights_it_is_of(run):
    assert training_of(run.onnx_file)["weights_sha256"] == sha256(run.best_weights)


def test_predict_refuses_an_export_of_other_weights(run, capsys):
    assert main(["predict", "a", "a.png"]) == 0
    shutil.copy(run.last_weights, run.best_weights)
    with run.best_weights.open("ab") as file:
        file.write(b"x")
    assert main(["predict", "a", "a.png"]) == 2
    captured = capsys.readouterr()
    line = captured.err.splitlines()[-1]
    assert "other weights than best.keras" in line and "export them: tfproj export runs/" in line
    # Who names the file gets the file.
    assert main(["predict", str(run.onnx_file), "a.png"]) == 0
    assert "note: " in capsys.readouterr().err
    run.best_weights.unlink()
    assert main(["predict", "a", "a.png"]) == 0


def test_resume_retires_what_it_makes_stale_and_exports_again(run, capsys):
    for name in ("model.int8.tflite", "model.int8.labels.txt", "model.xml", "model.bin"):
        (run.path / name).touch()
    assert main(["train", "classify", "--resume", "a", "--no-evaluate"]) == 0
    said = capsys.readouterr().err
    assert (
        "removed, since the run goes on: report.html, report, metrics.json, predictions.csv, "
        "report_data, model.onnx, model.int8.onnx, model.int8.tflite, model.int8.labels.txt, "
        "model.xml, model.bin\n" in said
    )
    assert "exported again, with the new weights" in said
    left = {path.name for path in run.path.iterdir()}
    assert "model.onnx" in left
    gone = {"report.html", "report", "metrics.json", "predictions.csv", "report_data"}
    assert not left & {*gone, "model.int8.onnx", "model.int8.tflite", "model.xml", "model.bin"}
    assert training_of(run.onnx_file)["weights_sha256"] == sha256(run.best_weights)
    assert main(["predict", "a", "a.png"]) == 0


def test_resume_does_what_a_kill_after_the_last_epoch_left_undone(run, capsys):
    assert main(["train", "classify", "--resume", "a", "--no-evaluate"]) == 0
    assert [row["epoch"] for row in run.history()] == [1, 2]
    assert run.history_file.read_text().splitlines()[1].startswith("1,")  # as if never read
    assert main(["train", "classify", "--resume", "a", "--no-evaluate"]) == 2
    assert "nothing to resume" in capsys.readouterr().err
    assert main(["train", "classify", "--resume", "a"]) == 0
    assert "all epochs are there, and not yet measured" in capsys.readouterr().err
    assert run.metrics_file.is_file() and run.predictions_file.is_file()
    assert main(["train", "classify", "--resume", "a"]) == 2
    # Killed before the result was looked at: the lock still holds the process that did so.
    write_json(run.path / LOCK_FILE, {**this_process(), "started": "long ago"})
    run.warnings_file.unlink(missing_ok=True)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "look_back", lambda *args: seen.append(args))
        assert main(["train", "classify", "--resume", "a"]) == 0
    assert len(seen) == 1 and len(run.history()) == 2


def test_what_is_true_of_the_best_weights_stays_with_them(run):
    run.retire(new_weights=False)
    assert run.onnx_file.exists() and run.metrics_file.exists()
    assert not run.report_file.exists()


def test_a_run_in_training_is_left_alone(run, capsys):
    data = ["--data", "digits", "--epochs", "1"]
    with locked(run.path):
        for more in (["--resume", "a"], [*data, "--name", "a", "--overwrite"]):
            assert main(["train", "classify", *more]) == 2
            captured = capsys.readouterr()
            assert "is being trained by process" in captured.err.splitlines()[-1]
            assert "TensorFlow" not in captured.err  # said before anything is loaded
    assert run.best_weights.exists()


def test_the_newest_run_is_one_with_weights(run, capsys):
    newer = Run(run.path.with_name("b"))
    newer.path.mkdir()
    shutil.copy(run.config_file, newer.config_file)
    for command in (["report"], ["evaluate", "--split", "val", "--json"]):
        assert main(command) == 0
        assert "runs/classify/b has no finished epoch; taking runs/" in capsys.readouterr().err
    run.best_weights.unlink()
    assert main(["report"]) == 2
    assert "runs/classify/b: no finished epoch yet" in capsys.readouterr().err
    metrics = json.loads(run.metrics_file.read_text())
    assert list(metrics["splits"]) == ["val"]
