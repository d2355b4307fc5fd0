"""Facades drawn by this package: a segmentation data set that needs no files and no network.

Each example comes from ``numpy.random.default_rng([SEED, split, index])`` alone, so it can be
drawn at any time, in any process, and is always the same. Picture and mask are drawn together on
a canvas (``synthetic_drawing``); lens, light and sensor change only the picture.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from PIL import Image, ImageFilter

from tfproj.data.dataset import DataOptions, Dataset, Split
from tfproj.data.sources.facade_classes import FACADE_CLASSES, FACADE_COLORS
from tfproj.data.sources.synthetic_drawing import SIZE, Canvas, Rng, draw_scene

SEED = 1872
DRAWING = "2"  # changes with what is drawn, so that no run goes on with other pictures
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
        drawing=DRAWING,
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
    """Lens, uneven light, exposure and sensor: uint8 (H, W, 3)."""
    width, height = picture.size
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.7) * width / SIZE))
    across, down = np.linspace(-1, 1, width), np.linspace(-1, 1, height)[:, None]
    light = 1 + rng.normal(0, 0.1) * across + rng.normal(0, 0.1) * down
    pixels = np.array(picture) * light[..., None] * (1 + rng.normal(-0.05, 0.07, 3))
    pixels += rng.normal(0, rng.uniform(1, 6), (height, width, 1))
    return pixels.clip(0, 255).astype(np.uint8)
