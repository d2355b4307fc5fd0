import dataclasses
import hashlib
import subprocess
import sys

import numpy as np
import pytest

from tfproj.data.dataset import DataOptions
from tfproj.data.sources import synthetic
from tfproj.data.sources.facade_classes import FACADE_CLASSES, FACADE_COLORS
from tfproj.data.splits import finish

OTHERS, FACADE, PILLAR, WINDOW, BALCONY = range(5)
COUNT = 40


def example(index, split_id=0, size=256):
    rng = np.random.default_rng([synthetic.SEED, split_id, index])
    return synthetic.draw(rng, size)


def digest(image, mask):
    return hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def examples():
    return [example(i) for i in range(COUNT)]


@pytest.fixture
def dataset():
    synthetic._example.cache_clear()
    return synthetic.synthetic_facades(DataOptions())


def test_describes_itself_like_the_real_facades(dataset):
    assert (dataset.name, dataset.task, dataset.channels) == ("synthetic_facades", "segment", 3)
    assert (dataset.classes, dataset.colors) == (FACADE_CLASSES, FACADE_COLORS)
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 900,
        "test": 100,
    }
    assert dataset.splits["train"].names[12] == "facade_00012"
    assert dataset.license == "Drawn by tfproj; public domain"


def test_an_example_depends_on_its_index_alone(dataset):
    train = dataset.splits["train"]
    forwards = [digest(train.read_image(i), train.read_mask(i)) for i in (3, 0, 7)]
    synthetic._example.cache_clear()
    masks = {i: train.read_mask(i) for i in (7, 3, 0)}
    assert [digest(train.read_image(i), masks[i]) for i in (3, 0, 7)] == forwards
    assert digest(*example(3)) == forwards[0]


def test_another_process_draws_the_same(dataset):
    code = (
        "import hashlib; from tfproj.data.sources import synthetic as s\n"
        "t = s._split(1, 9); d = t.read_mask(5).tobytes()\n"
        "print(hashlib.sha256(t.read_image(5).tobytes() + d).hexdigest())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    test = dataset.splits["test"]
    assert out.stdout.strip() == digest(test.read_image(5), test.read_mask(5))


def test_no_two_examples_are_equal(dataset, examples):
    test = dataset.splits["test"]
    drawn = [digest(*pair) for pair in examples]
    drawn += [digest(test.read_image(i), test.read_mask(i)) for i in range(5)]
    assert len(set(drawn)) == len(drawn)


def test_shared_arrays_cannot_be_written_to(dataset):
    train = dataset.splits["train"]
    with pytest.raises(ValueError, match="read-only"):
        train.read_image(0)[0, 0] = 0
    with pytest.raises(ValueError, match="read-only"):
        train.read_mask(0)[0, 0] = 0


@pytest.mark.parametrize("size", [64, 256])
def test_shapes_types_and_ranges(size):
    for index in range(3):
        image, mask = example(index, size=size)
        assert image.shape == (size, size, 3) and image.dtype == np.uint8
        assert mask.shape == (size, size) and mask.dtype == np.uint8
        assert mask.max() < len(FACADE_CLASSES)
        assert image.std() > 10


def test_a_small_example_is_the_same_scene():
    large, small = example(2)[1], example(2, size=64)[1]
    # The two sample the canvas a pixel apart: they differ along some edges.
    assert (large[2::4, 2::4] == small).mean() > 0.93


def test_class_shares_are_like_those_of_the_real_set(examples):
    shares = np.array([np.bincount(mask.ravel(), minlength=5) / mask.size for _, mask in examples])
    low, high = (0.27, 0.32, 0.015, 0.12, 0.025), (0.43, 0.48, 0.05, 0.22, 0.09)
    mean = shares.mean(0)
    assert (mean > low).all() and (mean < high).all(), mean
    present = (shares > 0.005).mean(0)
    assert present[[OTHERS, FACADE, WINDOW]].min() == 1
    assert (present[[PILLAR, BALCONY]] > 0.25).all(), present


def edge_contrast(image, mask, shift):
    """Mean step of brightness where the mask, moved by ``shift``, turns from wall to window."""
    grey = image.mean(-1)
    moved = np.roll(mask, shift, (0, 1))
    edge = (moved[:, :-1] == FACADE) & (moved[:, 1:] == WINDOW)
    return np.abs(np.diff(grey, axis=1))[edge].mean() if edge.any() else np.nan


def test_edges_of_the_mask_lie_on_edges_of_the_picture(examples):
    shifts = [(0, 0), (0, 10), (0, -10), (10, 10)]
    steps = np.array([[edge_contrast(*pair, shift) for shift in shifts] for pair in examples])
    aligned, moved = np.nanmean(steps, axis=0)[0], np.nanmean(steps, axis=0)[1:]
    assert (aligned > 1.5 * moved).all(), (aligned, moved)


def test_windows_look_unlike_the_wall(examples):
    differs = []
    for image, mask in examples:
        wall, window = image[mask == FACADE], image[mask == WINDOW]
        differs.append(np.abs(wall.mean(0) - window.mean(0)).max() > 12)
    assert np.mean(differs) > 0.8


def test_the_limit_and_validation_split_come_from_finish(dataset):
    options = DataOptions(limit=30)
    limited = finish(dataclasses.replace(dataset), options)
    assert {name: len(split) for name, split in limited.splits.items()} == {
        "train": 30,
        "val": 50,
        "test": 50,
    }
    name = limited.splits["val"].names[4]
    expected = example(int(name.removeprefix("facade_")))
    assert (limited.splits["val"].read_image(4) == expected[0]).all()
    assert (limited.splits["val"].read_mask(4) == expected[1]).all()
