"""Write docs/port-examples.json, by which a port of the predictor checks itself: ``make docs``.

The pictures are PNG files of a few pixels, one for each thing that a reader may get wrong. The
answers are those of ``tfproj.core``.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.core import image
from tfproj.core.probabilities import mask_of_size, softmax
from tfproj.core.spec import RESIZES

PAGE = Path(__file__).with_name("port-examples.json")
SEED = 1789
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # colour types of PNG
SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
MASK_SIZES = (13, 24), (5, 7), (3, 4), (11, 4), (2, 30)  # of probabilities of 5 x 7 pixels
MARGIN = 0.001  # between a pixel's two best classes, so that no rounding changes a mask
TEMPERATURES = (1.0, 0.6, 2.5)


def examples() -> dict[str, Any]:
    """What the file holds, see docs/onnx-contract.md."""
    rng = np.random.default_rng(SEED)
    return {
        "images": [_image(*case) for case in (*_decoded(rng), *_turned(rng), *_resized(rng))],
        "masks": _masks(rng),
        "calibration": _calibration(rng),
    }


def png(color: int, bits: int, values: np.ndarray, before: Sequence = (), after: Sequence = ()):
    """A PNG file of samples (H, W, channels), with chunks (kind, data) around its pixels."""
    height, width = values.shape[:2]
    rows = values.reshape(height, -1)
    places = np.arange(bits - 1, -1, -1)
    bit_rows = (rows[:, :, None] >> places & 1).reshape(height, -1).astype(np.uint8)
    packed = np.packbits(bit_rows, axis=1)
    data = b"".join(b"\0" + row.tobytes() for row in packed)
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    chunks = [(b"IHDR", head), *before, (b"IDAT", zlib.compress(data, 9)), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def _samples(rng: np.random.Generator, color: int, bits: int, size=(3, 5)) -> np.ndarray:
    return rng.integers(0, 2**bits, (*size, SAMPLES[color]))


def _decoded(rng: np.random.Generator):
    """(name, PNG, what it becomes): each kind of samples, with and without transparency."""
    plain: dict[str, Any] = {"height": 3, "width": 5, "resize": "stretch"}
    for bits in (1, 2, 4, 8, 16):
        values = _samples(rng, GREY, bits)
        for channels in (1, 3):
            name = f"grey of {bits} bits, {channels} channels"
            yield name, png(GREY, bits, values), {**plain, "channels": channels}
        clear = [(b"tRNS", struct.pack(">H", values[0, 0, 0]))]
        yield f"grey of {bits} bits, tRNS", png(GREY, bits, values, clear), {**plain, "channels": 1}
    for bits in (1, 2, 4, 8):
        colors = rng.integers(0, 256, (2**bits, 3), np.uint8).tobytes()
        chunks = [(b"PLTE", colors), (b"tRNS", bytes([0, 100]))]  # of the first two colours
        values = _samples(rng, PALETTE, bits)
        values[0, :2, 0] = 0, 1
        yield (
            f"palette of {bits} bits",
            png(PALETTE, bits, values, chunks),
            {**plain, "channels": 3},
        )
    for name, color in ("RGB", RGB), ("grey with alpha", GREY_ALPHA), ("RGBA", RGBA):
        for bits in (8, 16):
            values = _samples(rng, color, bits)
            if color != RGB:
                values[0, 0, -1] = 0
            for channels in (1, 3):
                told = f"{name} of {bits} bits, {channels} channels"
                yield told, png(color, bits, values), {**plain, "channels": channels}
    red = _samples(rng, RGB, 8)
    clear = [(b"tRNS", struct.pack(">3H", *red[1, 1]))]
    yield "RGB with a transparent colour", png(RGB, 8, red, clear), {**plain, "channels": 3}
    chunks = [(b"gAMA", struct.pack(">I", 100_000))]
    yield "RGB with a gamma of 1", png(RGB, 8, red, chunks), {**plain, "channels": 3}


def _turned(rng: np.random.Generator):
    values = _samples(rng, RGB, 8)
    for turn in range(10):  # 0 and 9 are none
        exif = b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1" + struct.pack(">H4x", turn) + bytes(4)
        size = (5, 3) if 5 <= turn <= 8 else (3, 5)
        told = {"height": size[0], "width": size[1], "channels": 3, "resize": "stretch"}
        yield f"EXIF orientation {turn}", png(RGB, 8, values, [(b"eXIf", exif)]), told
    little = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0" + bytes(4)
    told = {"height": 5, "width": 3, "channels": 3, "resize": "stretch"}
    yield "orientation 6, little-endian", png(RGB, 8, values, [(b"eXIf", little)]), told
    yield "orientation 6, behind the pixels", png(RGB, 8, values, after=[(b"eXIf", little)]), told


def _resized(rng: np.random.Generator):
    for policy in (p for p in RESIZES if p != "tiles"):
        # Two sizes whose height Pillow 13 would shrink first, and rests that are odd.
        for size, target in (
            ((9, 4), (5, 7)),
            ((4, 13), (6, 6)),
            ((7, 5), (8, 11)),
            ((2, 1), (3, 3)),
        ):
            values = _samples(rng, RGB, 8, size)
            told = {"height": target[0], "width": target[1], "channels": 3, "resize": policy}
            yield f"{policy}, {size} to {target}", png(RGB, 8, values), told


def _image(name: str, file: bytes, told: dict[str, Any]) -> dict[str, Any]:
    size = (told["height"], told["width"])
    pixels = image.load(file, size, told["channels"], resize=told["resize"])
    return {"name": name, **told, "png_base64": _text(file), "pixels_base64": _text(pixels)}


def _masks(rng: np.random.Generator) -> dict[str, Any]:
    while True:
        scores = rng.normal(size=(5, 7, 3)).astype(np.float32) * 2
        probabilities = softmax(scores)
        if all(_margin(probabilities, size) > MARGIN for size in MASK_SIZES):
            break
    masks = [
        {
            "size": list(size),
            "rows": ["".join(map(str, row)) for row in mask_of_size(probabilities, size)],
        }
        for size in MASK_SIZES
    ]
    values = {"shape": [5, 7, 3], "probabilities_base64": _text(probabilities.astype("<f4"))}
    return {**values, "masks": masks}


def _margin(probabilities: np.ndarray, size: tuple[int, int]) -> float:
    """The least by which a class must be raised everywhere for some pixel to change its class."""
    mask = mask_of_size(probabilities, size)
    raised = [
        probabilities + np.float32(2 * MARGIN) * np.eye(3, dtype=np.float32)[c] for c in range(3)
    ]
    changed = any((mask_of_size(other, size) != mask).any() for other in raised)
    return 0 if changed else 2 * MARGIN


def _calibration(rng: np.random.Generator) -> list[dict[str, Any]]:
    scores = rng.normal(size=5).astype(np.float32) * 4
    return [
        {
            "scores": scores.tolist(),
            "temperature": temperature,
            "probabilities": [round(float(p), 6) for p in softmax(scores / temperature)],
        }
        for temperature in TEMPERATURES
    ]


def _text(data: bytes | np.ndarray) -> str:
    return base64.b64encode(data if isinstance(data, bytes) else data.tobytes()).decode()


if __name__ == "__main__":
    PAGE.write_text(json.dumps(examples(), indent=1) + "\n", encoding="utf-8")
