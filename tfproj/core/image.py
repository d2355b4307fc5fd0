"""The one policy for reading an image: decode, orient, convert, resize.

Training, evaluation and the predictor all call :func:`load`, so a model never meets pixels
that were prepared in another way. numpy and Pillow only.

The policy, in order (``docs`` for a port to another language):

1. Formats: PNG, JPEG, BMP, GIF (first frame), TIFF (first page), WebP, PPM. At most
   ``bounds.MAX_PIXELS`` pixels; truncated files are refused, and those that Pillow decodes to
   other pixels than they say.
2. EXIF orientation is applied, XMP's is not.
3. 16-bit grey is scaled to 8 bits by ``round(v / 257)``; float, signed, 12 and 32-bit images are
   refused, and 16-bit ones of which 8 bits keep next to nothing.
4. Palettes are expanded; transparency is composited on white.
5. ``channels`` 1: ITU-R 601 luma (Pillow mode ``L``); 3: RGB. CMYK goes through Pillow's
   plain conversion, colour profiles are ignored.
6. Resize to exactly (height, width), bilinear with antialiasing (Pillow ``BILINEAR``: a triangle
   filter widened by the scale factor when shrinking), the width first. What happens to other
   proportions is the model's own policy, see :mod:`tfproj.core.resizing`.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from tfproj.core import bounds, decoding
from tfproj.core.file_faults import Opened
from tfproj.core.resizing import inner_box, middle_window, resized
from tfproj.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp",
            ".ppm", ".pgm", ".pbm", ".pnm")  # fmt: skip
# As much as an uncompressed image of that size takes, 16 bits per channel.
MAX_FILE_BYTES = 512 * 2**20

VOID = 255  # in a mask: not to be counted, see tfproj.data.masks

Encoded = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
ImageLike = Encoded | Image.Image | np.ndarray


def read_bytes(path: str | os.PathLike, label: str | None = None) -> bytes:
    """The content of an image file.

    Raises:
        InputError: missing, unreadable, empty, too large, or a pipe or device, which may never end.
    """
    label = label or str(path)
    try:
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode):
            _require_length(status.st_size, label)
        elif not stat.S_ISDIR(status.st_mode):  # a directory fails below, with its own reason
            raise InputError(f"{label}: not a regular file")
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{label}: no such file") from None
    except OSError as error:
        raise InputError(f"{label}: cannot be read ({error.strerror or error})") from None
    except InputError:
        raise
    except ValueError:  # a NUL in the path
        raise InputError(f"{label!r}: not a file name") from None


def _read(file: BinaryIO, label: str) -> bytes:
    with contextlib.suppress(AttributeError, OSError):  # a pipe can't
        file.seek(0)  # so that a result can be shown over the file that it came from
    data = file.read()
    if not isinstance(data, bytes):
        raise InputError(f"{label}: opened as text; open it with mode 'rb'")
    _require_length(len(data), label)
    return data


def _require_length(length: int, label: str) -> None:
    if length == 0:
        raise InputError(f"{label}: the file is empty (0 bytes)")
    if length > MAX_FILE_BYTES:
        raise InputError(f"{label}: larger than {MAX_FILE_BYTES >> 20} MB")


def _open(source: Encoded | Image.Image, label: str) -> Image.Image:
    """The picture with its pixels not yet decoded, where the source is encoded."""
    if isinstance(source, (str, os.PathLike)):
        source = read_bytes(source, label)
    elif not isinstance(source, (bytes, bytearray, memoryview, Image.Image)):
        source = _read(source, label)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return decoding.open_encoded(bytes(source), label)
    bounds.require_pixels(*source.size, label)
    return source


def _from_array(array: np.ndarray, label: str) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    grey, colour = array.ndim == 2, array.ndim == 3 and array.shape[-1] in (3, 4)
    if not (grey or colour) or 0 in array.shape:
        raise InputError(
            f"{label}: array of shape {array.shape}; expected (H, W), (H, W, 1), (H, W, 3) "
            "or (H, W, 4)"
        )
    bounds.require_pixels(array.shape[1], array.shape[0], label)
    if array.dtype == np.uint16 and grey:
        decoding.require_levels(array, label)
        return Image.fromarray(decoding.to_8_bits(array))
    if array.dtype != np.uint8:
        raise InputError(f"{label}: array of {array.dtype}; expected uint8 in 0..255")
    return Image.fromarray(np.ascontiguousarray(array))


def open_image(source: ImageLike, label: str | None = None, *, values: bool = False) -> Image.Image:
    """Decode and orient; the mode is left as the file has it.

    Args:
        source: path, encoded bytes, file open for reading bytes, PIL image, or uint8 array
            (H, W), (H, W, 1|3|4); uint16 (H, W) is scaled to 8 bits.
        label: what error messages call the image; by default its path.
        values: the numbers in the file count and not their brightness, as in masks: they may
            have any number of bits and use few of them.

    Raises:
        InputError: missing, unreadable, empty, damaged, too large, not an image, or of a kind
            that the policy refuses.
    """
    label = label or label_of(source)
    if isinstance(source, np.ndarray):
        return _from_array(source, label)
    picture = _open(source, label)
    with bounds.room(picture):
        return decoding.decode(picture, label, values)


def label_of(source: ImageLike) -> str:
    """What error messages call an image: its path where it has one."""
    if isinstance(source, (str, os.PathLike)):
        return str(source)
    encoded = (bytes, bytearray, memoryview)
    for kind, label in ((encoded, "image bytes"), (Image.Image, "image"), (np.ndarray, "array")):
        if isinstance(source, kind):
            return label
    if hasattr(source, "read"):
        return "image file"
    raise InputError(f"{type(source).__name__} given; expected a path, bytes, PIL image or array")


def header(source: ImageLike, label: str | None = None) -> tuple[tuple[int, int], str]:
    """(height, width) and Pillow's mode, without decoding a file's pixels, TIFF excepted.

    EXIF orientation is honoured, but for a PNG that has it behind its pixels.

    Raises:
        InputError: as :func:`open_image`, but for damage after the header.
    """
    label = label or label_of(source)
    if isinstance(source, np.ndarray):
        picture = _from_array(source, label)
        return picture.size[::-1], picture.mode
    picture = _open(source, label)
    with decoding.failing_as_one_line(label), bounds.room(picture):
        decoding.require_right(picture, label)
        if picture.format == "TIFF":
            picture.load()  # which turns it; whether its size is turned before depends on Pillow
    turned = (decoding.orientation(picture) or 1) >= 5
    return picture.size if turned else picture.size[::-1], picture.mode


def stored_turn(source: ImageLike) -> int:
    """EXIF's orientation, 1 to 8, of an image as it is stored; 1 where it says none."""
    if isinstance(source, np.ndarray):
        return 1
    picture: Opened = _open(source, label_of(source))
    if picture.format == "TIFF":
        return getattr(picture, "tag_v2", {}).get(decoding.ORIENTATION, 1)
    return decoding.orientation(picture) or 1


def convert(picture: Image.Image, channels: int) -> Image.Image:
    """To mode ``L`` (``channels`` 1) or ``RGB`` (3); see the module's policy, steps 3 to 5."""
    target = {1: "L", 3: "RGB"}[channels]
    if picture.mode == target and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I"):  # I;16, I;16B, and I: what Pillow makes of 16-bit grey
        values = np.asarray(picture)
        pixels = decoding.to_8_bits(values)
        if "transparency" in picture.info:  # of a PNG
            pixels[values == picture.info["transparency"]] = 255
        picture = Image.fromarray(pixels)
    elif picture.mode in {"RGBA", "LA", "PA", "RGBa"} or "transparency" in picture.info:
        picture = _on_white(picture)
    return picture.convert(target)


def _on_white(picture: Image.Image) -> Image.Image:
    """Transparency composited on white, mode RGB; by rows, since it takes 16 bytes a pixel."""
    rows = max(1, decoding.BLOCK // picture.width)
    if rows >= picture.height:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, picture).convert("RGB")
    out = Image.new("RGB", picture.size)
    for top in range(0, picture.height, rows):
        box = (0, top, picture.width, min(top + rows, picture.height))
        out.paste(_on_white(picture.crop(box)), box)
    return out


def load(
    source: ImageLike,
    size: tuple[int, int] | None,
    channels: int,
    label: str | None = None,
    resize: str = "stretch",
) -> np.ndarray:
    """Read one image as the models see it.

    Args:
        source: see :func:`open_image`.
        size: (height, width) in pixels, or None to keep the image's own size.
        channels: 1 or 3.
        label: what error messages call the image.
        resize: the policy for other proportions, of ``tfproj.core.spec.RESIZES``.

    Returns:
        uint8 array (height, width, channels), 0..255.
    """
    return load_with_size(source, size, channels, label, resize)[0]


def load_with_size(
    source: ImageLike,
    size: tuple[int, int] | None,
    channels: int,
    label: str | None = None,
    resize: str = "stretch",
) -> tuple[np.ndarray, tuple[int, int]]:
    """(what :func:`load` returns, the upright image's own (height, width))."""
    label = label or label_of(source)
    if isinstance(source, np.ndarray):
        picture = _from_array(source, label)
        return _to_array(picture, size, channels, resize), picture.size[::-1]
    picture = _open(source, label)
    with bounds.room(picture):  # for both, so that no decoded picture waits for it
        picture = decoding.decode(picture, label)
        return _to_array(picture, size, channels, resize), picture.size[::-1]


def to_array(
    picture: Image.Image, size: tuple[int, int] | None, channels: int, resize: str = "stretch"
) -> np.ndarray:
    """Convert and resize a picture that :func:`open_image` gave; returns as :func:`load`."""
    with bounds.room(picture):
        return _to_array(picture, size, channels, resize)


def _to_array(
    picture: Image.Image, size: tuple[int, int] | None, channels: int, resize: str
) -> np.ndarray:
    picture = convert(picture, channels)
    if size is not None:
        picture = resized(picture, size, resize)
    array = np.asarray(picture)
    return array[..., None] if channels == 1 else array


def resize_mask(mask: np.ndarray, size: tuple[int, int], resize: str = "stretch") -> np.ndarray:
    """A uint8 mask (H, W) of class indices at (height, width), as :func:`load` has the image.

    By nearest neighbour; of the policies ``stretch``, ``tiles`` and ``letterbox``, where the rest
    is void (255).
    """
    if mask.shape == size:
        return mask
    if resize == "tiles":
        return middle_window(mask, size)
    box = rows, columns = inner_box(mask.shape, size, resize)
    out = np.full(size, VOID, np.uint8)
    inner = (columns.stop - columns.start, rows.stop - rows.start)
    out[box] = np.asarray(Image.fromarray(mask).resize(inner, Image.Resampling.NEAREST))
    return out


def list_visible(folder: Path) -> list[Path]:
    """What lies in a folder, sorted by name; hidden entries left out.

    Raises:
        InputError: the folder is missing or cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror or error})") from None
