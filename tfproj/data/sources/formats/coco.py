"""COCO: one JSON file a split, with polygons or run lengths of each object.

An object of several polygons is their union, as in pycocotools; a hole is part of an RLE, or of a
polygon that reaches it by a bridge. Later objects lie on top, and crowds lie beneath.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.core import image
from tfproj.data.dataset import Dataset
from tfproj.data.findings import Findings
from tfproj.data.masks import IGNORE
from tfproj.data.sources.classes import Classes
from tfproj.data.sources.formats.annotations import (
    base_of,
    by_split,
    class_name,
    field,
    located,
    read_json,
    size_of,
    within,
)
from tfproj.data.sources.formats.run_lengths import run_lengths
from tfproj.data.sources.formats.shapes import Drawing, drawn_dataset, polygon
from tfproj.errors import InputError

LISTS = ("images", "annotations", "categories")
LOOKED_AT = 10  # images, to find the folder of all
MANY_FILES = 50  # JSON files in one folder are one an image, and those of COCO few


def found(folder: Path) -> str:
    """The COCO files of a directory, in words; empty where there is none."""
    return ", ".join(path.relative_to(folder).as_posix() for path in _files(folder)[:3])


def _files(folder: Path) -> list[Path]:
    """COCO files at the top and one folder below, sorted."""
    folders = [folder, *(path for path in image.list_visible(folder) if path.is_dir())]
    listed = (sorted(place.glob("*.json")) for place in folders)
    return [path for few in listed if len(few) <= MANY_FILES for path in few if _is_coco(path)]


def _is_coco(path: Path) -> bool:
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return all(re.search(rb'"%s"\s*:\s*\[' % name.encode(), data) for name in LISTS)


def read(folder: Path, findings: Findings) -> Dataset:
    """The data set; what is damaged is an InputError, images that are missing are findings."""
    files = _files(folder)
    if not files:
        raise InputError(f"{folder}: no COCO file: JSON with the lists {', '.join(LISTS)}")
    if any(path.stem.startswith("instances") for path in files):  # beside key points and stuff
        files = [path for path in files if path.stem.startswith("instances")]
    paths = by_split(files, "a COCO file")
    data = {split: read_json(path) for split, path in paths.items()}
    tables = {split: _categories(data[split], path) for split, path in paths.items()}
    names = dict.fromkeys(name for table in tables.values() for name in table.values())
    classes = Classes(names, folder, drawn=True)
    drawings = {
        split: _Reader(folder, path, split, tables[split], classes, findings).drawings(data[split])
        for split, path in paths.items()
    }
    return drawn_dataset(folder, classes, drawings, files)


def _categories(data: dict[str, Any], path: Path) -> dict[int, str]:
    """Names by id, in the order of the ids."""
    names: dict[int, str] = {}
    for index, record in enumerate(field(data, "categories", list, str(path))):
        place = f"{path}: categories[{index}]"
        key, name = field(record, "id", int, place), class_name(record, "name", place)
        if key in names or name in names.values():
            what = f"the id {key}" if key in names else f"the name {name!r}"
            raise InputError(f"{place}: {what} is given twice; each category needs its own")
        names[key] = name
    return dict(sorted(names.items()))


class _Reader:
    """Reads the images and annotations of one file."""

    def __init__(
        self, root: Path, path: Path, split: str, names: dict, classes: Classes, findings: Findings
    ):
        self._root, self._path, self._split = root, path, split
        self._values = {key: classes.values[name] for key, name in names.items()}
        self._classes, self._findings = classes, findings

    def drawings(self, data: dict[str, Any]) -> list[Drawing]:
        images = self._images(data)
        regions: dict[Any, list] = {key: [] for key in images}
        crowds: dict[Any, list] = {key: [] for key in images}
        boxes = 0
        for index, record in enumerate(field(data, "annotations", list, str(self._path))):
            place = f"{self._path}: annotations[{index}]"
            key = _id(record, "image_id", place)
            if key not in images:
                raise InputError(f"{place}: no image has the id {key!r}")
            value = self._values.get(field(record, "category_id", int, place))
            if value is None:
                raise InputError(f"{place}: no category has the id {record['category_id']}")
            shapes = _shapes(record, images[key].size, place)
            if record.get("iscrowd"):
                value, self._classes.void = IGNORE, True
            (crowds if record.get("iscrowd") else regions)[key] += [(value, s) for s in shapes]
            boxes += not shapes
        if boxes and not any((*regions.values(), *crowds.values())):
            raise InputError(f"{self._path}: no annotation has a polygon or RLE in 'segmentation'")
        if boxes:
            message = f"{boxes:,} annotations have no 'segmentation'; they are left out"
            self._findings.warn(self._path, "ignored", message)
        return [
            dataclasses.replace(drawing, file=file, regions=crowds[key] + regions[key])
            for key, drawing in images.items()
            if (file := located(drawing.file, self._path, self._findings))
        ]

    def _images(self, data: dict[str, Any]) -> dict[Any, Drawing]:
        """The images by id, without regions."""
        found: dict[Any, tuple[str, tuple[int, int], str]] = {}
        for index, record in enumerate(field(data, "images", list, str(self._path))):
            place = f"{self._path}: images[{index}]"
            key, name = _id(record, "id", place), field(record, "file_name", str, place)
            if key in found:
                raise InputError(f"{place}: the id {key!r} is given twice")
            found[key] = (name, size_of(record, ("height", "width"), place), place)
        some = [name for name, _, _ in itertools.islice(found.values(), LOOKED_AT)]
        base = base_of(self._root, self._path.parent, some, self._split, f"{self._path}: images")
        return {
            key: Drawing(within(self._root, base, name, place), (), size)
            for key, (name, size, place) in found.items()
        }


def _id(record: Any, key: str, place: str) -> int | str:
    """Some tools number, some name."""
    value = record.get(key) if isinstance(record, dict) else None
    return value if isinstance(value, str) else field(record, key, int, place)


def _shapes(record: dict[str, Any], size: tuple[int, int], place: str) -> list[np.ndarray]:
    """The polygons, or the one RLE, of an annotation; none where it is a box alone."""
    if not record.get("segmentation"):
        return []
    if isinstance(record["segmentation"], dict):
        return [run_lengths(record["segmentation"], size, place)]
    return [polygon(part, size, place) for part in field(record, "segmentation", list, place)]
