"""COCO: one JSON file a split, with polygons or run lengths of each object.

An object of several polygons is their union, as in pycocotools; a hole is part of an RLE, or of a
polygon that reaches it by a bridge. Later objects lie on top, and crowds lie beneath.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping
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
from tfproj.data.sources.formats.label_sets import labelled_dataset
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
    paths, data, tables, names = _load(folder)
    classes = Classes(names, folder, drawn=True)
    drawings = {}
    for split, path in paths.items():
        values = {key: classes.values[name] for key, name in tables[split].items()}
        reader = _Reader(folder, path, split, values, findings)
        drawings[split] = reader.drawings(data[split], classes)
    return drawn_dataset(folder, classes, drawings, paths.values())


def read_labels(folder: Path, findings: Findings) -> Dataset:
    """For several labels an image: the categories of its annotations, be they boxes or masks."""
    paths, data, tables, names = _load(folder)
    found = {
        split: _Reader(folder, path, split, tables[split], findings).labels(data[split])
        for split, path in paths.items()
    }
    occurring = {name for files in found.values() for some in files.values() for name in some}
    classes = [name for name in names if name in occurring]
    if len(classes) < len(names):
        first = next(name for name in names if name not in occurring)
        message = f"{len(names) - len(classes):,} categories without annotations, such as {first!r}"
        findings.warn(folder, "ignored", f"ignored: {message}")
    numbers = {
        split: {file: map(classes.index, some) for file, some in files.items()}
        for split, files in found.items()
    }
    return labelled_dataset(folder, classes, numbers, paths.values())


def _load(folder: Path) -> tuple[dict, dict, dict, list[str]]:
    """Paths, contents and categories by split, and the names of all categories."""
    files = _files(folder)
    if not files:
        raise InputError(f"{folder}: no COCO file: JSON with the lists {', '.join(LISTS)}")
    if any(path.stem.startswith("instances") for path in files):  # beside key points and stuff
        files = [path for path in files if path.stem.startswith("instances")]
    paths = by_split(files, "a COCO file")
    data = {split: read_json(path) for split, path in paths.items()}
    tables = {split: _categories(data[split], path) for split, path in paths.items()}
    names = dict.fromkeys(name for table in tables.values() for name in table.values())
    return paths, data, tables, [*names]


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
    """Reads the images and annotations of one file.

    Args:
        values: what each category's id stands for.
    """

    def __init__(
        self, root: Path, path: Path, split: str, values: Mapping[int, Any], findings: Findings
    ):
        self._root, self._path, self._split = root, path, split
        self._values, self._findings = values, findings

    def labels(self, data: dict[str, Any]) -> dict[Path, set]:
        """What stands for the categories of each image; none of one without annotations."""
        images = self._images(data)
        found: dict[Any, set] = {key: set() for key in images}
        for key, value, _, _ in self._annotations(data, images):
            found[key].add(value)
        return {
            file: found[key]
            for key, drawing in images.items()
            if (file := located(drawing.file, self._path, self._findings))
        }

    def drawings(self, data: dict[str, Any], classes: Classes) -> list[Drawing]:
        images = self._images(data)
        regions: dict[Any, list] = {key: [] for key in images}
        crowds: dict[Any, list] = {key: [] for key in images}
        boxes = 0
        for key, value, record, place in self._annotations(data, images):
            shapes = _shapes(record, images[key].size, place)
            if record.get("iscrowd"):
                value, classes.void = IGNORE, True
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

    def _annotations(
        self, data: dict[str, Any], images: Mapping[Any, Drawing]
    ) -> Iterator[tuple[Any, Any, dict[str, Any], str]]:
        """(id of the image, what the category stands for, record, place) of each."""
        for index, record in enumerate(field(data, "annotations", list, str(self._path))):
            place = f"{self._path}: annotations[{index}]"
            key = _id(record, "image_id", place)
            if key not in images:
                raise InputError(f"{place}: no image has the id {key!r}")
            value = self._values.get(field(record, "category_id", int, place))
            if value is None:
                raise InputError(f"{place}: no category has the id {record['category_id']}")
            yield key, value, record, place

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
