import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from tfproj.core import decoding, image
from tfproj.errors import InputError

pytestmark = pytest.mark.light

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
GREY = RGB[..., 0]


def save(path, picture, **options):
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    picture.save(path, **options)
    return path


def fails(path, *words):
    """Loading is refused in one line that names the file and has these words."""
    with pytest.raises(InputError) as caught:
        image.load(path, None, 3)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    for word in words:
        assert word in message
    return message


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif", ".tif", ".webp", ".ppm"])
def test_lossless_formats_give_the_pixels(tmp_path, suffix):
    picture = Image.fromarray(GREY if suffix == ".gif" else RGB)
    path = save(
        tmp_path / f"a{suffix}", picture, **({"lossless": True} if "webp" in suffix else {})
    )
    expected = GREY[..., None].repeat(3, -1) if suffix == ".gif" else RGB
    np.testing.assert_array_equal(image.load(path, None, 3), expected)


def test_path_bytes_picture_and_array_agree(tmp_path):
    path = save(tmp_path / "a.png", RGB)
    expected = image.load(path, (4, 3), 3)
    assert expected.shape == (4, 3, 3) and expected.dtype == np.uint8
    for source in (str(path), path.read_bytes(), Image.fromarray(RGB), RGB):
        np.testing.assert_array_equal(image.load(source, (4, 3), 3), expected)


def test_grey_and_rgb_become_what_is_asked_for():
    np.testing.assert_array_equal(image.load(GREY, None, 3), GREY[..., None].repeat(3, -1))
    luma = RGB @ np.array([0.299, 0.587, 0.114])
    assert np.abs(image.load(RGB, None, 1)[..., 0] - luma).max() < 1
    assert image.load(GREY[..., None], None, 1).shape == (5, 7, 1)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("flag", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, suffix, flag):
    stored = np.zeros((16, 24, 3), np.uint8)
    stored[:8, :8], stored[:8, 16:], stored[8:, :8] = 255, 128, 64
    upright = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: np.rot90,
    }[flag]
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = flag
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 100}}.get(suffix, {})
    path = save(tmp_path / f"a{suffix}", stored, exif=exif, **options)
    result = image.load(path, None, 3).astype(int)  # JPEG keeps blocks of 8 x 8 px
    assert np.abs(result - upright(stored)).max() <= (1 if suffix == ".jpg" else 0)
    size, mode = image.header(path)
    assert mode == "RGB" and (size == result.shape[:2] or suffix == ".png")


def test_header_of_bytes_and_arrays(tmp_path):
    path = save(tmp_path / "a.png", GREY)
    for source in (path, path.read_bytes(), GREY):
        assert image.header(source) == ((5, 7), "L")


def test_palettes_are_expanded(tmp_path):
    palette = Image.fromarray(GREY % 2)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    path = save(tmp_path / "p.png", palette)
    expected = np.array([[10, 20, 30], [200, 100, 50]], np.uint8)[GREY % 2]
    np.testing.assert_array_equal(image.load(path, None, 3), expected)
    path = save(tmp_path / "t.png", palette, transparency=1)
    np.testing.assert_array_equal(
        image.load(path, None, 3), np.where(GREY[..., None] % 2, 255, expected)
    )
    path = save(tmp_path / "half.png", palette, transparency=bytes([255, 128]))
    assert image.load(path, None, 3)[GREY % 2 == 1][0].tolist() == [227, 177, 152]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_transparency_is_on_white(tmp_path, suffix):
    alpha = np.array([[0, 255, 128]], np.uint8)
    pixels = np.dstack([np.full((1, 3, 3), 100, np.uint8), alpha])
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    path = save(tmp_path / f"a{suffix}", pixels, **options)
    assert image.load(path, None, 3)[0].tolist() == [[255] * 3, [100] * 3, [177] * 3]
    assert image.load(path, None, 1)[0, :, 0].tolist() == [255, 100, 177]


def test_grey_with_alpha_is_on_white(tmp_path):
    alpha = Image.fromarray(np.array([[0, 255, 128]], np.uint8))
    path = save(tmp_path / "la.png", Image.merge("LA", [Image.new("L", (3, 1), 100), alpha]))
    assert image.load(path, None, 1)[0, :, 0].tolist() == [255, 100, 177]


def test_one_transparent_colour_of_an_rgb_png_is_white(tmp_path):
    path = save(
        tmp_path / "a.png", np.array([[[9, 9, 9], [8, 8, 8]]], np.uint8), transparency=(9,) * 3
    )
    assert image.load(path, None, 3)[0].tolist() == [[255] * 3, [8] * 3]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_divided_by_257(tmp_path, suffix):
    values = np.array([[0, 128, 129, 257, 30000, 65278, 65535]], np.uint16)
    path = save(tmp_path / f"a{suffix}", values)
    expected = np.rint(values / 257).astype(np.uint8)
    assert expected.tolist() == [[0, 0, 1, 1, 117, 254, 255]]
    for source in (path, values):
        np.testing.assert_array_equal(image.load(source, None, 1)[..., 0], expected)
        np.testing.assert_array_equal(image.load(source, None, 3)[..., 2], expected)


def test_one_transparent_value_of_a_16_bit_grey_png_is_white(tmp_path):
    path = save(tmp_path / "a.png", np.array([[30000, 30001, 514]], np.uint16), transparency=30001)
    for channels in (1, 3):
        assert image.load(path, None, channels)[0, :, 0].tolist() == [117, 255, 2]


def test_a_file_is_read_from_its_start(tmp_path):
    path = save(tmp_path / "a.png", GREY)
    with path.open("rb") as file:
        first, second = (image.load(file, None, 1) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_one_bit_is_black_and_white(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(GREY > 127))
    np.testing.assert_array_equal(image.load(path, None, 1)[..., 0], (GREY > 127) * 255)


def test_cmyk_jpeg(tmp_path):
    path = save(tmp_path / "a.jpg", Image.new("CMYK", (16, 8), (0, 255, 255, 0)), quality=95)
    red = image.load(path, None, 3)
    assert red.shape == (8, 16, 3)
    assert np.abs(red.astype(int) - (255, 0, 0)).max() < 8


@pytest.mark.parametrize("mode", sorted(set(decoding.MODES) - {"I;16N"}))
@pytest.mark.parametrize("channels", [1, 3])
def test_every_accepted_mode_converts(mode, channels):
    assert image.load(Image.new(mode, (3, 2)), None, channels).shape == (2, 3, channels)


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (6, 4), color) for color in ("red", "lime", "blue")]
    for suffix in (".gif", ".webp", ".png", ".tif"):
        path = tmp_path / f"a{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        first = image.load(path, None, 3).astype(int)
        assert np.abs(first - (255, 0, 0)).max() < 8, suffix


def test_shrinking_averages_and_growing_interpolates():
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 254
    assert np.abs(image.load(stripes, (16, 16), 1).astype(int) - 127).max() <= 16
    ramp = image.load(np.array([[0, 200]], np.uint8), (1, 8), 1)[0, :, 0].astype(int)
    assert (np.diff(ramp) >= 0).all() and len(set(ramp)) > 4


def test_the_width_is_resampled_first_whatever_pillow_would_do():
    random = np.random.default_rng(7)
    for _ in range(20):
        height, width, new_height, new_width = random.integers(1, 90, 4).tolist()
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        steps = Image.fromarray(pixels).resize((new_width, height), Image.Resampling.BILINEAR)
        steps = steps.resize((new_width, new_height), Image.Resampling.BILINEAR)
        got = image.load(pixels, (new_height, new_width), 3)
        np.testing.assert_array_equal(got, np.asarray(steps))


def test_masks_are_resized_without_new_values():
    mask = np.array([[0, 4], [2, 4]], np.uint8)
    large = image.resize_mask(mask, (8, 6))
    assert large.shape == (8, 6) and set(np.unique(large)) == {0, 2, 4}
    assert image.resize_mask(mask, (2, 2)) is mask


def test_float_and_32_bit_images_are_refused(tmp_path):
    fails(save(tmp_path / "f.tif", np.zeros((4, 4), np.float32)), "floating-point", "8 or 16 bits")
    deep = np.full((4, 4), 70_000, np.int32)
    fails(save(tmp_path / "i.tif", deep), "32 bits per sample", "8 or 16 bits")
    fails(save(tmp_path / "lab.tif", Image.new("LAB", (4, 4))), "colour mode LAB", "RGB")


def test_missing_folder_and_empty_files(tmp_path):
    fails(tmp_path / "no.png", "no such file")
    fails(tmp_path, "cannot be read")
    empty = tmp_path / "empty.jpg"
    empty.touch()
    fails(empty, "empty (0 bytes)")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".tif", ".webp", ".bmp", ".ppm"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_files(tmp_path, suffix, share):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    path = save(tmp_path / f"a{suffix}", noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    message = fails(path)
    assert "damaged" in message or "not an image" in message


def test_damaged_bytes_inside_a_png(tmp_path):
    path = save(tmp_path / "a.png", np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    fails(path, "damaged")


def test_text_named_png(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("<html>404 Not Found</html>")
    fails(path, "not an image", "PNG, JPEG")


def test_a_damaged_exif_block_does_not_spoil_the_pixels(tmp_path):
    path = save(tmp_path / "a.jpg", RGB, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert image.load(path, None, 3).shape == RGB.shape


def huge_png(path, side):
    """A 1-bit PNG of side x side px, written row by row."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    row, packer = bytes(1 + side // 8), zlib.compressobj(9)
    pixels = b"".join([packer.compress(row * 100) for _ in range(side // 100)] + [packer.flush()])
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_huge_images_are_refused_before_they_are_decoded(tmp_path, side):
    path = huge_png(tmp_path / "huge.png", side)
    tracemalloc.start()
    fails(path, "above the limit of 89,478,485 pixels")
    with pytest.raises(InputError, match="above the limit"):
        image.header(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 4), np.float32), "array of float32; expected uint8"),
        (np.zeros((4, 4, 3), np.int64), "array of int64"),
        (np.zeros((4, 4, 3), np.uint16), "array of uint16"),
        (np.zeros((4, 4), bool), "array of bool"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"shape \(1, 4, 4, 3\)"),
        (np.zeros(4, np.uint8), r"shape \(4,\)"),
        (np.zeros((0, 4), np.uint8), r"shape \(0, 4\)"),
        (np.broadcast_to(np.uint8(0), (20_000, 20_000)), "20000 x 20000 px is above the limit"),
    ],
)
def test_arrays_of_another_kind(array, words):
    with pytest.raises(InputError, match=f"^array: .*{words}"):
        image.open_image(array)
    with pytest.raises(InputError, match=f"^thing: .*{words}"):
        image.open_image(array, "thing")


def test_arrays_with_alpha_and_odd_strides():
    pixels = np.dstack([RGB, np.full(GREY.shape, 255, np.uint8)])
    np.testing.assert_array_equal(image.load(pixels, None, 3), RGB)
    np.testing.assert_array_equal(image.load(RGB[::-1, ::2], None, 3), RGB[::-1, ::2])


def test_other_sources():
    with pytest.raises(InputError, match="^image bytes: not an image"):
        image.open_image(b"nonsense")
    with pytest.raises(InputError, match="list given; expected a path"):
        image.open_image([1, 2])


def test_a_picture_that_turns_out_to_be_truncated(tmp_path):
    path = save(tmp_path / "a.png", np.random.default_rng(1).integers(0, 256, (64, 64), np.uint8))
    path.write_bytes(path.read_bytes()[:2000])
    with Image.open(path) as picture, pytest.raises(InputError, match="^image: damaged"):
        image.open_image(picture)


def test_listing_is_sorted_by_name_without_hidden_files(tmp_path):
    for name in ("b.PNG", "a.jpeg", "c.txt", ".d.png", "e"):
        (tmp_path / name).touch()
    names = [path.name for path in image.list_visible(tmp_path)]
    assert names == ["a.jpeg", "b.PNG", "c.txt", "e"]
    with pytest.raises(InputError, match="cannot be read"):
        image.list_visible(tmp_path / "no")


def test_a_warning_made_an_error_does_not_keep_a_picture_on_its_side(tmp_path):
    """Pillow warns of an EXIF block that ends early, behind the orientation."""
    exif = (b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
            b"\x1a\x01")  # fmt: skip
    Image.new("RGB", (32, 16)).save(tmp_path / "a.jpg", exif=exif, dpi=(72, 72))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image.load(tmp_path / "a.jpg", None, 3).shape == (32, 16, 3)
