import io

import numpy as np
import pytest
from PIL import Image

from tfproj.core import image
from tfproj.core.spec import rgb
from tfproj.data.lossy import edge_blocks, kept_by_jpeg
from tfproj.data.masks import MaskCoding, read_mask, read_values, require_same_size
from tfproj.errors import InputError

COLORS = ("#000000", "#0080FF", "#80FF80", "#FF8000", "#FF0000")
PLAIN = MaskCoding.plain(3)
COLORED = MaskCoding.plain(5, COLORS)
INDICES = (np.arange(48).reshape(6, 8) // 5 % 3).astype(np.uint8)


def painted(indices, colors=COLORS):
    """uint8 (H, W, 3): the class colours."""
    return np.array([rgb(color) for color in colors], np.uint8)[indices]


def save(path, picture, **options):
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    picture.save(path, **options)
    return path


@pytest.fixture
def fails(tmp_path):
    """Function: the values or picture are refused in one line with these words."""

    def check(picture, coding, *words, name="m.png"):
        path = save(tmp_path / name, picture)
        with pytest.raises(InputError) as caught:
            read_mask(path, coding)
        message = str(caught.value)
        assert message.startswith(f"{path}: ") and "\n" not in message
        for word in words:
            assert word in message

    return check


def test_grey_palette_and_16_bit_masks_hold_indices(tmp_path):
    palette = Image.fromarray(INDICES)
    palette.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    alpha = Image.merge("LA", [Image.fromarray(INDICES), Image.new("L", (8, 6), 255)])
    pictures = [INDICES, palette, INDICES.astype(np.uint16), alpha]
    for picture in pictures:
        mask = read_mask(save(tmp_path / "m.png", picture), PLAIN)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, INDICES)


def test_one_bit_masks_are_0_and_1(tmp_path):
    path = save(tmp_path / "m.png", Image.fromarray(INDICES == 2))
    np.testing.assert_array_equal(read_mask(path, MaskCoding.plain(2)), INDICES == 2)


def test_values_of_classes(tmp_path):
    coding = MaskCoding((255, 0, 7))
    path = save(tmp_path / "m.png", np.array([[0, 7, 255, 0]], np.uint8))
    assert read_mask(path, coding).tolist() == [[1, 2, 0, 1]]


def test_256_classes_leave_no_value_unused(tmp_path):
    values = np.arange(256, dtype=np.uint8)[None]
    path = save(tmp_path / "m.png", values)
    np.testing.assert_array_equal(read_mask(path, MaskCoding.plain(256)), values)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_are_matched_exactly(tmp_path, mode):
    path = save(tmp_path / "m.png", Image.fromarray(painted(INDICES)).convert(mode))
    np.testing.assert_array_equal(read_mask(path, COLORED), INDICES)


def test_0_and_255(fails):
    mask = (INDICES > 0).astype(np.uint8) * 255
    fails(mask, MaskCoding.plain(2), "0, 255 for 2 classes", "'value' of classes.csv")
    fails(mask, PLAIN, "{0, 255} mask")


def test_255_for_no_class(fails):
    fails(np.where(INDICES == 1, 255, INDICES).astype(np.uint8), PLAIN, "0, 2, 255", "no class")


def test_counted_from_1(fails):
    fails(INDICES + np.uint8(1), PLAIN, "1, 2, 3 for 3 classes", "counted from 1")


def test_out_of_range(fails):
    fails(INDICES * np.uint8(2), PLAIN, "0, 2, 4 for 3 classes", "name every value")


def test_palette_colours_saved_as_grey(fails):
    grey = image.load(painted(INDICES), None, 1)[..., 0]
    fails(grey, COLORED, "palette colours saved as grey", "mode P")


def test_interpolated_masks(fails):
    large = Image.fromarray(INDICES * np.uint8(90)).resize((64, 64), Image.Resampling.BICUBIC)
    fails(large, MaskCoding((0, 90, 180)), "many values", "nearest")
    fails(large, MaskCoding((0, 90, 180)), "JPEG", "PNG", name="m.jpg")


def test_interpolated_colours(fails):
    large = Image.fromarray(painted(INDICES)).resize((64, 64), Image.Resampling.BICUBIC)
    fails(large, COLORED, "belongs to no class", "more: resized with interpolation")


def test_an_unknown_colour(fails):
    pixels = painted(INDICES)
    pixels[0, :4] = 1, 2, 3
    fails(pixels, COLORED, "#010203", "8.3% of the pixels", "list it in classes.csv")


def test_colours_where_no_class_has_one(fails):
    fails(painted(INDICES), PLAIN, "an RGB mask", "color in classes.csv")
    fails(INDICES[..., None].repeat(3, -1), PLAIN, "grey values saved as RGB", "mode L")


def test_values_above_255_and_other_modes(fails):
    fails(np.full((4, 4), 300, np.uint16), PLAIN, "up to 300")
    fails(Image.new("CMYK", (4, 4)), PLAIN, "mode CMYK", "palette PNG", name="m.tif")


def test_encoded_values_are_read_as_stored():
    values = np.random.default_rng(5).integers(0, 256, (6, 7), np.uint8)
    palette = Image.fromarray(values).convert("P")
    palette.putpalette([255 - v // 3 for v in range(768)])
    for array in (values, np.stack([values] * 3, -1), values.astype(np.uint16)):
        np.testing.assert_array_equal(read_values(png(Image.fromarray(array)), "m"), values)
    np.testing.assert_array_equal(read_values(png(palette), "m"), np.asarray(palette))


def png(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def test_encoded_masks_that_hold_no_values_are_refused():
    for picture, reason in (
        (Image.fromarray(painted(INDICES)), "^m: RGB pixels; expected one class value per pixel"),
        (Image.fromarray(np.full((6, 7), 256, np.uint16)), "^m: .* at most 256 classes"),
    ):
        with pytest.raises(InputError, match=reason):
            read_values(png(picture), "m")


def test_sizes_must_be_equal():
    require_same_size((3, 4), (3, 4), "a.jpg")
    with pytest.raises(InputError, match=r"^a.jpg: the image is 3 x 4 px .* mask 4 x 3;"):
        require_same_size((3, 4), (4, 3), "a.jpg")


def palette_png(indices, colors):
    """A palette picture of class indices whose entries are in the order of ``colors``."""
    order = [colors.index(color) for color in COLORS[: indices.max() + 1]]
    picture = Image.fromarray(np.array(order, np.uint8)[indices])
    picture.putpalette([value for color in colors for value in rgb(color)])
    return picture


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_the_colours_of_a_palette_decide(tmp_path, order):
    """Whatever the palette's own order is: GIMP and Pillow's quantize write theirs."""
    picture = palette_png(INDICES, [COLORS[i] for i in order])
    path = save(tmp_path / "m.png", picture)
    np.testing.assert_array_equal(read_mask(path, MaskCoding.plain(3, COLORS[:3])), INDICES)


def test_a_palette_of_other_colours_holds_values(tmp_path):
    path = save(tmp_path / "m.png", palette_png(INDICES, COLORS[:3]))
    others = ("#111111", "#222222", "#333333")
    np.testing.assert_array_equal(read_mask(path, MaskCoding.plain(3, others)), INDICES)


def test_palettes_that_contradict_classes_csv(fails):
    moved = palette_png(INDICES, [COLORS[i] for i in (1, 0, 2)])
    stated = MaskCoding((0, 1, 2), COLORS[:3], stated=True)
    fails(moved, stated, "value 0 the color #0080FF", "class of value 1", "'value' or 'color'")
    partly = MaskCoding.plain(3, ("#000000", "#0080FF", "#123456"))
    fails(moved, partly, "value 0 the color #0080FF", "list its other colors too, such as #80FF80")


@pytest.mark.parametrize(("name", "options"), [("m.jpg", {}), ("m.webp", {"quality": 90}),
                                               ("m.tif", {"compression": "jpeg"})])  # fmt: skip
def test_lossy_masks_of_near_values_are_refused(tmp_path, name, options):
    """Though each value in the file is one of the classes."""
    grey = np.kron(INDICES % 2, np.ones((8, 8), np.uint8))
    picture = Image.fromarray(grey).convert("RGB") if name == "m.webp" else Image.fromarray(grey)
    colors = ("#000000", "#010101")
    path = save(tmp_path / name, picture, **options)
    with pytest.raises(InputError, match=r"m\.\w+: a mask saved as .*; save it as PNG, from what"):
        read_mask(path, MaskCoding.plain(2, colors))


def test_exact_masks_in_lossy_formats_are_read(tmp_path):
    far = np.kron(INDICES % 2, np.ones((8, 8), np.uint8)) * np.uint8(255)
    path = save(tmp_path / "m.jpg", Image.fromarray(far), quality=95)
    np.testing.assert_array_equal(read_mask(path, MaskCoding((0, 255))), far // 255)
    near = np.kron(INDICES, np.ones((8, 8), np.uint8))
    path = save(tmp_path / "m.webp", Image.fromarray(near).convert("P"), lossless=True)
    colored = MaskCoding.plain(3, ("#000000", "#010101", "#020202"))
    np.testing.assert_array_equal(read_mask(path, colored), near)


def test_the_value_that_is_no_class_is_said(fails):
    mask = np.arange(144, dtype=np.uint8).reshape(12, 12) % 12
    fails(mask, MaskCoding.plain(11), "mask values 11 (beside 11 that are classes) for 11 classes")


def shapes(seed, size=(96, 128)):
    """Overlapping discs of three classes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, np.uint8)
    for value in (1, 2, 1, 2):
        top, left, radius = rng.integers(0, size[0]), rng.integers(0, size[1]), rng.integers(8, 40)
        mask[(y - top) ** 2 + (x - left) ** 2 < radius**2] = value
    return mask


def blocks_of(masks):
    return np.unique(np.concatenate([edge_blocks(mask) for mask in masks]), axis=0)


@pytest.mark.parametrize("quality", [50, 75, 80, 90])
def test_traces_of_jpeg(quality):
    drawn, noisy = [shapes(seed) for seed in range(8)], []
    for mask in drawn:
        file = io.BytesIO()
        Image.fromarray(mask).save(file, "JPEG", quality=quality)
        noisy.append(np.asarray(Image.open(file)).clip(0, 2))
        assert (noisy[-1] != mask).mean() > 0.005
        assert not kept_by_jpeg(edge_blocks(mask))
    assert kept_by_jpeg(blocks_of(noisy)) and not kept_by_jpeg(blocks_of(drawn))
