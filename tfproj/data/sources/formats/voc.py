"""Pascal VOC: JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/, as the data and CVAT.

The value 255, the border of objects, is void.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from tfproj.core import image
from tfproj.core.words import nfc
from tfproj.data.dataset import Dataset
from tfproj.data.findings import Findings
from tfproj.data.masks import IGNORE, VOID_COLOR
from tfproj.data.sources.class_tables import NAMES, ClassTable, class_rows, table_of
from tfproj.data.sources.files import paired_dataset
from tfproj.data.sources.formats.annotations import by_split
from tfproj.data.sources.tables import read_text
from tfproj.errors import InputError

IMAGES, MASKS = "JPEGImages", "SegmentationClass"
SETS = Path("ImageSets", "Segmentation")
BORDER = (IGNORE, VOID_COLOR)
# Of the data of the challenge, which say so in their annotations and list no classes.
VOC_CLASSES = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse "
    "motorbike person pottedplant sheep sofa train tvmonitor"
)


def found(folder: Path) -> str:
    """The two folders of VOC; empty where one is missing."""
    there = (folder / IMAGES).is_dir() and (folder / MASKS).is_dir()
    return f"{IMAGES}/ and {MASKS}/" * there


def read(folder: Path, findings: Findings) -> Dataset:
    """The data set; what a list names and does not exist is a finding."""
    for name in (IMAGES, MASKS):
        if not (folder / name).is_dir():
            raise InputError(f"{folder / name}: no such directory")
    images, masks = (_by_name(folder / name) for name in (IMAGES, MASKS))
    sets = {path.stem: path for path in sorted((folder / SETS).glob("*.txt"))}
    if "train" in sets:
        sets.pop("trainval", None)  # what the others list
    parts = by_split(sets.values(), "a list of images")
    listed = {split: _listed(path) for split, path in parts.items()} or {"train": sorted(masks)}
    pairs: dict[str, list[tuple[Path, Path]]] = {}
    for split, names in listed.items():
        pairs[split] = []
        for name in names:
            if name in images and name in masks:
                pairs[split].append((images[name], masks[name]))
            else:
                lacking = MASKS if name in images else IMAGES
                where = parts.get(split, folder / MASKS)
                message = f"no file of this name, though {where} names it"
                findings.error(folder / lacking / name, "unpaired", message)
    table = _table(folder, findings)
    tables = [folder / name for name in NAMES if (folder / name).is_file()]
    return paired_dataset(folder, pairs, table, [*parts.values(), *tables])


def _by_name(folder: Path) -> dict[str, Path]:
    """Image files by their paths below the folder, without the suffix."""
    below = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    pictures = sorted(path for path in below if path.suffix.lower() in image.SUFFIXES)
    return {nfc(path.relative_to(folder).with_suffix("").as_posix()): path for path in pictures}


def _listed(path: Path) -> list[str]:
    lines = (line.strip().strip('"') for line in read_text(path).splitlines())
    return [nfc(line.replace("\\", "/")) for line in lines if line]


def _table(folder: Path, findings: Findings) -> ClassTable:
    """What masks hold: by a table, or by the challenge where the annotations are of it."""
    if not any((folder / name).is_file() for name in NAMES) and _of_challenge(folder):
        rows = [{"name": name} for name in VOC_CLASSES.split()]
        return table_of(rows, folder / "Annotations", BORDER)
    return table_of(*class_rows(folder, findings), BORDER)


def _of_challenge(folder: Path) -> bool:
    first = next(iter(sorted((folder / "Annotations").glob("*.xml"))), None)
    return (
        first is not None and re.search("The VOC20[0-9]{2} Database", read_text(first)) is not None
    )
