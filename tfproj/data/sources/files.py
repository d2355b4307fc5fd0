"""Listing of the files of a data set, and which mask belongs to which image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfproj.core import image
from tfproj.core.words import nfc
from tfproj.data.dataset import Split
from tfproj.data.findings import Findings
from tfproj.data.masks import MaskCoding, read_mask
from tfproj.data.sources.layouts import other_names


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
    images: Sequence[Path], masks: Sequence[Path], findings: Findings
) -> list[tuple[Path, Path]]:
    """(image, mask) pairs that are called the same but for the suffix, sorted by name."""
    image_of, mask_of = _by_stem(images, findings), _by_stem(masks, findings)
    lonely = [sorted(image_of.keys() - mask_of.keys()), sorted(mask_of.keys() - image_of.keys())]
    if words := other_names(*lonely):
        findings.error(mask_of[lonely[1][0]].parent, "unpaired", words)
    for stem in sorted(image_of.keys() ^ mask_of.keys()):
        have, lack = ("image", "mask") if stem in image_of else ("mask", "image")
        path = image_of.get(stem) or mask_of[stem]
        findings.error(path, "unpaired", f"{have} without {lack} of the same name")
    return [(image_of[stem], mask_of[stem]) for stem in sorted(image_of.keys() & mask_of.keys())]


def _by_stem(paths: Sequence[Path], findings: Findings) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        stem = nfc(path.stem)
        if stem in found:
            other = found[stem].name
            findings.error(path, "unpaired", f"has the same name as {other}; rename one")
        else:
            found[stem] = path
    return found


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
