"""Facades drawn by this package: a segmentation data set that needs no files and no network.

Each example comes from ``numpy.random.default_rng([SEED, split, index])`` alone, so it can be
drawn at any time, in any process, and is always the same. Picture and mask are drawn together on
a canvas (``synthetic_drawing``); light, lens and sensor change only the picture.
"""

from __future__ import annotations

import functools
import io
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tfproj.data.dataset import DataOptions, Dataset, Split
from tfproj.data.sources.facade_classes import FACADE_CLASSES, FACADE_COLORS
from tfproj.data.sources.synthetic_drawing import SIZE, Canvas, Rng, draw_scene

SEED = 1872
COUNTS = {"train": 900, "test": 100}


def synthetic_facades(options: DataOptions) -> Dataset:
    """900 training and 100 test facades, 256 x 256, drawn as they are read.

    ``read_image`` gives uint8 (256, 256, 3) RGB, ``read_mask`` uint8 (256, 256) class indices;
    both arrays are read-only. An ``options.limit`` above 900 makes as many more as it asks for.
    """
    counts = dict(COUNTS)
    if options.limit:
        # What is held out for validation comes on top of the limit.
        train = math.ceil(options.limit / (1 - options.val_fraction))
        counts = {"train": max(train, COUNTS["train"]), "test": max(options.limit // 10, 100)}
    return Dataset(
        name="synthetic_facades",
        task="segment",
        classes=FACADE_CLASSES,
        colors=FACADE_COLORS,
        splits={name: _split(i, count) for i, (name, count) in enumerate(counts.items())},
        size=(SIZE, SIZE),
        channels=3,
        origin="drawn by tfproj",
        license="Drawn by tfproj; public domain",
    )


def _split(split_id: int, count: int) -> Split:
    return Split(
        names=[f"facade_{i:05d}" for i in range(count)],
        read_image=lambda i: _example(split_id, i)[0],
        read_mask=lambda i: _example(split_id, i)[1],
    )


@functools.lru_cache(maxsize=64)  # image and mask are read one after the other: draw them once
def _example(split_id: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    image, mask = draw(np.random.default_rng([SEED, split_id, index]))
    image.flags.writeable = mask.flags.writeable = False
    return image, mask


def draw(rng: Rng, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """One facade, with ``rng`` as its only source of variation.

    Returns:
        image, uint8 (size, size, 3) RGB 0..255, and mask, uint8 (size, size), an index into
        ``FACADE_CLASSES`` for each pixel.
    """
    canvas = Canvas()
    draw_scene(canvas, rng)
    picture = canvas.picture.resize((size, size), Image.Resampling.BILINEAR)
    mask = canvas.mask.resize((size, size), Image.Resampling.NEAREST)
    return _photograph(rng, picture), np.array(mask)


def _photograph(rng: Rng, picture: Image.Image) -> np.ndarray:
    """Lens, light, exposure, sensor, compression: uint8 (H, W, 3)."""
    size = picture.size[0]
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.7) * size / SIZE))
    gain = _light(rng, size)[..., None] * rng.uniform(0.75, 1.2) * (1 + rng.normal(0, 0.04, 3))
    pixels = np.asarray(picture, np.float32) * gain.astype(np.float32)
    pixels += rng.standard_normal((size, size, 1), np.float32) * np.float32(rng.uniform(1, 6))
    pixels -= 0.6 * np.maximum(pixels - 200, 0)  # white walls keep their texture, as on film
    data = io.BytesIO()
    noisy = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    noisy.save(data, "JPEG", quality=int(rng.integers(60, 95)))
    return np.array(Image.open(data))


def _light(rng: Rng, size: int) -> np.ndarray:
    """Uneven light and dirt, at times the shadow of a house opposite: float32 (size, size)."""
    ramp = np.linspace(-1, 1, 14)
    grid = 1 + rng.normal(0, 0.08) * ramp + rng.normal(0, 0.1) * ramp[:, None]
    grid = (grid + rng.normal(0, 0.03, grid.shape)).astype(np.float32)
    light = np.array(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC))
    if rng.random() < 0.15:
        edge = Image.new("L", (size, size), 255)
        a, b, side = *rng.uniform(0, size, 2), rng.choice([0, size])
        ImageDraw.Draw(edge).polygon([(a, 0), (b, size), (side, size), (side, 0)], 160)
        light *= np.asarray(edge, np.float32) / 255
    return light
