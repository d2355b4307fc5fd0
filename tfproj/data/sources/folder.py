"""A user's own directory as a data set.

Classification, with or without split folders::

    cats_and_dogs/train/cat/1.jpg        cats_and_dogs/cat/1.jpg
    cats_and_dogs/val/dog/7.png          cats_and_dogs/dog/2.jpg

Segmentation, with or without split folders::

    roads/images/a.jpg   roads/masks/a.png   roads/classes.csv
    roads/train/images/a.jpg  roads/train/masks/a.png  roads/classes.csv

``classes.csv`` lists the classes in label order, one per line under the header ``name`` with
optional columns ``color`` (``#RRGGBB``) and ``value`` (what a mask file holds for the class).
Segmentation needs it; classification uses sorted folder names where it is absent. In masks, what a
class called ``void`` has, and 255 where it is no class's, is not to be counted.
``groups.csv`` with the columns ``file,group`` names examples that belong together, such as
views of one object: a group is never divided between training and validation. Where splits have
files of one name, they are given as ``SPLIT/a.jpg``, or ``SPLIT/dog/7.png`` with class folders.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfproj.core import image
from tfproj.core.words import nfc
from tfproj.data.dataset import SPLITS, Dataset, Split
from tfproj.data.findings import Findings
from tfproj.data.sources import layouts
from tfproj.data.sources.class_tables import NAMES, ClassTable, class_table
from tfproj.data.sources.files import dataset_of, images_in, match_pairs, paired_dataset
from tfproj.data.sources.tables import (
    SPLIT_FOLDERS,
    class_folder,
    colors_of,
    read_classes,
    with_listed_groups,
)
from tfproj.errors import InputError

# What folders of images are called that are no class.
COMMON_FOLDERS = re.compile(
    "(?i)(train|val|test|image|img|photo|data|jpegimage|label|mask|segmentation)"
    "[a-z]*[_-]?[a-z]*[0-9]*"
)
TABLES = ("groups.csv", *NAMES)


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
        _require_photographs(folder, roots["train"], [])
        raise InputError(f"{folder}: expected folders images/ and masks/ and a classes.csv")
    else:
        read = _classification
    dataset = read(folder, roots, findings)
    with findings.catch(folder / "groups.csv", "groups"):
        dataset = with_listed_groups(dataset, folder, findings)
    return dataclasses.replace(dataset, findings=tuple(findings))


def _holds_pairs(root: Path) -> bool:
    """Whether a folder is meant for segmentation, even if one half of it is missing."""
    folders = set(_folders_in(root))
    return folders >= {"images", "masks"} or folders in ({"images"}, {"masks"})


def evidence(folder: Path, task: str | None) -> str:
    """What speaks for this layout, in words, where another one may be meant as well."""
    roots = [folder, *(folder / name for names in SPLIT_FOLDERS.values() for name in names)]
    roots = [root for root in roots if root.is_dir()]
    pairs = [root for root in roots if set(_folders_in(root)) >= {"images", "masks"}]
    if any(_holds_images(root / "images") for root in pairs) and task != "classify":
        return "images/ and masks/"
    classes = {name for root in roots for name in _folders_in(root) if _is_class(root / name)}
    if len(classes) < 2 or task == "segment":
        return ""
    return "the class folders " + " and ".join(f"{name}/" for name in sorted(classes)[:2])


def _is_class(folder: Path) -> bool:
    """Whether it holds images, under a name that says no more than that."""
    return not COMMON_FOLDERS.fullmatch(folder.name) and _holds_images(folder)


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in image.SUFFIXES for path in image.list_visible(folder))


def _tables_of(root: Path, folder: Path) -> tuple[str, ...]:
    """The tables are read at the top, and not in the folder of a split."""
    return TABLES if root == folder else ()


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
    _warn_of_strangers(folder, [*(path.name for path in found.values()), *TABLES], findings)
    return found


def _warn_of_strangers(folder: Path, known: Sequence[str], findings: Findings) -> None:
    """A finding for each file and folder that is not read."""
    for path in image.list_visible(folder):
        if path.name not in known:
            findings.warn(path, "ignored", f"ignored: not one of {', '.join(known)}")


def _classification(folder: Path, roots: dict[str, Path], findings: Findings) -> Dataset:
    listed = []
    with findings.catch(folder / "classes.csv", "classes"):
        listed = read_classes(folder, findings)
    if any(row.get("value", str(i)) != str(i) for i, row in enumerate(listed)):
        message = "ignored: the mask values; without masks the classes are in the lines' order"
        findings.warn(folder / "classes.csv", "ignored", message)
    classes = [row["name"] for row in listed] or sorted({*map(nfc, _folders_in(roots["train"]))})
    train = roots["train"]
    _require_photographs(folder, train, classes if listed else [])
    if len(classes) < 2:
        findings.error(
            train,
            "classes",
            f"{len(classes)} class folder(s); classification needs at least two folders, one per "
            "class, with images inside",
        )
    splits = {}
    for split, root in roots.items():
        for path in image.list_visible(root):
            if not path.is_dir() and path.name not in _tables_of(root, folder):
                findings.warn(path, "ignored", "ignored: a file outside the class folders")
        splits[split] = _class_split(split, root, classes, findings)
    return dataset_of(folder, "classify", classes, splits, colors=colors_of(listed))


def _require_photographs(folder: Path, train: Path, listed: Sequence[str]) -> None:
    """InputError where the folders hold images and masks, unless all are listed as classes."""
    names = _folders_in(train)
    if names and {*map(nfc, names)} <= {*map(class_folder, listed)}:
        return
    found = [train / name for name in names]
    if not found:  # as in train/ and trainannot/
        found = [train, *(folder / name for name in _folders_in(folder) if folder / name != train)]
    if looks := layouts.describe(found):
        raise InputError(f"{folder}: {looks}")


def _class_split(split: str, root: Path, classes: list[str], findings: Findings) -> Split:
    there = {nfc(name): name for name in _folders_in(root)}
    # A folder may be called by what not every file system can hold.
    folders = {name: there.get(name) or there.get(class_folder(name), name) for name in classes}
    for stranger in sorted({*_folders_in(root)} - {*folders.values()}):
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


def _listing(names: list[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def _segmentation(folder: Path, roots: dict[str, Path], findings: Findings) -> Dataset:
    table = ClassTable.of_any_value(folder)
    with findings.catch(folder / "classes.csv", "classes"):
        table = class_table(folder, findings)
    pairs: dict[str, list[tuple[Path, Path]]] = {}
    for split, root in roots.items():
        _warn_of_strangers(root, ["images", "masks", *_tables_of(root, folder)], findings)
        if split == "test" and not (root / "masks").exists():  # as competitions have it
            pairs[split] = []
            continue
        files = [images_in(root / name, findings) for name in ("images", "masks")]
        pairs[split] = match_pairs(*files, findings)
        if not pairs[split] and split == "train":
            findings.error(root / "images", "layout", "no image with a mask")
    return paired_dataset(folder, pairs, table)
