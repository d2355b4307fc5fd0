"""The examples of a prepared TFDS set: which features are image and target, and their values.

How features become a task:

- ``classify``: an image and a ``ClassLabel``; the classes are the label's names.
- ``segment``: an image and a one-channel image with ``segmentation`` or ``mask`` in its key. The
  classes are the names of a ``LabeledImage``. Without names, all masks are scanned, and the
  values found become the classes ``class_<value>``, sorted by value.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from tfproj import backend
from tfproj.data.dataset import Dataset, Split, natural_size
from tfproj.data.masks import MaskCoding, read_values
from tfproj.errors import InputError, first_line, missing_extra

SPLIT_OF = {"train": "train", "validation": "val", "val": "val", "test": "test"}


def import_tfds() -> ModuleType:
    """The package ``tensorflow_datasets``; InputError where it is missing."""
    backend.setup()
    try:
        import tensorflow_datasets as tfds  # noqa: PLC0415 - loads TensorFlow
    except ImportError:
        raise missing_extra("tensorflow-datasets", "train") from None
    return tfds


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep TFDS off stdout, which is for results; its logging is cut down to errors.

    Progress bars go to stderr, and only where that is a terminal.
    """
    tfds = import_tfds()
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow", "urllib3")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@dataclass(frozen=True)
class Roles:
    """Keys of the features that play a part; None where there is no such feature."""

    image: str | None
    label: str | None
    mask: str | None

    def task(self, wanted: str | None, where: str, found: str) -> str:
        """The task to use: ``wanted``, else ``classify`` before ``segment``."""
        possible = [t for t, key in (("classify", self.label), ("segment", self.mask)) if key]
        if self.image is None or not possible:
            raise InputError(f"{where}: no image with a label or a mask; its features: {found}")
        if wanted not in (None, *possible):
            raise InputError(f"{where}: is for {possible[0]}, not {wanted}; its features: {found}")
        return wanted or possible[0]


def find_roles(features: Any) -> Roles:
    """Which feature is the image, which the label, which the mask; see the module's text."""
    tfds = import_tfds()
    items = dict(features.items()) if hasattr(features, "items") else {}
    images = {key: f for key, f in items.items() if isinstance(f, tfds.features.Image)}
    masks = [k for k, f in images.items() if re.search("segmentation|mask", k) and f.shape[-1] == 1]
    images = [key for key in images if key not in masks]
    labels = [key for key, f in items.items() if isinstance(f, tfds.features.ClassLabel)]
    return Roles(_pick(images, "image"), _pick(labels, "label"), _pick(masks, "segmentation_mask"))


def _pick(keys: Sequence[str], usual: str) -> str | None:
    """The usual key where several features would do, such as the species beside the breed."""
    return usual if usual in keys else next(iter(keys), None)


def read_builder(builder: Any, task: str | None, name: str) -> Dataset:
    """Read a prepared TFDS builder into memory; the examples are numbered.

    Args:
        builder: a TFDS builder whose data are prepared.
        task: ``classify``, ``segment`` or None, as in :func:`tfds_dataset`.
        name: of the data set; error messages begin with it.

    Raises:
        InputError: no ``train`` split, no fitting features, or files that cannot be read.
    """
    features = builder.info.features
    roles = find_roles(features)
    task = roles.task(task, name, _listing(features))
    if features[roles.image].dtype == np.float32:
        raise InputError(f"{name}: float images, which TFDS stores in a way of its own")
    target = roles.label if task == "classify" else roles.mask
    with quiet():
        examples = _read(builder, name, (roles.image, target))
    make = _classification if task == "classify" else _segmentation
    classes, splits = make(examples, features[target], name)
    return Dataset(
        name=name,
        task=task,
        classes=classes,
        splits=splits,
        size=_size(features[roles.image].shape, task, splits["train"]),
        channels=1 if features[roles.image].shape[-1] == 1 else 3,
        origin=str(builder.data_dir),
        license=_license(builder.info),
        notes=tuple(
            f"{s}: left out, not labelled" for s in sorted(examples.keys() - splits.keys())
        ),
    )


def _listing(features: Any) -> str:
    items = dict(features.items()) if hasattr(features, "items") else {}
    return ", ".join(f"{key} ({type(f).__name__})" for key, f in items.items()) or "none"


@dataclass(frozen=True)
class Examples:
    """One split in memory: encoded images, and labels (int) or encoded masks."""

    images: list[bytes]
    targets: list

    @property
    def names(self) -> list[str]:
        return [str(index) for index in range(len(self.images))]


def _read(builder: Any, name: str, keys: tuple[str, str]) -> dict[str, Examples]:
    """The splits that have examples, by this package's names."""
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    available = {split: to for split, to in SPLIT_OF.items() if sizes.get(split)}
    if "train" not in available:
        raise InputError(f"{name}: no 'train' split with examples; it has: {sizes or 'none'}")
    try:
        return {to: _read_split(builder, split, keys) for split, to in available.items()}
    except Exception as error:  # TensorFlow's errors share no base but Exception
        raise InputError(f"{builder.data_dir}: cannot be read ({first_line(error)})") from None


def _read_split(builder: Any, split: str, keys: tuple[str, str]) -> Examples:
    import tensorflow as tf  # noqa: PLC0415 - heavy; a mistake shows before it is loaded

    tfds = import_tfds()
    images = [k for k in keys if isinstance(builder.info.features[k], tfds.features.Image)]
    skip = {key: tfds.decode.SkipDecoding() for key in images}
    options = tf.data.Options()
    # Destroying an iterator waits for the autotune thread, up to ten seconds (TF 2.21).
    options.autotune.enabled = False
    dataset = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders=tfds.decode.PartialDecoding(set(keys), decoders=skip),
        read_config=tfds.ReadConfig(options=options, try_autocache=False),
    )
    image, target = keys
    result = Examples([], [])
    for example in tfds.as_numpy(dataset):
        result.images.append(example[image])
        result.targets.append(example[target])
    return result


def _classification(
    examples: dict[str, Examples], feature: Any, name: str
) -> tuple[tuple[str, ...], dict[str, Split]]:
    """Classes and splits; a split whose labels are withheld (-1) is left out."""
    if not feature.num_classes:
        raise InputError(f"{name}: its labels have no known number of classes")
    splits = {}
    for split, part in examples.items():
        labels = np.array(part.targets, np.int32)
        if labels.min() >= 0:
            splits[split] = Split(part.names, part.images.__getitem__, labels)
    if "train" not in splits:
        raise InputError(f"{name}: training examples without a label (-1)")
    return tuple(feature.names), splits


def _segmentation(
    examples: dict[str, Examples], feature: Any, name: str
) -> tuple[tuple[str, ...], dict[str, Split]]:
    """Classes and splits; where masks have no class names, their values are looked up."""
    if getattr(feature, "num_classes", None):
        classes = tuple(feature.names)
        coding = MaskCoding.plain(len(classes))
    else:
        found = set().union(*(_mask_values(part, name) for part in examples.values()))
        coding = MaskCoding(tuple(sorted(found)))
        classes = tuple(f"class_{value}" for value in coding.values)
    return classes, {split: _mask_split(part, coding) for split, part in examples.items()}


def _mask_values(part: Examples, name: str) -> set[int]:
    counts = np.zeros(256, np.int64)
    for index, mask in enumerate(part.targets):
        values = read_values(mask, f"{name}: example {index}")
        counts += np.bincount(values.ravel(), minlength=256)
    return {int(value) for value in np.flatnonzero(counts)}


def _mask_split(part: Examples, coding: MaskCoding) -> Split:
    def read_mask(index: int) -> np.ndarray:
        label = f"example {index}"
        raw = read_values(part.targets[index], label)
        indices = coding.to_indices(raw)
        stray = indices >= len(coding.values)  # 255, which is a class only where there are 256
        if stray.any():
            value, count = raw[stray][0], len(coding.values)
            raise InputError(f"{label}: mask value {value} is none of {count} classes")
        return indices

    return Split(part.names, part.images.__getitem__, read_mask=read_mask)


def _size(shape: Sequence[int | None], task: str, train: Split) -> tuple[int, int]:
    """(height, width): the feature's own where fixed, else as for a user's folder.

    That is the median of up to 64 training images, scaled to at most 256 a side. Sizes for
    segmentation are rounded to a multiple of 8, which U-Nets need to halve three times.
    """
    multiple = 8 if task == "segment" else 1
    if shape[0] is None or shape[1] is None:
        return natural_size(train, multiple)
    height, width = (max(multiple, round(side / multiple) * multiple) for side in shape[:2])
    return height, width


def _license(info: Any) -> str:
    """Licence, title and home page, as far as TFDS knows them."""
    terms = getattr(info.redistribution_info, "license", "") if info.redistribution_info else ""
    title = re.search(r"\btitle\s*=\s*[{\"]+(.+?)[}\"]+\s*,?\s*$", info.citation or "", re.M)
    lines = (info.citation or "").strip().splitlines()
    source = title.group(1) if title else (lines[0] if lines else "")
    return "; ".join(" ".join(part.split()) for part in (terms, source, info.homepage) if part)
