"""Data with several labels an image: how they are read, split and checked."""

import json

import numpy as np
import pytest
from label_sets import CLASSES, write_cells, write_shapes

from tfproj.data import DataOptions, load_dataset
from tfproj.data.check import check
from tfproj.data.splits import hold_out
from tfproj.data.write_folder import write_folder
from tfproj.errors import InputError

SEVERAL = DataOptions(multi_label=True)
COUNTS = {"train": 24, "val": 8}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A folder with images, and (file, split, labels) of each."""
    folder = tmp_path_factory.mktemp("shapes") / "shapes"
    return folder, write_shapes(folder, COUNTS)


def as_rows(folder, rows):
    """A row for each label; an image without one has a row with an empty cell."""
    lines = [f"{f},{label},{s}" for f, s, labels in rows for label in labels or [""]]
    (folder / "labels.csv").write_text("file,label,split\n" + "\n".join(lines) + "\n")


def as_columns(folder, rows, words=("0", "1")):
    """One column of 0 and 1 a class, called as it is spelled."""
    lines = [
        ",".join(
            [file, split, *(words[name.lower() in labels] for name in ("Red", "green", "blue"))]
        )
        for file, split, labels in rows
    ]
    (folder / "labels.csv").write_text("image,split,Red,green,blue\n" + "\n".join(lines) + "\n")


def as_coco(folder, rows):
    """Boxes alone, as of a set for detection; one category is never used."""
    for name in COUNTS:
        files = [(file, labels) for file, split, labels in rows if split == name]
        images = [
            {"id": i, "file_name": file, "height": 20, "width": 20}
            for i, (file, _) in enumerate(files)
        ]
        annotations = [
            {"id": 0, "image_id": i, "category_id": CLASSES.index(label) + 1, "bbox": [1, 1, 5, 5]}
            for i, (_, labels) in enumerate(files)
            for label in labels * 2  # two objects of one class
        ]
        categories = [{"id": i, "name": n} for i, n in enumerate(("shapes", *CLASSES))]
        record = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"instances_{name}.json").write_text(json.dumps(record))


LAYOUTS = {
    "cells": write_cells,
    "semicolons": lambda folder, rows: write_cells(folder, rows, "; "),
    "rows": as_rows,
    "columns": as_columns,
    "words": lambda folder, rows: as_columns(folder, rows, ("False", "True")),
    "coco": as_coco,
}


@pytest.fixture
def written(shapes):
    """Writes the labels in a layout; they are gone after the test."""
    folder, rows = shapes

    def write(layout):
        LAYOUTS[layout](folder, rows)
        return folder

    yield write
    for path in (*folder.glob("*.csv"), *folder.glob("*.json")):
        path.unlink()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_labels(written, shapes, layout):
    dataset = load_dataset(str(written(layout)), "classify", SEVERAL)
    for name, split in dataset.splits.items():
        expected = {file.split("/")[1]: {*labels} for file, s, labels in shapes[1] if s == name}
        assert split.labels.dtype == np.uint8
        found = {
            key: {dataset.classes[i].lower() for i in np.flatnonzero(row)}
            for key, row in zip(split.names, split.labels, strict=True)
        }
        assert found == expected
    if layout == "columns":
        assert dataset.classes == ("Red", "green", "blue")  # the columns' order and spelling


def test_the_check_counts_each_class(written, shapes):
    report = check(str(written("cells")), SEVERAL)
    assert report.ok
    for name, split in report.splits.items():
        assert {c: count.images for c, count in split.classes.items()} == {
            c: sum(c in labels for _, s, labels in shapes[1] if s == name) for c in CLASSES
        }


def test_the_check_finds_one_image_with_two_sets_of_labels(written, shapes):
    folder = written("cells")
    file, _, labels = next(row for row in shapes[1] if row[2])
    copy = folder / "images" / "copy.png"
    copy.write_bytes((folder / file).read_bytes())
    with (folder / "labels.csv").open("a") as table:
        table.write("images/copy.png,,train\n")
    found = [f for f in check(str(folder), SEVERAL).findings if f.code == "duplicate"]
    copy.unlink()
    assert len(found) == 1
    words = " and ".join(map(repr, sorted(labels)))
    assert f"same image, two labels: none, but {words} as" in found[0].message


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("cells", "--multi-label"),
        ("rows", "--multi-label"),
        ("columns", "labels.csv has several labels an image; add --multi-label"),
        ("coco", "is for segment, not classify; add --multi-label"),
    ],
)
def test_without_the_flag_one_line_names_it(written, layout, words):
    with pytest.raises(InputError, match=words) as error:
        load_dataset(str(written(layout)), "classify")
    assert "\n" not in str(error.value)


def test_joined_labels_may_be_classes_where_they_are_listed(written, shapes):
    folder = written("cells")
    lines = [line for line in (folder / "labels.csv").read_text().splitlines() if ",," not in line]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match="looks like several labels of one image"):
        load_dataset(str(folder), "classify")
    joined = sorted({line.split(",")[1] for line in lines[1:]})
    (folder / "classes.csv").write_text("name\n" + "\n".join(joined) + "\n")
    assert load_dataset(str(folder), "classify").classes == tuple(joined)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("file,label,a,b\n{},red,0,1\n{},green,1,1", "may be in 'label', or in columns of 0 and 1"),
        ("file,label\n{},red|green\n{},red;green", "stand in labels; part them by one of both"),
        ("file,a,b\n{},0,1\n{},1,1\n{},1,0", "two rows say other things of it"),
        ("file,name\n{},x", "no CSV with a column 'file'"),
    ],
)
def test_what_is_ambiguous_is_asked_for(written, shapes, table, words):
    folder = written("cells")
    first, second = shapes[1][0][0], shapes[1][1][0]
    (folder / "labels.csv").write_text(table.format(first, second, first) + "\n")
    with pytest.raises(InputError, match=words):
        load_dataset(str(folder), "classify", DataOptions(multi_label=True, format="csv"))


def test_one_label_each_works_with_a_note(class_folder):
    dataset = load_dataset(str(class_folder()), "classify", SEVERAL)
    assert "every image has one label" in dataset.notes[-1]
    train = dataset.splits["train"]
    assert (train.labels.sum(1) == 1).all()
    assert [train.names[i].split("/")[0] for i in np.flatnonzero(train.labels[:, 1])] == ["dog"] * 5


def test_the_flag_is_for_classification(mask_folder):
    with pytest.raises(InputError, match="is for segment, not classify"):
        load_dataset(str(mask_folder()), None, SEVERAL)
    with pytest.raises(InputError, match="multi_label is for classify only"):
        load_dataset(str(mask_folder(name="more")), "segment", SEVERAL)


def test_labels_have_no_place_in_class_folders(written, tmp_path):
    with pytest.raises(InputError, match="no place in class folders"):
        write_folder(load_dataset(str(written("cells")), "classify", SEVERAL), tmp_path / "new")


def test_a_changed_label_changes_the_fingerprint(written):
    folder = written("cells")
    before = load_dataset(str(folder), "classify", SEVERAL).fingerprint()
    text = (folder / "labels.csv").read_text()
    (folder / "labels.csv").write_text(text.replace("|green", "", 1))
    assert load_dataset(str(folder), "classify", SEVERAL).fingerprint() != before


def test_the_order_of_a_run_and_the_limit_hold(written):
    folder = str(written("cells"))
    own = load_dataset(folder, "classify", SEVERAL)
    order = ("red", "more", "blue", "green")
    other = load_dataset(folder, "classify", DataOptions(multi_label=True, classes=order))
    for name, split in other.splits.items():
        columns = [own.classes.index(c) for c in order if c != "more"]
        np.testing.assert_array_equal(
            split.labels[:, [0, 2, 3]], own.splits[name].labels[:, columns]
        )
        assert not split.labels[:, 1].any()
    few = load_dataset(folder, "classify", DataOptions(multi_label=True, limit=3))
    assert few.splits["train"].labels.any(0).all()  # every class, while there is room


def random_split(count, may_grow):
    """A split of ``count`` images, of which class 3 has two, and most have several classes."""
    from tfproj.data.dataset import Split

    rng = np.random.default_rng(3)
    labels = (rng.random((count, 4)) < (0.6, 0.3, 0.1, 0)).astype(np.uint8)
    labels[[1, 5], 3] = 1
    names = [f"{i}.png" for i in range(count)]
    return hold_out(Split(names, lambda i: None, labels=labels), 0.1, may_grow)


@pytest.mark.parametrize("may_grow", [False, True])
def test_held_out_images_have_every_class(may_grow):
    train, val = random_split(400, may_grow)
    assert not {*train.names} & {*val.names} and len(train) + len(val) == 400
    assert (train.class_counts(4) > 0).all() and (val.class_counts(4) > 0).all()
    shares = val.class_counts(4) / (train.class_counts(4) + val.class_counts(4))
    assert (np.abs(shares[:3] - 0.1) < 0.08).all()
    assert abs(len(val) / 400 - 0.1) < 0.05


def test_held_out_images_stay_when_the_set_grows():
    (_, before), (_, after) = random_split(300, True), random_split(400, True)
    assert len({*before.names} - {*after.names}) <= 1  # the only one held out of the rare class
