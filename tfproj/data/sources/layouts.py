"""Segmentation sets that are not laid out as :mod:`folder` has it, and look like class folders."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tfproj.core import image
from tfproj.core.words import nfc
from tfproj.errors import InputError

WANTED = (
    "segmentation is read from images/ and masks/ with files of equal names and a classes.csv "
    "beside them"
)
# More folders are classes, and to compare each with each would take long.
MOST_FOLDERS = 12
PAIRS = 4  # that are looked into
FEW_COLORS = 40


def describe(folders: Sequence[Path]) -> str | None:
    """What folders that would be classes look like, in words; None for photographs by class.

    Images and masks are told by what they hold: equal names, equal sizes, and few colours in one
    of each pair.
    """
    if len(folders) > MOST_FOLDERS:
        return None
    files = {folder: _images_in(_first_with_images(folder)) for folder in folders}
    few = [folder for folder, found in files.items() if found and _colors(found[0]) <= FEW_COLORS]
    for masks, images in itertools.product(few, folders):
        if images != masks and _are_pairs(_partners(files[images], files[masks])):
            return f"{masks.name}/ seems to hold the masks of {images.name}/; {WANTED}"
    for folder in folders:
        if pairs := _pairs_inside(folder):
            one, other = (path.name for path in pairs[0])
            return f"{other} seems to be the mask of {one} in {folder.name}/; {WANTED}"
    return None


def other_names(images: Sequence[str], masks: Sequence[str]) -> str | None:
    """How masks are called where images are called otherwise; None where that is not plain.

    Args:
        images, masks: stems of those without a partner.
    """
    if len(images) < 2 or _cores(images) != _cores(masks):
        return None
    pairs = zip(sorted(images), sorted(masks), strict=True)
    one, other = next(pairs)
    return f"masks are called like {other!r} where images are called like {one!r}; rename them"


def _cores(stems: Sequence[str]) -> list[str]:
    """The stems without what all of them begin and end with."""
    start = len(os.path.commonprefix(list(stems)))
    rest = [stem[start:] for stem in stems]
    end = len(os.path.commonprefix([stem[::-1] for stem in rest]))
    return sorted(stem[: len(stem) - end] for stem in rest)


def _first_with_images(folder: Path) -> Path:
    """The folder, or the first below it that holds images, as in images/train/."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        if any(Path(file).suffix.lower() in image.SUFFIXES for file in files):
            return Path(place)
    return folder


def _images_in(folder: Path) -> list[Path]:
    files = image.list_visible(folder) if folder.is_dir() else []
    return [path for path in files if path.suffix.lower() in image.SUFFIXES]


def _partners(images: Sequence[Path], masks: Sequence[Path]) -> list[tuple[Path, Path]]:
    """(image, mask) of equal names, or of names that differ in the same way; empty for few."""
    image_of, mask_of = ({nfc(path.stem): path for path in paths} for paths in (images, masks))
    shared = sorted(image_of.keys() & mask_of.keys())
    if 2 * len(shared) > len(mask_of):
        return [(image_of[stem], mask_of[stem]) for stem in shared]
    if len(image_of) > 1 and _cores([*image_of]) == _cores([*mask_of]):
        return list(zip(*(sorted(paths) for paths in (images, masks)), strict=True))
    return []


def _pairs_inside(folder: Path) -> list[tuple[Path, Path]]:
    """(image, mask) where both lie in one folder: a.jpg and a.png, or a_mask.png."""
    files = _images_in(folder)
    pairs = []
    for one, other in itertools.pairwise(sorted(files, key=lambda path: (path.stem, path.suffix))):
        if other.stem.startswith(one.stem) and not other.stem[len(one.stem) :][:1].isdigit():
            pairs.append((one, other))
    if 3 * len(pairs) < len(files):
        return []
    for found in (pairs, [(mask, picture) for picture, mask in pairs]):
        if _are_pairs(found):
            return found
    return []


def _are_pairs(pairs: Iterable[tuple[Path, Path]]) -> bool:
    """Whether the second of each pair is a mask of the first, going by a few."""
    looked_at = list(itertools.islice(pairs, PAIRS))
    return bool(looked_at) and all(itertools.starmap(_is_mask_of, looked_at))


def _is_mask_of(picture: Path, mask: Path) -> bool:
    try:
        if image.header(picture)[0] != image.header(mask)[0]:
            return False
    except InputError:
        return False
    few = _colors(mask)
    return few <= FEW_COLORS and _colors(picture) > 4 * few


def _colors(path: Path) -> float:
    """How many a picture has; infinite for one that can't be read."""
    try:
        return len(np.unique(image.load(path, None, 3).reshape(-1, 3), axis=0))
    except InputError:
        return np.inf
