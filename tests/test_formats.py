"""Readers of other tools' formats: one drawn set, written in each, is the same data set."""

import json
from functools import partial
from pathlib import Path

import format_sets as sets
import numpy as np
import pytest

from tfproj.cli.main import main
from tfproj.core import image
from tfproj.data import DataOptions, load_dataset
from tfproj.data.check import check
from tfproj.data.masks import IGNORE
from tfproj.data.registry import read_dataset
from tfproj.errors import InputError

SEGMENTATION = {
    "coco": sets.coco,
    "coco-rle": partial(sets.coco, kind="rle"),
    "coco-compressed": partial(sets.coco, kind="compressed"),
    "coco-roboflow": sets.coco_roboflow,
    "yolo": sets.yolo,
    "yolo-roboflow": sets.yolo_roboflow,
    "voc": sets.voc,
    "voc-rgb": partial(sets.voc, mode="RGB"),
    "labelme": sets.labelme,
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


CLASSIFICATION = {
    "folders": sets.class_folders,
    "csv-metadata": sets.metadata_csv,
    "csv-splits": sets.csv_with_splits,
    "csv-numbers": sets.csv_of_numbers,
    "parquet": sets.parquet,
    "parquet-text": partial(sets.parquet, names=False),
}


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
    assert dataset.findings == dataset.notes == ()


def assert_labelled_set(dataset):
    """The classes, images and labels of the drawn set."""
    assert (dataset.task, dataset.classes) == ("classify", sets.LABELS)
    assert tuple(dataset.splits) == ("train", "val")
    for name, split in dataset.splits.items():
        images = [image.load(split.read_image(i), None, 3) for i in range(len(split))]
        found = {picture.tobytes(): split.labels[i] for i, picture in enumerate(images)}
        assert len(found) == len(sets.numbers(name))
        for number in sets.numbers(name):
            picture = image.load(sets.encoded(number), None, 3)
            assert sets.LABELS[found[picture.tobytes()]] == sets.label_of(number)


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_every_format_gives_the_same_labels_and_splits(tmp_path, name):
    CLASSIFICATION[name](tmp_path / "in")
    dataset = read_dataset(str(tmp_path / "in"), "classify", DataOptions())
    assert_labelled_set(dataset)
    assert dataset.findings == () and dataset.notes == ()
    assert main(["data", "convert", str(tmp_path / "in"), "--output", str(tmp_path / "out")]) == 0
    assert_labelled_set(read_dataset(str(tmp_path / "out"), None, DataOptions(format="plain")))


@pytest.mark.parametrize("name", ["coco", "yolo", "voc-rgb", "labelme", "camvid-colors", "plain"])
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


def test_convert_is_whole_or_not_there(tmp_path, capsys):
    sets.coco(tmp_path / "in")
    next((tmp_path / "in" / "val2017").iterdir()).write_bytes(b"")
    assert main(["data", "convert", str(tmp_path / "in"), "--output", str(tmp_path / "out")]) == 2
    assert "is empty" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_images_of_one_name_in_several_folders(tmp_path):
    """They are told by their paths, and each is written."""
    root = tmp_path / "in"
    sets.coco(root)
    path = root / "annotations" / "instances_train2017.json"
    record = json.loads(path.read_text())
    for number, entry in enumerate(record["images"]):
        folder = root / "train2017" / f"camera{number}"
        folder.mkdir()
        (root / "train2017" / entry["file_name"]).rename(folder / "0001.png")
        entry["file_name"] = f"camera{number}\\0001.png"
    sets.write_text(path, record)
    assert main(["data", "convert", str(root), "--output", str(tmp_path / "out")]) == 0
    split = load_dataset(str(tmp_path / "out")).splits["train"]
    assert split.names == [f"train2017_camera{number}_0001_png.png" for number in range(4)]
    for number in range(4):
        np.testing.assert_array_equal(split.read_mask(number), sets.drawn(number))


def test_what_is_ambiguous_is_asked_for(tmp_path, capsys):
    sets.coco(tmp_path)
    sets.voc(tmp_path)
    assert main(["data", "check", str(tmp_path)]) == 2
    line = capsys.readouterr().err
    for words in (
        "may be coco (annotations/instances_train2017.json",
        " or voc (JPEGImages/ and",
        "--format coco",
    ):
        assert words in line
    for name in ("coco", "voc"):
        assert_drawn_set(read_dataset(str(tmp_path), None, DataOptions(format=name)))
    with pytest.raises(InputError, match="unknown format 'cocoo'; did you mean 'coco'"):
        load_dataset(str(tmp_path), options=DataOptions(format="cocoo"))
    with pytest.raises(InputError, match="--format is for directories; 'digits' is"):
        load_dataset("digits", options=DataOptions(format="coco"))


def test_class_folders_beside_an_annotation(class_folder):
    root = class_folder({"": {"cat": 6, "dog": 6}})
    record = sets.coco_record("train")
    record["images"], record["annotations"] = [], []
    sets.write_text(root / "other.json", record)
    with pytest.raises(
        InputError, match="may be coco .other.json. or plain .the class folders cat/"
    ):
        check(str(root))
    assert check(str(root), DataOptions(format="plain")).ok
    assert load_dataset(str(root), "classify").classes == ("cat", "dog")


def test_a_format_of_the_other_task(tmp_path):
    sets.coco(tmp_path / "a")
    with pytest.raises(InputError, match="a: coco .annotations.* is for segment, not classify"):
        load_dataset(str(tmp_path / "a"), "classify")
    sets.csv_with_splits(tmp_path / "b")
    with pytest.raises(InputError, match="b: csv .labels.csv. is for classify, not segment"):
        load_dataset(str(tmp_path / "b"), "segment")


def test_yolo_without_its_table(tmp_path):
    sets.yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(InputError, match="no YAML file; expected one file with 'names'"):
        load_dataset(str(tmp_path))


def test_what_is_not_read_is_said(tmp_path):
    sets.coco(tmp_path)
    sets.write_image(tmp_path / "train2017" / "more.png", 0)
    sets.write_text(tmp_path / "README.txt", "")
    found = {
        Path(f.path).name: f.message
        for f in read_dataset(str(tmp_path), None, DataOptions()).findings
    }
    assert found["README.txt"] == "ignored: no annotation names it"
    assert found["train2017"].startswith("ignored: 1 images that no annotation names, such as")


def test_a_run_knows_when_an_annotation_changes(tmp_path):
    sets.coco(tmp_path)
    before = load_dataset(str(tmp_path)).contents()
    assert load_dataset(str(tmp_path)).contents() == before
    path = tmp_path / "annotations" / "instances_val2017.json"
    path.write_text(path.read_text().replace("12.75", "12.25").replace("[8, 8", "[9, 8"))
    assert load_dataset(str(tmp_path)).contents() != before


def test_crowds_are_void_and_lie_beneath(tmp_path):
    sets.coco(tmp_path)
    path = tmp_path / "annotations" / "instances_train2017.json"
    record = json.loads(path.read_text())
    crowd = {"size": list(sets.SIZE), "counts": [0, sets.SIZE[0] * sets.SIZE[1]]}
    record["annotations"].append(
        {"id": 99, "image_id": 100, "category_id": 10, "iscrowd": 1, "segmentation": crowd}
    )
    sets.write_text(path, record)
    dataset = read_dataset(str(tmp_path), None, DataOptions())
    expected = sets.drawn(0)
    expected[expected == 0] = IGNORE
    np.testing.assert_array_equal(dataset.splits["train"].read_mask(0), expected)
    assert dataset.void


def test_run_lengths_as_pycocotools_writes_them():
    """``pycocotools.mask.encode`` of a block with a hole, version 2.0.11."""
    from tfproj.data.sources.formats.run_lengths import run_lengths
    from tfproj.data.sources.formats.shapes import Drawing

    mask = np.zeros((9, 7), np.uint8)
    mask[2:7, 1:6] = 1
    mask[4, 3] = 0
    runs = run_lengths({"size": [9, 7], "counts": ";5400MM033007"}, (9, 7), "x")
    np.testing.assert_array_equal(Drawing(Path(), [(1, runs)], (9, 7)).mask(0), mask)
