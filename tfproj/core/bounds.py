"""Limits on what a file may cost to read, so that a small one can't take minutes or gigabytes."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Iterator
from typing import Literal

from PIL import Image

from tfproj.core.file_faults import Opened
from tfproj.errors import InputError, TooLargeError

# Pillow's own warning limit; 20,000 x 20,000 px would take 1.2 GB as RGB.
MAX_PIXELS = 89_478_485
# What Pillow decodes in Python (text PPM, run-length BMP) takes up to 1 s per 2**20 pixels.
MAX_PYTHON_PIXELS = 2**22
SMALL = 2**20  # pixels of a picture that needs no room in the budget

PNG = b"\x89PNG\r\n\x1a\n"
# Chunks without a pixel of the first picture. They may be large, or small and unpack to much.
PNG_EXTRAS = {b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"acTL", b"fcTL", b"fdAT"}
PNG_EXIF = b"Raw profile type exif\0"  # how ImageMagick keeps it
MAX_CHUNKS = 2**18
_CHUNK = struct.Struct(">I4s")

JPEG = b"\xff\xd8\xff"
SCAN = 0xDA  # the marker in a JPEG
# Each scan of a JPEG visits all pixels, at 0.6 to 0.9 ns; 10 to 20 scans are usual.
MAX_SCANNED = 32 * MAX_PIXELS
MAX_SEGMENTS = 10_000
MAX_EXIF = 100  # segments, which Pillow adds up in quadratic time
LARGE_JPEG = 2**20  # bytes; smaller ones have no room for too many segments

# Strips and tiles of a TIFF file, for each of which Pillow keeps a Python object.
MAX_STRIPS = 2**17
STRIP_OFFSETS, TILE_OFFSETS = 273, 324


class Budget:
    """Pixels that may be in work at the same time, in all threads together."""

    def __init__(self, pixels: int):
        self._free = self._pixels = pixels
        self._change = threading.Condition()
        self._door = threading.Lock()  # held while waiting: a large picture is not overtaken

    @contextlib.contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Wait for room; a single picture has it always."""
        pixels = min(pixels, self._pixels)
        with self._door, self._change:
            self._change.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            with self._change:
                self._free += pixels
                self._change.notify()


# About 12 bytes a pixel while alpha is composited: 1 GB.
_BUDGET = Budget(MAX_PIXELS)
_NO_BUDGET = contextlib.nullcontext()


def room(picture: Image.Image) -> contextlib.AbstractContextManager:
    """Held while a picture is decoded and converted; never ask for it twice in one thread."""
    pixels = picture.width * picture.height
    return _BUDGET.hold(pixels) if pixels > SMALL else _NO_BUDGET


def require_bounded_file(data: bytes, label: str) -> bytes:
    """The file's bytes, of a PNG without what is no pixel of the first picture.

    Raises:
        InputError: to read the header alone would take too long.
    """
    if data.startswith(PNG):
        return _without_extras(data, label)
    if data.startswith(JPEG):
        _require_few_segments(data, label)
    elif data[:2] in (b"II", b"MM"):
        _require_few_strips(data, label)
    return data


def require_bounded_work(picture: Opened, data: bytes, label: str) -> None:
    """Refuse an opened picture of too many pixels, or scans times pixels, before it is decoded."""
    require_pixels(picture.width, picture.height, label)
    if picture.format in ("JPEG", "MPO"):
        _require_few_scans(picture, data, label)
    slow = picture.tile and picture.tile[0][0] in ("ppm_plain", "bmp_rle")
    if slow and picture.width * picture.height > MAX_PYTHON_PIXELS:
        raise InputError(
            f"{label}: {picture.format} as text or run lengths, of more than "
            f"{MAX_PYTHON_PIXELS:,} pixels; save it as PNG"
        )


def require_pixels(width: int, height: int, label: str, limit: int = MAX_PIXELS) -> None:
    """TooLargeError above the limit."""
    if width * height > limit:
        raise TooLargeError(
            f"{label}: {width} x {height} px is above the limit of {limit:,} pixels; shrink it"
        )


def _without_extras(data: bytes, label: str) -> bytes:
    """A PNG file without profiles, text, and the further frames of an animation."""
    parts: list[memoryview] = []
    view, start, at, last = memoryview(data), 0, len(PNG), len(data) - 12
    for _ in range(MAX_CHUNKS):
        if at >= last:  # where the last chunk is, if the file is whole
            return b"".join((*parts, view[start:])) if parts else data
        length, kind = _CHUNK.unpack_from(data, at)
        if kind in PNG_EXTRAS and not data.startswith(PNG_EXIF, at + 8):
            parts.append(view[start:at])
            start = at + 12 + length
        at = len(data) if kind == b"IEND" else at + 12 + length
    raise InputError(f"{label}: PNG of more than {MAX_CHUNKS:,} chunks; save it anew")


def _require_few_segments(data: bytes, label: str) -> None:
    """Refuse a JPEG whose header alone would take long."""
    exif = 0
    for number, (marker, at) in enumerate(_segments(data) if len(data) > LARGE_JPEG else ()):
        if marker == SCAN:
            return
        exif += data.startswith(b"Exif\0\0", at + 4)
        if exif > MAX_EXIF or number > MAX_SEGMENTS:
            raise InputError(f"{label}: JPEG with too much metadata; save it anew")


def _require_few_scans(picture: Opened, data: bytes, label: str) -> None:
    """Refuse a JPEG whose scans times pixels are many, before it is decoded."""
    layers, pixels = picture.layers, picture.width * picture.height
    marker, end = bytes([0xFF, SCAN]), picture.fp.tell()  # of the first scan's header
    # With all layers in it, 8 bytes and 2 for each, this scan is the only one.
    whole = data.rfind(marker, max(0, end - 32), end) == end - 8 - 2 * layers
    if whole and "progressive" not in picture.info:
        return
    if data.count(marker) * pixels <= MAX_SCANNED:  # thumbnails are counted as well
        return
    scans = sum(marker == SCAN for marker, _ in _segments(data))
    if scans * pixels > MAX_SCANNED:
        raise InputError(f"{label}: {scans} scans of {pixels:,} pixels in one JPEG; save it anew")


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """(marker, place) of the first picture's segments in a JPEG file."""
    at = 2
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 1:
        marker = data[at + 1]
        if marker == 0xD9:  # end of image
            return
        if marker == 0xFF:  # fill
            at += 1
        elif marker < 2 or 0xD0 <= marker <= 0xD8:  # a byte of a scan, a restart
            at += 2
        else:
            yield marker, at
            at += 2 + int.from_bytes(data[at + 2 : at + 4])


def _require_few_strips(data: bytes, label: str) -> None:
    """Refuse a TIFF by the counts in its first directory."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    big = 43 in data[2:4]
    start, head, entry, width = (8, 8, 20, 8) if big else (4, 2, 12, 4)  # bytes

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)

    first = number(start, width)
    for at in range(
        first + head, min(first + head + entry * number(first, head), len(data)), entry
    ):
        if number(at, 2) in (STRIP_OFFSETS, TILE_OFFSETS) and number(at + 4, width) > MAX_STRIPS:
            raise InputError(f"{label}: TIFF of more than {MAX_STRIPS:,} strips or tiles")
