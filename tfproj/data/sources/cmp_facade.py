"""The CMP Facade Database from its zip archives, with the five classes of Mini Facade.

R. Tylecek, R. Sara, "Spatial Pattern Templates for Recognition of Objects with Regular
Structure", GCPR 2013. The user downloads the archives (378 and 228 images); either suffices.
They hold ``cmp_b0001.jpg`` and ``cmp_b0001.png`` (``cmp_x0001`` in the second), in a folder or
not. There is no official test split: all images are in ``train``.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np

from tfproj.data.dataset import Dataset, Split
from tfproj.data.masks import read_values
from tfproj.data.sources.facade_classes import FACADE_CLASSES, FACADE_COLORS
from tfproj.errors import InputError, first_line

ARCHIVES = ("CMP_facade_DB_base.zip", "CMP_facade_DB_extended.zip")
HOMEPAGE = "https://cmp.felk.cvut.cz/~tylecr1/facade/"
LICENSE = (
    "CMP Facade Database (R. Tylecek, R. Sara, Spatial Pattern Templates for Recognition of "
    "Objects with Regular Structure, GCPR 2013)"
)
# As Mini Facade, so that models of both can be compared.
SIZE = (256, 256)

# Value in an annotation (label_names.txt of the database) -> class. The four classes that share
# a name with Mini Facade are kept and all others merged, because that is what the masks of Mini
# Facade show: doors, shops, sills, cornices, decorations and even closed blinds are "others".
CLASS_OF_VALUE = {
    0: "others",  # unlabelled; occurs at some borders
    1: "others",  # background
    2: "facade",
    3: "window",
    4: "others",  # door
    5: "others",  # cornice
    6: "others",  # sill
    7: "balcony",
    8: "others",  # blind
    9: "others",  # deco
    10: "others",  # molding
    11: "pillar",
    12: "others",  # shop
}


def cmp_facade(folder: Path) -> Dataset:
    """The facades of the archives in ``folder``, kept in memory as they are encoded.

    ``read_image`` gives the bytes of a JPEG, ``read_mask`` uint8 (H, W) indices into
    ``FACADE_CLASSES``.

    Raises:
        InputError: an archive that is damaged or incomplete.
    """
    pairs: list[tuple[str, bytes, bytes]] = []
    for name in ARCHIVES:
        if (folder / name).is_file():
            pairs += read_archive(folder / name)
    train = Split(
        names=[name for name, _, _ in pairs],
        read_image=lambda i: pairs[i][1],
        read_mask=lambda i: to_classes(pairs[i][2], f"example {pairs[i][0]}"),
    )
    return Dataset(
        name="facades",
        task="segment",
        classes=FACADE_CLASSES,
        colors=FACADE_COLORS,
        splits={"train": train},
        size=SIZE,
        channels=3,
        origin=str(folder.resolve()),
        license=LICENSE,
    )


def read_archive(path: Path) -> list[tuple[str, bytes, bytes]]:
    """(name, JPEG, PNG) of every facade in an archive, sorted by name.

    Raises:
        InputError: a damaged archive, or one that lacks an image or a mask.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [
                (f"{stem}.jpg", archive.read(jpeg), archive.read(png))
                for stem, (jpeg, png) in _pairs(archive, path).items()
            ]
    # zipfile raises RuntimeError for encrypted members, NotImplementedError for odd methods.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise InputError(
            f"{path}: damaged archive ({first_line(error)}); download it again"
        ) from None


def _pairs(archive: zipfile.ZipFile, path: Path) -> dict[str, tuple[str, str]]:
    """Stem -> members (image, annotation), wherever in the archive they lie."""
    found: dict[str, dict[str, str]] = {".jpg": {}, ".png": {}}
    for member in sorted(archive.namelist()):
        name = PurePosixPath(member)
        if name.suffix.lower() in found and re.fullmatch(r"cmp_[bx]\d+", name.stem):
            found[name.suffix.lower()][name.stem] = member
    images, masks = found[".jpg"], found[".png"]
    if not images:
        raise InputError(f"{path}: holds no images cmp_b0001.jpg or cmp_x0001.jpg and so on")
    for stem in sorted(images.keys() ^ masks.keys()):
        have, lack = (".jpg", ".png") if stem in images else (".png", ".jpg")
        raise InputError(f"{path}: {found[have][stem]} has no {stem}{lack} beside it")
    return {stem: (images[stem], masks[stem]) for stem in sorted(images)}


def to_classes(annotation: bytes, label: str) -> np.ndarray:
    """An encoded annotation of values 0..12 as uint8 (H, W) indices into ``FACADE_CLASSES``."""
    values = read_values(annotation, label)
    if values.max(initial=0) > max(CLASS_OF_VALUE):
        raise InputError(f"{label}: value {values.max()}; expected 0..{max(CLASS_OF_VALUE)}")
    order = [FACADE_CLASSES.index(CLASS_OF_VALUE[value]) for value in sorted(CLASS_OF_VALUE)]
    return np.array(order, np.uint8)[values]
