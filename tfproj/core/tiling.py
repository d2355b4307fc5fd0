"""Large images in windows of the model's size, whose answers are blended into one mask.

Windows overlap. Near its border a window sees less than the network was trained to see, so its
weight falls to 0 there, and its neighbour's rises. docs/onnx-contract.md spells the geometry out.
The picture is read, and the mask is written, in bands of rows: no probabilities of the whole image
are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from tfproj.core.probabilities import BAND_PIXELS, decide
from tfproj.core.resizing import mirrored
from tfproj.core.spec import ModelSpec
from tfproj.errors import InputError

Size = tuple[int, int]
# uint8 (B, height, width, C) -> probabilities float32 (B, height, width, classes).
Answer = Callable[[np.ndarray], np.ndarray]
OnTile = Callable[[int, int], None]  # (windows done, windows in all)
MAX_SCALE = 64.0  # and its inverse


@dataclass(frozen=True)
class Axis:
    """Windows along one direction.

    Attributes:
        window: pixels of each.
        starts: their first pixels, in order, multiples of the network's strides.
        weights: float32 (windows, window); at every pixel those of all windows add up to 1.
        length: the end of the last, at or beyond the image's.
        ready: for each window, how many of its pixels no later one has.
    """

    window: int
    starts: list[int]
    weights: np.ndarray
    length: int
    ready: list[int]


@dataclass(frozen=True)
class Tiling:
    """How images are taken in windows.

    Attributes:
        window: (height, width) of the model's input.
        scale: input pixels for a pixel of the image, (rows, columns), above 0.
        multiple: of the network's strides: windows that start at multiples of it agree.
        reach: pixels around an answer that it depends on; None: the whole window.
        free: an image that is smaller than the window is a window of its own.
    """

    window: Size
    scale: tuple[float, float] = (1.0, 1.0)
    multiple: int = 1
    reach: int | None = None
    free: bool = False

    def size(self, own: Size) -> Size:
        """(height, width) at the model's scale of an image of size ``own``."""
        height, width = (max(1, round(n * s)) for n, s in zip(own, self.scale, strict=True))
        return height, width

    def axis(self, n: int, window: int) -> Axis:
        """The windows over ``n`` pixels, evenly; the image is mirrored at its end to fill them.

        Neighbours share at least a quarter of a window. Pixels at a window's border, as far as the
        border reaches, count for nothing where that leaves enough: a mask is then that of one pass
        over the whole image.
        """
        rounded = _up(n, self.multiple)
        window = min(window, rounded) if self.free else window
        length = max(window, rounded)
        overlap = min(_up(window / 4, self.multiple), window - self.multiple)
        count = 1 + math.ceil((length - window) / (window - overlap))
        steps = (i * (length - window) // max(1, count - 1) for i in range(count))
        starts = [step // self.multiple * self.multiple for step in steps]
        margin = self.reach or 0
        margin = margin if 2 * margin < overlap else 0
        place = np.arange(window) + 0.5
        ramp = np.clip((place - margin) / max(1, overlap - 2 * margin), 0, 1)
        weights = np.ones((count, window))
        weights[1:] *= ramp  # not at the image's own border
        weights[:-1] *= ramp[::-1]
        total = np.zeros(length)
        for start, weight in zip(starts, weights, strict=True):
            total[start : start + window] += weight
        weights /= [total[start : start + window] for start in starts]
        ready = np.diff([*starts, n]).tolist()
        return Axis(window, starts, weights.astype(np.float32), length, ready)


def trained_scale(
    spec: ModelSpec, median_size: Any, given: float | None
) -> tuple[float, float] | None:
    """Input pixels for a pixel of the image, (rows, columns); None where it is not known.

    Args:
        spec: of a segmenter.
        median_size: (height, width) of its training photographs, as a file or run has it.
        given: what the user says, for both directions.

    Raises:
        InputError: ``given`` makes no sense.
    """
    if given is not None:
        if type(given) not in (int, float) or not 1 / MAX_SCALE <= given <= MAX_SCALE:
            raise InputError(f"tile_scale is {given!r}; it must be a number in 1/64..64")
        return float(given), float(given)
    if spec.resize == "tiles":
        return 1.0, 1.0
    if not isinstance(median_size, (list, tuple)) or len(median_size) != 2:
        return None
    if not all(type(side) in (int, float) and 1 <= side < 1e6 for side in median_size):
        return None
    rows, columns = spec.height / median_size[0], spec.width / median_size[1]
    return (rows, columns) if spec.resize == "stretch" else (min(rows, columns),) * 2


def _up(value: float, multiple: int) -> int:
    return math.ceil(value / multiple) * multiple


def tiled_mask(
    picture: Image.Image,
    tiling: Tiling,
    classes: int,
    answer: Answer,
    batch_size: int = 8,
    on_tile: OnTile | None = None,
) -> np.ndarray:
    """The most probable class of every pixel; memory is the mask and a band of windows.

    Args:
        picture: of mode ``L`` or ``RGB``, as the model takes it.
        classes: how many, at most 256.
        answer: the model.
        batch_size: windows at once.
        on_tile: called after every batch.

    Returns:
        uint8 (height, width) of the picture's own size, 0..classes-1; of equal classes the first.
    """
    own = picture.height, picture.width
    size = tiling.size(own)
    mask = np.zeros(own, np.uint8)
    band = _Band(size, mask, classes)
    for top, left, block in blocks(picture, size, tiling, classes, answer, batch_size, on_tile):
        if size == own:
            decide(iter(block), mask[top : top + block.shape[1], left : left + block.shape[2]])
        else:
            band.add(block, left + block.shape[2] == size[1])
    return mask


def blocks(
    picture: Image.Image,
    size: Size,
    tiling: Tiling,
    classes: int,
    answer: Answer,
    batch_size: int,
    on_tile: OnTile | None = None,
) -> Iterator[tuple[int, int, np.ndarray]]:
    """(top, left, blended probabilities float32 (classes, rows, columns)) at ``size``.

    From left to right, then downwards. Each block is good until the next is asked for.
    """
    rows, columns = map(tiling.axis, size, tiling.window)
    below = np.zeros((classes, 0, columns.length), np.float32)  # of windows of the row before
    done, total = 0, len(rows.starts) * len(columns.starts)
    for top, down, ready in zip(rows.starts, rows.weights, rows.ready, strict=True):
        strip = _strip(picture, size, (top, rows.window), (0, columns.length))
        above, below = below, np.empty((classes, rows.window - ready, columns.length), np.float32)
        blended = np.zeros((classes, rows.window, columns.window), np.float32)
        for number, found in enumerate(_answers(strip, columns, answer, batch_size)):
            left, final = columns.starts[number], columns.ready[number]
            blended += np.moveaxis(found, -1, 0) * (down[:, None] * columns.weights[number])
            block = blended[:, :, :final]
            block[:, : above.shape[1]] += above[:, :, left : left + final]
            below[:, :, left : left + final] = block[:, ready:]
            yield top, left, block[:, :ready]
            blended[:, :, :-final] = blended[:, :, final:].copy()
            blended[:, :, columns.window - final :] = 0
            done += 1
            if on_tile is not None:
                on_tile(done, total)


def _answers(
    strip: np.ndarray, columns: Axis, answer: Answer, batch_size: int
) -> Iterator[np.ndarray]:
    """Probabilities float32 (height, width, classes) of each window along a strip."""
    for begin in range(0, len(columns.starts), batch_size):
        chosen = columns.starts[begin : begin + batch_size]
        yield from answer(np.stack([strip[:, left : left + columns.window] for left in chosen]))


def _strip(
    picture: Image.Image, size: Size, rows: tuple[int, int], columns: tuple[int, int]
) -> np.ndarray:
    """uint8 (rows, columns, C) of a picture at ``size``, each given as (first, count)."""
    down, across = mirrored(*rows, size[0]), mirrored(*columns, size[1])
    first, end = int(down.min()), int(down.max()) + 1
    pixels = np.asarray(_resized_rows(picture, size, first, end))
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return pixels[(down - first)[:, None], across]


def _resized_rows(picture: Image.Image, size: Size, first: int, end: int) -> Image.Image:
    """Rows ``first`` to ``end`` of a picture resized to ``size``, the width first."""
    if size == (picture.height, picture.width):
        return picture.crop((0, first, size[1], end))
    scale = picture.height / size[0]
    reach = math.ceil(max(1.0, scale)) + 1
    top = max(0, math.floor(first * scale) - reach)
    bottom = min(picture.height, math.ceil(end * scale) + reach)
    strip = picture.crop((0, top, picture.width, bottom))
    strip = strip.resize((size[1], bottom - top), Image.Resampling.BILINEAR)
    # Beyond the box Pillow sees the rest of the strip, so that bands fit together.
    box = (0, first * scale - top, size[1], min(end * scale - top, bottom - top))
    return strip.resize((size[1], end - first), Image.Resampling.BILINEAR, box)


class _Band:
    """Rows of probabilities at the model's scale, until the mask's rows that need them are written.

    Args:
        size: (height, width) at the model's scale.
        mask: uint8 of the picture's own size, 0; gets the classes.
        classes: how many.
    """

    def __init__(self, size: Size, mask: np.ndarray, classes: int):
        self._size, self._mask = size, mask
        self._planes = np.zeros((classes, 0, size[1]), np.float32)
        self._first = self._done = 0  # row of the first of the planes; rows of the mask
        self._blocks: list[np.ndarray] = []

    def add(self, block: np.ndarray, last: bool) -> None:
        """The next block (classes, rows, columns) from the left; the last of these rows or not."""
        self._blocks.append(block.copy())
        if not last:
            return
        band = np.concatenate(self._blocks, axis=2)
        self._planes = np.concatenate([self._planes, band], axis=1)
        self._blocks = []
        scale = self._size[0] / len(self._mask)
        reach = max(1.0, scale)  # of the filter that resizes
        known, ready = self._first + self._planes.shape[1], len(self._mask)
        if known < self._size[0]:
            ready = max(self._done, math.floor((known - reach) / scale - 0.5))
        self._write(ready)
        start = max(self._first, math.floor((ready + 0.5) * scale - reach) - 1)
        self._planes, self._first = self._planes[:, start - self._first :], start

    def _write(self, ready: int) -> None:
        """Rows of the mask up to ``ready``."""
        height, width = self._mask.shape
        step = max(1, BAND_PIXELS // width)
        for top in range(self._done, ready, step):
            part = slice(top, min(top + step, ready))
            low, weights = _row_weights(self._size[0], height, part)
            start = low - self._first
            needed = self._planes[:, start : start + weights.shape[1]]
            decide((weights @ _widened(plane, width) for plane in needed), self._mask[part])
        self._done = ready


def _row_weights(n: int, m: int, part: slice) -> tuple[int, np.ndarray]:
    """(first of n rows that matters, float32 weights (rows of ``part``, n rows)) of m rows.

    Pillow's bilinear filter: a triangle that widens when shrinking.
    """
    scale = n / m
    reach = max(1.0, scale)
    centre = (np.arange(part.start, part.stop)[:, None] + 0.5) * scale
    low = max(0, math.floor(centre[0, 0] - reach))
    high = min(n, math.ceil(centre[-1, 0] + reach))
    weights = np.maximum(0, 1 - np.abs(np.arange(low, high) + 0.5 - centre) / reach)
    return low, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _widened(plane: np.ndarray, width: int) -> np.ndarray:
    """float32 (rows, w) with rows of ``width``."""
    picture = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(picture.resize((width, len(plane)), Image.Resampling.BILINEAR))
