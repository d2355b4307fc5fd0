"""Facade segmentation: a Mini Facade folder, or the CMP Facade Database it was made from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tfproj.data.dataset import DataOptions, Dataset
from tfproj.data.findings import Findings
from tfproj.data.masks import MaskCoding
from tfproj.data.sources.cmp_facade import ARCHIVES, HOMEPAGE, cmp_facade
from tfproj.data.sources.facade_classes import FACADE_CLASSES, FACADE_COLORS
from tfproj.data.sources.files import images_in, match_pairs, pair_split
from tfproj.data.sources.paths import places
from tfproj.data.splits import numbered_groups
from tfproj.errors import InputError

LICENSE = (
    "Mini Facade, derived from the CMP Facade Database "
    "(R. Tylecek, R. Sara, Spatial Pattern Templates for Recognition of Objects with Regular "
    "Structure, GCPR 2013)"
)
# Images N, N + 302 and N + 604 of the training folder are views of one facade.
VIEWS_MODULUS = 302
FOLDERS = {"train": "train", "val": "val", "test": "test_dev"}


def facades(options: DataOptions) -> Dataset:
    """Mini Facade or CMP facades from ``data_dir``, ``$TFPROJ_DATA`` or ``./data``."""
    for folder in places(options.data_dir, (".", "mini_facade", "facades", "cmp_facade")):
        if _is_mini_facade(folder):
            return mini_facade(folder)
        if any((folder / archive).is_file() for archive in ARCHIVES):
            return cmp_facade(folder)
    where = options.data_dir or "$TFPROJ_DATA or ./data"
    raise InputError(
        f"no facades in {where}: expected a Mini Facade folder (train/ with NAME.jpg and NAME.png "
        f"pairs) or {' or '.join(ARCHIVES)} of the CMP Facade Database, {HOMEPAGE}; "
        "--data synthetic_facades needs no files"
    )


def _is_mini_facade(folder: Path) -> bool:
    """A folder ``train`` that holds images itself; class folders would make it another data set."""
    train = folder / "train"
    return train.is_dir() and any(train.glob("*.jpg")) and any(train.glob("*.png"))


def mini_facade(folder: Path) -> Dataset:
    """Pairs ``train/NAME.jpg`` + ``train/NAME.png``, with ``test_dev/`` where it is there."""
    coding = MaskCoding.plain(len(FACADE_CLASSES), FACADE_COLORS)
    splits, findings = {}, Findings()
    for split, name in FOLDERS.items():
        if (folder / name).is_dir():
            splits[split] = pair_split(_pairs_beside(folder / name, findings), coding)
    train = splits["train"]
    with findings.catch("", "groups"):
        groups = numbered_groups(train.names, VIEWS_MODULUS)
        splits["train"] = dataclasses.replace(train, groups=groups)
    return Dataset(
        name="facades",
        task="segment",
        classes=FACADE_CLASSES,
        colors=FACADE_COLORS,
        splits=splits,
        size=(256, 256),
        channels=3,
        origin=str(folder.resolve()),
        license=LICENSE,
        findings=tuple(findings),
    )


def _pairs_beside(folder: Path, findings: Findings) -> list[tuple[Path, Path]]:
    """(image, mask) paths where both lie in one folder and the mask is the PNG."""
    files = images_in(folder, findings)
    masks = [path for path in files if path.suffix.lower() == ".png"]
    images = [path for path in files if path.suffix.lower() != ".png"]
    return match_pairs(images, masks, findings)
