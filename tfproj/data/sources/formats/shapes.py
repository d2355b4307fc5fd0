"""Polygons and run lengths drawn as masks, by one rule whatever format they come from.

A pixel belongs to a polygon where its centre lies inside, by the even-odd rule; a centre on an edge
is inside where the edge is its left or upper one. Corners are rounded to 1/64 pixel first, so that
a format that writes fewer digits gives the same mask. Pixel (row, column) reaches from (column,
row) to (column + 1, row + 1). Regions are drawn in their order, the later ones on top.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.core import image
from tfproj.data.dataset import Dataset, Split
from tfproj.data.sources.classes import Classes
from tfproj.data.sources.files import dataset_of
from tfproj.data.sources.formats.run_lengths import unpacked
from tfproj.errors import InputError

GRID = 64
FAR = 10**6  # px: no image is so large, and products of two stay within int64
MAX_TRAVEL = 400  # heights of the image that the edges of one polygon go up and down


@dataclass(frozen=True)
class Drawing:
    """One image and its regions, not yet drawn.

    Attributes:
        file: the image.
        regions: (mask value, corners float (N, 2) as x, y or run lengths int (N,)), in order.
        size: (height, width) in pixels; None: the image's, of which corners are parts, 0..1.
    """

    file: Path
    regions: Sequence[tuple[int, np.ndarray]]
    size: tuple[int, int] | None

    def mask(self, background: int) -> np.ndarray:
        """uint8 (H, W); ``background`` where there is no region."""
        size = self.size or image.header(self.file)[0]
        scale = (1, 1) if self.size else size[::-1]
        mask = np.full(size, background, np.uint8)
        for value, shape in self.regions:
            if shape.ndim == 1:
                mask[unpacked(shape, size)] = value
            else:
                _fill(mask, np.rint(shape * scale * GRID).astype(np.int64), value)
        return mask


def drawn_split(drawings: Sequence[Drawing], root: Path, background: int) -> Split:
    """A segmentation split whose masks are drawn when they are read."""
    files = [drawing.file for drawing in drawings]
    return Split(
        names=names_of(files, root),
        read_image=lambda i: files[i],
        read_mask=lambda i: drawings[i].mask(background),
        files=files,
    )


def drawn_dataset(
    folder: Path,
    classes: Classes,
    drawings: Mapping[str, Sequence[Drawing]],
    annotations: Iterable[Path],
) -> Dataset:
    """A segmentation set whose masks are drawn from the regions of ``annotations``."""
    splits = {
        split: drawn_split(drawn, folder, classes.background) for split, drawn in drawings.items()
    }
    return dataset_of(folder, "segment", classes.names, splits, annotations, void=classes.void)


def names_of(files: Sequence[Path], root: Path) -> list[str]:
    """File names, or the paths below ``root`` where two files have one name."""
    names = [file.name for file in files]
    if len({*names}) == len(names):
        return names
    return [file.relative_to(root).as_posix() for file in files]


def polygon(numbers: Any, size: tuple[float, float], place: str) -> np.ndarray:
    """Corners float (N, 2), as x, y, of a list of pairs or of x, y, x, y...

    Args:
        numbers: what the annotation holds.
        size: (height, width) of the image in the same unit.
        place: what error messages call it.

    Raises:
        InputError: no numbers, fewer than three corners, or nothing of it lies in the image.
    """
    try:
        points = np.asarray(numbers, np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{place}: a polygon that is no list of pairs of numbers") from None
    if len(points) < 3:
        raise InputError(f"{place}: a polygon of {len(points)} point(s); it must have 3 or more")
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    if not (left > -FAR and top > -FAR and right < FAR and bottom < FAR):  # as NaN is not
        raise InputError(f"{place}: a polygon with coordinates that are not finite, or far outside")
    if min(right, bottom) < 0 or left > size[1] or top > size[0]:
        raise InputError(f"{place}: a polygon that lies outside the image")
    most = MAX_TRAVEL * size[0]
    if len(points) * (bottom - top) > most and np.abs(np.diff(points[:, 1])).sum() > most:
        raise InputError(f"{place}: a polygon that goes up and down too often to be drawn")
    return points


def _fill(mask: np.ndarray, corners: np.ndarray, value: int) -> None:
    """Draw a polygon; ``corners`` int64 (N, 2) in parts of 1/64 pixel."""
    height, width = mask.shape
    ends = np.stack((corners, np.roll(corners, -1, 0)))
    order = np.argsort(ends[..., 1], 0)[..., None]
    (x, y), (x1, y1) = (end.T for end in np.take_along_axis(ends, order, 0))
    first, last = (np.clip(-(-(side - GRID // 2) // GRID), 0, height) for side in (y, y1))
    counts = last - first  # of the rows whose centres lie in [y, y1)
    edge = np.repeat(np.arange(len(y)), counts)
    if not len(edge):
        return
    row = np.arange(len(edge)) - (np.cumsum(counts) - counts - first)[edge]
    down = (y1 - y)[edge]
    along = (GRID * row + GRID // 2 - y[edge]) * (x1 - x)[edge] + (x[edge] - GRID // 2) * down
    column = np.clip(-(-along // (GRID * down)), 0, width)  # the first with its centre beyond
    top, left, bottom, right = row.min(), column.min(), row.max() + 1, column.max()
    crossings = np.zeros((bottom - top, right - left + 1), np.uint8)
    np.add.at(crossings, (row - top, column - left), 1)  # 256 are as even as none
    inside = np.add.accumulate(crossings, 1, np.uint8)[:, :-1] % 2 == 1
    mask[top:bottom, left:right][inside] = value
