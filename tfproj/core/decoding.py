"""From the bytes of a file to an upright picture: what is checked before and after Pillow decodes.

Pillow unpacks samples; what they mean is said by the file. Where the two disagree, or where the
work would have no bound, the file is refused: docs/onnx-contract.md lists both.
"""

from __future__ import annotations

import io
import threading
import warnings
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from tfproj.core import bounds, file_faults
from tfproj.errors import InputError, TooLargeError, first_line

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
SAVE_PLAIN = "save it with 8 or 16 bits per channel as plain grey or RGB"
BLOCK = 2**20  # samples that are scaled at a time
# 16 bits that span less than this part of their range become at most 17 levels of 8 bits.
NARROW = 16

# What convert() can make grey or RGB; LAB and float TIFF are among what it can't.
MODES = ("1", "L", "P", "RGB", "RGBA", "RGBa", "RGBX", "LA", "PA", "CMYK", "YCbCr", "HSV",
         "I", "I;16", "I;16B", "I;16L", "I;16N")  # fmt: skip
ORIENTATION = 0x0112  # EXIF tag
EXIF = ("exif", bounds.PNG_EXIF[:-1].decode())  # Pillow's names for its places
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


def open_encoded(data: bytes, label: str) -> Image.Image:
    """The picture in a file's bytes, its pixels not yet decoded.

    Raises:
        InputError: not an image, damaged, or above a limit.
    """
    with failing_as_one_line(label):
        data = bounds.require_bounded_file(data, label)
        # The pixel limit below takes the place of Pillow's warning. The filters are global to
        # the process: two threads that change them at once would leave them changed.
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                picture = Image.open(io.BytesIO(data), formats=FORMATS)
            except UnidentifiedImageError:
                raise InputError(f"{label}: {_explain_unopened(data)}") from None
        bounds.require_bounded_work(picture, data, label)
        picture.info.pop("xmp", None)  # by which Pillow would turn a TIFF
    return picture


class failing_as_one_line:  # noqa: N801 (no generator: a small picture takes 40 us in all)
    """A context in which all the ways that Pillow fails become one InputError naming the image."""

    def __init__(self, label: str):
        self._label = label

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, InputError):
            large = isinstance(error, Image.DecompressionBombError)
            kind_of_error = TooLargeError if large else InputError
            raise kind_of_error(f"{self._label}: {_explain(error)}") from None


def _explain_unopened(data: bytes) -> str:
    """What a file is that Pillow takes for no picture, though it may begin as one."""
    readers: dict[str, Any] = Image.OPEN  # format -> (reader, whether a file begins as one)
    name = next((name for name in FORMATS if readers[name][1](data[:16]) is True), None)
    if name is None:
        from tfproj.core.file_kinds import kind_of  # noqa: PLC0415 (for what is refused)

        kind = kind_of(data)
        return f"not an image, or not one of {', '.join(FORMATS)}" + (kind and f": {kind}" or "")
    if name == "TIFF" and (fault := file_faults.tiff_fault(data)):
        return f"TIFF with {fault}; {SAVE_PLAIN}"
    try:
        readers[name][0](io.BytesIO(data))
    except Exception as error:  # Pillow keeps the reason to itself
        return f"damaged {name} image ({first_line(error)})"
    return f"damaged {name} image"


def _explain(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"above the limit of {bounds.MAX_PIXELS:,} pixels; shrink it"
    # Pillow's decoders raise many types on damaged files (OSError, SyntaxError, struct.error...).
    return f"damaged image ({first_line(error)})"


def require_right(picture: Image.Image, label: str, values: bool = False) -> None:
    """Refuse what Pillow would decode to other pixels than the file says."""
    if fault := file_faults.fault(picture, values):
        raise InputError(f"{label}: {picture.format} with {fault}; {SAVE_PLAIN}")


def decode(picture: file_faults.Opened, label: str, values: bool = False) -> Image.Image:
    """Decode what :func:`open_encoded` or a caller opened, and turn it upright.

    Args:
        picture: not changed where it is decoded already.
        values: the numbers count and not their brightness, as in masks.

    Raises:
        InputError: damaged, or of a kind that is refused.
    """
    with failing_as_one_line(label):
        require_right(picture, label, values)
        samples = file_faults.raw_mode(picture)
        if picture.format == "PPM" and picture.tile and picture.tile[0][0] == "ppm":
            return _read_ppm(picture, label, values)
        if picture.format == "PNG" and "transparency" in picture.info:
            _scale_transparency(picture, samples)
        picture.load()
    _require_known_mode(picture, label)
    if not values:
        wide = picture.format in ("PNG", "TIFF") and samples[-4:-1] == ";16"
        _require_levels(picture, wide, label)
    return _upright(picture)


def _read_ppm(picture: file_faults.Opened, label: str, values: bool) -> Image.Image:
    """A binary PPM whose largest value is not 255; Pillow would take each pixel by itself."""
    _, _, offset, (_, top) = picture.tile[0]
    shape = (picture.height, picture.width, len(picture.getbands()))
    kind = np.dtype(">u2" if top > 255 else "u1")
    picture.fp.seek(offset)
    data = picture.fp.read(int(np.prod(shape)) * kind.itemsize)
    samples = np.frombuffer(data, kind).reshape(shape)  # ValueError where the file ends early
    if samples.max() > top:
        raise InputError(f"{label}: damaged image (a value above its maximum of {top})")
    if top > 255 and not values:
        require_levels(samples, label, top)
    pixels = to_8_bits(samples, top)
    return Image.fromarray(pixels[..., 0] if shape[2] == 1 else pixels)


def _scale_transparency(picture: Image.Image, samples: str) -> None:
    """The transparent colour of a PNG file in the 8 bits that its pixels have."""
    bits = {"L;2": 2, "L;4": 4, "L": 8, "RGB": 8}.get(samples)
    if bits is None:
        return
    top = 2**bits - 1  # higher bits have no meaning
    scaled = [
        (value & top) * 255 // top for value in np.atleast_1d(picture.info["transparency"]).tolist()
    ]
    picture.info["transparency"] = scaled[0] if len(scaled) == 1 else tuple(scaled)


def _require_known_mode(picture: file_faults.Opened, label: str) -> None:
    """Refused here, where the label is at hand, so that convert() always succeeds."""
    if picture.mode == "F":
        raise InputError(f"{label}: float image; save it with 8 or 16 bits per channel")
    if picture.mode == "I":
        low, high = picture.getextrema()
        if low < 0 or high > 65535:
            raise InputError(f"{label}: 32-bit image; save it with 8 or 16 bits per channel")
    if picture.mode not in MODES:
        raise InputError(f"{label}: colour mode {picture.mode}; save it as grey or RGB")


def _require_levels(picture: file_faults.Opened, wide: bool, label: str) -> None:
    if picture.mode.startswith("I"):
        require_levels(np.asarray(picture), label)
    elif wide:  # Pillow has taken the high bytes
        bands = picture.getextrema()[: 4 if picture.mode == "CMYK" else 3]
        low, high = min(band[0] for band in bands), max(band[1] for band in bands)
        if high - low < 256 // NARROW:
            raise InputError(
                f"{label}: of its 16-bit colours 8 bits would keep the levels {low} to {high}; "
                "stretch them to 0..65535"
            )


def require_levels(values: np.ndarray, label: str, top: int = 65535) -> None:
    """Refuse 16-bit values 0..top of which 8 bits would keep next to nothing.

    They come from cameras of 10 or 12 bits and from tools that count things; without the range
    that was meant, each of them is a black picture.
    """
    low, high = int(values.min()), int(values.max())
    if (high - low) * NARROW > top:
        return
    levels = np.unique(values)
    kept = len(np.unique(to_8_bits(levels, top)))
    if 2 * kept <= len(levels):
        raise InputError(
            f"{label}: its 16-bit values, {low} to {high}, would become {kept} level"
            f"{'s' * (kept > 1)} of 8 bits; stretch them to 0..{top}"
        )


def to_8_bits(values: np.ndarray, top: int = 65535) -> np.ndarray:
    """floor((255 v + floor(top / 2)) / top) for values 0..top, uint8; by parts, for the memory."""
    flat = values.reshape(-1)
    out = np.empty(flat.size, np.uint8)
    for start in range(0, flat.size, BLOCK):
        part = flat[start : start + BLOCK].astype(np.uint32)
        out[start : start + BLOCK] = (part * 255 + top // 2) // top
    return out.reshape(values.shape)


def _upright(picture: Image.Image) -> Image.Image:
    """Apply the EXIF orientation.

    Not by ``ImageOps.exif_transpose``: that writes the whole EXIF block anew, and where another
    entry of it is damaged it fails, and the image would stay as it lies.
    """
    turn = _TURNS.get(orientation(picture) or 1)
    return picture if turn is None else picture.transpose(turn)


def orientation(picture: Image.Image) -> int | None:
    """The EXIF orientation, 1 to 8; None where there is none, and in TIFF, which Pillow turns.

    XMP's, which Pillow would take where EXIF has none, is not looked at.
    """
    info: dict[str | tuple[int, int], Any] = {
        key: picture.info[key] for key in EXIF if key in picture.info
    }
    if not info:
        return None
    bare = Image.Image()
    bare.info = info
    try:
        # A warning that someone made an error would leave the picture as it lies.
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bare.getexif().get(ORIENTATION)
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return None
