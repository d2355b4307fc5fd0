"""Rare classes: weights, sampling, and measures that count every class alike."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.metrics import balanced_accuracy_score, f1_score, jaccard_score
from sklearn.utils.class_weight import compute_class_weight

from tfproj import backend
from tfproj.cli.main import main
from tfproj.core.files import read_object, write_json
from tfproj.errors import InputError
from tfproj.experiment.balance import balance
from tfproj.experiment.plan import plan, plan_resume
from tfproj.experiment.presets import make_config
from tfproj.report import single
from tfproj.runs.run import Run

COUNTS = {"train": {"cat": 40, "dog": 3, "hen": 5}, "val": {"cat": 6, "dog": 2, "hen": 2}}
SMALL = {"model": "cnn", "model_options": {"filters": 4, "dense": 8}, "augment": "none"}
UNEVEN = {"class_weights": "balanced", "sampling": "balanced", "monitor": "balanced_accuracy"}


def settled(folder, **values):
    return plan(make_config("classify", data=str(folder), **SMALL, **values))


def test_balanced_weights_are_those_of_scikit_learn(class_folder):
    planned = settled(class_folder(COUNTS), class_weights="balanced")
    labels = planned.dataset.splits["train"].labels
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose([*planned.weights.values()], wanted, rtol=1e-12)
    assert planned.repeats is None and planned.config.class_weights == "balanced"
    assert "imbalance" not in planned.warnings


@pytest.mark.parametrize(
    "name, text",
    [
        ("w.json", '{"cat": 1, "dog": "4", "hen": 2.5}'),
        ("w.yaml", "dog: 4e0\ncat: 1\nhen: 2.5\n"),
        ("w.csv", "name,weight\nhen,2.5\ncat,1\ndog,4\n"),
    ],
)
def test_weights_of_a_file_stand_in_the_configuration(name, text, class_folder, tmp_path):
    (tmp_path / name).write_text(text)
    planned = settled(class_folder(COUNTS), class_weights=str(tmp_path / name))
    assert planned.config.class_weights == {"cat": 1.0, "dog": 4.0, "hen": 2.5}
    used = planned.weights
    assert used["dog"] / used["cat"] == pytest.approx(4) and list(used) == ["cat", "dog", "hen"]
    assert 40 * used["cat"] + 3 * used["dog"] + 5 * used["hen"] == pytest.approx(48)
    (tmp_path / name).unlink()
    assert plan(planned.config).weights == used


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("w.json", '{"cat": 1, "dog": 4}', "no weight for class 'hen'; give each"),
        ("w.yaml", "cat: 1\n", r"no weight for class 'dog' .and 1 more."),
        ("w.yaml", "cat: 1\ndog: 4\nhem: 1\n", "unknown class 'hem'; did you mean 'hen'"),
        ("w.yaml", "cat: 1\ndog: 4\nhen: 1\ncat: 2\n", "two weights for class 'cat'"),
        ("w.csv", "name,weight\ncat,1\ndog,0\nhen,1\n", "weight '0' of 'dog' is not a number"),
        ("w.json", '{"cat": 1, "dog": -1, "hen": 1}', "weight '-1' of 'dog' is not a number above"),
        ("w.json", '{"cat": 1, "dog": Infinity, "hen": 1}', "weight 'Infinity' of 'dog'"),
        ("w.json", '{"cat": true, "dog": 1, "hen": 1}', "weight 'true' of 'cat'"),
        ("w.json", "[1, 2]", "no weight for class 'cat'"),
        ("w.json", '["cat", "dog", "hen"]', "no weight for class 'cat'"),
        ("w.json", "{", "not valid YAML"),
        ("w.yaml", "a: [", "not valid YAML"),
        ("w.csv", "class;weight\n", "expected a header line with name,weight"),
        (None, "", "w.yaml: cannot be read"),
    ],
)
def test_weights_that_can_not_be_used_are_one_line(name, text, message, class_folder, tmp_path):
    if name:
        (tmp_path / name).write_text(text)
    path = tmp_path / (name or "w.yaml")
    with pytest.raises(InputError, match=message) as error:
        settled(class_folder(COUNTS), class_weights=str(path))
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_values_that_no_configuration_takes(class_folder):
    with pytest.raises(InputError, match="class_weights: weight True of 'dog'"):
        settled(class_folder(COUNTS), class_weights={"cat": 1, "dog": True, "hen": 2})
    for values, message in (
        ({"class_weights": 3}, "class_weights is 3; it must be text, or a number for each class"),
        ({"sampling": "sqrt"}, "unknown sampling 'sqrt'"),
        ({"monitor": "mean_iou"}, "unknown monitor for classify 'mean_iou'"),
        ({"multi_label": True, "sampling": "balanced"}, "are for one label an image"),
    ):
        with pytest.raises(InputError, match=message):
            make_config("classify", **values)


def test_pixels_count_by_their_share_and_void_does_not(mask_folder):
    from PIL import Image

    folder = mask_folder({"train": 6, "val": 2}, classes=("ground", "road", "sky"))
    mask = np.full((64, 64), 255, np.uint8)  # a larger image is worth no more than another
    mask[0, 0] = 2
    Image.fromarray(mask).save(folder / "train" / "masks" / "0.png")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / "train" / "images" / "0.jpg")
    options = {"model_options": {"widths": [4, 4]}, "class_weights": "balanced"}
    planned = plan(make_config("segment", data=str(folder), model="unet", **options))
    read = planned.dataset.splits["train"].read_mask
    shares = [np.bincount(read(i).ravel(), minlength=256)[:3] / read(i).size for i in range(6)]
    drawn = np.sum(shares, axis=0)
    wanted = np.minimum(50, drawn.sum() / (3 * drawn))
    assert wanted[2] == 50 > drawn.sum() / (3 * drawn)[1]
    used = np.array([*planned.weights.values()])
    np.testing.assert_allclose(used, wanted * drawn.sum() / (drawn @ wanted))
    repeats = balance(dataclasses.replace(planned.config, sampling="balanced"), planned.dataset)[2]
    held = np.array([np.mean([s[c] > 0 for s in shares]) for c in range(3)])
    np.testing.assert_allclose(repeats[0], np.sqrt(held.mean() / held[2]))
    assert (repeats[1:] == 1).all()


def test_an_epoch_draws_in_proportion_and_by_seed_and_epoch_alone(class_folder):
    backend.setup()
    from tfproj.training.pipeline import epoch_order

    planned = settled(class_folder(COUNTS), sampling="balanced", class_weights="balanced")
    repeats, labels = planned.repeats, planned.dataset.splits["train"].labels
    due = repeats * 48 / repeats.sum()
    np.testing.assert_allclose(np.bincount(labels, due), 16)
    counts = [np.bincount(epoch_order(7, e, 48, repeats), minlength=48) for e in range(200)]
    assert all(c.sum() == 48 and (abs(c - due) < 1).all() for c in counts)
    np.testing.assert_allclose(np.mean(counts, axis=0), due, atol=0.15)
    again = epoch_order(7, 3, 48, repeats)
    assert (again == epoch_order(7, 3, 48, repeats)).all()
    assert (again != epoch_order(7, 4, 48, repeats)).any()
    # So are the batches of a training; the weights go by what is drawn.
    from tfproj.training.cache import make_cache
    from tfproj.training.pipeline import train_batches

    batches = train_batches(make_cache(planned, "train"), 16, range(30), 7, "none")
    seen = np.bincount(np.concatenate([labels.numpy() for _, labels in batches]), minlength=3)
    np.testing.assert_allclose(seen / 30, np.bincount(labels, due), rtol=0.05)
    np.testing.assert_allclose([*planned.weights.values()], 1)


def test_the_weighted_loss_is_its_formula():
    backend.setup()
    from tfproj.training.distillation import DistillationLoss
    from tfproj.training.losses import SoftmaxLoss

    rng, weights = np.random.default_rng(0), np.array([0.5, 1.0, 4.0])
    labels = rng.integers(0, 3, (4, 5, 5))
    labels[0, :3] = 255
    counted = labels != 255
    scores = rng.normal(size=(4, 5, 5, 3)).astype(np.float32)
    known = np.where(counted, labels, 0)
    target = np.eye(3)[known] * 0.9 + 0.1 / 3
    entropy = -(target * log_softmax(scores, -1)).sum(-1)
    wanted = (weights[known] * entropy)[counted].mean()
    options = {"smoothing": 0.1, "void": True, "class_weights": weights.tolist()}
    loss = SoftmaxLoss(3, **options)
    assert float(loss(labels, scores)) == pytest.approx(wanted, rel=1e-5)
    assert SoftmaxLoss.from_config(loss.get_config()).class_weights == weights.tolist()
    # The Dice loss counts every class alike by itself, and is added without weights.
    plain = {"smoothing": 0.1, "void": True}
    dice = [SoftmaxLoss(3, dice=d, **plain)(labels, scores) for d in (0, 2)]
    with_dice = float(SoftmaxLoss(3, dice=2, **options)(labels, scores))
    assert with_dice - wanted == pytest.approx(float(dice[1] - dice[0]), rel=1e-4)
    answers = softmax(rng.normal(size=scores.shape), axis=-1)
    divergence = (answers * (np.log(answers) - log_softmax(scores, -1))).sum(-1)
    taught = DistillationLoss(3, weight=0.3, **options)
    packed = np.concatenate([labels[..., None], answers], -1).astype(np.float32)
    both = 0.7 * wanted + 0.3 * (weights[known] * divergence)[counted].mean()
    assert float(taught(packed, scores)) == pytest.approx(both, rel=1e-5)
    ones = SoftmaxLoss(3, **{**options, "class_weights": [1.0] * 3})(labels, scores)
    assert float(ones) == float(SoftmaxLoss(3, **plain)(labels, scores))


@pytest.mark.parametrize("name", ["balanced_accuracy", "macro_f1", "mean_iou"])
def test_a_measure_is_exact_over_the_batches(name):
    backend.setup()
    from tfproj.training.metrics import Measure

    rng = np.random.default_rng(1)
    truth, scores = rng.choice(4, 300, p=[0.9, 0.06, 0.04, 0]), rng.normal(size=(300, 5))
    scores[:, 4] -= 9  # a class that is neither true nor predicted
    measure = Measure(5, name)
    measure.update_state(truth, scores)
    assert float(measure.result()) == 0  # it counts in validation only
    measure.switch(True)
    for start in range(0, 300, 70):
        measure.update_state(truth[start : start + 70], scores[start : start + 70])
    measure.update_state(np.full(3, 255), scores[:3])
    said, present = scores.argmax(1), [*range(4)]
    wanted = {
        "balanced_accuracy": lambda: balanced_accuracy_score(truth[truth < 3], said[truth < 3]),
        "macro_f1": lambda: f1_score(truth, said, average="macro", labels=present),
        "mean_iou": lambda: jaccard_score(truth, said, average="macro", labels=present),
    }[name]()
    assert float(measure.result()) == pytest.approx(wanted, rel=1e-6)


def test_the_probe_fits_with_the_weights(class_folder):
    backend.setup()
    from sklearn.linear_model import LogisticRegression

    from tfproj.training.probe import FIT, _importance, _regression

    planned = settled(class_folder(COUNTS), class_weights="balanced")
    labels = planned.dataset.splits["train"].labels
    features = np.random.default_rng(0).normal(size=(48, 6)) + labels[:, None] / 2
    importance = _importance(planned, np.arange(48), [labels, labels])
    assert importance.mean() == pytest.approx(1)
    views = np.concatenate([features, features]), np.concatenate([labels, labels])
    kernel, bias = _regression(*views, 3, importance)
    scale = np.sqrt(np.mean((features - features.mean(0)) ** 2))
    fitted = LogisticRegression(C=FIT / 96, class_weight="balanced", max_iter=1000)
    fitted.fit((views[0] - features.mean(0)) / scale, views[1])
    np.testing.assert_allclose(kernel, fitted.coef_.T / scale, atol=1e-3)
    settled_plain = dataclasses.replace(planned, weights={})
    assert _importance(settled_plain, np.arange(48), [labels]) is None
    drawn = dataclasses.replace(settled_plain, repeats=np.arange(1.0, 49))
    np.testing.assert_allclose(_importance(drawn, np.array([3, 0]), [labels[:2]]), [1.6, 0.4])


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """A run of two epochs on few digits with everything that is for rare classes, evaluated."""
    from tfproj.training.train import train

    values = {"data": "digits", "limit": 300, "precision": "float32", "batch_size": 16, **UNEVEN}
    config = make_config("classify", "original", epochs=2, **SMALL, **values)
    return train(config, tmp_path_factory.mktemp("runs"), "uneven")


def test_a_run_says_what_it_used_and_how_good_each_class_is(uneven, tmp_path):
    from tfproj.evaluation.evaluate import evaluate

    run = Run(shutil.copytree(uneven.path, tmp_path / "run"))
    assert run.config().class_weights == "balanced" and run.config().sampling == "balanced"
    used = run.environment()["class_weights"]
    assert list(used) == list("0123456789") and len({*used.values()}) > 1
    metrics = evaluate(run)["splits"]
    rows = [row.split(",") for row in run.predictions_file.read_text().splitlines()[1:]]
    for split, found in metrics.items():
        truth, said = zip(*[(row[2], row[3]) for row in rows if row[0] == split], strict=True)
        wanted = balanced_accuracy_score(truth, said), f1_score(truth, said, average="macro")
        assert (found["balanced_accuracy"], found["macro_f1"]) == pytest.approx(wanted)
    best = max(run.history(), key=lambda row: row["val_balanced_accuracy"])
    assert best["val_balanced_accuracy"] == pytest.approx(metrics["val"]["balanced_accuracy"])
    assert "balanced_accuracy" not in best  # of training steps, where it is not counted
    page = single.write(run, tmp_path / "report.html").read_text()
    assert "<dt>Class weights</dt><dd>0 " in page and "<dt>Sampling</dt><dd>balanced" in page
    assert "val_balanced_accuracy" in page and 'data-metric="test.macro_f1"' in page


def test_a_run_with_weights_and_sampling_is_resumed_to_the_bit(uneven, tmp_path):
    from tfproj.training.train import resume, train

    config = dataclasses.replace(uneven.config(), epochs=1)
    short = train(config, tmp_path, "short")
    write_json(short.config_file, uneven.config().to_dict())
    resume(short)
    for row, other in zip(uneven.history(), short.history(), strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    changed = {str(digit): 1 + digit for digit in range(10)}
    write_json(
        short.config_file, dataclasses.replace(config, class_weights=changed, epochs=3).to_dict()
    )
    with pytest.raises(InputError, match="other class_weights than this run was started with"):
        plan_resume(short)


def test_best_and_patience_go_by_what_is_monitored():
    from tfproj.runs.history import best_epoch, out_of_patience

    rows = [(0.9, 0.5), (0.8, 0.7), (0.7, 0.6), (0.95, 0.4)]
    history = [
        {"epoch": n, "val_accuracy": a, "val_macro_f1": f} for n, (a, f) in enumerate(rows, 1)
    ]
    config = make_config("classify", monitor="macro_f1", patience=2)
    assert best_epoch(history, config.monitored) == 2
    assert best_epoch(history, make_config("classify").monitored) == 4
    assert out_of_patience(history, config.monitored, config.patience)


def test_uneven_classes_are_said_in_one_line_unless_something_is_asked_for(
    class_folder, tmp_path, capsys
):
    folder = class_folder(COUNTS)
    doubt = settled(folder).warnings["imbalance"]
    assert doubt.startswith("class 'dog' has 3 training images, 'cat' 40") and "\n" not in doubt
    assert "imbalance" not in settled(folder, sampling="balanced").warnings
    even = class_folder({"": {"cat": 9, "dog": 2, "hen": 2}}, name="even")
    assert "imbalance" not in settled(even).warnings
    (tmp_path / "w.json").write_text(json.dumps({"cat": 1, "dog": 4, "hen": 2}))
    command = ["train", "classify", "--data", str(folder), "--epochs", "1", "--model", "cnn"]
    command += ["--class-weights", str(tmp_path / "w.json"), "--sampling", "balanced"]
    assert main([*command, "--runs-dir", str(tmp_path), "--name", "x"]) == 0
    said = capsys.readouterr()
    assert "class weights (as given, scaled to a mean of 1): cat 0." in said.err
    assert "sampling balanced: some images are drawn 13.3 times as often" in said.err
    assert "balanced accuracy  macro F1" in said.out
    recorded = read_object(tmp_path / "classify" / "x" / "config.json")["class_weights"]
    assert recorded == {"cat": 1.0, "dog": 4.0, "hen": 2.0}
