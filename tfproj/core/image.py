"""The one policy for reading an image: decode, orient, convert, resize.

Training, evaluation and the predictor all call :func:`load`, so a model never meets pixels
that were prepared in another way. numpy and Pillow only.

The policy, in order (``docs`` for a port to another language):

1. Formats: PNG, JPEG, BMP, GIF (first frame), TIFF (first page), WebP, PPM. At most
   ``MAX_PIXELS`` pixels; truncated files are refused.
2. EXIF orientation is applied.
3. 16-bit grey is scaled to 8 bits by ``round(v / 257)``; float images are refused.
4. Palettes are expanded; transparency is composited on white.
5. ``channels`` 1: ITU-R 601 luma (Pillow mode ``L``); 3: RGB. CMYK goes through Pillow's
   plain conversion, colour profiles are ignored.
6. Resize to exactly (height, width), aspect ratio not kept, bilinear with antialiasing
   (Pillow ``BILINEAR``: a triangle filter widened by the scale factor when shrinking).
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from tfproj.errors import InputError, first_line

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
# Pillow's own warning limit; 20,000 x 20,000 px would take 1.2 GB as RGB.
MAX_PIXELS = 89_478_485
# As much as an uncompressed image of that size takes, 16 bits per channel.
MAX_FILE_BYTES = 512 * 2**20

# What convert() can make grey or RGB; LAB and float TIFF are among what it can't.
MODES = ("1", "L", "P", "RGB", "RGBA", "RGBa", "RGBX", "LA", "PA", "CMYK", "YCbCr", "HSV",
         "I", "I;16", "I;16B", "I;16L", "I;16N")  # fmt: skip
ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OPENING = threading.Lock()

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
    if not isinstance(source, Image.Image):
        # The pixel limit below takes the place of Pillow's warning. The filters are global to
        # the process: two threads that change them at once would leave them changed.
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = Image.open(io.BytesIO(source), formats=FORMATS)
    _require_pixels(*source.size, label)
    return source


def _require_pixels(width: int, height: int, label: str) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{label}: {width} x {height} px is above the limit of {MAX_PIXELS:,} pixels; shrink it"
        )


@contextlib.contextmanager
def _decoding(label: str) -> Iterator[None]:
    """All the ways in which Pillow fails, as one InputError that names the image."""
    try:
        yield
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{label}: not an image, or not one of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise InputError(f"{label}: above the limit of {MAX_PIXELS:,} pixels; shrink it") from None
    # Pillow's decoders raise many types on damaged files (OSError, SyntaxError, struct.error...).
    except Exception as error:
        raise InputError(f"{label}: damaged image ({first_line(error)})") from None


def _from_array(array: np.ndarray, label: str) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    grey, colour = array.ndim == 2, array.ndim == 3 and array.shape[-1] in (3, 4)
    if not (grey or colour) or 0 in array.shape:
        raise InputError(
            f"{label}: array of shape {array.shape}; expected (H, W), (H, W, 1), (H, W, 3) "
            "or (H, W, 4)"
        )
    _require_pixels(array.shape[1], array.shape[0], label)
    if array.dtype == np.uint16 and grey:
        return Image.fromarray(_to_8_bits(array))
    if array.dtype != np.uint8:
        raise InputError(f"{label}: array of {array.dtype}; expected uint8 in 0..255")
    return Image.fromarray(np.ascontiguousarray(array))


def _to_8_bits(array: np.ndarray) -> np.ndarray:
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def open_image(source: ImageLike, label: str | None = None) -> Image.Image:
    """Decode and orient; the mode is left as the file has it.

    Args:
        source: path, encoded bytes, file open for reading bytes, PIL image, or uint8 array
            (H, W), (H, W, 1|3|4); uint16 (H, W) is scaled to 8 bits.
        label: what error messages call the image; by default its path.

    Raises:
        InputError: missing, unreadable, empty, damaged, too large, not an image, or of a kind
            that the policy refuses.
    """
    label = label or _label(source)
    if isinstance(source, np.ndarray):
        return _from_array(source, label)
    with _decoding(label):
        picture = _open(source, label)
        picture.load()
    _require_known_mode(picture, label)
    return _upright(picture)


def _upright(picture: Image.Image) -> Image.Image:
    """Apply the EXIF orientation.

    Not by ``ImageOps.exif_transpose``: that writes the whole EXIF block anew, and where another
    entry of it is damaged it fails, and the image would stay as it lies.
    """
    try:
        turn = _TURNS.get(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return picture
    return picture if turn is None else picture.transpose(turn)


def _label(source: ImageLike) -> str:
    if isinstance(source, (str, os.PathLike)):
        return str(source)
    encoded = (bytes, bytearray, memoryview)
    for kind, label in ((encoded, "image bytes"), (Image.Image, "image"), (np.ndarray, "array")):
        if isinstance(source, kind):
            return label
    if hasattr(source, "read"):
        return "image file"
    raise InputError(f"{type(source).__name__} given; expected a path, bytes, PIL image or array")


def _require_known_mode(picture: Image.Image, label: str) -> None:
    """Refused here, where the label is at hand, so that :func:`convert` always succeeds."""
    if picture.mode == "F":
        raise InputError(f"{label}: float image; save it with 8 or 16 bits per channel")
    if picture.mode == "I":
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise InputError(f"{label}: 32-bit image; save it with 8 or 16 bits per channel")
    if picture.mode not in MODES:
        raise InputError(f"{label}: colour mode {picture.mode}; save it as grey or RGB")


def header(source: ImageLike, label: str | None = None) -> tuple[tuple[int, int], str]:
    """(height, width) and Pillow's mode, without decoding a file's pixels, TIFF excepted.

    EXIF orientation is honoured except in PNG, which Pillow would decode for it.

    Raises:
        InputError: as :func:`open_image`, but for damage after the header.
    """
    label = label or _label(source)
    if isinstance(source, np.ndarray):
        picture = _from_array(source, label)
        return picture.size[::-1], picture.mode
    with _decoding(label):
        picture = _open(source, label)
        if picture.format == "TIFF":
            picture.load()  # which turns it; whether its size is turned before depends on Pillow
        turned = picture.format != "PNG" and picture.getexif().get(ORIENTATION, 1) >= 5
    return picture.size if turned else picture.size[::-1], picture.mode


def convert(picture: Image.Image, channels: int) -> Image.Image:
    """To mode ``L`` (``channels`` 1) or ``RGB`` (3); see the module's policy, steps 3 to 5."""
    target = {1: "L", 3: "RGB"}[channels]
    if picture.mode == target and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I"):  # I;16, I;16B, and I: what Pillow makes of 16-bit grey
        values = np.asarray(picture)
        clear = values == picture.info.get("transparency", -1)  # a PNG may name one such value
        picture = Image.fromarray(np.where(clear, 255, _to_8_bits(values)).astype(np.uint8))
    elif picture.mode in {"RGBA", "LA", "PA", "RGBa"} or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert(target)


def load(
    source: ImageLike, size: tuple[int, int] | None, channels: int, label: str | None = None
) -> np.ndarray:
    """Read one image as the models see it.

    Args:
        source: see :func:`open_image`.
        size: (height, width) in pixels, or None to keep the image's own size.
        channels: 1 or 3.
        label: what error messages call the image.

    Returns:
        uint8 array (height, width, channels), 0..255.
    """
    return to_array(open_image(source, label), size, channels)


def to_array(picture: Image.Image, size: tuple[int, int] | None, channels: int) -> np.ndarray:
    """Convert and resize a picture that :func:`open_image` gave; returns as :func:`load`."""
    picture = convert(picture, channels)
    if size is not None and picture.size != (size[1], size[0]):
        picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    array = np.asarray(picture)
    return array[..., None] if channels == 1 else array


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a uint8 mask (H, W) of class indices to (height, width) by nearest neighbour."""
    if mask.shape == size:
        return mask
    picture = Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.array(picture)  # Pillow's own may not be written to


def list_visible(folder: Path) -> list[Path]:
    """What lies in a folder, sorted by name; hidden entries left out.

    Raises:
        InputError: the folder is missing or cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror or error})") from None
