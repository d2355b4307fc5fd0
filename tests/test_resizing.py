"""The policies for images of other proportions, against a formulation of another kind."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from PIL import Image
from tiny_models import CLASSIFY, SEGMENT, tiny_model

from tfproj import Predictor
from tfproj.core import image
from tfproj.core.resizing import inner_box
from tfproj.core.spec import PAD, RESIZES, ModelSpec, preprocessing
from tfproj.errors import InputError

pytestmark = pytest.mark.light

# Of odd rests, of proportions as they are wanted, and so thin that a side would round to 0.
SIZES = [(31, 47), (47, 31), (28, 200), (201, 28), (1, 90), (90, 1), (1, 1), (56, 56), (37, 37)]
TARGETS = [(28, 28), (21, 50), (50, 21), (3, 2)]


def nearest(fraction):
    """The nearest whole number, half up, at least 1."""
    return max(1, floor(fraction + Fraction(1, 2)))


def stretched(pixels, size):
    """Width first, then height, by Pillow."""
    picture = Image.fromarray(pixels)
    picture = picture.resize((size[1], len(pixels)), Image.Resampling.BILINEAR)
    return np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR))


def cropped(pixels, size):
    (h, w), (height, width) = pixels.shape[:2], size
    scale = max(Fraction(height, h), Fraction(width, w))
    rows = h if scale == Fraction(height, h) else nearest(height / scale)
    columns = w if scale == Fraction(width, w) else nearest(width / scale)
    top, left = (h - rows) // 2, (w - columns) // 2
    return stretched(pixels[top : top + rows, left : left + columns], size)


def letterboxed(pixels, size):
    (h, w), (height, width) = pixels.shape[:2], size
    scale = min(Fraction(height, h), Fraction(width, w))
    inner = stretched(pixels, (nearest(h * scale), nearest(w * scale)))
    top, left = (height - inner.shape[0]) // 2, (width - inner.shape[1]) // 2
    out = np.full((*size, *pixels.shape[2:]), 114, np.uint8)
    out[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return out


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("size", SIZES)
def test_policies_to_the_bit(size, target, channels):
    shape = size if channels == 1 else (*size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for policy, expected in (
        ("stretch", stretched), ("crop", cropped), ("letterbox", letterboxed)
    ):  # fmt: skip
        found, own = image.load_with_size(pixels, target, channels, resize=policy)
        assert own == size and found.shape == (*target, channels)
        np.testing.assert_array_equal(found.squeeze(-1) if channels == 1 else found,
                                      expected(pixels, target))  # fmt: skip


@pytest.mark.parametrize("policy", RESIZES)
def test_an_image_of_the_right_size_is_left_alone(policy):
    pixels = np.random.default_rng(0).integers(0, 256, (21, 50, 3), np.uint8)
    np.testing.assert_array_equal(image.load(pixels, (21, 50), 3, resize=policy), pixels)


def test_a_disc_stays_round():
    """The middle of a wide picture: stretching flattens it, the others keep it."""
    rows, columns = np.mgrid[:60, :180]
    disc = np.uint8(255) * ((rows - 29.5) ** 2 + (columns - 89.5) ** 2 < 28**2)
    sides = {}
    for policy in ("stretch", "crop", "letterbox"):
        bright = image.load(disc, (48, 48), 1, resize=policy)[..., 0] > 200
        sides[policy] = bright.any(axis=1).sum(), bright.any(axis=0).sum()
    assert sides["stretch"][0] > 2 * sides["stretch"][1]
    for policy in ("crop", "letterbox"):
        assert abs(int(sides[policy][0]) - int(sides[policy][1])) <= 1
    assert sides["crop"][0] > 2 * sides["letterbox"][0]


@pytest.mark.parametrize(
    ("policy", "expected"), [("crop", cropped), ("letterbox", letterboxed), ("stretch", stretched)]
)
def test_the_predictor_follows_the_file(tmp_path, policy, expected):
    predictor = Predictor(tiny_model(resize=policy, schema=1 if policy == "stretch" else 2))
    assert predictor.spec.resize == policy
    pixels = np.random.default_rng(1).integers(0, 256, (19, 40), np.uint8)
    seen = expected(pixels, CLASSIFY.size)[..., None]
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    found, size = predictor.load(path)
    np.testing.assert_array_equal(found, seen)
    assert size == (19, 40)
    answers = predictor.run(seen[None])[1][0]
    for source in (path, pixels, path.read_bytes()):
        result = next(predictor.stream([source]))
        np.testing.assert_allclose(result.probabilities, answers, atol=1e-6)


def test_the_record_says_which_policy_holds():
    for policy, schema in (("stretch", 1), ("crop", 2), ("letterbox", 2)):
        spec = ModelSpec(**{**vars(CLASSIFY), "resize": policy})
        assert spec.to_dict()["schema"] == schema
        assert ModelSpec.from_dict(spec.to_dict()) == spec
        resize = preprocessing(spec)["resize"]
        assert resize["policy"] == policy and resize["keep_aspect"] == (policy != "stretch")
        assert resize.get("pad") == (PAD if policy == "letterbox" else None)


def test_a_record_of_before_there_was_a_choice_stretches():
    record = CLASSIFY.to_dict()
    del record["resize"]
    assert ModelSpec.from_dict(record) == CLASSIFY
    with pytest.raises(InputError, match="'resize' is missing"):
        ModelSpec.from_dict({**record, "schema": 2})


@pytest.mark.parametrize("value", ["squash", "", None, 1, ["crop"], "crop" * 1000])
def test_a_file_with_another_policy_is_refused(value):
    with pytest.raises(InputError, match="resize") as caught:
        Predictor(tiny_model(resize=value, schema=2))
    assert len(str(caught.value)) < 200


def test_segmenters_are_not_cropped():
    with pytest.raises(InputError, match="for classify only"):
        ModelSpec(**{**vars(SEGMENT), "resize": "crop"})


@pytest.mark.parametrize("size", SIZES)
def test_beside_a_letterboxed_mask_all_is_void(size):
    mask = np.random.default_rng(1).integers(0, 5, size, np.uint8)
    for target in TARGETS:
        found = image.resize_mask(mask, target, "letterbox")
        box = inner_box(size, target, "letterbox")
        inner = found[box]
        np.testing.assert_array_equal(inner, image.resize_mask(mask, inner.shape))
        assert (found == 255).sum() == found.size - inner.size
        # The picture stands where the mask does.
        white = image.load(np.full(size, 255, np.uint8), target, 1, resize="letterbox")[..., 0]
        np.testing.assert_array_equal(white == 255, found != 255)


def test_only_segmenters_take_tiles():
    with pytest.raises(InputError, match="resize 'tiles' is for segment only"):
        ModelSpec(**{**vars(CLASSIFY), "resize": "tiles"})
    spec = ModelSpec(**{**vars(SEGMENT), "resize": "tiles"})
    assert spec.to_dict()["schema"] == 2 and ModelSpec.from_dict(spec.to_dict()) == spec
    assert preprocessing(spec)["resize"]["policy"] == "tiles"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_one_tile_is_the_window_in_the_middle(size, channels):
    shape = size if channels == 1 else (*size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for target in TARGETS:
        (top, left), (below, right) = zip(
            *((max(0, n - m) // 2, max(0, m - n)) for n, m in zip(size, target, strict=True)),
            strict=True,
        )
        extended = np.pad(
            pixels, ((0, below), (0, right)) + ((0, 0),) * (channels > 1), "symmetric"
        )
        expected = extended[top : top + target[0], left : left + target[1]]
        found = image.load(pixels, target, channels, resize="tiles")
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)
        if channels == 1:  # a mask has the same window
            np.testing.assert_array_equal(image.resize_mask(pixels, target, "tiles"), expected)
