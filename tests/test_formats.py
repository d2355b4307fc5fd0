"""Readers of other tools' formats: one drawn set, written in each, is the same data set."""

import json
from functools import partial
from pathlib import Path

import format_sets as sets
import numpy as np
import pytest

from tfproj.cli.main import main
from tfproj.core import image
from tfproj.data import DataOptions
from tfproj.data.registry import read_dataset

SEGMENTATION = {
    "voc": sets.voc,
    "voc-rgb": partial(sets.voc, mode="RGB"),
    "camvid": partial(sets.masks, images="{split}/{stem}.png", masks="{split}annot/{stem}.png"),
    "camvid-kaggle": partial(
        sets.masks, images="{split}/{stem}.png", masks="{split}_labels/{stem}_L.png", mode="RGB",
        table=sets.class_dict,
    ),
    "camvid-colors": partial(
        sets.masks, images="{split}/{stem}.png", masks="{split}annot/{stem}.png", mode="RGB",
        table=sets.label_colors,
    ),
    "labels": partial(
        sets.masks, images="{split}/images/{stem}.png", masks="{split}/labels/{stem}.png"
    ),
    "labels-below": partial(
        sets.masks, images="images/{split}/{stem}.png", masks="labels/{split}/{stem}.png", mode="P"
    ),
    "masks-below": partial(
        sets.masks, images="images/{split}/{stem}.png", masks="masks/{split}/{stem}-seg.png"
    ),
    "suffix": partial(sets.masks, images="{split}/{stem}.png", masks="{split}/{stem}_mask.png"),
    "plain": partial(
        sets.masks, images="{split}/images/{stem}.png", masks="{split}/masks/{stem}.png"
    ),
    "plain-colors": partial(
        sets.masks, images="{split}/images/{stem}.png", masks="{split}/masks/{stem}_gt.png",
        mode="RGB", table=sets.class_dict,
    ),
    "nnunet": sets.nnunet,
}  # fmt: skip


def assert_drawn_set(dataset, splits=("train", "val")):
    """The classes, images and masks of the drawn set; 0 pixels differ."""
    assert (dataset.task, dataset.classes) == ("segment", sets.CLASSES)
    assert tuple(dataset.splits) == splits
    for name, split in zip(("train", "val"), dataset.splits.values(), strict=True):
        found = {Path(file).stem.removesuffix("_0000"): i for i, file in enumerate(split.names)}
        assert sorted(found) == [sets.stem(number) for number in sets.numbers(name)]
        for number in sets.numbers(name):
            index = found[sets.stem(number)]
            np.testing.assert_array_equal(split.read_mask(index), sets.drawn(number))
            assert image.header(split.read_image(index))[0] == sets.SIZE


@pytest.mark.parametrize("name", SEGMENTATION)
def test_every_format_gives_the_same_masks_and_splits(tmp_path, name):
    SEGMENTATION[name](tmp_path)
    dataset = read_dataset(str(tmp_path), "segment", DataOptions())
    assert_drawn_set(dataset, ("train", "test") if name == "nnunet" else ("train", "val"))
    assert dataset.findings == ()
    # 255 may be void there, which is said.
    assert bool(dataset.notes) == name.startswith("voc")


@pytest.mark.parametrize("name", ["voc-rgb", "camvid-colors", "plain"])
def test_convert_writes_what_is_read(tmp_path, capsys, name):
    SEGMENTATION[name](tmp_path / "in")
    assert (
        main(["data", "convert", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--json"])
        == 0
    )
    record = json.loads(capsys.readouterr().out)
    assert record["task"] == "segment" and record["examples"] == {"train": 4, "val": 2}
    assert_drawn_set(read_dataset(str(tmp_path / "out"), None, DataOptions(format="plain")))
    for path in (tmp_path / "out" / "train" / "images").iterdir():
        sources = (tmp_path / "in").rglob(path.name)  # among them a mask of that name
        assert path.read_bytes() in [source.read_bytes() for source in sources]
