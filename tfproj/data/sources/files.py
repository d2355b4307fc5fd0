"""The files of a directory, which mask belongs to which image, and the data set they make."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.core import image
from tfproj.core.words import nfc
from tfproj.data.dataset import Dataset, Split, natural_channels, natural_size
from tfproj.data.findings import Findings
from tfproj.data.masks import MaskCoding, class_table_of, read_mask
from tfproj.data.sources.class_tables import ClassTable
from tfproj.data.sources.layouts import other_names

# How names of masks go on after those of their images.
ENDING = re.compile("[_-](mask|masks|gt|seg|label|labels|L)$")


def images_in(folder: Path, findings: Findings) -> list[Path]:
    """Image files of a folder, sorted; what else lies in it is ignored, which is noted."""
    if not folder.is_dir():
        findings.error(folder, "layout", "no such directory")
        return []
    found = []
    for path in image.list_visible(folder):
        if path.suffix.lower() in image.SUFFIXES:
            found.append(path)
        elif path.is_dir():
            inside = sum(file.suffix.lower() in image.SUFFIXES for file in path.rglob("*"))
            message = f"ignored: a folder, with {inside:,} images, where only images are read"
            findings.warn(path, "ignored", message)
        else:
            suffixes = " ".join(image.SUFFIXES)
            findings.warn(path, "ignored", f"ignored: its name ends in none of {suffixes}")
    return found


def match_pairs(
    images: Sequence[Path], masks: Sequence[Path], findings: Findings, image_ending: str = ""
) -> list[tuple[Path, Path]]:
    """(image, mask) pairs that are called the same but for the suffix, sorted by name.

    Where all masks are called otherwise than all images, and end alike in what says that they are
    masks, that is left out.

    Args:
        image_ending: what the names of images have after those of the masks.
    """
    image_of = _by_stem(images, findings, image_ending)
    if images and all(nfc(path.stem) not in image_of for path in masks):
        mask_of = _by_stem(masks, findings, common_ending(masks))
    else:
        mask_of = _by_stem(masks, findings)
    lonely = [sorted(image_of.keys() - mask_of.keys()), sorted(mask_of.keys() - image_of.keys())]
    if words := other_names(*lonely):
        findings.error(mask_of[lonely[1][0]].parent, "unpaired", words)
    for stem in sorted(image_of.keys() ^ mask_of.keys()):
        have, lack = ("image", "mask") if stem in image_of else ("mask", "image")
        path = image_of.get(stem) or mask_of[stem]
        findings.error(path, "unpaired", f"{have} without {lack} of the same name")
    return [(image_of[stem], mask_of[stem]) for stem in sorted(image_of.keys() & mask_of.keys())]


def common_ending(masks: Sequence[Path]) -> str:
    """``_mask`` and the like, where all names end so; else nothing."""
    found = {ending[0] if (ending := ENDING.search(p.stem)) else "" for p in masks}
    return found.pop() if len(found) == 1 else ""


def _by_stem(paths: Sequence[Path], findings: Findings, ending: str = "") -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        stem = nfc(path.stem).removesuffix(ending)
        if stem in found:
            other = found[stem].name
            findings.error(path, "unpaired", f"has the same name as {other}; rename one")
        else:
            found[stem] = path
    return found


def pair_split(
    pairs: Sequence[tuple[Path, Path]], coding: MaskCoding, indices: Sequence[int] = ()
) -> Split:
    """A segmentation split over image and mask files.

    ``indices``: what becomes of each entry of ``coding``, where they are not the classes in order.
    """
    table = class_table_of(indices)
    images = [pair[0] for pair in pairs]

    def read(path: Path) -> np.ndarray:
        mask = read_mask(path, coding)
        return table[mask] if indices else mask

    return Split(
        names=[path.name for path in images],
        read_image=lambda i: images[i],
        read_mask=lambda i: read(pairs[i][1]),
        files=images,
        masks=[pair[1] for pair in pairs],
    )


def paired_dataset(
    folder: Path,
    pairs: Mapping[str, Sequence[tuple[Path, Path]]],
    table: ClassTable,
    annotations: Iterable[Path] = (),
) -> Dataset:
    """The data set of these (image, mask) files by split; ``annotations`` say what they are."""
    splits = {
        split: pair_split(found, table.coding, table.indices) for split, found in pairs.items()
    }
    more = {"colors": table.colors, "mask_values": table.class_values, "void": table.void}
    return dataset_of(folder, "segment", table.names, splits, annotations=annotations, **more)


def dataset_of(
    folder: Path,
    task: str,
    classes: Iterable[str],
    splits: Mapping[str, Split],
    annotations: Iterable[Path] = (),
    **more: Any,
) -> Dataset:
    """A data set of the files of a directory; ``more`` are further fields of it."""
    return Dataset(
        name=str(folder),
        task=task,
        classes=tuple(classes),
        splits=splits,
        size=natural_size(splits["train"], multiple=8 if task == "segment" else 1),
        channels=natural_channels(splits["train"]),
        origin=str(folder.resolve()),
        may_grow=True,
        annotations=tuple(annotations),
        **more,
    )
