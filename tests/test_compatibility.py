"""Runs and files of commit 69c4333 still predict, measure and resume, or say why not."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tfproj import Predictor
from tfproj.errors import InputError

OLD = Path(__file__).parent / "old"
ANSWERS = json.loads((OLD / "answers.json").read_text(encoding="utf-8"))


@pytest.fixture
def old(tmp_path, monkeypatch):
    """The folder of the runs, with the data of the segmenter beside it."""
    with zipfile.ZipFile(OLD / "runs.zip") as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    return Path("runs")


@pytest.mark.light
@pytest.mark.parametrize("task", ANSWERS)
def test_old_files_give_their_answers(old, task):
    predictor = Predictor(old / task / "old" / "model.onnx")
    spec = predictor.spec
    shades = np.indices((spec.height, spec.width)).sum(0) * 7 % 256
    image = np.repeat(shades.astype(np.uint8)[..., None], spec.channels, -1)
    (result,) = predictor.predict(image)
    mean = result.probabilities.reshape(-1, len(spec.classes)).mean(0)
    np.testing.assert_allclose(mean, ANSWERS[task]["probabilities"], atol=1e-5)
    assert predictor.selftest().vectors > 0


@pytest.mark.parametrize("task", ANSWERS)
def test_an_old_run_measures_and_resumes(old, task):
    pytest.importorskip("tensorflow", reason="the extra train is not installed")
    from tfproj.evaluation.evaluate import evaluate
    from tfproj.runs.run import find_run
    from tfproj.training.train import resume

    run = find_run("old", old, task)
    known = json.loads(run.metrics_file.read_text(encoding="utf-8"))["splits"]["val"]
    found = evaluate(run, ["val"])["splits"]["val"]
    measure = "accuracy" if task == "classify" else "mean_average_precision_softmax"
    assert found[measure] == pytest.approx(known[measure], abs=1e-5)
    last = resume(run).history()[-1]
    assert last["epoch"] == 3
    for name, value in ANSWERS[task]["last_epoch"].items():
        assert last[name] == pytest.approx(value, abs=1e-3), name


def test_a_file_of_another_length_is_refused(old):
    from tfproj.experiment.plan import plan_again
    from tfproj.runs.run import find_run

    with next(Path("roads/images").glob("*.png")).open("ab") as image:
        image.write(b"x")
    with pytest.raises(InputError, match="not the one this run was started with"):
        plan_again(find_run("old", old, "segment"))


def test_data_that_are_drawn_otherwise_are_refused(old, capsys):
    pytest.importorskip("tensorflow", reason="the extra train is not installed")
    from tfproj.cli.main import main

    assert main(["train", "segment", "--resume", str(old / "segment" / "drawn")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "or this version splits it or draws it otherwise; its weights: --init RUN" in error
