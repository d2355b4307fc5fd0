"""Runs and files of commit 69c4333 still predict, measure and resume, or say why not."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tfproj import Predictor

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


def test_an_old_run_measures_and_resumes(old):
    pytest.importorskip("tensorflow", reason="the extra train is not installed")
    from tfproj.evaluation.evaluate import evaluate
    from tfproj.runs.run import find_run
    from tfproj.training.train import resume

    run = find_run("old", old, "classify")
    known = run.metrics_file.read_text(encoding="utf-8")
    found = evaluate(run, ["val"])["splits"]["val"]
    assert found["accuracy"] == json.loads(known)["splits"]["val"]["accuracy"]
    last = resume(run).history()[-1]
    assert last["epoch"] == 3
    for name, value in ANSWERS["classify"]["last_epoch"].items():
        assert last[name] == pytest.approx(value, abs=1e-3), name


@pytest.mark.parametrize("name", ["old", "drawn"])
def test_data_that_are_split_or_drawn_otherwise_are_refused(old, name, capsys):
    pytest.importorskip("tensorflow", reason="the extra train is not installed")
    from tfproj.cli.main import main

    assert main(["train", "segment", "--resume", str(old / "segment" / name)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "or this version splits it or draws it otherwise; its weights: --init RUN" in error
