"""Training on crops of large photographs, at their own scale."""

import numpy as np
import pytest
from conftest import write_classes
from PIL import Image

pytest.importorskip("keras")

from tfproj.cli.main import main  # noqa: E402
from tfproj.data.dataset import Split  # noqa: E402
from tfproj.errors import InputError  # noqa: E402
from tfproj.evaluation.evaluate import evaluate  # noqa: E402
from tfproj.experiment.plan import explain_size, plan, plan_evaluation  # noqa: E402
from tfproj.experiment.presets import make_config  # noqa: E402
from tfproj.export.onnx_file import export_onnx  # noqa: E402
from tfproj.export.samples import calibration_images, draw  # noqa: E402
from tfproj.inference.predictor import Predictor  # noqa: E402
from tfproj.training import cache, crops  # noqa: E402
from tfproj.training.cache import make_cache  # noqa: E402
from tfproj.training.train import train  # noqa: E402

SIZE, SIDE = (600, 800), 8
CLASSES = ("ground", "sky", "mark")
OPTIONS = {"batch_norm": True, "widths": [8, 16]}


def photograph(seed):
    """(image, mask): marks are checkerboards of 8 px; plain squares of their grey are ground."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(60, 160, (*SIZE, 1)) + np.zeros(3, int)
    mask = np.zeros(SIZE, np.uint8)
    pixels[: SIZE[0] // 2, :, 2] += 50
    mask[: SIZE[0] // 2] = 1
    board = 128 + 90 * (2 * (np.indices((SIDE, SIDE)).sum(0) // 2 % 2) - 1)[..., None]
    for number in range(12):
        top, left = rng.integers(0, np.subtract(SIZE, SIDE))
        box = slice(top, top + SIDE), slice(left, left + SIDE)
        pixels[box] = board if number % 2 else 128
        mask[box] = 2 if number % 2 else mask[box]
    return pixels.astype(np.uint8), mask


@pytest.fixture(scope="session")
def marks(tmp_path_factory):
    """Photographs of 600 x 800 px: 4 to train on and 2 for validation; 0.08 % are marks."""
    root = tmp_path_factory.mktemp("marks")
    write_classes(root, CLASSES)
    for seed in range(6):
        part = root / ("train" if seed < 4 else "val")
        for folder, array in zip(("images", "masks"), photograph(seed), strict=True):
            (part / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(part / folder / f"{seed}.png")
    return root


def config_of(data, **values):
    values = {"crop": 64, "model_options": OPTIONS, "batch_size": 8, "augment": "flip", **values}
    return make_config("segment", "default", data=str(data), precision="float32", **values)


@pytest.fixture(scope="session")
def cropped(marks, tmp_path_factory):
    """A run on crops of 64 px: two epochs of 469."""
    return train(
        config_of(marks, epochs=2, batch_size=4, ema=0.9),
        tmp_path_factory.mktemp("runs"),
        "cropped",
    )


def split_of(masks, images=None):
    images = images or [np.repeat(mask[..., None], 3, 2) for mask in masks]
    names = [str(number) for number in range(len(masks))]
    return Split(names, images.__getitem__, read_mask=masks.__getitem__)


def crops_of(split, size, lay, classes=3):
    return cache.Crops(split, size, 3, 2, classes, lay)


def drawn(split, size, length, seed=0):
    return crops_of(split, size, lambda *masks: crops.Drawn(*masks, size, length, seed))


def test_a_rare_small_class_is_learned_at_its_own_scale(marks, cropped, tmp_path):
    stretched = train(
        config_of(marks, crop=None, image_size=(96, 128), batch_size=2, epochs=20), tmp_path
    )
    found = {
        run: evaluate(run, ["val"])["splits"]["val"]["average_precision_softmax"]["mark"]
        for run in (cropped, stretched)
    }
    assert found[cropped] > 0.8
    assert found[stretched] < 0.2


def test_validation_in_training_counts_every_pixel_once(cropped):
    measured = evaluate(cropped, ["val"])["splits"]["val"]
    best = max(row["val_mean_ap"] for row in cropped.history())
    # Tiles overlap, and blended answers are a little better than those of the grid.
    assert best - 0.01 < measured["mean_average_precision_softmax"] < best + 0.1
    assert measured["pixel_accuracy"] == measured["pixel_accuracy_full"]
    assert np.sum(measured["confusion_matrix"]) == 2 * np.prod(SIZE)
    accuracy = next(r["val_accuracy"] for r in cropped.history() if r["val_mean_ap"] == best)
    assert measured["pixel_accuracy"] == pytest.approx(accuracy, abs=0.01)


def test_the_plan_says_what_it_crops_and_how_often(marks):
    planned = plan(config_of(marks))
    assert (planned.spec.size, planned.spec.resize, planned.dataset.void) == ((64, 64), "tiles", 1)
    assert planned.examples == round(4 * 600 * 800 / 64**2) == 469
    assert explain_size(planned) == (
        "input 64 x 64 px (height x width, resize: tiles): crops at the images' own scale, 469 an "
        "epoch; the training images have 600 x 800 (median)"
    )
    # Fewer crops than make a sensible batch, as few images: the batch is made smaller.
    open_config = make_config("segment", data=str(marks), crop=(304, 400))
    assert (plan(open_config).examples, plan(open_config).config.batch_size) == (16, 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["classify", "--data", "digits", "--crop", "64"], "crop is for segment only"),
        (["segment", "--crop", "64", "--image-size", "64"], "leave out one"),
        (["segment", "--crop", "64", "--sampling", "balanced"], "half of the crops"),
        (["segment", "--crop", "64", "--resize", "stretch"], "crop and resize 'stretch'"),
        (["segment", "--resize", "tiles"], "give --crop SIZE"),
        (["segment", "--crop", "60", "100"], "60 x 100 is not, 64 x 104 is"),
        (["segment", "--crop", "4"], "two sides of 8 to 4096 px"),
    ],
)
def test_what_does_not_go_together_is_refused(marks, arguments, words, capsys):
    data = [] if "--data" in arguments else ["--data", str(marks)]
    assert main(["train", *arguments, *data]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in error


def test_crops_hold_rare_classes_more_often(marks):
    planned = plan(config_of(marks))
    guided = make_cache(planned, "train")
    _, masks = guided.batch(np.arange(len(guided)), epoch=1)
    often = np.mean([(masks == label).any((1, 2)) for label in range(3)], axis=1)
    truth = [np.array(planned.dataset.splits["train"].read_mask(i)) for i in range(4)]
    corners = np.random.default_rng(0).integers(0, np.subtract(SIZE, 64), (2000, 2))
    plain = np.mean(
        [(truth[i % 4][y : y + 64, x : x + 64] == 2).any() for i, (y, x) in enumerate(corners)]
    )
    # Half of the crops are guided, half of these to the mark: both others have half the pixels.
    assert plain < 0.1
    assert often[2] > plain + 0.15
    assert min(often[:2]) > 0.4


def test_crops_are_what_the_photograph_shows_there():
    masks = [np.random.default_rng(i).integers(0, 3, (150 + 40 * i, 290)) for i in range(3)]
    masks = [mask.astype(np.uint8) for mask in masks]
    found = drawn(split_of(masks), (32, 48), 200)
    images, targets = found.batch(np.arange(200), epoch=3)
    np.testing.assert_array_equal(images[..., 0], targets)
    again, _ = drawn(split_of(masks), (32, 48), 200).batch(np.arange(200)[::-1], epoch=3)
    np.testing.assert_array_equal(again[::-1], images)
    assert (
        drawn(split_of(masks), (32, 48), 200, seed=1).batch(np.arange(200), 3)[0] != images
    ).any()
    assert (found.batch(np.arange(200), epoch=4)[0] != images).any()


def test_every_pixel_of_a_class_is_found_and_every_photograph_is_shown():
    masks = [np.zeros((300, 260), np.uint8) for _ in range(4)]
    wanted = {(1, 0, 0), (1, 299, 259), (2, 130, 127), (2, 130, 128)}
    for photo, y, x in wanted:
        masks[photo][y, x] = 2
    images = [np.full((*mask.shape, 3), number, np.uint8) for number, mask in enumerate(masks)]
    found = drawn(split_of(masks, images), (32, 32), 400)
    pixels, targets = found.batch(np.arange(400))
    rare = (targets == 2).any((1, 2))
    assert 0.4 < rare.mean() < 0.65
    assert set(pixels[rare, 0, 0, 0].tolist()) == {1, 2}
    counts = np.bincount(pixels[~rare, 0, 0, 0], minlength=4)
    assert counts.min() > 0.7 * counts.max()
    layout = found._layout
    rng = np.random.default_rng(0)
    hits = {
        (photo, *pixel.tolist()) for photo, pixel in (layout._pixel_of(2, rng) for _ in range(99))
    }
    assert hits == wanted


@pytest.mark.parametrize("size", [(100, 130), (64, 64), (20, 200), (20, 30)])
def test_the_grid_counts_every_pixel_once(size):
    mask = np.random.default_rng(0).integers(0, 3, size).astype(np.uint8)
    grid = crops_of(split_of([mask]), (32, 48), lambda sizes, *_: crops.Grid(sizes, (32, 48)))
    images, targets = grid.batch(np.arange(len(grid)))
    counted = targets != 255
    assert counted.sum() == mask.size
    np.testing.assert_array_equal(images[counted][:, 0], targets[counted])
    np.testing.assert_array_equal(
        np.bincount(targets[counted], minlength=3), np.bincount(mask.ravel(), minlength=3)
    )
    if min(np.subtract(size, (32, 48))) >= 0:  # all that is shown is of the photograph
        shown = {tuple(row) for row in images[..., 0].reshape(-1, 48)}
        windows = np.lib.stride_tricks.sliding_window_view(mask, 48, axis=1).reshape(-1, 48)
        assert shown <= {tuple(row) for row in windows}


def test_what_a_small_photograph_lacks_is_void():
    mask = np.ones((20, 30), np.uint8)
    images, targets = drawn(split_of([mask]), (32, 48), 4).batch(np.arange(4))
    assert (targets == 255).sum() == 4 * (32 * 48 - 20 * 30)
    assert (images == 1).all()


def test_a_photograph_of_one_class_and_void_alone():
    one, none = np.zeros((40, 40), np.uint8), np.full((40, 40), 255, np.uint8)
    assert len(drawn(split_of([one]), (16, 16), 5).batch(np.arange(5))[0]) == 5
    with pytest.raises(InputError, match="every pixel of 'train' is void"):
        drawn(split_of([none]), (16, 16), 5)


def test_large_data_go_to_a_file(monkeypatch, capsys):
    masks = [np.random.default_rng(0).integers(0, 3, (90, 70)).astype(np.uint8)]
    kept = drawn(split_of(masks), (16, 16), 20).batch(np.arange(20))
    monkeypatch.setattr(cache, "MEMORY_SHARE", 0)
    on_disk = drawn(split_of(masks), (16, 16), 20)
    assert isinstance(on_disk.images, np.memmap)
    for one, other in zip(kept, on_disk.batch(np.arange(20)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert "GB of memory" in capsys.readouterr().err.splitlines()[0]


def test_a_mask_of_another_size_or_an_unreadable_photograph_is_named(marks, tmp_path):
    mask, other = np.zeros((40, 50), np.uint8), np.zeros((40, 60, 3), np.uint8)
    with pytest.raises(InputError, match="40 x 60 px .height x width. but its mask 40 x 50"):
        drawn(split_of([mask], [other]), (16, 16), 5)
    with pytest.raises(InputError, match="they must be equal"):  # as many pixels
        found = drawn(split_of([mask], [np.zeros((50, 40, 3), np.uint8)]), (16, 16), 5)
        found.batch(np.arange(5))


def test_an_export_is_verified_and_calibrated_on_crops(cropped, marks, tmp_path):
    val = marks / "val" / "images"
    planned = plan_evaluation(cropped)
    samples = draw(planned, 20, tmp_path)
    assert samples.targets.shape == (20, 64, 64)
    assert {Image.open(file).size for file in samples.files} == {(64, 64)}
    assert calibration_images(planned, 12).shape == (12, 64, 64, 3)
    file = tmp_path / "model.onnx"
    export_onnx(cropped, file)
    # What the predictor makes of a photograph is what the evaluation measured.
    confusion = np.zeros((3, 3), int)
    for index, result in enumerate(Predictor(file).predict(sorted(val.glob("*.png")))):
        truth = planned.dataset.splits["val"].read_mask(index)
        np.add.at(confusion, (truth, result.mask), 1)
    measured = evaluate(cropped, ["val"])["splits"]["val"]["confusion_matrix"]
    assert np.abs(confusion - measured).sum() < 20


def test_teacher_init_and_limit_go_with_crops(cropped, marks, tmp_path):
    if not cropped.onnx_file.is_file():
        export_onnx(cropped, cropped.onnx_file)
    source = {"teacher": str(cropped.path), "init": str(cropped.path), "model_options": {}}
    planned = plan(config_of(marks, **source, epochs=1, limit=1))
    assert planned.examples == 117
    run = train(planned.config, tmp_path, planned=planned)
    assert run.history()[0]["val_mean_ap"] > 0.8  # it began with what the source knows
    with pytest.raises(InputError, match="its size is"):
        plan(config_of(marks, teacher=str(cropped.path), crop=32))
