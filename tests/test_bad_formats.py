"""Annotations that are damaged or not to be trusted: one line, exit code 2, file and place."""

import json

import format_sets as sets
import numpy as np
import pytest

from tfproj.cli.main import main
from tfproj.data import DataOptions, load_dataset
from tfproj.data.check import check
from tfproj.data.registry import read_dataset
from tfproj.errors import InputError

COCO = "annotations/instances_train2017.json"
YOLO = "labels/train/train_é0.txt"
LABELME = "train/train_é0.json"


def changed(path, change):
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    sets.write_text(path, record)


def fails(root, capsys, words, file, task="segment"):
    """As the command line says it, for a check and for a training alike."""
    for command in (["data", "check", str(root)], ["train", task, "--data", str(root)]):
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()[-1:]
        assert line.startswith(f"error: {root / file}"), line
        assert words in line, line


def annotation(**values):
    return lambda record: record["annotations"][1].update(values)


def picture(**values):
    return lambda record: record["images"][1].update(values)


def category(**values):
    return lambda record: record["categories"][0].update(values)


BOX = {"size": [40, 56], "counts": [0, 2240]}

BAD_COCO = [
    (annotation(segmentation=[[1, 2, 3, 4]]), "annotations[1]: a polygon of 2 point(s)"),
    (annotation(segmentation=[[1, 2, 3, 4, 5]]), "annotations[1]: a polygon that is no list of"),
    (annotation(segmentation=[[1, 2, "x", 4, 5, 6]]), "annotations[1]: a polygon that is no list"),
    (annotation(segmentation=[[1, 2, float("nan"), 4, 5, 6]]), "not finite"),
    (annotation(segmentation=[[1, float("nan"), 3, 4, 5, 6]]), "annotations[1]: a polygon with"),
    (annotation(segmentation=[[1, 2, 1e300, 4, 5, 6]]), "not finite, or far outside"),
    (
        annotation(segmentation=[[57, 2, 70, 4, 60, 6]]),
        "annotations[1]: a polygon that lies outside",
    ),
    (annotation(segmentation=[[0, 0, 9, 39] * 300]), "annotations[1]: a polygon that goes up and"),
    (annotation(segmentation=7), "annotations[1]: 'segmentation' is 7; it must be a list"),
    (
        annotation(segmentation=BOX | {"size": [56, 40]}),
        "an RLE of size [56, 40]; the image is [40,",
    ),
    (annotation(segmentation=BOX | {"size": 7}), "annotations[1]: an RLE of size 7"),
    (annotation(segmentation=BOX | {"counts": [1, 2]}), "annotations[1]: a damaged RLE"),
    (annotation(segmentation=BOX | {"counts": [-1, 2241]}), "annotations[1]: a damaged RLE"),
    (annotation(segmentation=BOX | {"counts": [10**30]}), "annotations[1]: a damaged RLE"),
    (annotation(segmentation=BOX | {"counts": "PPPPPPPPPPPP0"}), "annotations[1]: a damaged RLE"),
    (annotation(segmentation=BOX | {"counts": "é" * 9}), "annotations[1]: a damaged RLE"),
    (annotation(segmentation=BOX | {"counts": "o"}), "annotations[1]: a damaged RLE"),
    (annotation(segmentation=BOX | {"counts": ""}), "annotations[1]: a damaged RLE"),
    (annotation(image_id=3), "annotations[1]: no image has the id 3"),
    (annotation(image_id=[3]), "annotations[1]: 'image_id' is [3]; it must be a whole number"),
    (annotation(category_id=77), "annotations[1]: no category has the id 77"),
    (lambda r: r.update(annotations=[1]), "annotations[0]: 'image_id' is missing"),
    (
        lambda r: [a.pop("segmentation") for a in r["annotations"]],
        "no annotation has a polygon or RLE",
    ),
    (picture(file_name="../../secret.png"), "images[1]: '../../secret.png' is no path inside"),
    (picture(file_name="/etc/secret.png"), "images[1]: '/etc/secret.png' is no path inside"),
    (picture(file_name="C:\\\\secret.png"), "is no path inside"),
    (picture(file_name="a\0.png"), "is no path inside"),
    (picture(file_name="é" * 128), "is too long for the name of a file"),
    (picture(file_name=7), "images[1]: 'file_name' is 7; it must be text"),
    (picture(id=100), "images[1]: the id 100 is given twice"),
    (picture(height=0), "images[1]: an image of 56 x 0 px"),
    (picture(height=10**6, width=10**6), "images[1]: 1000000 x 1000000 px is above the limit"),
    (category(name=""), "categories[0]: 'name' is empty; give the class a name"),
    (category(name="road"), "categories[1]: the name 'road' is given twice"),
    (category(id=8), "categories[2]: the id 8 is given twice"),
    (lambda r: r["categories"][0].pop("name"), "categories[0]: 'name' is missing"),
]


@pytest.mark.parametrize(("change", "words"), BAD_COCO, ids=[words for _, words in BAD_COCO])
def test_damaged_coco(tmp_path, capsys, change, words):
    sets.coco(tmp_path)
    changed(tmp_path / COCO, change)
    fails(tmp_path, capsys, words, COCO)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (lambda text: text[:-40], "no valid JSON ("),
        (lambda text: text + "x", "no valid JSON (Extra data, line 1, column"),
        (
            lambda text: text[:-1] + ', "more": ' + "[" * 200_000 + "}",
            "JSON that is nested too deeply",
        ),
        (lambda text: text[:-1] + ', "more": ' + "9" * 9000 + "}", "no valid JSON ("),
    ],
)
def test_json_that_is_none(tmp_path, capsys, text, words):
    sets.coco(tmp_path)
    path = tmp_path / COCO
    path.write_text(text(path.read_text()))
    fails(tmp_path, capsys, words, COCO)


def test_text_that_is_no_utf8_or_too_large(tmp_path, capsys, monkeypatch):
    sets.coco(tmp_path)
    data = (tmp_path / COCO).read_bytes()
    (tmp_path / COCO).write_bytes(data + b"\xff")
    fails(tmp_path, capsys, f"no UTF-8 text (byte {len(data):,})", COCO)
    monkeypatch.setattr("tfproj.data.sources.tables.MAX_BYTES", 100)
    fails(tmp_path, capsys, "larger than", "annotations")


def test_images_that_are_missing_are_listed(tmp_path):
    sets.coco(tmp_path)
    (tmp_path / "train2017" / "train_é1.png").unlink()
    (tmp_path / "val2017" / "val_é4.png").unlink()
    found = {f.path: f.message for f in check(str(tmp_path)).findings if f.severity == "error"}
    assert [*found] == [
        str(tmp_path / "train2017" / "train_é1.png"), str(tmp_path / "val2017" / "val_é4.png")
    ]  # fmt: skip
    assert found[[*found][0]] == f"no such file, though {tmp_path / COCO} names it"
    with pytest.raises(InputError, match="no such file, though .*lists all problems"):
        load_dataset(str(tmp_path))


def test_two_files_for_one_split(tmp_path, capsys):
    sets.coco(tmp_path)
    (tmp_path / "annotations" / "instances_val2017.json").rename(tmp_path / "instances_more.json")
    fails(
        tmp_path, capsys, "a COCO file for 'train', as is", COCO.replace("train2017", "train2017")
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.1 0.2 0.3 0.4", "line 1: a box; segmentation needs polygons"),
        ("0 0.1 0.2 0.3 0.4 0.5", "line 1: a polygon that is no list of pairs"),
        ("0 0 0 3 40 50 60", "line 1: the coordinate 60; they are parts of the image, 0 to 1"),
        ("0 1.2 0.2 1.3 0.4 1.2 0.9", "line 1: a polygon that lies outside"),
        ("3 0.1 0.2 0.3 0.4 0.5 0.6", "line 1: class '3' is not one of 0..2"),
        ("x 0.1 0.2 0.3 0.4 0.5 0.6", "line 1: class 'x' is not one of 0..2"),
        ("1" * 5000 + " 0.1 0.2 0.3 0.4 0.5 0.6", "' is not one of 0..2"),
        ("\n0 0.1 0.2 nan 0.4 0.5 0.6", "line 2: a polygon with coordinates that are not finite"),
    ],
)
def test_damaged_yolo(tmp_path, capsys, line, words):
    sets.yolo(tmp_path)
    (tmp_path / YOLO).write_text(line)
    fails(tmp_path, capsys, words, YOLO)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "train: images/train\nnames: {0: car, 2: road}",
            "'names' must list the classes, or number",
        ),
        (
            "train: images/train\nnames: [car, car]",
            "'names' must give each class a name of its own",
        ),
        ("train: images/train\nnames: [car, road, tree]\nnc: 2", "'nc' is 2, but 'names' has 3"),
        ("train: images/other\nnames: [car, road, tree]", "train: 'images/other': no such folder"),
        ("train: /images\nnames: [car, road, tree]", "train: '/images' is no path inside"),
        ("train: a/../../b\nnames: [car, road, tree]", "is no path inside"),
        ("val: images/val\nnames: [car, road, tree]", "no images under 'train'"),
        ("names: [car", "no valid YAML"),
        ("names: [car, road]\nkpt_shape: [17, 3]", "'kpt_shape' is of key points"),
    ],
)
def test_a_damaged_yaml(tmp_path, capsys, text, words):
    sets.yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(text)
    fails(tmp_path, capsys, words, "data.yaml")


def shape(**values):
    return lambda record: record["shapes"][1].update(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (shape(points=[[1, 2], [3, 4]]), "shapes[1]: a polygon of 2 point(s)"),
        (shape(label=""), "shapes[1]: 'label' is empty"),
        (shape(label=None), "shapes[1]: 'label' is missing"),
        (shape(shape_type="line"), "shapes[1]: a 'line', which has no area"),
        (shape(shape_type="rectangle"), "shapes[1]: a rectangle of 3 points; it must have 2"),
        (shape(shape_type="mask"), "shapes[1]: 'mask' is missing"),
        (shape(shape_type="mask", mask="?"), "shapes[1]: a damaged mask"),
        (shape(shape_type="mask", mask="AAAA"), "shapes[1]: not an image"),
        (lambda r: r.update(imagePath="..\\\\..\\\\x.png"), "is no path inside"),
        (lambda r: r.update(imageHeight=-1), "an image of 56 x -1 px"),
        (lambda r: r.update(shapes=None), "'shapes' is missing"),
        (lambda r: r["shapes"].insert(0, 3), "shapes[0]: 'label' is missing"),
    ],
)
def test_damaged_labelme(tmp_path, capsys, change, words):
    sets.labelme(tmp_path)
    changed(tmp_path / LABELME, change)
    fails(tmp_path, capsys, words, LABELME)


def test_labelme_beside_its_images(tmp_path):
    """As LabelMe on Windows writes it: a path that leaves the folder, but not the data set."""
    sets.labelme(tmp_path)
    for path in sorted((tmp_path / "train").glob("*.json")):
        changed(path, lambda record: record.update(imagePath="..\\train\\" + record["imagePath"]))
        (tmp_path / "train" / "json").mkdir(exist_ok=True)
    assert len(load_dataset(str(tmp_path)).splits["train"]) == 4


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("labelmap.txt", "car,1,2,3\n", "line 1: 'car,1,2,3' is no class"),
        ("labelmap.txt", "a:0,0,0::\nb:0,0,300::\n", "'b' has a color that is not of 0..255"),
        ("labelmap.txt", "a:0,0,0::\na:0,0,1::\n", "every class needs a name of its own"),
    ],
)
def test_a_damaged_table(tmp_path, capsys, file, text, words):
    sets.voc(tmp_path)
    (tmp_path / file).write_text(text)
    fails(tmp_path, capsys, words, file)


def test_a_table_that_is_no_text(tmp_path, capsys):
    sets.voc(tmp_path)
    (tmp_path / "labelmap.txt").write_bytes(b"a:0,0,0::\n\xff:0,0,1::\n")
    fails(tmp_path, capsys, "no UTF-8 text (byte 10)", "labelmap.txt")


def test_a_list_of_voc_that_names_nothing(tmp_path):
    sets.voc(tmp_path)
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").write_text("../../x\nval_é4\n")
    dataset = read_dataset(str(tmp_path), None, DataOptions())
    assert len(dataset.splits["val"]) == 1
    errors = [str(f) for f in dataset.findings if f.severity == "error"]
    assert len(errors) == 1 and "val.txt names it" in errors[0]


def test_many_annotations(tmp_path):
    sets.coco(tmp_path)
    changed(tmp_path / COCO, lambda r: r.update(annotations=r["annotations"] * 1000))
    split = load_dataset(str(tmp_path)).splits["train"]
    np.testing.assert_array_equal(split.read_mask(3), sets.drawn(3))


def test_a_split_without_objects_is_background(tmp_path):
    sets.coco(tmp_path)
    changed(tmp_path / COCO.replace("train", "val"), lambda r: r.update(annotations=[]))
    split = load_dataset(str(tmp_path)).splits["val"]
    assert not split.read_mask(0).any() and not split.read_mask(1).any()


def test_objects_without_a_shape_are_said(tmp_path):
    sets.coco(tmp_path)
    changed(tmp_path / COCO, annotation(segmentation=[]))
    found = {f.path: f.message for f in load_dataset(str(tmp_path)).findings}
    assert found[str(tmp_path / COCO)].startswith("1 annotations have no 'segmentation'")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("file,label\n../../x.png,car", "'../../x.png' is no path inside"),
        ("file,label\nimages/train_é0.png,", "'images/train_é0.png': its label is empty"),
        ("file,label,split\nimages/train_é0.png,car,tran", "its split 'tran' is not known"),
        (
            "file,label\nimages/train_é0.png,car\nimages/train_é0.png,dog",
            "'images/train_é0.png': has two labels, 'dog' and 'car'",
        ),
        ("file,label\nimages/\x1b[2J.png,car", "names no file to train on"),
        (f"file,label\nimages/{'x' * 256},car", "'... is too long for the name of a file"),
        ("file,label\nimages/no.png,car", "names no file to train on"),
        ("file,label\n", "expected a header line with file,label and lines below it"),
    ],
)
def test_a_damaged_csv(tmp_path, capsys, rows, words):
    sets.csv_with_splits(tmp_path)
    (tmp_path / "labels.csv").write_text(rows)
    fails(tmp_path, capsys, words, "labels.csv", "classify")


def test_labels_that_are_no_classes(tmp_path, capsys):
    sets.csv_with_splits(tmp_path)
    (tmp_path / "classes.csv").write_text("name\ncar\nroad\n")
    fails(tmp_path, capsys, "'tree' is not one of the listed classes", "labels.csv", "classify")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"text": ["x"], "label": [0]}, "no column 'image'; there are 'text', 'label'"),
        ({"image": ["x"], "label": [0]}, "cannot be read ("),
        ({"image": [{"path": "x"}], "label": [0]}, "cannot be read ("),
        ({"image": [{"bytes": None, "path": "x"}], "label": [0]}, "1 images without bytes"),
        ({"image": [{"bytes": b"x"}], "label": [-1]}, "row 0: the label -1 is no class"),
        ({"image": [{"bytes": b"x"}], "label": [None]}, "row 0: the label None is no class"),
        ({"image": [{"bytes": b"x"}], "label": [{"bytes": b"x"}]}, "is no class"),
    ],
)
def test_a_parquet_file_that_does_not_fit(tmp_path, capsys, columns, words):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "train.parquet")
    fails(tmp_path, capsys, words, "train.parquet", "classify")


def test_a_damaged_parquet_file(tmp_path, capsys):
    sets.parquet(tmp_path)
    path = next((tmp_path / "data").glob("train*"))
    for data in (b"", b"x" * 100, path.read_bytes()[:-9]):
        path.write_bytes(data)
        fails(tmp_path, capsys, "cannot be read (", path.relative_to(tmp_path), "classify")


@pytest.mark.parametrize("name", ["a\x1b[2J\nb", "a\u202eb"])
def test_names_leave_the_terminal_as_it_is(tmp_path, capsys, name):
    sets.coco(tmp_path)
    changed(tmp_path / COCO, picture(file_name=f"{name}.png"))
    assert main(["data", "check", str(tmp_path)]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "no such file" in line]
    assert line.isprintable() and ascii(name)[1:-1] in line
    with pytest.raises(InputError) as caught:
        load_dataset(str(tmp_path))
    assert str(caught.value).isprintable()


def test_labels_of_too_many_digits_are_names(tmp_path):
    sets.csv_with_splits(tmp_path)
    path, number = tmp_path / "labels.csv", "1" * 5000
    path.write_text(path.read_text(encoding="utf-8").replace("car", number), encoding="utf-8")
    assert number in read_dataset(str(tmp_path), None, DataOptions()).classes
