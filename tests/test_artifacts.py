"""What evaluate leaves for the report: the choice of examples, curves, and the real path."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tfproj.evaluation.examples import PER_CELL, choose_classified, choose_segmented, spread
from tfproj.evaluation.pixels import CURVE_POINTS, PixelScores
from tfproj.experiment.presets import make_config
from tfproj.runs.lock import LOCK_FILE  # noqa: E402
from tfproj.runs.run import shown_split


def answers(label, prediction, *probabilities):
    return [{"label": label, "prediction": prediction, "probability": p} for p in probabilities]


def test_every_class_has_right_and_wrong_examples_first():
    rows = [*answers("a", "a", *np.linspace(0.5, 1, 50)), *answers("b", "b", 0.9, 0.8, 0.7),
            *answers("a", "b", 0.6, 0.95), *answers("b", "a", 0.55)]  # fmt: skip
    chosen = choose_classified(rows, ("a", "b"))
    assert len(chosen) == len(set(chosen))
    first = [(rows[i]["label"], rows[i]["prediction"]) for i in chosen[:4]]
    assert set(first) == {("a", "a"), ("b", "b"), ("a", "b"), ("b", "a")}
    wrong_a = [i for i in chosen if rows[i]["label"] == "a" and rows[i]["prediction"] == "b"]
    assert [rows[i]["probability"] for i in wrong_a] == [0.95, 0.6]  # the most confident first


def test_examples_behind_a_cell_are_bounded():
    rows = answers("a", "b", *np.linspace(0, 1, 500))
    assert len(choose_classified(rows, ("a", "b"))) == 24 > PER_CELL


def test_spread_takes_the_ends_first():
    assert spread(list(range(10))) == [0, 9, 3, 6]
    assert spread([5]) == [5] and spread([]) == [] and spread([1, 2]) == [1, 2]


def test_images_by_iou_and_the_worst_for_each_class():
    confusions = np.zeros((20, 3, 3), np.int64)
    for i in range(20):
        confusions[i] = [[50 + i, 50 - i, 0], [0, 100, 0], [0, 0, 0]]
    confusions[7, 2] = [5, 0, 5]
    rows = [{"mean_iou": i / 20} for i in range(20)]
    chosen = choose_segmented(rows, confusions, ("a", "b", "c"))
    roles = {role: [i for i, r in chosen.items() if role in r] for role in
             ("best", "median", "worst", "worst for a", "worst for b", "worst for c")}  # fmt: skip
    assert roles["best"] == [19, 18] and roles["worst"] == [0, 1]
    assert sorted(roles["median"]) == [9, 10]
    assert roles["worst for a"] == roles["worst for b"] == [0] and roles["worst for c"] == [7]


def test_one_image_is_best_and_worst():
    chosen = choose_segmented([{"mean_iou": 0.5}], np.ones((1, 2, 2), int), ("a", "b"))
    assert list(chosen) == [0] and {"best", "median", "worst"} <= set(chosen[0])


def test_curve_points_lie_on_the_exact_curve():
    from sklearn.metrics import average_precision_score, precision_recall_curve

    rng = np.random.default_rng(0)
    pixels = PixelScores(3)
    masks = rng.integers(0, 2, (50, 100)).astype(np.uint8)  # class 2 does not occur
    scores = rng.normal(size=(50, 100, 3)).astype(np.float32).round(2) + masks[..., None]
    pixels.add(scores, masks)
    curves = pixels.precision_recall()["raw"]
    assert curves[2] is None
    truth, score = masks.ravel() == 1, scores[..., 1].ravel()
    precision, recall, _ = precision_recall_curve(truth, score)
    found = curves[1]
    assert found["recall"] == sorted(found["recall"]) and found["recall"][-1] == 1
    assert len(found["recall"]) <= CURVE_POINTS
    for r, p in zip(found["recall"], found["precision"], strict=True):
        candidates = precision[np.abs(recall - r) < 1e-5]
        assert np.abs(candidates - p).min() < 1e-5
    area = np.sum(np.diff([0, *found["recall"]]) * found["precision"])
    assert area == pytest.approx(average_precision_score(truth, score), abs=0.01)


def test_score_statistics_find_the_silenced_class():
    pixels = PixelScores(2)
    scores = np.zeros((2, 4, 2), np.float32)
    scores[..., 1] = np.arange(8).reshape(2, 4)
    pixels.add(scores, np.zeros((2, 4), np.uint8))
    found = pixels.statistics(("a", "b"))
    assert found["a"] == {"min": 0, "max": 0, "std": 0, "zero_share": 1}
    assert found["b"]["max"] == 7 and found["b"]["zero_share"] == 1 / 8
    assert found["b"]["std"] == pytest.approx(np.arange(8).std())


# The real path: train, evaluate, report.


def evaluated(root, task, **config):
    from tfproj.evaluation.evaluate import evaluate
    from tfproj.training.train import train

    run = train(make_config(task, epochs=1, precision="float32", **config), root)
    return run, evaluate(run)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return evaluated(tmp_path_factory.mktemp("runs"), "classify", data="digits", limit=400)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    return evaluated(
        tmp_path_factory.mktemp("runs"), "segment", preset="original", data="synthetic_facades",
        limit=8, image_size=(32, 32),
    )  # fmt: skip


def test_evaluation_of_a_classifier_feeds_the_report(classifier):
    from tfproj.report import build

    run, record = classifier
    examples = json.loads((run.report_data / "examples.json").read_text())
    assert examples["split"] == shown_split(record["splits"])
    for example in examples["examples"]:
        with Image.open(run.report_data / example["file"]) as picture:
            assert list(picture.size) == example["size"] == [8, 8]
    right = {e["label"] for e in examples["examples"] if e["label"] == e["prediction"]}
    accuracy = record["splits"][examples["split"]]["per_class_accuracy"]
    assert right == {name for name, value in accuracy.items() if value}
    with np.load(run.report_data / "filters.npz") as arrays:
        assert arrays["kernel1"].shape == (3, 3, 1, 32) and arrays["maps1"].shape == (32, 8, 8)
        assert arrays["kernel2"].shape == (3, 3, 32, 9) and arrays["maps2"].shape == (9, 4, 4)
        assert arrays["maps1"].min() >= 0  # after the ReLU
    text = build([run]).read_text(encoding="utf-8")
    assert "<h2>Reliability</h2>" in text and "No examples were saved" not in text


def test_examples_are_what_the_data_set_holds(classifier):
    from tfproj.data import load_dataset
    from tfproj.experiment.plan import data_options

    run, _ = classifier
    config, spec = run.config(), run.spec()
    dataset = load_dataset(config.data, "classify", data_options(config, spec.classes))
    record = json.loads((run.report_data / "examples.json").read_text())
    split = dataset.splits[record["split"]]
    for example in record["examples"][:20]:
        stored = np.asarray(Image.open(run.report_data / example["file"]))
        original = np.asarray(split.read_image(example["index"])).reshape(8, 8)
        assert np.array_equal(stored, original)
        assert split.names[example["index"]] == example["name"]
        assert spec.classes[split.labels[example["index"]]] == example["label"]


def test_evaluation_of_a_segmenter_feeds_the_report(segmenter):
    from tfproj.report import build

    run, record = segmenter
    shown = shown_split(record["splits"])
    scores = record["splits"][shown]["scores"]
    assert all(entry["min"] >= 0 for entry in scores.values())  # the final ReLU of "original"
    examples = json.loads((run.report_data / "examples.json").read_text())["examples"]
    assert {"best", "median", "worst"} <= {role for e in examples for role in e["roles"]}
    for example in examples:
        stem = run.report_data / example["file"][:-4]
        truth, guess = (
            np.asarray(Image.open(f"{stem}_{k}.png")) for k in ("truth", "prediction")
        )  # fmt: skip
        assert truth.shape == guess.shape == tuple(example["size"][::-1])
        assert truth.max() < 5 and guess.max() < 5
        # Every pixel of the 32 x 32 masks has become 8 x 8.
        assert (truth == guess).mean() == pytest.approx(example["pixel_accuracy"], abs=1e-5)
    curves = json.loads((run.report_data / "curves.json").read_text())
    assert set(curves) == {"raw", "softmax"} and len(curves["raw"]) == 5
    text = build([run]).read_text(encoding="utf-8")
    assert 'id="figure-precision_recall_raw"' in text and "<h2>Class collapse</h2>" in text


def test_pictures_beside_a_mirrored_evaluation_are_those_of_the_plain_numbers(segmenter):
    from tfproj.evaluation.evaluate import evaluate

    run, plain = segmenter
    both = evaluate(run, flip=True)
    assert both["splits"] == plain["splits"] and both["mirrored"] != plain["splits"]
    examples = json.loads((run.report_data / "examples.json").read_text())["examples"]
    for example in examples:
        stem = run.report_data / example["file"][:-4]
        truth, guess = (
            np.asarray(Image.open(f"{stem}_{k}.png")) for k in ("truth", "prediction")
        )  # fmt: skip
        assert (truth == guess).mean() == pytest.approx(example["pixel_accuracy"], abs=1e-5)
    evaluate(run)  # as the other tests want it


@pytest.mark.parametrize("size", [None, (32, 32), (8, 16)])
def test_figures_at_the_photographs_own_size_are_those_of_the_masks_given(mask_folder, size):
    import keras
    from sklearn.metrics import accuracy_score, jaccard_score

    from tfproj.core import image
    from tfproj.core.probabilities import softmax
    from tfproj.evaluation.evaluate import segmentation_metrics
    from tfproj.evaluation.report_data import predict_scores
    from tfproj.experiment.plan import plan
    from tfproj.inference.results import Segmentation
    from tfproj.models.registry import build_model

    folder = mask_folder({"train": 4, "val": 3})
    planned = plan(make_config("segment", data=str(folder), image_size=size))
    spec, split = planned.spec, planned.dataset.splits["val"]
    keras.utils.set_random_seed(0)
    model = build_model(spec, planned.config.model_options)
    found, _, _ = segmentation_metrics(model, planned, "val")
    truths, guesses = [], []
    for index in range(len(split)):
        pixels = image.load(split.read_image(index), spec.size, spec.channels)
        scores = predict_scores(model, pixels[None], False)[0]
        truth = split.read_mask(index)
        answer = Segmentation(spec.classes, (), softmax(scores), scores, truth.shape)
        truths.append(truth.ravel())
        guesses.append(answer.mask.ravel())
    truth, guess = np.concatenate(truths), np.concatenate(guesses)
    assert len(np.unique(guess)) == 2
    overlaps = jaccard_score(truth, guess, average=None)
    assert list(found["iou_full"].values()) == pytest.approx(overlaps.tolist())
    assert found["mean_iou_full"] == pytest.approx(overlaps.mean())
    assert found["pixel_accuracy_full"] == pytest.approx(accuracy_score(truth, guess))
    keys = ("mean_iou", "pixel_accuracy", "iou", "per_class_accuracy")
    same = [found[key] == found[f"{key}_full"] for key in keys]
    assert all(same) if size is None else not any(same)
    assert "mean_iou_full" not in segmentation_metrics(model, planned, "train")[0]


def test_evaluating_again_replaces_the_report_data(classifier):
    from tfproj.evaluation.evaluate import evaluate

    run, _ = classifier
    stale = run.report_data / "examples" / "stale.png"
    stale.write_bytes(b"")
    evaluate(run, ["val"])
    assert not stale.exists()
    assert json.loads((run.report_data / "examples.json").read_text())["split"] == "val"
    hidden = [path.name for path in run.path.iterdir() if path.name.startswith(".")]
    assert hidden == [LOCK_FILE]
