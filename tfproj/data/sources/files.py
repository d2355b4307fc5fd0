"""Listing of the files of a data set, and which mask belongs to which image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfproj.core import image
from tfproj.data.dataset import Split
from tfproj.data.findings import Problem, complain, warn
from tfproj.data.masks import MaskCoding, read_mask

Problems = list[Problem] | None


def images_in(folder: Path, problems: Problems = None) -> list[Path]:
    """Image files of a folder, sorted; anything else in it is noted as ignored.

    Raises:
        InputError: the folder is missing or cannot be read (if ``problems`` is None, as below).
    """
    if not folder.is_dir():
        complain(problems, "layout", folder, "no such directory")
        return []
    found = []
    for path in image.list_visible(folder):
        if path.suffix.lower() in image.SUFFIXES:
            found.append(path)
        elif problems is not None and path.is_dir():
            warn(problems, "ignored", path, "ignored: a folder where only images are read")
        else:
            suffixes = " ".join(image.SUFFIXES)
            warn(problems, "ignored", path, f"ignored: its name ends in none of {suffixes}")
    return found


def class_folders(root: Path, problems: Problems = None) -> list[str]:
    """Names of the folders in ``root`` that are classes, sorted; images beside them are noted."""
    found = []
    for path in image.list_visible(root):
        if path.is_dir():
            found.append(path.name)
        elif path.suffix.lower() in image.SUFFIXES:
            warn(problems, "ignored", path, "ignored: an image outside the class folders")
    return found


def by_stem(paths: Sequence[Path], problems: Problems = None) -> dict[str, Path]:
    """Paths by name without suffix; InputError for two files of one name."""
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            other = found[path.stem].name
            complain(problems, "unpaired", path, f"has the same name as {other}; rename one")
        else:
            found[path.stem] = path
    return found


def match_pairs(
    images: dict[str, Path], masks: dict[str, Path], problems: Problems = None
) -> list[tuple[Path, Path]]:
    """(image, mask) pairs of equal stem, sorted by it.

    Raises:
        InputError: names the first file that is alone.
    """
    hint = "" if problems is not None else " (tfproj data check lists all)"
    for stem in sorted(images.keys() ^ masks.keys()):
        have, lack = ("image", "mask") if stem in images else ("mask", "image")
        path = images.get(stem) or masks[stem]
        complain(problems, "unpaired", path, f"{have} without {lack} of the same name{hint}")
    return [(images[stem], masks[stem]) for stem in sorted(images.keys() & masks.keys())]


def pair_split(pairs: Sequence[tuple[Path, Path]], coding: MaskCoding) -> Split:
    """A segmentation split over image and mask files."""
    images = [pair[0] for pair in pairs]
    return Split(
        names=[path.name for path in images],
        read_image=lambda i: images[i],
        read_mask=lambda i: read_mask(pairs[i][1], coding),
        files=images,
        masks=[pair[1] for pair in pairs],
    )
