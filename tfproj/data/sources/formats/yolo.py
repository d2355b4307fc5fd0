"""YOLO segmentation: ``data.yaml`` and one text file of polygons for each image.

An image without a text file is all background, as in YOLO. Later lines lie on top.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from tfproj.core import image
from tfproj.core.words import is_number, nfc
from tfproj.data.dataset import Dataset
from tfproj.data.findings import Findings
from tfproj.data.sources.classes import Classes
from tfproj.data.sources.formats.annotations import SPLIT_OF, located, within
from tfproj.data.sources.formats.shapes import Drawing, drawn_dataset, polygon
from tfproj.data.sources.tables import read_text
from tfproj.errors import InputError, first_line, missing_extra

# A polygon may reach beyond the image, and one in pixels would by far.
MOST = 2


def found(folder: Path) -> str:
    """The YAML file of a directory that names classes, or text files alone; empty for neither."""
    texts = (path for path in (folder / "labels").glob("**/*.txt"))
    return ", ".join(path.name for path in _files(folder)) or "labels/*.txt" * any(texts)


def _files(folder: Path) -> list[Path]:
    paths = [p for p in image.list_visible(folder) if p.suffix in (".yaml", ".yml") and p.is_file()]
    return [path for path in paths if re.search(r"(?m)^['\"]?names['\"]?\s*:", read_text(path))]


def read(folder: Path, findings: Findings) -> Dataset:
    """The data set; what is damaged is an InputError, images that are missing are findings."""
    files = _files(folder)
    if len(files) != 1:
        listed = ", ".join(path.name for path in files)
        raise InputError(f"{folder}: {listed or 'no YAML file'}; expected one file with 'names'")
    table = _read_yaml(files[0])
    names = _names(table, files[0])
    classes = Classes(names, files[0], drawn=True)
    values = [classes.values[name] for name in names]
    drawings: dict[str, list[Drawing]] = {}
    labels: list[Path] = []
    for key, places in table.items():
        if key in SPLIT_OF and places:
            pictures = _pictures(folder, places, f"{files[0]}: {key}", findings)
            texts = [_label_file(folder, path) for path in pictures]
            drawings[SPLIT_OF[key]] = [
                Drawing(picture, _regions(text, values), None)
                for picture, text in zip(pictures, texts, strict=True)
            ]
            labels += [text for text in texts if text.is_file()]
    if not drawings.get("train") or not labels:
        what = "text file beside the images" if drawings.get("train") else "images under 'train'"
        raise InputError(f"{files[0]}: no {what}")
    return drawn_dataset(folder, classes, drawings, [*files, *labels])


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        import yaml  # noqa: PLC0415 (comes with the extra "train")
    except ImportError:
        raise missing_extra("yaml", "train") from None
    text = read_text(path)
    try:
        table = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{path}: no valid YAML ({first_line(error)})") from None
    if not isinstance(table, dict):
        raise InputError(f"{path}: no YAML of keys and values")
    if "kpt_shape" in table:
        raise InputError(f"{path}: 'kpt_shape' is of key points; segmentation needs polygons")
    return table


def _names(table: dict[str, Any], path: Path) -> list[str]:
    """Class names in their order, which ``names`` lists or numbers."""
    names = table.get("names")
    if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(n, (str, int)) for n in names):
        raise InputError(f"{path}: 'names' must list the classes, or number them from 0")
    names = [nfc(str(name)).strip() for name in names]
    if len({*names}) < len(names) or not all(names):
        raise InputError(f"{path}: 'names' must give each class a name of its own")
    if table.get("nc", len(names)) != len(names):
        raise InputError(f"{path}: 'nc' is {table['nc']!r}, but 'names' has {len(names)} classes")
    return names


def _pictures(folder: Path, places: Any, label: str, findings: Findings) -> list[Path]:
    """The images of a split: all below its folders, or those that its text files list."""
    pictures: list[Path] = []
    for text in places if isinstance(places, list) else [places]:
        # Roboflow writes ../train/images for train/images beside the file; "path" is of the author.
        plain = re.sub(r"^(\.\./)+", "", str(text).replace("\\", "/"))
        place = within(folder, folder, plain, label)
        if place.suffix == ".txt":
            for line in filter(None, map(str.strip, read_text(place).splitlines())):
                path = within(folder, folder, line, str(place))
                pictures += filter(None, [located(path, place, findings)])
        elif place.is_dir():
            below = (Path(top, name) for top, _, names in os.walk(place) for name in names)
            pictures += sorted(path for path in below if path.suffix.lower() in image.SUFFIXES)
        else:
            raise InputError(f"{label}: {str(text)[:200]!r}: no such folder in {folder}")
    return pictures


def _label_file(folder: Path, picture: Path) -> Path:
    """labels/x/a.txt for images/x/a.jpg; beside the image where no folder is called images."""
    parts = list(PurePosixPath(picture.relative_to(folder).as_posix()).with_suffix(".txt").parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 1 - parts[::-1].index("images", 1)] = "labels"
    return folder.joinpath(*parts)


def _regions(path: Path, values: list[int]) -> list[tuple[int, np.ndarray]]:
    """(mask value, corners as parts of the image) of each line; none where there is no file."""
    regions = []
    for number, line in enumerate(read_text(path).splitlines() if path.is_file() else (), 1):
        place, words = f"{path}: line {number}", line.split()
        if not words:
            continue
        if not is_number(words[0]) or int(words[0]) >= len(values):
            raise InputError(f"{place}: class {words[0][:20]!r} is not one of 0..{len(values) - 1}")
        if len(words) == 5:
            raise InputError(f"{place}: a box; segmentation needs polygons of 3 points or more")
        points = polygon(words[1:], (1, 1), place)
        far = points.flat[np.abs(points).argmax()]
        if abs(far) > MOST:
            raise InputError(
                f"{place}: the coordinate {far:g}; they are parts of the image, 0 to 1"
            )
        regions.append((values[int(words[0])], points))
    return regions
