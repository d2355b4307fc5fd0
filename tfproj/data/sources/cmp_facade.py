"""The CMP Facade Database as a TFDS builder, with the five classes of Mini Facade.

R. Tylecek, R. Sara, "Spatial Pattern Templates for Recognition of Objects with Regular
Structure", GCPR 2013. The user downloads the archives (378 and 228 images); either suffices.
They hold ``cmp_b0001.jpg`` and ``cmp_b0001.png`` (``cmp_x0001`` in the second), in a folder or
not. There is no official test split: all images are in ``train``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from tfproj.core import image
from tfproj.data.dataset import Dataset
from tfproj.data.sources import tfds as tfds_source
from tfproj.data.sources.facade_classes import FACADE_CLASSES, FACADE_COLORS
from tfproj.data.sources.facades import ARCHIVES
from tfproj.errors import InputError, first_line

tfds = tfds_source.import_tfds()

HOMEPAGE = "https://cmp.felk.cvut.cz/~tylecr1/facade/"
LICENSE = (
    "CMP Facade Database (R. Tylecek, R. Sara, Spatial Pattern Templates for Recognition of "
    "Objects with Regular Structure, GCPR 2013)"
)
CITATION = """@inproceedings{Tylecek13,
  author = {Radim Tyle{\\v c}ek and Radim {\\v S}{\\' a}ra},
  title = {Spatial Pattern Templates for Recognition of Objects with Regular Structure},
  booktitle = {Proc. GCPR},
  year = {2013},
  address = {Saarbrucken, Germany},
}"""
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


class CmpFacade(tfds.core.GeneratorBasedBuilder):
    """TFDS builder; the archives lie in its ``manual_dir``.

    Features: ``image`` uint8 (H, W, 3), the JPEG as it is in the archive; ``segmentation_mask``
    uint8 (H, W, 1), indices into ``FACADE_CLASSES``; ``file_name`` such as ``cmp_b0001.jpg``.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Five classes."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"{' and/or '.join(ARCHIVES)} from {HOMEPAGE}"

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "segmentation_mask": tfds.features.LabeledImage(
                labels=list(FACADE_CLASSES), shape=(None, None, 1), encoding_format="png"
            ),
            "file_name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Rectified photographs of facades with a class for every pixel.",
            features=tfds.features.FeaturesDict(features),
            homepage=HOMEPAGE,
            citation=CITATION,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        archives = find_archives(Path(dl_manager.manual_dir))
        return {"train": self._generate_examples(archives)}

    def _generate_examples(self, archives: list[Path]) -> Iterator[tuple[str, dict]]:
        for path in archives:
            yield from read_archive(path)


def load(folder: Path) -> Dataset:
    """The facades of the archives in ``folder``, all of them in ``train``.

    They are prepared once, in ``folder/prepared``; in a temporary folder, and for this call
    only, where that cannot be written.

    Raises:
        InputError: no archive, or one that is damaged or incomplete.
    """
    archives = find_archives(folder)
    with tfds_source.quiet(), _prepared_dir(folder, archives) as data_dir:
        builder = CmpFacade(data_dir=str(data_dir))
        tfds_source.prepare(builder, "CMP Facade Database", manual_dir=folder)
        dataset = tfds_source.read_dataset(builder, "segment", "facades", "file_name")
    return dataclasses.replace(
        dataset, colors=FACADE_COLORS, size=SIZE, origin=str(folder.resolve()), license=LICENSE
    )


def find_archives(folder: Path) -> list[Path]:
    """Those of the two archives that are there; InputError where none is."""
    found = [folder / name for name in ARCHIVES if (folder / name).is_file()]
    if not found:
        raise InputError(
            f"{folder}: neither {' nor '.join(ARCHIVES)} is there; download one or both from the "
            f"CMP Facade Database page, {HOMEPAGE}"
        )
    return found


@contextlib.contextmanager
def _prepared_dir(folder: Path, archives: list[Path]) -> Iterator[Path]:
    """Where TFDS may write; never its default, which is in the home directory."""
    # TFDS would not notice an archive that was added or replaced: each state has its own folder.
    state = [(path.name, path.stat().st_size) for path in archives]
    place = folder / "prepared" / hashlib.sha256(repr(state).encode()).hexdigest()[:12]
    if (place / CmpFacade.name / str(CmpFacade.VERSION)).is_dir() or _writable(place):
        yield place
    else:
        with tempfile.TemporaryDirectory(prefix="tfproj-cmp-facade-") as temporary:
            yield Path(temporary)


def _writable(place: Path) -> bool:
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            return True
    except OSError:
        return False


def read_archive(path: Path) -> Iterator[tuple[str, dict]]:
    """(key, features) of every facade in an archive, sorted by name.

    Raises:
        InputError: a damaged archive, an image or mask that is missing or does not fit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for stem, members in _pairs(archive, path).items():
                jpeg, png = (archive.read(member) for member in members)
                features = _example(jpeg, png, *(f"{path}:{member}" for member in members))
                yield stem, {**features, "file_name": f"{stem}.jpg"}
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


def _example(jpeg: bytes, png: bytes, jpeg_label: str, png_label: str) -> dict:
    picture = image.open_image(jpeg, jpeg_label)
    mask = to_classes(tfds_source.decode_mask(png, png_label), png_label)
    if picture.size != mask.shape[::-1]:
        height, width = mask.shape
        raise InputError(
            f"{png_label}: {width} x {height} px, but the image has "
            f"{picture.width} x {picture.height} px"
        )
    return {"image": io.BytesIO(jpeg), "segmentation_mask": mask[..., None]}


def to_classes(values: np.ndarray, label: str) -> np.ndarray:
    """Annotation values 0..12, uint8 (H, W), as indices into ``FACADE_CLASSES``."""
    if values.max(initial=0) > max(CLASS_OF_VALUE):
        raise InputError(f"{label}: value {values.max()}; expected 0..{max(CLASS_OF_VALUE)}")
    order = [FACADE_CLASSES.index(CLASS_OF_VALUE[value]) for value in sorted(CLASS_OF_VALUE)]
    return np.array(order, np.uint8)[values]
