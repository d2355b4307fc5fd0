"""What speaks against a result is said: before, during and after a training, and in the report."""

import shutil

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tfproj import backend

backend.setup()

from tfproj.core.spec import mirrored  # noqa: E402
from tfproj.data import Dataset  # noqa: E402
from tfproj.data.dataset import array_split  # noqa: E402
from tfproj.experiment.mirroring import choose_augment  # noqa: E402
from tfproj.experiment.plan import plan, plan_again  # noqa: E402
from tfproj.experiment.presets import make_config  # noqa: E402
from tfproj.report import single  # noqa: E402
from tfproj.runs.run import Run  # noqa: E402
from tfproj.training import doubts, validation_weights  # noqa: E402
from tfproj.training.cache import make_cache  # noqa: E402
from tfproj.training.compiling import compiled_model  # noqa: E402
from tfproj.training.train import train  # noqa: E402

CNN = {"model": "cnn", "model_options": {"batch_norm": True}, "precision": "float32"}


def test_kept_weights_that_collapse_and_forget_are_said_once(tmp_path, monkeypatch, capsys):
    # As if batch norm's statistics were not estimated: those of 20 steps are wrong.
    monkeypatch.setattr(validation_weights, "LEFT_OF_START", 2)
    few = {"limit": 60, "batch_size": 128, "epochs": 20}  # the batch is as long as the epoch
    config = make_config("classify", data="digits", augment="none", **few, **CNN)
    run = train(config, tmp_path)
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("warning: ")]
    assert len(lines) == 2
    assert "collapsed in epoch" in lines[0] and "to every validation image" in lines[0]
    assert "the kept weights have an accuracy of 0." in lines[1]
    assert list(run.warnings()) == ["collapse", "kept"]
    page = single.write(run, tmp_path / "report.html").read_text()
    assert page.count("Warning: ") == 2 and "do not hold what was learned" in page


def test_an_alarm_that_a_later_epoch_proves_wrong_is_dropped(toy_classifier, tmp_path):
    run = Run(shutil.copytree(toy_classifier.path, tmp_path / "run"))
    run.add_warnings({"collapse": "in epoch 1", "validation": "too few"})
    planned = plan_again(run)
    model, _ = compiled_model(planned, "float32")
    doubts.look_back(run, planned, model, {n: make_cache(planned, n) for n in ("train", "val")})
    assert run.warnings() == {"validation": "too few"}


def history(values, training=0.9):
    return [
        {"epoch": n, "accuracy": training, "val_accuracy": v, "val_loss": 1 / n}
        for n, v in enumerate(values, 1)
    ]


def test_a_value_that_is_the_same_in_every_epoch_is_said():
    config = make_config("classify")
    assert "0.5000 in each of the 3 epochs" in doubts._tie(history([0.5] * 3), config)["tie"]
    for values in ([0.5], [0.5, 0.6, 0.6], [1.0, 1.0]):
        assert doubts._tie(history(values), config) == {}


@pytest.mark.parametrize(
    ("right", "values", "training", "said"),
    [
        (90, [0.7, 0.8], [0.5, 0.9], False),
        (50, [0.7, 0.8], [0.5, 0.9], True),  # batch norm, say
        (75, [0.8, 0.7], [0.8, 1.0], False),  # the last has learned it by heart
        (60, [0.8, 0.7], [0.6, 1.0], True),  # validation has chosen an epoch of chance
        (45, [0.5, 0.5], [0.5, 0.5], False),  # nothing learned, nothing forgotten
    ],
)
def test_what_the_kept_weights_know_is_compared(right, values, training, said):
    rows = [{**row, "accuracy": a} for row, a in zip(history(values), training, strict=True)]
    targets = np.arange(100) % 2
    answers = np.where(np.arange(100) < right, targets, 1 - targets)
    assert bool(doubts._forgotten(rows, make_config("classify"), answers, targets)) is said


@pytest.fixture
def arrows(tmp_path):
    """Function that draws triangles that point to either side, in folders of these names."""

    def draw(*names):
        rng = np.random.default_rng(5)
        for side, name in enumerate(names):
            folder = tmp_path / "shapes" / name
            folder.mkdir(parents=True)
            for index in range(40):
                picture = Image.fromarray(rng.integers(60, 110, (16, 16), np.uint8))
                x, y = rng.integers(2, 6), rng.integers(5, 10)
                corners = [(x, y), (x + 6, y - 4), (x + 6, y + 4)]
                corners = [(15 - a, b) for a, b in corners] if side else corners
                ImageDraw.Draw(picture).polygon([tuple(map(int, c)) for c in corners], fill=240)
                picture.save(folder / f"{index}.png")
        return str(tmp_path / "shapes")

    return draw


def test_classes_that_are_mirror_images_are_named(tmp_path, arrows, capsys):
    config = make_config("classify", data=arrows("entry", "exit"), epochs=6, batch_size=16,
                         val_fraction=0.2, **CNN)  # fmt: skip
    run = train(config, tmp_path)
    assert run.config().augment == "flip"
    assert "images of each other, train with --augment none" in run.warnings()["mirrored"]
    assert run.warnings()["mirrored"] in capsys.readouterr().err


def test_left_and_right_change_places_in_mirror_images(tmp_path, arrows, capsys):
    data = arrows("turn_left", "turn_right")
    values = {"data": data, "epochs": 6, "batch_size": 16, "val_fraction": 0.2, **CNN}
    planned = plan(make_config("classify", **values))
    assert planned.config.augment == "none" and not planned.warnings
    assert "left and right: images are not mirrored" in planned.dataset.notes[0]
    run = train(make_config("classify", augment="flip", **values), tmp_path)
    assert run.config().augment == "flip" and run.warnings() == {}
    assert run.history()[-1]["accuracy"] > 0.9


def data_set(*classes, task="classify", name="toy"):
    split = array_split(np.zeros((0, 8, 8), np.uint8), [])
    return Dataset(name, task, classes, {"train": split}, (8, 8), 1, "here")


@pytest.mark.parametrize(
    ("classes", "name", "preset", "chosen", "noted", "warned"),
    [
        ("cat dog", "pets", "default", "flip", False, False),
        ("0 1 2", "toy", "default", "none", True, False),
        ("b d", "toy", "tiny", "shift", True, False),
        ("digit_1 digit_2", "toy", "best", "shift_erase", True, False),
        ("left_hand right_hand", "toy", "default", "none", True, False),
        ("bright dark", "toy", "default", "flip", False, False),
        ("left other", "toy", "default", "flip", False, False),
        ("one two", "/data/my_letters", "default", "flip", False, True),
        ("coat shoe", "fashion_mnist", "default", "flip", False, False),
        ("0 1", "toy", "original", "none", False, False),
    ],
)
def test_names_decide_whether_images_are_mirrored(classes, name, preset, chosen, noted, warned):
    found = data_set(*classes.split(), name=name)
    config, noticed, warning = choose_augment(make_config("classify", preset), found)
    assert (config.augment, bool(noticed.notes), bool(warning)) == (chosen, noted, warned)


def test_an_augmentation_that_was_asked_for_stays():
    config = make_config("classify", augment="flip")
    config, noticed, warning = choose_augment(config, data_set("6", "9"))
    assert config.augment == "flip" and "give --augment none" in warning and not noticed.notes
    config, noticed, warning = choose_augment(config, data_set("Left", "Right"))
    assert config.augment == "flip" and "change places" in noticed.notes[0] and not warning
    masks = data_set("wall", "left eye", "right eye", task="segment")
    config, noticed, warning = choose_augment(make_config("segment"), masks)
    assert config.augment == "photo_mix" and "change places" in noticed.notes[0] and not warning


def test_the_class_of_a_mirror_image():
    assert mirrored(("a", "LeftHand", "righthand", "bright", "left")) == (0, 2, 1, 3, 4)


def test_validation_images_that_can_not_choose_are_said(class_folder):
    def doubt(val, name):
        counts = {"train": {"ant": 4, "bee": 4, "cow": 4}, "val": val}
        root = class_folder(counts, name=name)
        return plan(make_config("classify", data=str(root))).warnings.get("validation", "")

    assert doubt({"ant": 1, "bee": 1, "cow": 1}, "whole") == ""
    assert "every validation image is of class 'bee'" in doubt({"bee": 5}, "one")
    assert "2 validation images are too few for 3 classes" in doubt({"ant": 1, "bee": 1}, "few")
    assert "no validation image is of class 'cow'" in doubt({"ant": 3, "bee": 3}, "missing")
