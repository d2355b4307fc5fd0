"""Several labels an image, from the loss to the predictor and the report."""

import csv
import json
import shutil

import keras
import numpy as np
import onnx
import pytest
from label_sets import CLASSES, draw_shapes, write_cells, write_shapes
from report_toys import classified
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score

from tfproj import MultiLabel, Predictor
from tfproj.cli.main import main
from tfproj.core.files import read_json
from tfproj.core.probabilities import sigmoid
from tfproj.core.spec import ModelSpec
from tfproj.errors import InputError
from tfproj.evaluation import labels as measures
from tfproj.evaluation.evaluate import evaluate
from tfproj.experiment.presets import make_config
from tfproj.export import quantize
from tfproj.export.job import Options
from tfproj.export.onnx_file import export_onnx
from tfproj.report import build
from tfproj.report.card import card
from tfproj.runs.run import Run
from tfproj.training import probe
from tfproj.training.augment import mirror
from tfproj.training.multi_label import LabelAveragePrecision, SigmoidLoss
from tfproj.training.train import train


def drawn(count=200, classes=3, ties=True, seed=0):
    """Scores float32 that tell something of labels uint8, both (count, classes)."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((count, classes)) < 0.3).astype(np.uint8)
    scores = labels + rng.normal(0, 1, labels.shape)
    return (scores.round(1) if ties else scores).astype(np.float32), labels


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_that_of_scikit_learn(ties):
    scores, labels = drawn(ties=ties)
    for s, y in zip(scores.T, labels.T, strict=True):
        expected = average_precision_score(y, s)
        assert measures.average_precision(s, y) == pytest.approx(expected, abs=1e-12)
    assert measures.average_precision(scores[:, 0], labels[:, 0] * 0) is None


def test_the_metric_of_a_training_is_exact_and_counts_validation_alone():
    scores, labels = drawn()
    labels[:, 1] = 0  # a class without an image counts for nothing
    metric = LabelAveragePrecision(3, len(labels))
    metric.update_state(labels[:50], scores[:50])  # a step of the training
    assert float(metric.result()) == 0
    metric.switch(True)
    for _ in range(2):
        metric.reset_state()
        for start in range(0, 200, 64):
            metric.update_state(labels[start : start + 64], scores[start : start + 64])
        expected = np.mean([average_precision_score(labels[:, c], scores[:, c]) for c in (0, 2)])
        assert float(metric.result()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_keras_binary_cross_entropy(smoothing):
    scores, labels = drawn()
    scores[0] = (-200, 200, 0)  # beyond what exp can hold
    expected = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing)
    assert float(SigmoidLoss(smoothing)(labels, scores)) == pytest.approx(
        float(expected(labels.astype(np.float32), scores)), rel=1e-6
    )


def test_the_sigmoid_does_not_overflow():
    scores = np.array([-1e4, -100, -1, 0, 1, 100, 1e4], np.float32)
    with np.errstate(over="raise"):
        found = sigmoid(scores)
    np.testing.assert_allclose(found, keras.ops.sigmoid(scores), rtol=1e-6, atol=1e-30)
    assert found.dtype == np.float32


def test_thresholds_have_the_best_f1_and_lie_between_two_probabilities():
    scores, labels = drawn(300, 4)
    labels[:, 3] = 0
    labels[: measures.FEW - 1, 3] = 1
    probabilities = sigmoid(scores)
    found = measures.choose_thresholds(probabilities, labels)
    assert found[3] is None
    for p, y, threshold in zip(probabilities.T[:3], labels.T, found, strict=False):
        every = [f1_score(y, p >= value) for value in np.unique(p)]
        assert f1_score(y, p >= threshold) == pytest.approx(max(every))
        assert threshold not in p.astype(np.float64)


def test_of_equally_good_thresholds_the_nearest_to_a_half_is_taken():
    labels = np.repeat([1, 0], 20)[:, None]
    probabilities = np.where(labels == 1, 0.9, 0.3).astype(np.float32)
    assert measures.choose_thresholds(probabilities, labels)[0] == pytest.approx(0.6)


def test_what_is_measured_of_a_split():
    true = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]])
    p = np.array([[0.9, 0.2, 0.1], [0.1, 0.8, 0.7], [0.1, 0.1, 0.1], [0.2, 0.3, 0.9]])
    found = measures.measure(np.log(p / (1 - p)), true, np.array([0.5, 0.5, 0.6]), "abc")
    assert found["exact_match"] == 0.5 and found["hamming_loss"] == pytest.approx(4 / 12)
    assert found["precision"] == {"a": 1, "b": 1, "c": 0}
    assert found["recall"] == {"a": 0.5, "b": 0.5, "c": None}
    assert found["f1"]["c"] == 0 and found["average_precision"]["c"] is None
    # a was missed once where c was given wrongly, and so was b.
    assert found["confusion_matrix"] == [[1, 0, 1], [0, 1, 1], [0, 0, 0]]


def test_mirror_images_swap_left_and_right():
    labels = np.array([[1, 0, 1], [1, 0, 0]], np.uint8)
    images = np.zeros((2, 4, 4, 3), np.uint8)
    classes = np.arange(256)
    classes[:2] = (1, 0)
    changed = mirror(images, labels, np.array([True, False]), classes)[1]
    np.testing.assert_array_equal(changed, [[0, 1, 1], [1, 0, 0]])


def test_the_probe_fits_each_class_against_the_rest():
    rng = np.random.default_rng(1)
    features = rng.normal(0, 2, (120, 5)).astype(np.float32)
    labels = (features[:, :3] + rng.normal(0, 1, (120, 3)) > 0).astype(np.uint8)
    labels[:, 2] = 0
    kernel, bias = probe._regressions(features, labels, 3)
    scale = np.sqrt(np.mean((features - features.mean(0)) ** 2))
    for index in range(2):
        fit = LogisticRegression(C=probe.FIT / 120, max_iter=1000)
        fit.fit((features - features.mean(0)) / scale, labels[:, index])
        expected = fit.decision_function((features - features.mean(0)) / scale)
        np.testing.assert_allclose(features @ kernel[:, index] + bias[index], expected, atol=1e-3)
    assert (features @ kernel[:, 2] + bias[2] < -20).all()  # never seen, never given


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"teacher": "x.onnx"}, "teacher: is for one label an image"),
        ({"dice": 1.0}, "dice is a loss of areas"),
    ],
)
def test_what_does_not_compose_is_refused(values, words):
    with pytest.raises(InputError, match=words):
        make_config("classify", "original", multi_label=True, **values)
    with pytest.raises(InputError, match="multi_label is for classify only"):
        make_config("segment", "original", multi_label=True)


def test_a_photograph_s_training_measures_the_fitted_layer(tmp_path):
    write_cells(tmp_path / "data", write_shapes(tmp_path / "data", {"train": 40, "val": 20}, 40))
    options = {"data": str(tmp_path / "data"), "multi_label": True, "image_size": 32}
    run = train(make_config("classify", "photo", epochs=1, **options), tmp_path / "runs", "photo")
    (row,) = run.history()
    measured = evaluate(run, ["val"])["splits"]["val"]
    assert row["val_mean_ap"] == pytest.approx(measured["mean_average_precision"], abs=0.05)
    assert row["val_mean_ap"] > 0.5 and row["loss"] < 0.5


def images_of(run):
    return sorted((run.path.parents[2] / "data" / "images").glob("val_*.png"))


def test_a_training_learns_and_keeps_the_best_mean_ap(toy_labels):
    history = toy_labels.history()
    measured = read_json(toy_labels.metrics_file)["splits"]["val"]
    assert measured["mean_average_precision"] > 0.9
    best = max(row["val_mean_ap"] for row in history)
    assert measured["mean_average_precision"] == pytest.approx(best, abs=0.02)  # of bfloat16
    assert toy_labels.warnings() == {}


def test_the_file_says_what_the_evaluation_measured(toy_labels):
    predictor = Predictor(toy_labels.onnx_file)
    record, measured = predictor.metadata, read_json(toy_labels.metrics_file)
    assert record["schema"] == 3 and record["multi_label"] is True
    assert "calibration" not in record
    assert record["thresholds"] == pytest.approx([*measured["thresholds"].values()], abs=1e-6)
    assert record["threshold_choice"] == measured["threshold_choice"]
    assert record["preprocessing"]["in_graph"][-1] == "sigmoid of each class"
    check = record["verification"]
    assert check["max_difference"] < 1e-4 and check["max_score_difference"] < 1e-4
    same = check["metrics"]["mean_average_precision"]
    expected = measured["splits"]["val"]["mean_average_precision"]
    assert same["keras"] == pytest.approx(same["onnx"]) == pytest.approx(expected, abs=1e-6)
    assert predictor.selftest().vectors == 5


@pytest.mark.parametrize("flip", [False, True])
def test_the_predictor_gives_the_labels_of_the_evaluation(toy_labels, flip):
    predictor, files = Predictor(toy_labels.onnx_file, flip=flip), images_of(toy_labels)
    results = predictor.predict(files)
    assert all(isinstance(result, MultiLabel) for result in results)
    given = np.stack([[c in r.labels for c in r.classes] for r in results])
    numbers = [int(file.stem.rpartition("_")[2]) for file in files]
    true = np.stack([[c in draw_shapes(n)[1] for c in results[0].classes] for n in numbers])
    measured = read_json(toy_labels.metrics_file)
    part = measured["mirrored" if flip else "splits"]["val"]
    assert np.mean((given == true).all(1)) == pytest.approx(part["exact_match"])
    with toy_labels.predictions_file.open(newline="") as file:
        rows = {row["name"]: row["prediction"] for row in csv.DictReader(file)}
    if not flip:
        found = {f.name: "|".join(sorted(r.labels)) for f, r in zip(files, results, strict=True)}
        assert found == rows
    assert {len(result.labels) for result in results} >= {0, 1, 2}


def test_a_result_ranks_what_it_gives():
    thresholds = np.array([0.5, 0.25, 0.9])
    p = np.array([0.6, 0.25, 0.8], np.float32)  # what equals its threshold reaches it
    result = MultiLabel(("a", "b", "c"), p, p, thresholds)
    assert result.labels == ("a", "b")
    assert (result.label, result.index, result.probability) == ("c", 2, pytest.approx(0.8))
    assert [name for name, _ in result.top(2)] == ["c", "a"]
    assert MultiLabel(("a", "b", "c"), p * 0, p, thresholds).labels == ()


@pytest.mark.parametrize(
    "thresholds", [None, [0.5], [0.5, 0.5, 2], [0.5, True, 0.5], "0.5", [0, "a", 1]]
)
def test_damaged_thresholds_are_refused(toy_labels, tmp_path, thresholds):
    model = onnx.load(toy_labels.onnx_file)
    entry = next(p for p in model.metadata_props if p.key == "tfproj")
    entry.value = json.dumps({**json.loads(entry.value), "thresholds": thresholds})
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(InputError, match="thresholds are not 3 numbers in 0..1"):
        Predictor(tmp_path / "changed.onnx")


def test_a_file_of_schema_3_says_whether_it_has_several_labels(toy_labels):
    record = toy_labels.spec().to_dict()
    assert ModelSpec.from_dict(record) == toy_labels.spec()
    del record["multi_label"]
    with pytest.raises(InputError, match="'multi_label' is missing"):
        ModelSpec.from_dict(record)
    assert not ModelSpec.from_dict({**record, "schema": 2}).multi_label


def test_without_data_the_thresholds_stay(toy_labels, tmp_path):
    result = export_onnx(toy_labels, tmp_path / "a.onnx", Options(no_data=True))
    assert result["verification"]["split"] == "generated"
    expected = [*read_json(toy_labels.metrics_file)["thresholds"].values()]
    np.testing.assert_array_equal(Predictor(tmp_path / "a.onnx").thresholds, expected)


def test_unknown_is_for_one_label(toy_labels):
    with pytest.raises(InputError, match="a model of several labels, or none"):
        Predictor(toy_labels.onnx_file, unknown_below=0.5)


def test_int8_is_judged_by_mean_ap(toy_labels, tmp_path, monkeypatch):
    monkeypatch.setattr(quantize, "speed_ratio", lambda *_: 2.0)
    result = export_onnx(toy_labels, tmp_path / "a.int8.onnx", Options(int8=True))
    metrics = result["quantization"]["metrics"]["mean_average_precision"]
    assert metrics["int8"] > metrics["float32"] - 0.005
    predictor = Predictor(tmp_path / "a.int8.onnx")
    np.testing.assert_array_equal(predictor.thresholds, Predictor(toy_labels.onnx_file).thresholds)


def test_the_command_prints_labels(toy_labels, capsys, tmp_path):
    files = [str(file) for file in images_of(toy_labels)[:8]]
    model = str(toy_labels.onnx_file)
    results = Predictor(model).predict(files)
    assert main(["predict", model, *files, "--html", str(tmp_path / "page.html")]) == 0
    for line, result in zip(capsys.readouterr().out.splitlines(), results, strict=True):
        for name in result.labels:
            assert f"{name} {result.probabilities[result.classes.index(name)]:.4f}" in line
        assert ("no label (the most probable: " in line) == (not result.labels)
    assert main(["predict", model, *files, "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["labels"] for row in rows] == ["|".join(r.labels) for r in results]
    assert main(["predict", model, *files, "--json"]) == 0
    records = json.loads(capsys.readouterr().out)["predictions"]
    assert [[a["label"] for a in r["labels"]] for r in records] == [[*r.labels] for r in results]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("no label") == sum(not result.labels for result in results)
    assert main(["evaluate", str(toy_labels.path), "--split", "val"]) == 0
    printed = capsys.readouterr().out
    assert "no wrong label" in printed and "threshold" in printed


def test_the_card_says_that_there_may_be_several(toy_labels):
    text = card(toy_labels)
    assert "Says which of 3 classes an image shows, any number of them or none" in text
    measured = read_json(toy_labels.metrics_file)["splits"]["val"]
    assert f"mean average precision {measured['mean_average_precision']:.4f}" in text
    assert f"| red | {measured['average_precision']['red']:.3f} |" in text


def test_the_report_shows_what_was_found_missed_and_wrongly_given(toy_labels, tmp_path):
    page = build([toy_labels], tmp_path / "page.html").read_text(encoding="utf-8")
    measured = read_json(toy_labels.metrics_file)["splits"]["val"]
    for name in CLASSES:
        for key in ("average_precision", "f1", "false_negatives"):
            value = measured[key][name]
            assert f'<data value="{value}" data-metric="val.{key}.{name}">' in page
    assert 'data-metric="val.mean_average_precision"' in page
    assert page.count("missed: ") + page.count("wrongly: ") > 0
    both = build([toy_labels, toy_labels], tmp_path / "both.html").read_text(encoding="utf-8")
    assert "val mean AP" in both and "Average precision, val split" in both
    other = classified(tmp_path / "other")
    with pytest.raises(InputError, match="cannot be compared: classify and multi_label"):
        build([toy_labels, other], tmp_path / "mixed.html")


def test_a_run_goes_on(toy_labels, tmp_path):
    run = Run(shutil.copytree(toy_labels.path, tmp_path / "classify" / "toy"))
    command = ["train", "classify", "--resume", str(run.path), "--epochs", "7", "--no-evaluate"]
    assert main(command) == 0
    assert [row["epoch"] for row in run.history()] == [1, 2, 3, 4, 5, 6, 7]
    assert run.history()[:6] == toy_labels.history()
    assert evaluate(run, ["val"])["splits"]["val"]["mean_average_precision"] > 0.9
