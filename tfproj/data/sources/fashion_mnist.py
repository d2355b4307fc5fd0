"""Fashion-MNIST: from its IDX files, or from TensorFlow Datasets."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from tfproj.data.dataset import DataOptions, Dataset, Split, array_split
from tfproj.data.sources.paths import places
from tfproj.data.sources.tfds import tfds_dataset
from tfproj.errors import InputError

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FASHION_LICENSE = "Fashion-MNIST, Zalando SE, MIT licence (Xiao, Rasul, Vollgraf, 2017)"
# Where Debian's package dataset-fashion-mnist puts the original files.
DEBIAN_DIR = Path("/usr/share/datasets/fashion-mnist")
IDX_STEMS = {"train": "train", "test": "t10k"}


def fashion_mnist(options: DataOptions) -> Dataset:
    """Fashion-MNIST from ``data_dir``, the usual folders, or TensorFlow Datasets."""
    folder = find_idx_folder(options.data_dir)
    if folder is not None:
        splits = {split: _idx_split(folder, stem) for split, stem in IDX_STEMS.items()}
        origin = str(folder.resolve())
    else:
        splits, origin = _from_tfds(options)
    return Dataset(
        name="fashion_mnist",
        task="classify",
        classes=FASHION_CLASSES,
        splits=splits,
        size=(28, 28),
        channels=1,
        origin=origin,
        license=FASHION_LICENSE,
    )


def find_idx_folder(data_dir: str | None = None) -> Path | None:
    """The folder with Fashion-MNIST's IDX files: in ``data_dir`` or the usual places, or None."""
    names = ("fashion_mnist", "FashionMNIST")
    if data_dir is not None:
        folders = list(places(data_dir, (".", *names)))
    else:  # not the usual places themselves: MNIST's files are called the same
        folders = [*places(None, names), DEBIAN_DIR]
    return next((folder for folder in folders if _idx_file(folder, "train", "images")), None)


def _idx_file(folder: Path, stem: str, kind: str) -> Path | None:
    dimensions = {"images": 3, "labels": 1}[kind]
    # Both spellings are in circulation: "-idx3-ubyte" and, after unpacking, ".idx3-ubyte".
    names = [f"{stem}-{kind}{mark}idx{dimensions}-ubyte" for mark in "-."]
    candidates = [folder / f"{name}{suffix}" for name in names for suffix in ("", ".gz")]
    return next((path for path in candidates if path.is_file()), None)


def _idx_split(folder: Path, stem: str) -> Split:
    paths = {kind: _idx_file(folder, stem, kind) for kind in ("images", "labels")}
    for kind, path in paths.items():
        if path is None:
            raise InputError(f"{folder}: {stem}-{kind}-idx?-ubyte (or .gz) is missing")
    images, labels = read_idx(paths["images"], 3), read_idx(paths["labels"], 1)
    if len(images) != len(labels):
        raise InputError(f"{folder}: {len(images)} images but {len(labels)} labels in {stem}")
    if labels.max(initial=0) >= len(FASHION_CLASSES):
        raise InputError(f"{paths['labels']}: label {labels.max()} is above 9")
    return array_split(images, labels)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """A uint8 array from an IDX file, gzipped or not.

    The format: two zero bytes, type 0x08, the number of dimensions, then each dimension as a
    big-endian 32-bit integer, then the bytes (Y. LeCun, "The MNIST database").
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    header = 4 + 4 * dimensions
    if len(data) < header or data[:4] != bytes((0, 0, 8, dimensions)):
        raise InputError(f"{path}: not an IDX file of {dimensions} dimension(s)")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", dimensions, 4))
    if len(data) != header + math.prod(shape):
        raise InputError(f"{path}: {len(data)} bytes, but its header promises shape {shape}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _from_tfds(options: DataOptions) -> tuple[dict[str, Split], str]:
    try:
        dataset = tfds_dataset("fashion_mnist", "classify", options)
    except InputError as error:
        raise InputError(
            "Fashion-MNIST was not found. Either: --data-dir with the four IDX files; "
            "apt-get install dataset-fashion-mnist; a folder fashion_mnist in $TFPROJ_DATA or "
            "./data; --data-dir with a prepared TFDS directory; or a network for its download "
            f"({error})"
        ) from None
    return dict(dataset.splits), dataset.origin
