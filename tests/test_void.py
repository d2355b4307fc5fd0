"""Pixels that are not to be counted: read from every way of writing them, and then in no sum."""

import dataclasses
import json

import numpy as np
import pytest
from conftest import draw, write_classes
from PIL import Image
from scipy.special import log_softmax, softmax

from tfproj import backend
from tfproj.core.spec import palette
from tfproj.data import DataOptions, load_dataset
from tfproj.data.check import check
from tfproj.data.masks import IGNORE
from tfproj.data.registry import read_dataset
from tfproj.data.write_folder import write_folder
from tfproj.errors import InputError
from tfproj.evaluation import evaluate as evaluation
from tfproj.experiment.plan import plan
from tfproj.experiment.presets import make_config

CLASSES = ("ground", "road", "sky")
COLORS = ("#102030", "#C04020", "#4080FF")
PARTS = {"train": 6, "val": 2}


def mask_of(seed):
    """uint8 (16, 24) with a box of void in every image but the first."""
    mask = np.zeros((16, 24), np.uint8)
    mask[4 : 8 + seed % 5, 6:18] = 1
    mask[:3] = 2
    mask[2:6, 10 : 10 + 2 * seed] = IGNORE
    return mask


def write_pairs(root, images, masks, coded):
    """Image and mask files of both parts; ``coded``: mask -> what its file holds."""
    for part, count in PARTS.items():
        places = [root / folder.format(part) for folder in (images, masks)]
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            seed = index + 10 * (part == "val")
            mask = mask_of(index)
            pixels = draw(seed, mask.shape) + np.minimum(mask, 3)[..., None] * np.uint8(60)
            Image.fromarray(pixels).save(places[0] / f"{part}{index}.png")
            coded(mask).save(places[1] / f"{part}{index}.png")


def default(root):
    """255 in a plain mask, in no table."""
    write_classes(root, CLASSES)
    write_pairs(root, "{}/images", "{}/masks", Image.fromarray)


def declared(root):
    """Another value, of a class called void that is listed first."""
    write_classes(root, ("void", *CLASSES), value=(9, 0, 1, 2))
    nine = np.where(np.arange(256) == IGNORE, 9, np.arange(256)).astype(np.uint8)
    write_pairs(root, "{}/images", "{}/masks", lambda mask: Image.fromarray(nine[mask]))


def voc(root):
    """A named class of Pascal VOC, by its color."""
    colors = ("#E0E0C0", *COLORS)

    def coded(mask):
        picture = Image.fromarray(mask + np.uint8(1))  # 255 becomes 0
        picture.putpalette(palette(colors))
        return picture

    write_pairs(root, "JPEGImages", "SegmentationClass", coded)
    for part, count in PARTS.items():
        path = root / "ImageSets" / "Segmentation" / f"{part}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{part}{index}\n" for index in range(count)))
    lines = [
        f"{name}:{','.join(map(str, palette([color])))}::\n"
        for name, color in zip(("Void", *CLASSES), colors, strict=True)
    ]
    (root / "labelmap.txt").write_text("".join(lines))


WRITTEN = {"default": default, "declared": declared, "voc": voc}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("void")
    for name, write in WRITTEN.items():
        write(folder / name)
    return folder


@pytest.mark.parametrize("name", WRITTEN)
def test_void_is_read_alike_however_it_is_written(roots, tmp_path, name):
    for root in (roots / name, write_folder(load_dataset(str(roots / name)), tmp_path / "plain")):
        dataset = load_dataset(str(root))
        assert (dataset.classes, dataset.void) == (CLASSES, True)
        for part, count in PARTS.items():
            for index in range(count):
                mask = dataset.splits[part].read_mask(index)
                np.testing.assert_array_equal(mask, mask_of(index))


def test_classes_in_another_order_leave_void_alone(roots):
    options = DataOptions(classes=("sky", "ground", "road"))
    mask = load_dataset(str(roots / "default"), options=options).splits["train"].read_mask(3)
    expected = np.array([1, 2, 0, *[IGNORE] * 253])[mask_of(3)]
    np.testing.assert_array_equal(mask, expected)


def test_a_mask_of_0_and_255_alone_asks_what_255_is(mask_folder):
    root = mask_folder()
    for path in (root / "masks").iterdir():
        Image.fromarray(np.asarray(Image.open(path)) * np.uint8(255)).save(path)
    with pytest.raises(InputError, match="give 255 a class, or 'void'"):
        read_dataset(str(root), None, DataOptions()).splits["train"].read_mask(0)
    write_classes(root, ["ground", "road", "ignore"], value=[0, 1, 255])
    dataset = read_dataset(str(root), None, DataOptions())
    assert np.unique(dataset.splits["train"].read_mask(0)).tolist() == [0, IGNORE]


def test_the_check_counts_void_and_says_its_share(roots):
    report = check(str(roots / "default"))
    masks = np.stack([mask_of(index) for index in range(PARTS["train"])])
    found = report.splits["train"]
    assert (found.void.images, found.void.pixels) == (5, pytest.approx((masks == IGNORE).mean()))
    counted = masks[masks != IGNORE]
    shares = [found.classes[name].pixels for name in CLASSES]
    assert shares == pytest.approx([(counted == c).mean() for c in range(3)])
    said = [finding.message for finding in report.findings if finding.code == "void"]
    everything = np.concatenate([masks, masks[: PARTS["val"]]])
    assert len(said) == 1 and said[0].startswith(f"{(everything == IGNORE).mean():.2%} of the")


def batch():
    """Labels (2, 5, 6) of which a third is void, scores, and scores that differ there alone."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (2, 5, 6)).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.3] = IGNORE
    scores = rng.normal(size=(*labels.shape, 3)).astype(np.float32)
    other = np.where((labels == IGNORE)[..., None], 9 * scores[::-1], scores)
    return labels, scores, other


def loss_and_slope(loss, labels, scores):
    """The loss, and its gradient by the scores."""
    import tensorflow as tf

    scores = tf.constant(scores)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value = loss(labels, scores)
    return value.numpy(), tape.gradient(value, scores).numpy()


@pytest.mark.parametrize("dice", [0.0, 0.5])
def test_the_loss_is_that_of_the_counted_pixels(dice):
    backend.setup()
    from tfproj.training.losses import SoftmaxLoss

    labels, scores, other = batch()
    kept, plain = labels != IGNORE, SoftmaxLoss(3, smoothing=0.1, dice=dice)
    loss = SoftmaxLoss(3, smoothing=0.1, dice=dice, void=True)
    value, slope = loss_and_slope(loss, labels, scores)
    alone, of_kept = loss_and_slope(plain, labels[kept], scores[kept])
    assert value == pytest.approx(alone, rel=1e-6)
    np.testing.assert_allclose(slope[kept], of_kept, rtol=1e-5, atol=1e-8)
    assert not slope[~kept].any()
    # Neither what is answered under void nor a data set without void makes a difference of a bit.
    for mine, theirs in (
        (loss_and_slope(loss, labels, other), (value, slope)),
        (loss_and_slope(loss, labels % 3, scores), loss_and_slope(plain, labels % 3, scores)),
    ):
        assert mine[0] == theirs[0]
        np.testing.assert_array_equal(mine[1], theirs[1])
    value, slope = loss_and_slope(loss, np.full_like(labels, IGNORE), scores)
    assert value == 0 and not slope.any()


def test_a_pupil_learns_nothing_under_void():
    backend.setup()
    from tfproj.training.distillation import DistillationLoss

    labels, scores, other = batch()
    answers = softmax(np.random.default_rng(1).normal(size=scores.shape), axis=-1)
    packed = np.concatenate([labels[..., None], answers], -1).astype(np.float32)
    kept = labels != IGNORE
    loss = DistillationLoss(3, weight=0.7, temperature=3.0, void=True)
    divergence = (answers * (np.log(answers) - log_softmax(scores / 3, axis=-1))).sum(-1)[kept]
    of_label = log_softmax(scores, -1)[kept][np.arange(kept.sum()), labels[kept]]
    expected = (0.3 * -of_label + 0.7 * 9 * divergence).mean()
    assert float(loss(packed, scores)) == pytest.approx(expected, rel=1e-5)
    packed_other = np.where(kept[..., None], packed, packed[::-1])
    packed_other[..., 0] = labels
    assert float(loss(packed_other, other)) == float(loss(packed, scores))


def test_metrics_in_training_count_no_void():
    backend.setup()
    from tfproj.training.distillation import LabelAccuracy
    from tfproj.training.metrics import MeanAveragePrecision

    labels, scores, other = batch()
    kept = labels != IGNORE
    found = []
    for targets, answers in ((labels, scores), (labels, other), (labels[kept], scores[kept])):
        accuracy, precision = LabelAccuracy(void=True), MeanAveragePrecision(3)
        precision.switch(True)
        for metric in (accuracy, precision):
            metric.update_state(targets, answers)
        found.append([float(accuracy.result()), float(precision.result())])
    assert found[0] == found[1]
    assert found[0] == pytest.approx(found[2], rel=1e-6)
    assert found[0][0] == pytest.approx((scores.argmax(-1) == labels)[kept].mean())


class Answers:
    """A model that answers noise, ``under`` times as large where the masks of ``val`` are void."""

    def __init__(self, under):
        self._under = np.float32(under)

    def predict_on_batch(self, images):
        masks = np.stack([mask_of(index) for index in range(len(images))])
        rng = np.random.default_rng(0)
        scores = rng.normal(size=(*masks.shape, 3)).astype(np.float32)
        scores += 2 * (masks[..., None] == np.arange(3))
        return np.where((masks == IGNORE)[..., None], self._under * scores, scores)


def test_no_metric_depends_on_what_is_answered_under_void(roots):
    planned = plan(make_config("segment", data=str(roots / "voc"), image_size=(16, 24)))
    masks = np.stack([mask_of(index) for index in range(2)])
    first, second = (
        evaluation.segmentation_metrics(Answers(under), planned, "val") for under in (1, -7)
    )
    assert json.dumps(first[:2]) == json.dumps(second[:2])
    np.testing.assert_array_equal(first[2]["confusions"], second[2]["confusions"])
    assert first[2]["precision_recall"] == second[2]["precision_recall"]
    right = Answers(1).predict_on_batch(masks).argmax(-1) == masks
    assert first[0]["pixel_accuracy"] == right[masks != IGNORE].mean()
    assert np.sum(first[0]["confusion_matrix"]) == (masks != IGNORE).sum()


def toy(root):
    size = {"image_size": (16, 24), "batch_size": 3, "model_options": {"batch_norm": True}}
    config = make_config("segment", data=str(root), epochs=1, augment="photo", dice=0.5, **size)
    return dataclasses.replace(config, precision="float32")


def test_steps_are_equal_however_void_is_written(roots):
    """To the bit; and close to those of the same loss over the counted pixels alone."""
    backend.setup()
    import tensorflow as tf

    from tfproj.training.cache import make_cache
    from tfproj.training.compiling import compiled_model
    from tfproj.training.losses import SoftmaxLoss
    from tfproj.training.pipeline import train_batches

    plans = [plan(toy(roots / name)) for name in WRITTEN]
    batches = [train_batches(make_cache(p, "train"), 3, range(1), 0, "photo") for p in plans]
    model, _ = compiled_model(plans[0], "float32")
    assert model.loss.void
    model.optimizer.build(model.trainable_variables)
    begun, found = [v.numpy() for v in (*model.weights, *model.optimizer.variables)], []

    def begin():
        for variable, value in zip(model.weights + model.optimizer.variables, begun, strict=True):
            variable.assign(value)

    for data in batches:
        begin()
        losses = [model.train_on_batch(*batch)[0] for batch in data]
        found.append([losses, [variable.numpy() for variable in model.trainable_variables]])
    for losses, weights in found[1:]:
        assert losses == found[0][0]
        for mine, theirs in zip(weights, found[0][1], strict=True):
            np.testing.assert_array_equal(mine, theirs)
    begin()
    images, masks = next(iter(batches[0]))
    kept = masks != IGNORE
    slopes = []
    for loss, of in ((SoftmaxLoss(3, dice=0.5), kept), (model.loss, tf.ones_like(kept))):
        with tf.GradientTape() as tape:
            scores = model(images, training=True)
            value = loss(tf.boolean_mask(masks, of), tf.boolean_mask(scores, of))
        slopes.append([value, *tape.gradient(value, model.trainable_variables)])
    assert float(tf.reduce_mean(tf.cast(kept, "float32"))) < 0.95
    for mine, theirs in zip(*slopes, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5)


def test_a_run_with_void_is_trained_measured_and_shown(roots, tmp_path):
    from tfproj.report import build
    from tfproj.training.train import train

    run = train(toy(roots / "declared"), tmp_path, "void")
    measured = evaluation.evaluate(run, ["val"])["splits"]["val"]
    counted = sum(np.count_nonzero(mask_of(index) != IGNORE) for index in range(PARTS["val"]))
    assert np.sum(measured["confusion_matrix"]) == counted
    assert np.isfinite([row["loss"] for row in run.history()]).all()
    truths = [np.asarray(Image.open(p)) for p in (run.report_data / "examples").glob("*_truth.png")]
    assert IGNORE in np.unique(truths)
    assert "void, not counted" in build([run]).read_text()
