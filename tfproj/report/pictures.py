"""Pictures made of arrays: filters, activations, error maps."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from PIL import Image

from tfproj.data.masks import IGNORE

GAP = 3  # px between tiles
WRONG = np.array([229, 72, 77], np.float32)


def mosaic(
    tiles: Sequence[Image.Image], columns: int, scale: int = 1, gap: int = GAP
) -> Image.Image:
    """Tiles in rows on a transparent ground, each pixel enlarged ``scale`` times.

    Args:
        tiles: all of one size, at least one.
        columns: tiles in a row, at most.
        scale: side of a pixel.
        gap: px between tiles.
    """
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    width, height = (side * scale for side in tiles[0].size)
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    canvas = Image.new("RGBA", size)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        large = tile.resize((width, height), Image.Resampling.NEAREST)
        canvas.paste(large.convert("RGBA"), (column * (width + gap), row * (height + gap)))
    return canvas


def enlarged(pixels: np.ndarray, side: int) -> Image.Image:
    """uint8 (H, W, 1 or 3), small ones enlarged by a whole factor up to ``side``."""
    picture = Image.fromarray(pixels.squeeze(axis=-1) if pixels.shape[-1] == 1 else pixels)
    return mosaic([picture], columns=1, scale=max(1, side // max(picture.size)))


def signed_colors(values: np.ndarray, limit: float) -> Image.Image:
    """float (H, W) in -limit..limit: blue below zero, white, red above."""
    share = 0.5 + values / (2 * limit or 1)
    return Image.fromarray(colormaps["RdBu_r"](share, bytes=True))


def stretched(values: np.ndarray) -> Image.Image:
    """float (H, W) or (H, W, 3) from its own minimum to its own maximum; black where flat."""
    values = values - values.min()
    return Image.fromarray((255 * values / (values.max() or 1)).round().astype(np.uint8))


def first_filters(kernel: np.ndarray) -> Image.Image:
    """Filters (h, w, channels, filters): RGB kernels in colours, others blue to red."""
    mean = kernel.mean(axis=2)
    limit = float(np.abs(mean).max())
    tiles = [
        stretched(kernel[..., k]) if kernel.shape[2] == 3 else signed_colors(mean[..., k], limit)
        for k in range(kernel.shape[-1])
    ]
    return mosaic(tiles, columns=8, scale=max(1, 48 // kernel.shape[1]))


def second_filters(kernel: np.ndarray) -> Image.Image:
    """Filters (h, w, channels, filters), each as the tiles of all its input channels."""
    _, width, channels, count = kernel.shape
    limit = float(np.abs(kernel).max())
    columns = math.ceil(channels**0.5)
    panels = []
    for k in range(count):
        tiles = [signed_colors(kernel[..., c, k], limit) for c in range(channels)]
        panels.append(mosaic(tiles, columns, scale=max(1, 140 // (columns * width)), gap=1))
    return mosaic(panels, columns=3, gap=14)


def activations(maps: np.ndarray, columns: int) -> Image.Image:
    """Maps (filters, H, W), each from its own minimum (black) to its maximum (white)."""
    side = 60 if columns > 4 else 90
    return mosaic([stretched(m) for m in maps], columns, scale=max(1, side // max(maps.shape[1:])))


def has_void(truth: bytes) -> bool:
    """Whether a mask file of class indices has pixels that are not counted."""
    return Image.open(io.BytesIO(truth)).getextrema()[1] == IGNORE


def error_map(picture: bytes, truth: bytes, prediction: bytes) -> Image.Image:
    """The photograph, grey and faint, with wrong pixels in red.

    Args:
        picture, truth, prediction: image files of one size; masks hold class indices, and 255
            where nothing is wrong.
    """
    grey = np.asarray(Image.open(io.BytesIO(picture)).convert("L"), np.float32)
    labels, answers = (np.asarray(Image.open(io.BytesIO(m))) for m in (truth, prediction))
    faint = (grey[..., None] * 0.45).repeat(3, axis=-1)
    wrong = ((labels != answers) & (labels != IGNORE))[..., None]
    mixed = np.where(wrong, 0.3 * faint + 0.7 * WRONG + 0.25 * (grey[..., None] - 128), faint)
    return Image.fromarray(mixed.clip(0, 255).round().astype(np.uint8))
