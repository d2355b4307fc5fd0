"""Pictures made of arrays: filters, activations, error maps."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

GAP = 3  # px between tiles
WRONG = np.array([229, 72, 77], np.float32)


def mosaic(tiles: Sequence[np.ndarray], columns: int, scale: int, gap: int = GAP) -> Image.Image:
    """Tiles in rows on a transparent ground, each pixel enlarged ``scale`` times.

    Args:
        tiles: uint8 (h, w, 3) or (h, w, 4), all of one size, at least one.
        columns: tiles in a row, at most.
        scale: side of a pixel.
        gap: px between tiles.
    """
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    height, width = (side * scale for side in tiles[0].shape[:2])
    canvas = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        large = tile.repeat(scale, axis=0).repeat(scale, axis=1)
        canvas[top : top + height, left : left + width, : tile.shape[-1]] = large
        if tile.shape[-1] == 3:
            canvas[top : top + height, left : left + width, 3] = 255
    return Image.fromarray(canvas)


def signed_colors(values: np.ndarray, limit: float) -> np.ndarray:
    """float (H, W) in -limit..limit as uint8 (H, W, 3): blue below zero, white, red above."""
    from matplotlib import colormaps

    share = 0.5 + values / (2 * limit) if limit else np.full(values.shape, 0.5)
    return (colormaps["RdBu_r"](share)[..., :3] * 255).astype(np.uint8)


def stretched(values: np.ndarray) -> np.ndarray:
    """float array to uint8, from its own minimum to its own maximum; zeros where it is flat."""
    low, high = float(values.min()), float(values.max())
    share = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return (share * 255).round().astype(np.uint8)


def first_filters(kernel: np.ndarray) -> Image.Image:
    """All filters (h, w, channels, filters): as colours for RGB input, signed for grey."""
    _, width, channels, count = kernel.shape
    if channels == 3:
        tiles = [stretched(kernel[..., k]) for k in range(count)]
    else:
        mean = kernel.mean(axis=2)
        limit = float(np.abs(mean).max())
        tiles = [signed_colors(mean[..., k], limit) for k in range(count)]
    return mosaic(tiles, columns=8, scale=max(1, 48 // width))


def second_filters(kernel: np.ndarray) -> Image.Image:
    """Filters (h, w, channels, filters), each as the tiles of all its input channels."""
    _, width, channels, count = kernel.shape
    limit = float(np.abs(kernel).max())
    columns = _columns(channels)
    scale = max(1, 140 // (columns * width))
    panels = []
    for k in range(count):
        tiles = [signed_colors(kernel[..., c, k], limit) for c in range(channels)]
        panels.append(np.asarray(mosaic(tiles, columns, scale, gap=1)))
    return mosaic(panels, columns=3, scale=1, gap=14)


def _columns(count: int) -> int:
    """Tiles in a row that fill every row, where the shape stays near a square."""
    root = max(1, math.ceil(count**0.5))
    return next((c for c in range(root, 2 * root) if count % c == 0), root)


def activations(maps: np.ndarray, columns: int = 8) -> Image.Image:
    """Maps (filters, H, W), each from its own minimum (black) to its maximum (white)."""
    tiles = [stretched(m)[..., None].repeat(3, axis=-1) for m in maps]
    side = 60 if columns > 4 else 90
    return mosaic(tiles, columns, scale=max(1, side // max(maps.shape[1:])))


def enlarged(pixels: np.ndarray, side: int) -> Image.Image:
    """uint8 (H, W, 1 or 3), small ones enlarged by a whole factor up to ``side``."""
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    factor = max(1, side // max(picture.size))
    return picture.resize((picture.width * factor, picture.height * factor), 0)


def error_map(picture: bytes, truth: bytes, prediction: bytes) -> Image.Image:
    """The photograph, grey and faint, with wrong pixels in red.

    Args:
        picture, truth, prediction: image files of one size; masks hold class indices.
    """
    grey = np.asarray(Image.open(io.BytesIO(picture)).convert("L"), np.float32)
    labels, answers = (np.asarray(Image.open(io.BytesIO(m))) for m in (truth, prediction))
    faint = (grey[..., None] * 0.45).repeat(3, axis=-1)
    wrong = (labels != answers)[..., None]
    mixed = np.where(wrong, 0.3 * faint + 0.7 * WRONG + 0.25 * (grey[..., None] - 128), faint)
    return Image.fromarray(mixed.clip(0, 255).round().astype(np.uint8))
