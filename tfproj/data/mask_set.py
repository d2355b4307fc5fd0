"""What shows only where the masks of a data set are compared: palettes, turns, traces of JPEG."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfproj.core import image
from tfproj.data.dataset import Dataset, Split
from tfproj.data.findings import Finding, Findings
from tfproj.data.lossy import BLOCK, edge_blocks, kept_by_jpeg
from tfproj.data.masks import IGNORE, class_table_of, used_colors

# Fewer masks whose edges all lie on multiples of 8 pixels may do so by chance.
MANY = 5
MANY_BLOCKS = 1000


class MaskSet:
    """Takes masks one by one; :meth:`findings` then says what they have in common.

    Args:
        dataset: whose masks they are.
    """

    def __init__(self, dataset: Dataset):
        self._dataset = dataset
        self._colors: dict[int, tuple[str, Path]] = {}
        self._values: dict[str, tuple[int, Path]] = {}
        self._palettes = Findings()
        self._looked_at = self._pixels = self._void = 0
        self._turned: list[str] = []
        self._noisy: list[str] = []
        self._blocks = np.zeros((0, BLOCK * BLOCK), np.uint8)
        self._edged = self._whole = 0

    def add(self, split: Split, index: int, mask: np.ndarray) -> None:
        """Look at a readable mask, class indices uint8 (H, W), and at its image."""
        self._looked_at += 1
        self._pixels += mask.size
        self._void += np.count_nonzero(mask == IGNORE) if self._dataset.void else 0
        if split.masks is None:
            return
        turn = image.stored_turn(split.read_image(index))
        # Where the turn swaps unequal sides, the sizes have been compared.
        if turn > 1 and (turn < 5 or mask.shape[0] == mask.shape[1]):
            self._turned.append(split.label_of(index))
        self._compare_palette(split.masks[index])
        if self._dataset.mask_values:
            mask = class_table_of(self._dataset.mask_values)[mask]
        blocks = edge_blocks(mask)
        if kept_by_jpeg(blocks):
            self._noisy.append(split.mask_label_of(index))
        elif len(self._blocks) < MANY_BLOCKS:
            self._blocks = np.unique(np.concatenate((self._blocks, blocks)), axis=0)
        self._edged += bool(mask.min() < mask.max())
        self._whole += bool(mask.min() < mask.max() and not len(blocks))

    def findings(self) -> Iterator[Finding]:
        """Faults and doubts about the masks so far."""
        yield from self._palettes
        name, count = self._dataset.name, f"of {self._looked_at:,} masks"
        if self._void:
            message = (
                f"{self._void / self._pixels:.2%} of the pixels {count} are void: they count for "
                "nothing in training and evaluation"
            )
            nothing = self._void == self._pixels
            yield Finding(name, "void", message, "error" if nothing else "warning")
        if self._turned:
            message = (
                f"{len(self._turned):,} {count} belong to images that EXIF turns or mirrors, such "
                f"as {self._turned[0]}; masks go with the turned image. If yours were drawn on the "
                "stored one, which their sizes do not tell: exiftool -Orientation= FOLDER/images"
            )
            yield Finding(name, "exif", message, "warning")
        if self._noisy:
            sure = 2 * len(self._noisy) > self._looked_at
            message = (
                f"{len(self._noisy):,} {count} show the traces of JPEG, which turns classes into "
                f"others, such as {self._noisy[0]}; take the masks as they were before"
            )
            yield Finding(name, "lossy", message, "error" if sure else "warning")
        elif kept_by_jpeg(self._blocks):
            message = (
                "together the masks show the traces of JPEG, which turns classes into others; "
                "take them as they were before"
            )
            yield Finding(name, "lossy", message, "warning")
        elif self._edged >= MANY and self._whole == self._edged:
            message = (
                "all edges in the masks lie on multiples of 8 pixels, as JPEG leaves them; were "
                "they once saved as JPEG?"
            )
            yield Finding(name, "lossy", message, "warning")

    def _compare_palette(self, path: Path) -> None:
        """Where values decide, their colors must agree from file to file."""
        picture = image.open_image(path, values=True)
        used = used_colors(picture, np.asarray(picture)) if picture.mode == "P" else {}
        colors = [*used.values()]
        if len({*colors}) < len(colors) or {*colors} <= {*self._dataset.colors}:
            return
        changed = [v for v, c in used.items() if self._colors.setdefault(v, (c, path))[0] != c]
        moved = [c for v, c in used.items() if self._values.setdefault(c, (v, path))[0] != v]
        if moved:
            value, other = self._values[moved[0]]
            here = colors.index(moved[0])
            message = (
                f"the color {moved[0]} has the value {[*used][here]}, but {value} in {other}; "
                "list the colors of all classes in classes.csv, and they decide"
            )
            self._palettes.error(path, "palette", message)
        elif changed:
            color, other = self._colors[changed[0]]
            message = (
                f"the value {changed[0]} has the color {used[changed[0]]}, but {color} in {other}; "
                "the values decide"
            )
            self._palettes.warn(path, "palette", message)
