"""Large images in tiles: geometry, blending, scale and memory, with toy networks."""

import pickle
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from tiny_models import CLASSIFY, SEGMENT, tiny_model

from tfproj import Predictor
from tfproj.core.probabilities import mask_of_size
from tfproj.core.tiling import Tiling, blocks, tiled_mask, trained_scale
from tfproj.errors import InputError
from tfproj.inference.tiles import find_tiling

pytestmark = pytest.mark.light

SIZES = [(1, 1), (7, 300), (64, 64), (65, 64), (130, 257), (300, 77)]


def pointwise(windows):
    """Three classes by brightness."""
    bright = windows[..., :1].astype(np.float32) / 255
    return np.concatenate([bright, 1 - bright, np.full_like(bright, 0.4)], axis=-1)


def noise(size, channels=3, seed=0):
    shape = (*size, channels) if channels > 1 else size
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def whole(picture, size, tiling, answer, batch_size=3):
    """All blended probabilities float32 (H, W, classes)."""
    out = np.full((*size, 3), np.nan, np.float32)
    for top, left, block in blocks(picture, size, tiling, 3, answer, batch_size, None):
        out[top : top + block.shape[1], left : left + block.shape[2]] = np.moveaxis(block, 0, -1)
    return out


@pytest.mark.parametrize("multiple", [1, 8, 32])
@pytest.mark.parametrize("window", [32, 64, 96])
@pytest.mark.parametrize("n", [1, 31, 32, 33, 64, 95, 97, 1000])
def test_windows_cover_every_pixel_once_by_weight(n, window, multiple):
    tiling = Tiling((window, window), multiple=multiple)
    axis = tiling.axis(n, window)
    total = np.zeros(axis.length)
    for start, weights in zip(axis.starts, axis.weights, strict=True):
        assert start % multiple == 0 and (weights >= 0).all()
        total[start : start + window] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert axis.starts[-1] + window == axis.length and n <= axis.length < n + max(multiple, window)
    steps = np.diff(axis.starts)
    assert (steps <= window - min(window / 4, window - multiple)).all() and (steps > 0).all()
    assert sum(axis.ready) == n and min(axis.ready) > 0


@pytest.mark.parametrize("reach", [None, 3, 9])
@pytest.mark.parametrize(("n", "window", "multiple"), [(1000, 64, 8), (130, 96, 32), (77, 40, 1)])
def test_windows_as_documented(n, window, multiple, reach):
    """docs/onnx-contract.md, "Tiles", in plain numbers."""

    def up(a):
        return -(-a // multiple) * multiple

    length, overlap = max(window, up(n)), min(up(window // 4), window - multiple)
    windows = 1 - (window - length) // (window - overlap)
    starts = [
        i * (length - window) // max(1, windows - 1) // multiple * multiple for i in range(windows)
    ]
    margin = reach if reach and 2 * reach < overlap else 0

    def ramp(x):
        return min(1, max(0, (x + 0.5 - margin) / max(1, overlap - 2 * margin)))

    def weight(i, x):
        left = ramp(x) if i else 1
        return left * (ramp(window - 1 - x) if i < windows - 1 else 1)

    axis = Tiling((window, window), multiple=multiple, reach=reach).axis(n, window)
    assert axis.starts == starts
    for place in range(length):
        here = {i: place - s for i, s in enumerate(starts) if 0 <= place - s < window}
        total = sum(weight(i, x) for i, x in here.items())
        for i, x in here.items():
            assert axis.weights[i, x] == pytest.approx(weight(i, x) / total, abs=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_a_mask_of_any_size_is_that_of_its_pixels(size):
    """Also of images smaller than a window, and of odd sides."""
    pixels, done = noise(size), []
    mask = tiled_mask(
        Image.fromarray(pixels), Tiling((64, 48), multiple=8), 3, pointwise, 3,
        lambda *tiles: done.append(tiles),
    )  # fmt: skip
    np.testing.assert_array_equal(mask, pointwise(pixels).argmax(-1))
    assert [number for number, _ in done] == list(range(1, done[-1][1] + 1))


def test_a_grey_picture_is_tiled():
    pixels = noise((90, 70), 1)
    mask = tiled_mask(Image.fromarray(pixels), Tiling((64, 64)), 3, pointwise)
    np.testing.assert_array_equal(mask, pointwise(pixels[..., None]).argmax(-1))


@pytest.mark.parametrize("scale", [(0.5, 0.5), (0.3, 0.3), (1.7, 1.7), (0.4, 1.3)])
@pytest.mark.parametrize("size", SIZES)
def test_at_another_scale_it_is_the_mask_of_the_resized_image(size, scale):
    waves = np.sin(np.arange(size[0]) / 9)[:, None] + np.sin(np.arange(size[1]) / 7)
    picture = Image.fromarray(np.uint8(127 + 60 * waves))
    tiling = Tiling((64, 64), scale, multiple=8)
    height, width = tiling.size(size)
    small = picture.resize((width, size[0]), 2).resize((width, height), 2)
    expected = mask_of_size(pointwise(np.asarray(small)[..., None]), size)
    # A band rounds a level of brightness otherwise here and there.
    assert np.mean(tiled_mask(picture, tiling, 3, pointwise, 3) != expected) < 1e-3


def test_bands_of_a_resized_image_fit_together():
    """Where each is resized by itself, no row knows less of its neighbours than in one piece."""
    picture, tiling = Image.fromarray(noise((600, 40), 1)), Tiling((64, 64), (0.3, 0.3), multiple=8)
    seen = []

    def remember(windows):
        seen.append(windows[0, :, :12, 0])
        return pointwise(windows)

    tiled_mask(picture, tiling, 3, remember)
    small = np.asarray(picture.resize((12, 600), 2).resize((12, 180), 2)).astype(int)
    starts = tiling.axis(180, 64).starts
    assert len(seen) == len(starts) > 2
    for start, strip in zip(starts, seen, strict=True):
        rows = small[start : start + 64]
        assert np.abs(strip[: len(rows)] - rows).max() <= 1


@pytest.mark.parametrize("size", [(5, 6), (70, 66)])
def test_beyond_its_end_an_image_is_mirrored(size):
    def from_the_right(windows):
        """The answer is what lies four pixels further below and to the right."""
        return pointwise(np.roll(windows, (-4, -4), (1, 2)))

    pixels = noise(size)
    extended = np.pad(pixels, ((0, 4), (0, 4), (0, 0)), "symmetric")
    expected = pointwise(extended[4:, 4:]).argmax(-1)
    tiling = Tiling((64, 64), multiple=16, reach=4)
    mask = tiled_mask(Image.fromarray(pixels), tiling, 3, from_the_right)
    np.testing.assert_array_equal(mask, expected)


def box_mean(windows, radius=5):
    """A network that sees ``radius`` pixels, and zeros beyond the window."""
    padded = np.pad(
        windows[..., 0].astype(np.float64), ((0, 0), (radius, radius), (radius, radius))
    )
    sums = np.zeros(windows.shape[:3])
    for y in range(2 * radius + 1):
        for x in range(2 * radius + 1):
            sums += padded[:, y : y + windows.shape[1], x : x + windows.shape[2]]
    return pointwise(sums[..., None] / (2 * radius + 1) ** 2)


def test_tiles_are_one_pass_where_the_reach_is_thrown_away():
    pixels = noise((128, 200))
    picture, expected = Image.fromarray(pixels), box_mean(pixels[None])[0]
    exact = whole(picture, (128, 200), Tiling((64, 64), multiple=8, reach=5), box_mean)
    np.testing.assert_allclose(exact, expected, atol=1e-6)
    blended = whole(picture, (128, 200), Tiling((64, 64), multiple=8), box_mean)
    assert np.abs(blended - expected).max() > 1e-3


def test_what_a_window_gets_wrong_at_its_border_is_not_seen():
    def blind(windows):
        """Right in the middle; towards the border more and more sure of something else."""
        distance = np.minimum.reduce([np.minimum(i, 63 - i) for i in np.indices((64, 64))])
        wrong = np.clip(1 - distance / 12, 0, 1)[..., None]
        answer = np.array([1, 0, 0]) * (1 - wrong) + np.array([0, 1, 0]) * wrong
        return np.broadcast_to(answer.astype(np.float32), (len(windows), 64, 64, 3))

    answer = whole(Image.fromarray(noise((300, 310))), (300, 310), Tiling((64, 64)), blind)
    inside = answer[32:-32, 32:-32, 1]
    assert inside.max() < 0.5
    assert answer[:, 0, 1].min() > 0.9  # at the image's own border there is no other window


def test_memory_does_not_grow_with_the_height():
    def most(height):
        picture = Image.fromarray(noise((height, 256)))
        tracemalloc.start()
        try:
            tiled_mask(picture, Tiling((64, 64), (1.0, 0.99)), 3, pointwise)
            return tracemalloc.get_traced_memory()[1] - height * 256
        finally:
            tracemalloc.stop()

    few, many = most(1000), most(4000)
    # All probabilities of the higher one would be 9 MB more.
    assert many - few < 100_000


# --- the predictor -------------------------------------------------------------------------------


def trained_on(median, **more):
    return tiny_model("segment", training={"median_size": median}, **more)


def test_the_scale_is_that_of_the_training():
    assert Predictor(trained_on([80, 60]), tiles=True).tiling.scale == (0.1, 0.2)
    assert Predictor(trained_on([80, 60]), tiles=0.5).tiling.scale == (0.5, 0.5)
    assert Predictor(trained_on([80, 60])).tiling is None
    of_tiles = trained_on([80, 60], resize="tiles", schema=2)
    assert Predictor(of_tiles).tiling.scale == (1, 1)


@pytest.mark.parametrize("median", [None, [80], "80", [0, 60], [80, True], [1e300, 2], {}])
def test_without_a_size_of_the_training_the_scale_is_asked_for(median):
    with pytest.raises(InputError, match="give the scale of tiles"):
        Predictor(trained_on(median), tiles=True)
    assert Predictor(trained_on(median), tiles=1).tiling.scale == (1, 1)


@pytest.mark.parametrize("scale", [0, -1, 65, float("nan"), "1"])
def test_a_scale_that_makes_no_sense_is_refused(scale):
    with pytest.raises(InputError, match="tile_scale is"):
        Predictor(trained_on([8, 12]), tiles=scale)


def test_a_classifier_is_not_tiled():
    with pytest.raises(InputError, match="tiles are for segmentation"):
        Predictor(tiny_model("classify"), tiles=True)
    with pytest.raises(InputError, match="for segment only"):
        Predictor(tiny_model("classify", resize="tiles", schema=2))


@pytest.mark.parametrize("entry", [{"multiple": 3}, {"multiple": 0}, {"reach": -1}, {"reach": 0.5}])
def test_a_file_with_wrong_strides_is_refused(entry):
    with pytest.raises(InputError, match="wrong multiple or reach"):
        Predictor(trained_on([8, 12], input=entry), tiles=True)


def test_a_tile_is_one_run_and_sources_are_alike(tmp_path):
    predictor, pixels = (
        Predictor(trained_on([8, 12], input={"multiple": 2}), tiles=True),
        noise((8, 12)),
    )
    expected = predictor.run(pixels[None])[1][0].argmax(-1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for source in (pixels, tmp_path / "a.png", Image.fromarray(pixels), pixels[None]):
        (result,) = predictor.predict(source)
        np.testing.assert_array_equal(result.mask, expected)
    reversed_ = Predictor(trained_on([8, 12]), tiles=True, bgr=True)
    np.testing.assert_array_equal(
        reversed_.predict(np.ascontiguousarray(pixels[..., ::-1]))[0].mask, expected
    )
    mirrored = Predictor(trained_on([8, 12]), tiles=True, flip=True)
    whole_ = Predictor(trained_on([8, 12]), flip=True)
    np.testing.assert_array_equal(mirrored.predict(pixels)[0].mask, whole_.predict(pixels)[0].mask)


def test_a_result_of_tiles_keeps_the_mask_alone():
    predictor, pixels = Predictor(trained_on([8, 12]), tiles=True), noise((61, 83))
    (result,) = predictor.predict(pixels)
    assert result.mask.shape == result.size == (61, 83)
    assert sum(result.shares().values()) == pytest.approx(1)
    picture, mask = Image.fromarray(pixels), result.mask_image()
    expected = Image.blend(picture, mask.convert("RGB"), 0.5)
    assert mask.size == (83, 61) and result.overlay(picture) == expected
    np.testing.assert_array_equal(np.asarray(picture), pixels)  # which is the caller's
    assert result.overlay(pixels) == expected
    for name in ("probabilities", "scores"):
        with pytest.raises(InputError, match=f"{name}: not kept"):
            getattr(result, name)
    with pytest.raises(AttributeError):
        result.nothing  # noqa: B018 (that it fails is the test)
    (again,) = pickle.loads(pickle.dumps(predictor)).predict(pixels)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(again)).mask, result.mask)


def test_errors_stand_at_their_places(tmp_path):
    predictor = Predictor(trained_on([8, 12]), tiles=8.0)
    large = noise((2000, 2000), 1)  # 16,000 x 16,000 at that scale
    found = list(predictor.stream([noise((9, 9)), tmp_path / "no.png", large], errors="return"))
    assert found[0].mask.shape == (9, 9)
    assert "no such file" in str(found[1])
    assert "at the scale of its tiles: 16000 x 16000 px is above the limit" in str(found[2])
    stream = predictor.stream([noise((9, 9)), large])
    next(stream)
    with pytest.raises(InputError, match="above the limit"):
        next(stream)


def test_files_of_free_size_have_windows_that_are_exact():
    spec = type(SEGMENT)(**{**vars(SEGMENT), "dynamic_size": True})
    tiling = find_tiling(spec, {"input": {"multiple": 2, "reach": 9}}, 1.0, "m")
    assert tiling.window == (76, 76) and tiling.free
    for n in (10, 75, 76, 77, 500):
        axis = tiling.axis(n, 76)
        assert len(axis.starts) == 1 or (axis.weights[0, -9:] == 0).all()
        assert axis.window == min(76, n + n % 2)
    unbounded = find_tiling(spec, {"input": {"multiple": 2, "reach": None}}, 1.0, "m")
    assert unbounded.window == spec.size and not unbounded.free
    with pytest.raises(InputError):
        find_tiling(CLASSIFY, {}, 1.0, "m")


def test_trained_scale_of_tiles_is_one():
    spec = type(SEGMENT)(**{**vars(SEGMENT), "resize": "tiles"})
    assert trained_scale(spec, [80, 60], None) == (1, 1)
    assert trained_scale(spec, None, 2) == (2, 2)
