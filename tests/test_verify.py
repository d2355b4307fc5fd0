import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from tfproj import Predictor
from tfproj.core import image
from tfproj.core.spec import ModelSpec
from tfproj.data import Split
from tfproj.errors import TfprojError
from tfproj.experiment.plan import plan_evaluation
from tfproj.export import isolated, samples, verify
from tfproj.export.build import answers_of
from tfproj.export.isolated import BLOCKED, START, Pass, predict_isolated
from tfproj.export.quantize import with_room
from tfproj.models.checkpoint import load_model


def test_compare():
    expected = np.array([[0.7, 0.3], [0.4, 0.6]], np.float32)
    actual = np.array([[0.7, 0.3], [0.52, 0.48]], np.float32)
    figures = verify.compare([(expected, expected), (expected, actual)])
    assert figures["max_difference"] == pytest.approx(0.12)
    assert figures["mean_difference"] == pytest.approx(0.24 / 8)
    assert figures["agreement"] == 0.75


def test_not_a_number_is_a_difference():
    expected = np.array([[0.5, 0.5]], np.float32)
    actual = np.array([[np.nan, 0.5]], np.float32)
    figures = verify.compare([(expected, actual), (expected, expected)])
    assert np.isnan(figures["max_difference"])
    rest = {"max_score_difference": 0.0, "metrics": {}, "tolerance": 1e-4}
    found = verify.Verification(2, "val", (1, 7), (), **figures, **rest)
    assert "differs from Keras" in found.complaint
    assert found.to_dict()["max_difference"] is None


def test_scores_count_as_well_as_probabilities(toy_models, toy_classifier, tmp_path):
    planned = plan_evaluation(toy_classifier)
    drawn = verify.comparison_samples(planned, tmp_path)
    answer = answers_of(load_model(toy_classifier))
    for operator, value in (("Mul", 3.0), ("Add", 1000.0)):
        model = onnx.load(toy_models["classify"])
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = ["true" if name == "scores" else name for name in names]
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), "by"))
        model.graph.node.append(onnx.helper.make_node(operator, ["true", "by"], ["scores"]))
        found = verify.verify(model.SerializeToString(), planned.spec, answer, drawn, 1)
        assert "of the largest score" in found.complaint
        assert found.max_difference <= found.tolerance < found.max_score_difference


def test_score_differences_are_parts_of_the_largest_score():
    large, small = np.array([[200.0, -50.0]]), np.array([[0.5, 0.2]])
    assert verify.score_difference([(large, large + 0.2)]) == pytest.approx(1e-3)
    assert verify.score_difference([(small, small + 0.1)]) == pytest.approx(0.1)
    assert np.isnan(verify.score_difference([(small, small * np.nan), (small, small)]))


def test_other_sizes_are_new_ones_and_one_is_wider():
    spec = ModelSpec("segment", "unet", ("a", "b"), (), 16, 16, 3, dynamic_size=True)
    assert verify.other_sizes(spec, 8) == [(8, 8), (16, 24)]


def test_broken_weights_are_rejected(toy_models, toy_classifier, tmp_path):
    planned = plan_evaluation(toy_classifier)
    model = onnx.load(toy_models["classify"])
    bias = next(i for i in model.graph.initializer if i.name == "dense2/bias")
    broken = np.full_like(numpy_helper.to_array(bias), np.nan)
    bias.CopyFrom(numpy_helper.from_array(broken, bias.name))
    answer = answers_of(load_model(toy_classifier))
    with pytest.raises(TfprojError, match="values that are not numbers"):
        drawn = verify.comparison_samples(planned, tmp_path)
        verify.verify(model.SerializeToString(), planned.spec, answer, drawn, 1)


def test_isolated_prediction_gives_the_predictors_answers(toy_models, tmp_path):
    rng = np.random.default_rng(0)
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(file)
    data = toy_models["segment"].read_bytes()
    predictor = Predictor(data)
    pixels = np.stack([image.load(f, (32, 48), 3) for f in files])
    for found in predict_isolated(data, files, [Pass(1), Pass(2)], tmp_path):
        expected = predictor.run(pixels)
        np.testing.assert_allclose(found["scores"], expected[0], atol=1e-5)
        np.testing.assert_allclose(found["probabilities"], expected[1], atol=1e-6)


def test_no_more_images_are_in_memory_than_a_batch(monkeypatch):
    """10,000 photographs of 224 px would be 1.5 GB."""
    steps, pixels = [], np.zeros((8, 8, 3), np.uint8)
    monkeypatch.setattr(isolated.image, "load", lambda *_, **__: steps.append("load") or pixels)
    spec = ModelSpec("classify", "cnn", ("a", "b"), (), 8, 8, 3)
    runner = SimpleNamespace(
        spec=spec, run=lambda batch: steps.append(len(batch)) or (batch, batch)
    )
    isolated._run(runner, [], ["a.png"] * 3, Pass(2))
    assert steps == ["load", "load", 2, "load", 1]
    assert with_room(spec, 10_000) == 10_000
    assert with_room(replace(spec, task="segment", height=1024, width=1024), 64) == 4


def test_isolated_prediction_says_why_it_failed(tmp_path):
    with pytest.raises(TfprojError, match="cannot run the exported file"):
        predict_isolated(b"not a model", [], [Pass(1)], tmp_path)


def test_isolated_prediction_has_time_for_each_image(monkeypatch, tmp_path):
    monkeypatch.setattr(isolated, "TIMEOUT", 0.01)
    monkeypatch.setattr(isolated, "TIMEOUT_OF_IMAGE", 0.002)
    with pytest.raises(TfprojError, match=r"within 0\.03 seconds"):
        predict_isolated(b"", [tmp_path / "a.png"] * 5, [Pass(1), Pass(2)], tmp_path)


@pytest.mark.parametrize("module", BLOCKED)
def test_training_packages_cannot_be_imported_there(module, tmp_path):
    code = START.rpartition("main()")[0] + f"import {module}"
    result = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 1
    assert f"{module} cannot be imported here" in result.stderr


def test_samples_are_files_whatever_the_source(toy_classifier, toy_segmenter, tmp_path):
    drawn = samples.draw(plan_evaluation(toy_classifier), 12, tmp_path)
    assert len(drawn.files) == 12 == len(drawn.targets)
    assert all(file.suffix == ".png" and file.is_file() for file in drawn.files)
    assert len(set(drawn.targets.tolist())) > 5  # spread over the split, not its first class
    masks = samples.draw(plan_evaluation(toy_segmenter), 2, tmp_path).targets
    assert (masks.shape, masks.dtype) == ((2, 32, 48), np.uint8)


def test_samples_leave_files_where_they_are(tmp_path):
    path = tmp_path / "a.png"
    Image.new("L", (4, 4)).save(path)
    split = Split(["a"], lambda i: path, np.zeros(1, np.int32), files=[path])
    assert samples._file(split, 0, tmp_path / "nowhere") == path


def test_samples_keep_encoded_bytes(tmp_path):
    path = tmp_path / "a.png"
    Image.new("L", (4, 4)).save(path)
    split = Split(["a"], lambda i: path.read_bytes(), np.zeros(1, np.int32))
    assert samples._file(split, 0, tmp_path).read_bytes() == path.read_bytes()


def test_metrics_of_scores(tmp_path):
    labels = samples.Samples("val", [], np.array([0, 1, 1]), 2)
    assert labels.measure(np.array([[2.0, 1], [2, 1], [1, 2]])) == {
        "accuracy": pytest.approx(2 / 3)
    }
    mask = np.array([[[0, 1], [1, 0]]], np.uint8)
    perfect = np.eye(2, dtype=np.float32)[mask]
    found = samples.Samples("val", [], mask, 2).measure(perfect)
    assert found == {"mean_average_precision_raw": 1, "mean_average_precision_softmax": 1}
