"""Masks that are files, in folders or under names of their own, and a table of what they hold.

``train/`` + ``trainannot/`` (CamVid), ``images/`` + ``labels/`` with or without splits above or
below, and ``a.jpg`` + ``a_mask.png`` in one folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tfproj.core import image
from tfproj.data.dataset import Dataset
from tfproj.data.findings import Findings
from tfproj.data.sources.class_tables import NAMES, class_table
from tfproj.data.sources.files import ENDING, common_ending, match_pairs, paired_dataset
from tfproj.data.sources.formats.annotations import SPLIT_OF
from tfproj.errors import InputError

# How CamVid's folders of masks go on after those of images.
CAMVID = ("annot", "_labels")

# (split, folder of the images, folder of the masks)
Part = tuple[str, Path, Path]


def camvid(folder: Path) -> Iterator[Part]:
    for name, split in SPLIT_OF.items():
        for ending in CAMVID:
            if _images(folder / name) and _images(folder / f"{name}{ending}"):
                yield split, folder / name, folder / f"{name}{ending}"


def labels(folder: Path) -> Iterator[Part]:
    """The splits above or below; ``masks/`` as well, where plain has it otherwise."""
    places = [("train", folder, ""), *((s, folder / name, "") for name, s in SPLIT_OF.items())]
    places += [(split, folder, name) for name, split in SPLIT_OF.items()]
    for split, root, name in places:
        for kind in ("labels", "masks") if name else ("labels",):
            if _images(root / "images" / name) and _images(root / kind / name):
                yield split, root / "images" / name, root / kind / name


def suffix(folder: Path) -> Iterator[Part]:
    places = [("train", folder), *((split, folder / name) for name, split in SPLIT_OF.items())]
    for split, root in places:
        stems = {path.stem for path in _images(root)}
        if any(ENDING.sub("", stem) in stems - {stem} for stem in stems):
            yield split, root, root


def _images(folder: Path) -> list[Path]:
    files = image.list_visible(folder) if folder.is_dir() else []
    return [path for path in files if path.suffix.lower() in image.SUFFIXES]


def found(parts: Callable[[Path], Iterator[Part]], folder: Path) -> str:
    """Two folders, or a folder, that hold images and masks; empty where there are none."""
    names = [[f"{path.relative_to(folder)}/" for path in part[1:]] for part in parts(folder)]
    return " and ".join(dict.fromkeys(names[0])) if names else ""


def read(parts: Callable[[Path], Iterator[Part]], folder: Path, findings: Findings) -> Dataset:
    """The data set; images and masks without a partner are findings."""
    pairs: dict[str, list[tuple[Path, Path]]] = {}
    for split, images, masks in parts(folder):
        if split in pairs:
            raise InputError(f"{images}: there are other images of {split!r}; keep one of them")
        files = _images(images)
        if images == masks:
            listed = [path for path in files if ENDING.search(path.stem)]
            files = [path for path in files if path not in listed]
            if not common_ending(listed):
                raise InputError(
                    f"{images}: masks whose names end in several ways, such as {listed[0].name}"
                )
            pairs[split] = match_pairs(files, listed, findings)
        else:
            pairs[split] = match_pairs(files, _images(masks), findings)
    if "train" not in pairs:
        raise InputError(f"{folder}: no images and masks to train on")
    tables = [folder / name for name in NAMES if (folder / name).is_file()]
    return paired_dataset(folder, pairs, class_table(folder, findings), tables)
