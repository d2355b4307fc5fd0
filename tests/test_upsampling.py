"""The mask at the photograph's own size."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from tfproj.core import image
from tfproj.core.probabilities import mask_of_size
from tfproj.inference.results import Segmentation

pytestmark = pytest.mark.light


def two_classes(share):
    """Probabilities float32 (H, W, 2) where the second class has ``share``."""
    return np.stack([1 - share, share], axis=-1).astype(np.float32)


def as_seen(truth, factor):
    """What a perfect network answers at a size ``factor`` times smaller."""
    height, width = (side // factor for side in truth.shape)
    return two_classes(truth.reshape(height, factor, width, factor).mean(axis=(1, 3)))


def nearest(probabilities, size):
    """The mask as it was before: the small one, enlarged in blocks."""
    return image.resize_mask(probabilities.argmax(axis=-1).astype(np.uint8), size)


def iou(mask, truth):
    return (mask.astype(bool) & truth).sum() / (mask.astype(bool) | truth).sum()


def test_a_thin_line_in_a_photograph_eight_times_as_large():
    rows, columns = np.mgrid[:512, :512] + 0.5
    truth = np.abs(0.6 * rows - 0.8 * columns + 60) < 5
    probabilities = as_seen(truth, 8)
    before, now = (iou(f(probabilities, truth.shape), truth) for f in (nearest, mask_of_size))
    assert before < 0.7 and now > 0.85


def test_the_outline_of_a_disc_is_round():
    rows, columns = np.mgrid[:1024, :1024] + 0.5
    truth = np.hypot(rows - 512, columns - 512) < 300
    probabilities = as_seen(truth, 16)
    before, now = ((f(probabilities, truth.shape) != truth).mean() for f in (nearest, mask_of_size))
    assert now < before / 4


@pytest.mark.parametrize("size", [(200, 333), (37, 333), (200, 50), (1, 1), (20, 31), (12, 90)])
def test_as_pillow_resizes_float_images(size):
    """With two classes the mask tells where the interpolated value passes 0.5, and only that."""
    share = np.random.default_rng(0).random((37, 50), np.float32)
    resized = np.asarray(Image.fromarray(share).resize(size[::-1], Image.Resampling.BILINEAR))
    found = mask_of_size(two_classes(share), size)
    sure = np.abs(resized - 0.5) > 1e-6
    assert found.shape == size and found.dtype == np.uint8
    np.testing.assert_array_equal(found[sure], (resized > 0.5)[sure])


@pytest.mark.parametrize("size", [(8, 6), (4, 3), (3, 2), (2, 9)])
def test_of_equal_classes_the_first_is_taken(size):
    probabilities = np.full((4, 3, 5), 0.2, np.float32)
    assert not mask_of_size(probabilities, size).any()
    probabilities[..., :2] = 0
    assert (mask_of_size(probabilities, size) == 2).all()


def test_256_classes():
    probabilities = np.eye(256, dtype=np.float32).reshape(16, 16, 256)
    for size in (16, 16), (160, 48):
        rows, columns = (np.arange(side) * 16 // side for side in size)
        found = mask_of_size(probabilities, size)
        centres = np.ix_(np.arange(size[0] // 32, size[0], size[0] // 16),
                         np.arange(size[1] // 32, size[1], size[1] // 16))  # fmt: skip
        expected = rows[:, None] * 16 + columns
        np.testing.assert_array_equal(found[centres], expected[centres])


def test_bands_of_rows_join_without_a_seam(monkeypatch):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), (19, 23)).astype(np.float32)
    whole = mask_of_size(probabilities, (170, 111))
    for pixels in (1, 111, 1000):
        monkeypatch.setattr("tfproj.core.probabilities.BAND_PIXELS", pixels)
        np.testing.assert_array_equal(mask_of_size(probabilities, (170, 111)), whole)


def test_memory_is_that_of_the_mask_whatever_the_classes():
    size = (2000, 3000)
    for classes in (2, 21):
        probabilities = np.random.default_rng(0).random((64, 64, classes), np.float32)
        tracemalloc.start()
        mask = mask_of_size(probabilities, size)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < mask.nbytes + probabilities.nbytes + 8_000_000


def test_everything_of_a_result_is_made_of_its_mask():
    probabilities = two_classes(np.linspace(0.1, 0.9, 48, dtype=np.float32).reshape(6, 8))
    colors = ("#102030", "#F0A000")
    result = Segmentation(("a", "b"), colors, probabilities, np.log(probabilities), (60, 80))
    assert result.mask is result.mask
    np.testing.assert_array_equal(np.asarray(result.mask_image()), result.mask)
    assert result.shares() == {"a": (result.mask == 0).mean(), "b": (result.mask == 1).mean()}
    shown = np.asarray(result.overlay(np.zeros((60, 80, 3), np.uint8), 1.0))
    np.testing.assert_array_equal(shown[result.mask == 1][0], (0xF0, 0xA0, 0))
    np.testing.assert_array_equal(shown[result.mask == 0][0], (0x10, 0x20, 0x30))
