"""What the encoder makes of every picture of a data set, read once and without its labels."""

from __future__ import annotations

import concurrent.futures
import contextlib
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path

import keras
import numpy as np
from PIL import Image
from tqdm import tqdm

from tfproj.core import hardware, image
from tfproj.core.spec import ModelSpec
from tfproj.data.dataset import Dataset, Split, median_size
from tfproj.errors import InputError
from tfproj.models.encoder_names import LITE0
from tfproj.models.encoders import encode, load_imagenet

# Smaller pictures than this are enlarged to SMALL_SIDE: at 224 px they would take twelve times as
# long, and tell no more.
SMALL, SMALL_SIDE, SIDE = 64, 64, 224
THUMB = 24  # px, of the luma that two copies of one picture share
BATCH = 32
EXIF_PART, EXIF_TIME = 0x8769, 0x9003
NUMBER = re.compile(r"(\d+)\D*$")  # the last one, as in --group-modulus


@dataclass(frozen=True)
class Look:
    """N pictures, in the order of the splits.

    Attributes:
        splits: of the data set.
        side: px that the encoder saw them at.
        where: (split, index) of each.
        features: float32 (N, F), of length 1: products are likenesses.
        thumbs: float32 (N, 24, 24), luma of a mean of 0 and length 1; 0 where it is constant.
        numbers: float64 (N,), the last number in each name; NaN where there is none.
        stems: what each name has before that number, its folder included.
        times: float64 (N,), seconds, when EXIF says they were taken; NaN where it does not.
        groups: of each, as the data set has them; None: has none.
        labels: int (N,), or None.
    """

    splits: Mapping[str, Split]
    side: int
    where: list[tuple[str, int]]
    features: np.ndarray
    thumbs: np.ndarray
    numbers: np.ndarray
    stems: list[str]
    times: np.ndarray
    groups: np.ndarray | None
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.where)

    def file(self, row: int) -> str:
        """What messages call the picture."""
        split, index = self.where[row]
        return self.splits[split].label_of(index)


def look_at(dataset: Dataset) -> Look:
    """Read all pictures; those that can't be read are left out, as ``check`` has named them."""
    where = [(name, i) for name, split in dataset.splits.items() for i in range(len(split))]
    side = SIDE if min(median_size(dataset.splits["train"])) >= SMALL else SMALL_SIDE
    network, read = _network(side), partial(_read, dataset, side)
    seen: list[tuple] = []
    with concurrent.futures.ThreadPoolExecutor(hardware.available_cpus()) as pool:
        starts = range(0, len(where), BATCH)
        for start in tqdm(starts, "features", file=sys.stderr, leave=False, disable=None):
            rows = [row for row in pool.map(read, where[start : start + BATCH]) if row]
            if rows:
                places, pixels, thumbs, times = zip(*rows, strict=True)
                raw = np.asarray(network.predict_on_batch(np.stack(pixels)))
                seen += zip(places, raw, thumbs, times, strict=True)
    if not seen:
        raise InputError(f"{dataset.name}: no picture can be read")
    return _look(dataset, side, *zip(*seen, strict=True))


@lru_cache(maxsize=1)
def _network(side: int) -> keras.Model:
    """uint8 (B, side, side, 3) -> the means of the encoder's last features, float32 (B, F)."""
    spec = ModelSpec("classify", "encoder", ("a", "b"), (), side, side, 3)
    inputs, features = encode(spec, LITE0, 32, batch_norm=True)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(features[32]))
    load_imagenet(model, LITE0, None)
    return model


def _read(dataset: Dataset, side: int, place: tuple[str, int]) -> tuple | None:
    """(place, pixels, thumb, time) of one picture; None where it can't be read."""
    split, index = dataset.splits[place[0]], place[1]
    with contextlib.suppress(InputError):
        picture = image.open_image(split.read_image(index), split.label_of(index))
        time = _taken(picture.info.get("exif"))
        thumb = image.to_array(picture, (THUMB, THUMB), 1).astype(np.float32)
        return place, image.to_array(picture, (side, side), 3), thumb, time
    return None


def _taken(exif: bytes | None) -> float:
    """When EXIF says that a picture was taken, in seconds; NaN where it says nothing."""
    with contextlib.suppress(Exception):  # a damaged EXIF block says nothing
        found = Image.Exif()
        found.load(exif)
        text = found.get_ifd(EXIF_PART)[EXIF_TIME]
        return datetime.strptime(text, "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    return math.nan


def _look(dataset: Dataset, side: int, where, raw, thumbs, times) -> Look:
    luma = np.stack(thumbs)[..., 0]
    names = [dataset.splits[split].names[index] for split, index in where]
    found = [NUMBER.search(str(Path(name).with_suffix(""))) for name in names]
    return Look(
        splits=dataset.splits,
        side=side,
        where=list(where),
        features=_unit(np.stack(raw)),
        thumbs=_unit(luma - luma.mean((1, 2), keepdims=True), (1, 2)),
        numbers=np.array([float(f[1]) if f else np.nan for f in found]),
        stems=[f.string[: f.start()] if f else "" for f in found],
        times=np.array(times),
        groups=_column(dataset, where, "groups"),
        labels=_column(dataset, where, "labels"),
    )


def _column(dataset: Dataset, where, name: str) -> np.ndarray | None:
    """What every split has of this name for its pictures; None where one has it not."""
    columns = {key: getattr(split, name) for key, split in dataset.splits.items()}
    if any(column is None for column in columns.values()):
        return None
    return np.array([columns[split][index] for split, index in where])


def _unit(values: np.ndarray, axis: int | tuple = 1) -> np.ndarray:
    return values / np.maximum(np.linalg.norm(values, axis=axis, keepdims=True), 1e-6)
