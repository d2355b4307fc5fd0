"""Images and answers that a file carries, by which any reader of it can check itself."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tfproj.core import image
from tfproj.core.spec import ModelSpec

GOLDEN_TOLERANCE = 1e-4
# A vector of a 256 x 256 segmenter would be 1.3 MB; every k-th row and column is proof enough.
GOLDEN_BYTES = 14_000
GOLDEN_SEED = 1789


def golden_vectors(
    spec: ModelSpec, answer: Callable[[np.ndarray], np.ndarray], tolerance: float
) -> dict[str, Any]:
    """Images and answers by which any reader of the file can check itself.

    Args:
        spec: of the file.
        answer: uint8 (B, H, W, C) at the model's size -> probabilities float32.
        tolerance: largest difference in a probability that a right port may show.
    """
    pictures = golden_images(spec)
    pixels = np.stack(
        [image.load(p, spec.size, spec.channels, resize=spec.resize) for p in pictures.values()]
    )
    vectors = [
        _vector(name, png, probabilities)
        for (name, png), probabilities in zip(pictures.items(), answer(pixels), strict=True)
    ]
    return {"tolerance": tolerance, "vectors": vectors}


def _vector(name: str, png: bytes, probabilities: np.ndarray) -> dict[str, Any]:
    stride = 1
    if probabilities.ndim == 3:
        stride = max(1, math.ceil(math.sqrt(probabilities.size * 4 / GOLDEN_BYTES)))
        probabilities = probabilities[::stride, ::stride]
    vector = {
        "name": name,
        "image_base64": base64.b64encode(png).decode(),
        "shape": list(probabilities.shape),
        "probabilities_base64": base64.b64encode(probabilities.astype("<f4").tobytes()).decode(),
    }
    return {**vector, "stride": stride} if stride > 1 else vector


def golden_images(spec: ModelSpec, seed: int = GOLDEN_SEED) -> dict[str, bytes]:
    """PNG files by name, drawn from a seed and not taken from the data.

    The data may be private or under a licence that the model's file does not want to carry.
    ``blocks`` and ``gradient`` have the model's size, the others test one step each: shrinking,
    enlarging, transparency and 16 bits. Where proportions are kept, two more are far from the
    model's, with an odd rest to be cut off or filled. Those of a file that takes ``tiles`` are all
    of the model's size: one window each.
    """
    rng = np.random.default_rng(seed)
    height, width = spec.size
    mode = {1: "L", 3: "RGB"}[spec.channels]
    # Fewer rows, more columns: where rows are shrunk, Pillow's order of the two directions, and
    # with it the rounding in between, depends on its version.
    larger = (max(3, height - height // 4), min(2 * width + 1, width + 160))
    smaller = (max(3, height // 2 - 1), max(3, width // 2 + 1))
    names = "shrunk", "enlarged, transparent"
    if spec.resize == "tiles":
        larger = smaller = spec.size
        names = "more blocks", "transparent"
    pictures = {
        "blocks": Image.fromarray(_blocks(rng, (height, width), 3)).convert(mode),
        "gradient": Image.fromarray(_gradient((height, width))).convert(mode),
        names[0]: Image.fromarray(_blocks(rng, larger, 3)).convert(mode),
        names[1]: Image.fromarray(_blocks(rng, smaller, 4), "RGBA"),
        "16 bits": Image.fromarray(_gradient((height, width))[..., 0].astype(np.uint16) * 256),
    }
    if spec.resize in ("crop", "letterbox"):
        shapes = {"wide": (height + 1, 2 * width + 6), "high": (2 * height + 6, width + 1)}
        for name, shape in shapes.items():
            pictures[f"{spec.resize}, {name}"] = Image.fromarray(_blocks(rng, shape, 3))
    return {name: _png(picture) for name, picture in pictures.items()}


def _blocks(rng: np.random.Generator, size: tuple[int, int], channels: int) -> np.ndarray:
    """uint8 (H, W, channels) of 7 x 7 patches: edges everywhere, yet small as PNG."""
    patches = rng.integers(0, 256, (7, 7, channels), dtype=np.uint8)
    rows, columns = (np.arange(side) * 7 // side for side in size)
    return patches[rows][:, columns]


def _gradient(size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W, 3): one ramp in each direction and one across."""
    rows, columns = (np.arange(side) * 255 // max(1, side - 1) for side in size)
    ramps = np.broadcast_arrays(rows[:, None], columns[None], (rows[:, None] + columns) // 2)
    return np.stack(ramps, axis=-1).astype(np.uint8)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
