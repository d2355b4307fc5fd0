"""A user's own directory as a data set.

Classification, with or without split folders::

    cats_and_dogs/train/cat/1.jpg        cats_and_dogs/cat/1.jpg
    cats_and_dogs/val/dog/7.png          cats_and_dogs/dog/2.jpg

Segmentation, with or without split folders::

    roads/images/a.jpg   roads/masks/a.png   roads/classes.csv
    roads/train/images/a.jpg  roads/train/masks/a.png  roads/classes.csv

``classes.csv`` lists the classes in label order, one per line under the header ``name`` with
optional columns ``color`` (``#RRGGBB``) and ``value`` (what a mask file holds for the class).
Segmentation needs it; classification uses sorted folder names where it is absent.
``groups.csv`` with the columns ``file,group`` names examples that belong together, such as
views of one object: a group is never divided between training and validation. Where splits have
files of one name, they are given as ``SPLIT/a.jpg``, or ``SPLIT/dog/7.png`` with class folders.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from pathlib import Path

import numpy as np

from tfproj.core import image
from tfproj.data.dataset import SPLITS, Dataset, Split
from tfproj.data.findings import Findings
from tfproj.data.masks import MaskCoding
from tfproj.data.sources.files import images_in, match_pairs, pair_split
from tfproj.errors import InputError

SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
MAX_NATURAL_SIDE = 256


def folder_dataset(folder: Path, task: str | None = None) -> Dataset:
    """Read a directory of either layout; ``task`` only words the error for an unfit one.

    What is wrong with its files is among the findings of the data set.

    Raises:
        InputError: it is missing, or not meant for ``task``.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory")
    findings = Findings()
    roots = split_folders(folder, findings)
    if any(_holds_pairs(root) for root in roots.values()):
        read = _segmentation
    elif task == "segment":
        raise InputError(f"{folder}: expected folders images/ and masks/ and a classes.csv")
    else:
        read = _classification
    dataset = read(folder, roots, findings)
    with findings.catch(folder / "groups.csv", "groups"):
        dataset = _with_listed_groups(dataset, folder)
    return dataclasses.replace(dataset, findings=tuple(findings))


def _holds_pairs(root: Path) -> bool:
    """Whether a folder is meant for segmentation, even if one half of it is missing."""
    folders = set(_folders_in(root))
    return folders >= {"images", "masks"} or folders in ({"images"}, {"masks"})


def _folders_in(root: Path) -> list[str]:
    return [path.name for path in image.list_visible(root) if path.is_dir()]


def split_folders(folder: Path, findings: Findings) -> dict[str, Path]:
    """The split folders by split; where there is none, ``folder`` itself is ``train``."""
    found = {}
    for split in SPLITS:
        here = [folder / name for name in SPLIT_FOLDERS[split] if (folder / name).is_dir()]
        if len(here) > 1:
            findings.error(here[1], "layout", f"{here[0].name} is there too; keep one of them")
        if here:
            found[split] = here[0]
    if "train" not in found:
        for path in found.values():
            findings.error(
                path,
                "layout",
                "there is no folder 'train' beside it; move the training files, or this folder if "
                "it is a class, into 'train'",
            )
        return {"train": folder}
    for name in _folders_in(folder):
        if folder / name not in found.values():
            message = "ignored: not one of the folders train, val, test"
            findings.warn(folder / name, "ignored", message)
    return found


def _classification(folder: Path, roots: dict[str, Path], findings: Findings) -> Dataset:
    listed = []
    with findings.catch(folder / "classes.csv", "classes"):
        listed = read_classes(folder)
    classes = [row["name"] for row in listed] or _folders_in(roots["train"])
    if len(classes) < 2:
        findings.error(
            roots["train"],
            "classes",
            f"{len(classes)} class folder(s); classification needs at least two folders, one per "
            "class, with images inside",
        )
    splits = {name: _class_split(name, root, classes, findings) for name, root in roots.items()}
    return Dataset(
        name=str(folder),
        task="classify",
        classes=tuple(classes),
        colors=_colors(listed),
        splits=splits,
        size=natural_size(splits["train"], multiple=1),
        channels=natural_channels(splits["train"]),
        origin=str(folder.resolve()),
        may_grow=True,
    )


def _class_split(split: str, root: Path, classes: list[str], findings: Findings) -> Split:
    for path in image.list_visible(root):
        if path.suffix.lower() in image.SUFFIXES and not path.is_dir():
            findings.warn(path, "ignored", "ignored: an image outside the class folders")
    there = set(_folders_in(root))
    # A folder may be called by what not every file system can hold.
    folders = {name: name if name in there else class_folder(name) for name in classes}
    for stranger in sorted(there - set(folders.values())):
        findings.error(root / stranger, "classes", f"not one of the classes {_listing(classes)}")
    files, labels = [], []
    for label, class_name in enumerate(classes):
        folder = root / folders[class_name]
        found = images_in(folder, findings) if folder.is_dir() else []
        if not found and split == "train":
            findings.error(folder, "classes", f"no images for class {class_name!r}")
        files += found
        labels += [label] * len(found)
    return Split(
        names=[path.relative_to(root).as_posix() for path in files],
        read_image=lambda i: files[i],
        labels=np.array(labels, np.int32),
        files=files,
    )


def class_folder(name: str) -> str:
    """The folder of a class: its name, with ``_`` for what a file name can't hold."""
    return re.sub(r'[\\/:*?"<>|\x00-\x1f]|^\.', "_", name)


def _listing(names: list[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def _segmentation(folder: Path, roots: dict[str, Path], findings: Findings) -> Dataset:
    listed, coding = [], MaskCoding.plain(256)  # in which any value passes
    with findings.catch(folder / "classes.csv", "classes"):
        listed = read_classes(folder, required=True)
        coding = mask_coding(listed, folder)
    splits = {}
    for split, root in roots.items():
        if split == "test" and not (root / "masks").exists():  # as competitions have it
            splits[split] = pair_split([], coding)
            continue
        files = [images_in(root / name, findings) for name in ("images", "masks")]
        pairs = match_pairs(*files, findings)
        if not pairs and split == "train":
            findings.error(root / "images", "layout", "no image with a mask")
        splits[split] = pair_split(pairs, coding)
    return Dataset(
        name=str(folder),
        task="segment",
        classes=tuple(row["name"] for row in listed),
        colors=_colors(listed),
        splits=splits,
        size=natural_size(splits["train"], multiple=8),
        channels=natural_channels(splits["train"]),
        origin=str(folder.resolve()),
        may_grow=True,
        mask_values=coding.values,
    )


def read_classes(folder: Path, required: bool = False) -> list[dict[str, str]]:
    """Rows of ``classes.csv``; empty where there is no such file and none is required.

    Raises:
        InputError: missing though required, unreadable, or not as this module's text has it.
    """
    path = folder / "classes.csv"
    if not path.is_file():
        if required:
            raise InputError(
                f"{path}: missing; list the classes in the order of the mask values, one per "
                "line under the header 'name' (columns 'color' and 'value' are optional)"
            )
        return []
    rows = _read_csv(path, "name")
    names = [row["name"] for row in rows]
    if len({class_folder(name) for name in names}) != len(names) or not all(names):
        raise InputError(f"{path}: every class needs a name of its own")
    if required and len(names) < 2:
        raise InputError(f"{path}: lists one class; segmentation needs at least two")
    for row in rows:
        if row.get("color") and not re.fullmatch(r"#[0-9A-Fa-f]{6}", row["color"]):
            raise InputError(f"{path}: color {row['color']!r} is not #RRGGBB")
    return rows


def mask_coding(listed: list[dict[str, str]], folder: Path) -> MaskCoding:
    """Mask values and colours of the listed classes."""
    values = [row.get("value") or str(i) for i, row in enumerate(listed)]
    numbers = [int(v) if re.fullmatch("[0-9]{1,3}", v) else 256 for v in values]
    if max(numbers) > 255 or len(set(numbers)) != len(numbers):
        raise InputError(
            f"{folder / 'classes.csv'}: values must be different numbers 0..255, not "
            f"{', '.join(values[:20])}"
        )
    colors = [row["color"].upper() for row in listed if row.get("color")]
    if len(set(colors)) != len(colors):
        raise InputError(f"{folder / 'classes.csv'}: colors must differ, or masks can't tell them")
    return MaskCoding(tuple(numbers), _colors(listed))


def _colors(listed: list[dict[str, str]]) -> tuple[str, ...]:
    colors = tuple(row.get("color") or "" for row in listed)
    return colors if colors and all(colors) else ()


def _read_csv(path: Path, *required: str) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [
                {(k or "").strip(): (v or "").strip() for k, v in row.items() if k is not None}
                for row in csv.DictReader(file)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    for column in required:
        if not rows or column not in rows[0]:
            raise InputError(
                f"{path}: expected a header line with {','.join(required)} and lines below it"
            )
    return rows


def _with_listed_groups(dataset: Dataset, folder: Path) -> Dataset:
    path = folder / "groups.csv"
    if not path.is_file():
        return dataset
    group_of = {
        Path(row["file"]).as_posix(): row["group"] for row in _read_csv(path, "file", "group")
    }
    names = [(key, name) for key, split in dataset.splits.items() for name in split.names]
    if names and not any(_listed_group(*each, group_of) for each in names):
        raise InputError(f"{path}: lists none of the images, which have names like {names[0][1]!r}")
    splits = {name: _grouped(name, split, group_of) for name, split in dataset.splits.items()}
    return dataclasses.replace(dataset, splits=splits)


def _grouped(key: str, split: Split, group_of: dict[str, str]) -> Split:
    # A file that is not listed is a group of its own; another split may have one of its name.
    groups = [_listed_group(key, name, group_of) or f"{key}/{name}" for name in split.names]
    return dataclasses.replace(split, groups=np.array(groups, dtype=str))


def _listed_group(key: str, name: str, group_of: dict[str, str]) -> str | None:
    path = Path(name)
    exact = (f"{folder}/{path.as_posix()}" for folder in SPLIT_FOLDERS[key])
    forms = (*exact, path.as_posix(), path.name, path.stem)
    return next(filter(None, map(group_of.get, forms)), None)


def _sample(split: Split) -> list[tuple[tuple[int, int], str]]:
    """((height, width), mode) of up to 64 pictures, evenly over the split."""
    found = []
    for index in np.linspace(0, len(split) - 1, min(64, len(split))).astype(int):
        try:
            found.append(image.header(split.read_image(int(index))))
        except InputError:
            continue  # the check names it, before a training begins
    return found


def natural_size(split: Split, multiple: int) -> tuple[int, int]:
    """Median (height, width) of a sample, at most 256 a side, rounded to ``multiple``."""
    sizes = [size for size, _ in _sample(split)] or [(MAX_NATURAL_SIDE, MAX_NATURAL_SIDE)]
    sides = np.median(sizes, axis=0)
    sides *= min(1.0, MAX_NATURAL_SIDE / sides.max())
    return tuple(int(max(multiple * round(side / multiple), 8)) for side in sides)


def natural_channels(split: Split) -> int:
    """1 where every sampled picture is grey, else 3."""
    modes = {mode for _, mode in _sample(split)} or {"RGB"}
    return 1 if all(mode in ("L", "1", "LA") or mode.startswith("I") for mode in modes) else 3
