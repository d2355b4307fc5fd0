"""Where crops lie in their photographs: drawn ones to train on, a grid of them to validate on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tfproj.errors import InputError

# Share of the drawn crops that are laid around a pixel of a drawn class. nnU-Net has a third of
# its samples hold an object (Isensee et al., 2021).
GUIDED = 0.5
CELL = 128  # px; classes are counted in squares of it, to find a pixel of one without a search


class Place(NamedTuple):
    """A crop's photograph, its first row and column there, and how many of each don't count."""

    photo: int
    top: int
    left: int
    rows: int = 0
    columns: int = 0


# From sizes, counts of cells and a reader of masks, see :class:`Drawn`.
Lay = Callable[[np.ndarray, Sequence[np.ndarray], Callable[[int], np.ndarray]], "Drawn | Grid"]


def count_cells(mask: np.ndarray, classes: int) -> np.ndarray:
    """Pixels of each class in squares of ``CELL``: uint16 (rows, columns, classes)."""
    width = mask.shape[1]
    place, room = np.arange(width) // CELL * 256, 256 * -(-width // CELL)
    rows = (mask[top : top + CELL] + place for top in range(0, len(mask), CELL))
    counts = np.stack([np.bincount(row.ravel(), minlength=room) for row in rows])
    return counts.reshape(len(counts), -1, 256)[..., :classes].astype(np.uint16)


class Drawn:
    """``length`` crops an epoch, each a function of (seed, epoch, index) alone.

    Half of them hold a pixel drawn evenly from all. The others hold a pixel of a drawn class, from
    a photograph drawn from those that have it. A class is drawn by 1 less its share of the pixels:
    the rare ones nearly alike, and what is everywhere hardly ever. A crop is laid so that its pixel
    may come to lie anywhere in it, and then moved into the photograph.

    Args:
        sizes: int (N, 2), height and width of the photographs.
        cells: what :func:`count_cells` gives for the mask of each.
        mask: index -> uint8 (height, width).
        size: of a crop.
    """

    def __init__(
        self,
        sizes: np.ndarray,
        cells: Sequence[np.ndarray],
        mask: Callable[[int], np.ndarray],
        size: tuple[int, int],
        length: int,
        seed: int,
    ):
        self._sizes, self._cells, self._mask = sizes, cells, mask
        self._size, self._length, self._seed = size, length, seed
        counts = np.stack([each.sum((0, 1), np.int64) for each in cells])
        total = counts.sum(0)
        if not total.any():
            raise InputError("every pixel of 'train' is void; label some")
        weights = (1 - total / total.sum()) * (total > 0)
        self._weights = weights / (weights.sum() or 1)
        self._holders = [np.flatnonzero(of_class) for of_class in counts.T]
        covered = np.maximum(sizes, size).prod(1).cumsum()
        self._shares = covered / covered[-1]

    def __len__(self) -> int:
        return self._length

    def place(self, index: int, epoch: int) -> Place:
        rng = np.random.default_rng([self._seed, epoch, index, 3])
        if rng.random() < GUIDED and self._weights.any():
            label = int(rng.choice(len(self._weights), p=self._weights))
            photo, pixel = self._pixel_of(label, rng)
        else:
            # Evenly over the area in one epoch, from another start in each.
            start = np.random.default_rng([self._seed, epoch, 0, 4]).random()
            photo = int(np.searchsorted(self._shares, (index + start) / self._length, "right"))
            pixel = rng.integers(self._sizes[photo])
        room = np.maximum(self._sizes[photo] - self._size, 0)
        return Place(photo, *np.clip(pixel - rng.integers(self._size), 0, room).tolist())

    def _pixel_of(self, label: int, rng: np.random.Generator) -> tuple[int, np.ndarray]:
        """(photograph, (row, column)) of a pixel of the class: any of its photograph's alike."""
        photo = int(rng.choice(self._holders[label]))
        counts = self._cells[photo][..., label]
        until = counts.ravel().cumsum(dtype=np.int64)
        cell = np.searchsorted(until, rng.integers(until[-1]), "right")
        top, left = (int(at) * CELL for at in np.unravel_index(cell, counts.shape))
        part = self._mask(photo)[top : top + CELL, left : left + CELL]
        return photo, (top, left) + rng.choice(np.argwhere(part == label))


class Grid:
    """Crops that cover each photograph; each pixel counts once.

    The last crop of a row or column reaches back over the one before, what that has not counting.
    """

    def __init__(self, sizes: np.ndarray, size: tuple[int, int]):
        self._places = [
            Place(photo, top, left, row - top, column - left)
            for photo, (height, width) in enumerate(sizes.tolist())
            for row in range(0, height, size[0])
            for column in range(0, width, size[1])
            for top, left in [
                (max(0, min(row, height - size[0])), max(0, min(column, width - size[1])))
            ]
        ]

    def __len__(self) -> int:
        return len(self._places)

    def place(self, index: int, epoch: int) -> Place:
        return self._places[index]
