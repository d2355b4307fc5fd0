"""A picture is right, or it is refused: files that Pillow decodes otherwise, and work without end.

All files are made here, sample by sample, so that the expected pixels do not come from Pillow.
"""

import io
import struct
import threading
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from tfproj.core import bounds, decoding, image
from tfproj.data.masks import read_raw_mask
from tfproj.errors import InputError

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 20, 37


def pack(rows, bits, order=">"):
    """Rows of samples as the bytes of a file, each row padded to a whole byte."""
    if bits >= 16:
        return rows.astype(f"{order}u{bits // 8}").tobytes()
    if bits == 8:
        return rows.astype(np.uint8).tobytes()
    return np.packbits((rows[..., None] >> np.arange(bits)[::-1] & 1).reshape(len(rows), -1).astype(
        np.uint8), axis=1).tobytes()  # fmt: skip


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples, bits, colour=0, before=b"", after=b""):
    """A PNG file of integers (H, W) or (H, W, channels); chunks before and after its pixels."""
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    rows = b"".join(b"\0" + pack(row.reshape(1, -1), bits) for row in samples)
    pixels = before + chunk(b"IDAT", zlib.compress(rows)) + after
    return bounds.PNG + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def tiff(samples, bits, photometric, planar=1, compress=False, order="<", **more):
    """A TIFF file of integers (H, W, channels) in one strip a plane; ``more`` tags as t338=[2]."""
    height, width, channels = samples.shape
    planes = [samples] if planar == 1 else list(np.moveaxis(samples, 2, 0))
    strips = [pack(plane.reshape(height, -1), bits, order) for plane in planes]
    strips = [zlib.compress(strip) if compress else strip for strip in strips]
    places = np.cumsum([8, *map(len, strips)])
    tags = {256: [width], 257: [height], 258: [bits] * channels, 259: [8 if compress else 1],
            262: [photometric], 273: places[:-1], 277: [channels], 278: [height],
            279: [len(strip) for strip in strips], 284: [planar]}  # fmt: skip
    tags |= {int(name[1:]): values for name, values in more.items()}
    entries, extra, place = [], b"", int(places[-1])
    for tag, values in sorted(tags.items()):
        if values is None:
            continue
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            packed, extra = struct.pack(f"{order}I", place + len(extra)), extra + packed
        entries.append(struct.pack(f"{order}HHI", tag, 4, len(values)) + packed)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", place + len(extra))
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    return head + b"".join(strips) + extra + directory


def numbers(bits, channels=1):
    return RNG.integers(0, 2**bits, (HEIGHT, WIDTH, channels))


def refused(data, *words):
    with pytest.raises(InputError) as caught:
        image.load(data, None, 3)
    for word in words:
        assert word in str(caught.value)


def spread(values, bits):
    """Grey of 1 to 16 bits over 0..255, (H, W, 3)."""
    top = 2**bits - 1
    return np.repeat((values * 255 + top // 2) // top, 3, axis=-1)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_has_the_depth_of_the_file(bits):
    values = numbers(bits)
    clear = int(values[0, 0, 0])
    expected = np.where(values == clear, 255, spread(values, bits))
    data = png(values, bits, before=chunk(b"tRNS", struct.pack(">H", clear)))
    np.testing.assert_array_equal(image.load(data, None, 3), expected)


def test_the_transparent_colour_of_a_16_bit_png_is_refused():
    """Pillow compares its low bytes with the pixels' high ones."""
    transparent = chunk(b"tRNS", struct.pack(">HHH", 0x1234, 0x1234, 0x1234))
    refused(png(numbers(16, 3), 16, 2, before=transparent), "one is transparent")


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_grey_tiffs_are_right(order, compress):
    for bits in (1, 2, 4, 8, 16):
        values = numbers(bits)
        for photometric, planar in ((1, 1), (0, 1), (1, 2), (0, 2)):
            data = tiff(values, bits, photometric, planar, compress, order)
            expected = spread(values, bits)
            if photometric == 0:
                expected = 255 - expected
            if photometric == 0 and bits == 16:
                refused(data)
            elif planar == 2 and not compress and (bits != 8 or photometric == 0):
                refused(data, "planes")  # Pillow reads them as 8 bits, black as 0
            else:
                np.testing.assert_array_equal(image.load(data, None, 3), expected)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [1, 2])
def test_colour_tiffs_are_right(planar, bits):
    values = numbers(bits, 3)
    for compress in (False, True):
        data = tiff(values, bits, 2, planar, compress)
        if planar == 2 and bits == 16 and not compress:
            refused(data, "planes")
        else:
            np.testing.assert_array_equal(image.load(data, None, 3), values >> (bits - 8))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tiff(numbers(12), 12, 1), "12 bits per sample"),
        (tiff(numbers(8), 32, 1), "32 bits per sample"),
        (tiff(numbers(8), 8, 1, t339=[2]), "signed"),
        (tiff(numbers(14), 16, 1, t339=[2]), "signed"),
        (tiff(numbers(8), 8, 1, t262=None), "photometric"),
        (tiff(numbers(8, 2), 8, 1, 2, True, t338=[2]), "planes"),
        (tiff(numbers(8, 4), 8, 2), "last has no name"),
        (tiff(numbers(8, 3), 8, 6), "subsampled"),
        (tiff(numbers(8), 8, 3, t320=list(range(256)) * 3), "palette of 8 bits"),
        (tiff(numbers(8), 8, 1, t257=[HEIGHT + 1]), "fewer strips than its height takes"),
    ],
)
def test_tiffs_that_pillow_takes_for_others(data, words):
    refused(data, "TIFF with", words)
    with pytest.raises(InputError, match=words):
        image.header(data)


def test_a_tiff_that_was_opened_by_the_caller_is_checked_as_well():
    with Image.open(io.BytesIO(tiff(numbers(12), 12, 1))) as picture:
        refused(picture, "12 bits per sample")


@pytest.mark.parametrize("top", [1, 20, 110, 254, 256, 1023, 4095, 65535])
@pytest.mark.parametrize("magic", [5, 6])
def test_a_binary_ppm_has_any_largest_value(magic, top):
    values = RNG.integers(0, top + 1, (HEIGHT, WIDTH, {5: 1, 6: 3}[magic]))
    head = f"P{magic} {WIDTH} {HEIGHT} {top}\n".encode()
    data = head + values.astype(">u2" if top > 255 else "u1").tobytes()
    expected = (values * 255 + top // 2) // top
    np.testing.assert_array_equal(image.load(data, None, 3), np.broadcast_to(expected, (
        HEIGHT, WIDTH, 3)))  # fmt: skip
    refused(data[:-1])
    if top == 20:
        refused(data[: len(head)] + b"\x15" + data[len(head) + 1 :], "above its maximum of 20")


@pytest.mark.parametrize("limit", [2, 111, 1024, 4096])
def test_16_bits_of_which_8_would_keep_next_to_nothing(limit):
    grey, colour = (RNG.integers(0, limit, (HEIGHT, WIDTH, n)) for n in (1, 3))
    offset = 30_000 + grey
    for data in (png(grey, 16), png(offset, 16), tiff(grey, 16, 1), grey.astype(np.uint16)):
        refused(data, "16-bit values", "stretch them")
    for data in (png(colour, 16, 2), tiff(colour, 16, 2)):
        refused(data, "16-bit colours", "stretch them")


def test_16_bits_that_8_show_are_read():
    for values in (np.zeros((4, 4, 1), int), numbers(1) * 65535, numbers(3) * 257, numbers(14)):
        np.testing.assert_array_equal(image.load(png(values, 16), None, 3), spread(values, 16))


def test_masks_are_numbers_whatever_their_range(tmp_path):
    classes = numbers(2)
    for name, data in (("a.png", png(classes, 16)), ("a.tif", tiff(classes, 32, 1))):
        (tmp_path / name).write_bytes(data)
        np.testing.assert_array_equal(read_raw_mask(tmp_path / name, name), classes[..., 0])


def test_an_orientation_in_xmp_is_not_applied():
    xmp = b'<x tiff:Orientation="6"/>'
    picture = Image.new("RGB", (20, 10))
    for name in ("JPEG", "WEBP", "TIFF", "PNG"):
        buffer = io.BytesIO()
        picture.save(buffer, name, **({"tiffinfo": {700: xmp}} if name == "TIFF" else {"xmp": xmp}))
        data = buffer.getvalue()
        if name == "PNG":
            data = data[:33] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp) + data[33:]
        assert b"Orientation" in data
        assert image.load(data, None, 3).shape == (10, 20, 3), name
        assert image.header(data)[0] == (10, 20), name


def bmp(bits, palette=b"", masks=b"", colours=0):
    """A BMP file of 4 x 4 zero pixels; with masks of the newer header that has four."""
    size = 40 if not masks else 56
    pixels = bytes(4 * max(4, bits // 2))
    at = 14 + size + len(palette)
    head = struct.pack("<IiiHHIIiiII", size, 4, 4, 1, bits, 3 if masks else 0, len(pixels), 0, 0,
                       colours, 0)  # fmt: skip
    return (
        b"BM" + struct.pack("<IHHI", at + len(pixels), 0, 0, at) + head + masks + palette + pixels
    )


def test_bmps_that_pillow_takes_for_others():
    black_and_white = b"\0\0\0\0\xff\xff\xff\0"
    assert (image.load(bmp(1, black_and_white, colours=2), None, 3) == 0).all()
    for bits in (4, 8):  # they would be read as 1 bit per pixel
        refused(bmp(bits, black_and_white, colours=2), f"palette of greys and {bits} bits")
    for bits, masks in ((16, (0x7C00, 0x3E0, 0x1F, 0x8000)), (32, (0, 0, 0, 0))):
        refused(bmp(bits, masks=struct.pack("<4I", *masks)), "masks")
    assert image.load(bmp(16, masks=struct.pack("<4I", 0xF800, 0x7E0, 0x1F, 0)), None, 3).shape


def test_a_gif_whose_first_frame_leaves_a_part_open():
    buffer = io.BytesIO()
    Image.new("P", (8, 8)).save(buffer, "GIF")
    data = bytearray(buffer.getvalue())
    assert image.load(bytes(data), None, 3).shape == (8, 8, 3)
    data[6] = 9  # the screen is wider
    refused(bytes(data), "first frame")


def test_of_an_animated_png_the_picture_for_everyone_is_read():
    values, data = numbers(8), zlib.compress(bytes(HEIGHT * (WIDTH + 1)))
    control = struct.pack(">IIIIIHHBB", 0, WIDTH, HEIGHT, 0, 0, 1, 1, 0, 0)
    frames = chunk(b"fcTL", control) + chunk(b"fdAT", struct.pack(">I", 1) + data)
    animated = png(values, 8, before=chunk(b"acTL", struct.pack(">II", 1, 0)), after=frames)
    np.testing.assert_array_equal(image.load(animated, None, 3), spread(values, 8))


def test_large_profiles_and_texts_are_not_unpacked():
    values = numbers(8)
    packed = zlib.compress(bytes(30_000_000))
    profile, text = chunk(b"iCCP", b"p\0\0" + packed), chunk(b"zTXt", b"t\0\0" + packed)
    for before, after in ((profile, b""), (text, b""), (b"", text), (profile + text, text)):
        data = png(values, 8, before=before, after=after)
        tracemalloc.start()
        np.testing.assert_array_equal(image.load(data, None, 3), spread(values, 8))
        assert tracemalloc.get_traced_memory()[1] < 3e6
        tracemalloc.stop()
    refused(png(values, 8, before=chunk(b"noNe", b"") * (bounds.MAX_CHUNKS + 1)), "chunks")


def segment(marker, data):
    return bytes([255, marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg(side, scans):
    """A grey progressive JPEG file whose scans say in a few bytes that nothing changes."""
    blocks = ((side + 7) // 8) ** 2
    frame = segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + bytes([1, 0x11, 0]))
    codes = [
        segment(0xC4, bytes([kind, 1, *[0] * 15, symbol])) for kind, symbol in ((0, 0), (16, 224))
    ]
    runs = [32767] * (blocks // 32767) + [max(16384, blocks % 32767)]  # of blocks that stay empty
    bits = "".join(f"0{run - 16384:014b}" for run in runs)
    bits += "1" * (-len(bits) % 8)
    empty = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0")
    # The mean of each block; then the other 63 coefficients without their last bit; then that bit.
    parts = [((0, 0, 0), bytes((blocks + 7) // 8)), ((1, 63, 1), empty)]
    parts += [((1, 63, 0x10), empty)] * (scans - 2)
    body = b"".join(segment(0xDA, bytes([1, 1, 0, *which])) + data for which, data in parts)
    return (
        b"\xff\xd8"
        + segment(0xDB, b"\0" + bytes([1] * 64))
        + frame
        + b"".join(codes)
        + body
        + b"\xff\xd9"
    )


def test_scans_times_pixels_are_bounded():
    assert image.load(jpeg(64, 100), None, 1).shape == (64, 64, 1)
    refused(jpeg(9000, 400), "400 scans of 81,000,000 pixels")
    refused(jpeg(500, 15_000), "15000 scans")


def test_bytes_behind_a_jpeg_are_no_scans():
    """As a video behind a photograph, of which each 65,536th pair of bytes is a scan's marker."""
    data = jpeg(64, 20)
    np.testing.assert_array_equal(
        image.load(data + b"\xff\xda" * 800_000, None, 1), image.load(data, None, 1)
    )


def test_too_much_metadata_in_a_jpeg():
    data = jpeg(64, 3)
    exif = segment(0xE1, b"Exif\0\0" + bytes(60_000))
    refused(data[:2] + exif * (bounds.MAX_EXIF + 1) + data[2:], "metadata")
    refused(data[:2] + segment(0xE5, bytes(120)) * (bounds.MAX_SEGMENTS + 2) + data[2:], "metadata")


def test_tiles_and_strips_of_a_tiff_are_bounded():
    values = numbers(8)
    refused(tiff(values, 8, 1, t322=[40_000], t323=[40_000]), "tiles of 40000 x 40000 px")
    refused(tiff(values, 8, 1, t322=[16], t323=[40_000]), "tiles of 16 x 40000 px")
    for order in "<>":
        data = tiff(values, 8, 1, order=order, t273=[8] * (bounds.MAX_STRIPS + 1))
        refused(data, "strips or tiles")


def test_what_pillow_decodes_in_python_is_bounded():
    refused(b"P3 3000 3000 255\n" + b"1 " * 100, "text or run lengths")


def test_decoders_share_one_budget():
    budget, most, running = bounds.Budget(10), [], []

    def decode(pixels):
        with budget.hold(pixels):
            running.append(min(pixels, 10))
            most.append(sum(running))
            time.sleep(0.01)
            running.remove(min(pixels, 10))

    threads = [
        threading.Thread(target=decode, args=(n,), daemon=True) for n in (4, 4, 99, 3, 10, 4, 4, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(most) == 8 and max(most) <= 10


def test_pictures_wait_for_room(monkeypatch):
    """One at a time where each is larger than the budget, and none waits for itself."""
    monkeypatch.setattr(bounds, "SMALL", 0)
    monkeypatch.setattr(bounds, "_BUDGET", bounds.Budget(1))
    decode, inside, results = decoding.decode, threading.Lock(), []

    def alone(*args):
        assert inside.acquire(blocking=False)
        time.sleep(0.01)
        inside.release()
        return decode(*args)

    def work(data):
        results.append(image.to_array(image.open_image(data), (8, 8), 1))
        results.append(image.load(data, (8, 8), 1))

    monkeypatch.setattr(decoding, "decode", alone)
    data = png(numbers(8), 8)
    threads = [threading.Thread(target=work, args=(data,), daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(results) == 8


def test_transparency_of_a_large_picture_is_composited_by_rows(monkeypatch):
    rgba = np.random.default_rng(3).integers(0, 256, (30, 20, 4)).astype(np.uint8)
    whole = image.load(rgba, None, 3)
    monkeypatch.setattr(decoding, "BLOCK", 70)  # three rows
    np.testing.assert_array_equal(image.load(rgba, None, 3), whole)
    values = numbers(16)
    np.testing.assert_array_equal(image.load(png(values, 16), None, 3), spread(values, 16))
