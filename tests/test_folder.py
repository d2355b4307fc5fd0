import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import draw, write_classes
from PIL import Image

from tfproj.core import image
from tfproj.data import DataOptions, load_dataset
from tfproj.data.sources.facade_classes import FACADE_CLASSES
from tfproj.data.sources.tables import class_folder as folder_of_class
from tfproj.errors import InputError


def sizes(data):
    return {name: len(split) for name, split in data.splits.items()}


def fails(root, words, task=None):
    with pytest.raises(InputError, match=words) as caught:
        load_dataset(str(root), task)
    assert "\n" not in str(caught.value)


def test_class_folders_without_splits(class_folder):
    root = class_folder({"": {"dog": 5, "cat": 6}})
    data = load_dataset(str(root))
    assert (data.task, data.classes, data.channels) == ("classify", ("cat", "dog"), 3)
    assert data.size == (12, 16) and data.name == data.origin == str(root)
    assert sizes(data) == {"train": 9, "val": 2}
    for split in data.splits.values():
        for i, name in enumerate(split.names):
            assert split.label_of(i) == str(root / name)
            assert name.split("/")[0] == data.classes[split.labels[i]]
            assert image.load(split.read_image(i), None, 3).shape == (12, 16, 3)


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_class_folders_with_splits(class_folder, val):
    root = class_folder({"train": {"a": 3, "b": 2}, val: {"a": 1, "b": 2}, "test": {"b": 4}})
    assert sizes(load_dataset(str(root))) == {"train": 5, "val": 3, "test": 4}


def test_classes_csv_gives_order_and_colours(class_folder):
    root = class_folder({"": {"dog": 3, "cat": 3}})
    write_classes(root, ["dog", "cat"], color=["#FF0000", "#00FF00"])
    data = load_dataset(str(root))
    assert data.classes == ("dog", "cat") and data.colors == ("#FF0000", "#00FF00")
    assert data.splits["train"].names[0].startswith("dog")


def test_class_names_that_no_folder_can_have(class_folder):
    root = class_folder({"": {"T-shirt_top": 3, "_hidden": 3}})
    write_classes(root, ["T-shirt/top", ".hidden"])
    assert load_dataset(str(root)).classes == ("T-shirt/top", ".hidden")
    assert folder_of_class("../x") == "_._x"


def test_folders_with_names_that_not_every_file_system_can_hold(class_folder):
    root = class_folder({"": {'it\'s "q"': 3, "a: b": 3}})
    data = load_dataset(str(root))
    assert data.classes == ("a: b", 'it\'s "q"') and sizes(data)["train"] > 2
    (root / "classes.csv").write_text('name\n"it\'s ""q"""\na: b\n')
    assert load_dataset(str(root)).classes == ('it\'s "q"', "a: b")


def test_grey_images_and_large_ones(class_folder):
    root = class_folder(size=(600, 300))
    for path in root.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    data = load_dataset(str(root))
    assert (data.channels, data.size) == (1, (256, 128))


def test_classification_mistakes(tmp_path, class_folder):
    root = class_folder({"": {"cat": 2, "dog": 2}})
    (root / "empty").mkdir()
    fails(root, "empty: no images for class 'empty'")
    write_classes(root, ["cat", "empty"])
    fails(root, "dog: not one of the classes cat, empty")
    fails(class_folder({"": {"only": 2}}, name="one"), r"1 class folder\(s\); .* at least two")
    fails(tmp_path / "no", "no: no such directory")
    fails(class_folder({"val": {"a": 1}, "test": {"a": 1}}, name="c"), "no folder 'train'")
    both = class_folder({"train": {"a": 1, "b": 1}, "val": {"a": 1}, "valid": {"a": 1}}, name="d")
    fails(both, "valid: val is there too; keep one")
    fails(root, "expected folders images/ and masks/", task="segment")


def test_segmentation_with_and_without_splits(mask_folder):
    data = load_dataset(str(mask_folder()))
    assert (data.task, data.classes, data.channels) == ("segment", ("ground", "road"), 3)
    assert sizes(data) == {"train": 5, "val": 1} and data.size == (16, 24)
    split = data.splits["train"]
    assert split.names[0].endswith(".jpg")
    bright = image.load(split.read_image(0), None, 1)[..., 0] > 100
    assert (bright == split.read_mask(0)).mean() > 0.98
    root = mask_folder({"train": 4, "validation": 2, "test": 1}, name="split")
    assert sizes(load_dataset(str(root))) == {"train": 4, "val": 2, "test": 1}


def test_values_and_colours_of_masks(mask_folder):
    root = mask_folder()
    for path in (root / "masks").iterdir():
        Image.fromarray(np.asarray(Image.open(path)) * np.uint8(255)).save(path)
    write_classes(root, ["ground", "road"], value=[0, 255])
    assert set(np.unique(load_dataset(str(root)).splits["train"].read_mask(0))) == {0, 1}


def test_segmentation_mistakes(mask_folder):
    root = mask_folder()
    (root / "masks" / "3.png").unlink()
    fails(root, r"images/3.jpg: image without mask of the same name \(tfproj data check")
    (root / "images" / "3.jpg").unlink()
    (root / "images" / "1.jpg").unlink()
    fails(root, "masks/1.png: mask without image")
    (root / "masks" / "1.png").unlink()
    shutil.copy(root / "images" / "0.jpg", root / "images" / "0.jpeg")
    fails(root, "0.jpg: has the same name as 0.jpeg; rename one")
    (root / "images" / "0.jpeg").unlink()
    (root / "classes.csv").unlink()
    fails(root, "classes.csv: missing; list the classes")
    shutil.rmtree(root / "masks")
    write_classes(root, ["ground", "road"])
    fails(root, "masks: no such directory")


def test_a_test_split_without_labels_is_left_out(class_folder):
    root = class_folder({"train": {"cat": 4, "dog": 4}})
    (root / "test").mkdir()
    shutil.copy(next((root / "train" / "cat").iterdir()), root / "test")
    data = load_dataset(str(root))
    assert sizes(data) == {"train": 6, "val": 2}
    assert data.notes == ("no examples in 'test'; it is left out",)


def test_photographs_without_masks_in_test_are_left_out(mask_folder):
    root = mask_folder({"train": 4, "test": 2})
    shutil.rmtree(root / "test" / "masks")
    data = load_dataset(str(root))
    assert sizes(data) == {"train": 3, "val": 1}
    assert data.notes == ("no examples in 'test'; it is left out",)


def test_files_of_one_name_in_two_splits_share_no_group(mask_folder):
    """Unless groups.csv says so."""
    root = mask_folder({"train": 4, "val": 4})
    for text, shared in (("0.jpg,A", {"A"}), ("train/0.jpg,A", set())):
        (root / "groups.csv").write_text(f"file,group\n{text}\n")
        data = load_dataset(str(root))
        groups = [set(data.splits[name].groups) for name in ("train", "val")]
        assert "A" in groups[0] and groups[0] & groups[1] == shared


def test_a_class_may_be_called_as_a_split_is(class_folder):
    root = class_folder({"train": {"train": 4, "car": 4}, "val": {"train": 1, "car": 1}})
    (root / "groups.csv").write_text("file,group\ntrain/0.png,A\n")  # of the class 'train'
    data = load_dataset(str(root))
    grouped = [n for s in data.splits.values() for n, g in zip(s.names, s.groups, strict=True)
               if g == "A"]  # fmt: skip
    assert grouped == ["train/0.png", "train/0.png"]


def test_a_folder_by_another_name_of_its_split_is_one_of_groups_csv(mask_folder):
    root = mask_folder({"train": 4, "validation": 4})
    (root / "groups.csv").write_text("file,group\ntrain/0.jpg,A\nvalidation/1.jpg,A\n")
    data = load_dataset(str(root))
    for name, file in (("train", "0.jpg"), ("val", "1.jpg")):
        split = data.splits[name]
        assert [n for n, g in zip(split.names, split.groups, strict=True) if g == "A"] == [file]


def test_the_contents_change_with_masks_and_their_values(mask_folder):
    root = mask_folder({"train": 4})

    def contents():
        return load_dataset(str(root)).contents()

    first = contents()
    assert contents() == first
    text = (root / "classes.csv").read_text()
    names = [line.split(",")[0] for line in text.splitlines()[1:]]
    values = [f"{name},{len(names) - 1 - i}" for i, name in enumerate(names)]
    (root / "classes.csv").write_text("name,value\n" + "\n".join(values))
    assert contents() != first
    (root / "classes.csv").write_text(text)
    assert contents() == first
    with next((root / "train" / "masks").iterdir()).open("ab") as file:
        file.write(b"more")
    assert contents() != first


def test_a_split_without_masks_and_an_empty_one(mask_folder):
    root = mask_folder({"train": 2, "val": 1})
    shutil.rmtree(root / "val" / "masks")
    fails(root, "val/masks: no such directory")
    fails(mask_folder({"train": 0}, name="empty"), "train/images: no image with a mask")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ground\nroad\n", "expected a header line with name"),
        ("name;value\nground;0\n", "expected a header line with name"),
        ("name\n", "expected a header line with name and lines below it"),
        ("", "expected a header line"),
        ("name\nground\nground\n", "a name of its own"),
        ("name,color\nground,red\nroad,#FFFFFF\n", "color 'red' is not #RRGGBB"),
        ("name,color\nground,#ff0000\nroad,#FF0000\n", "colors must differ"),
        ("name,value\nground,0\nroad,256\n", "different numbers 0..255, not 0, 256"),
        ("name,value\nground,1\nroad,01\n", "different numbers"),
        ("name,value\nground,²\nroad,1\n", "different numbers"),
        ("name\nground\n", "lists one class"),
        ("name\n\xff\n", "cannot be read"),
    ],
)
def test_bad_classes_csv(mask_folder, text, words):
    root = mask_folder()
    (root / "classes.csv").write_text(text, encoding="latin-1" if "\xff" in text else "utf-8")
    fails(root, f"classes.csv: .*{words}")


def test_groups_csv(class_folder):
    root = class_folder({"": {"cat": 8, "dog": 8}})
    lines = ["file,group", *(f"cat/{i}.png,g{i // 4}" for i in range(8)), "dog/1.png,g0"]
    (root / "groups.csv").write_text("\n".join(lines))
    data = load_dataset(str(root), None, DataOptions(val_fraction=0.3))
    groups = {name: set(split.groups) for name, split in data.splits.items()}
    assert not groups["train"] & groups["val"]
    assert groups["train"] | groups["val"] == {
        "g0",
        "g1",
        *(f"train/dog/{i}.png" for i in range(8) if i != 1),
    }
    (root / "groups.csv").write_text("file,grp\ncat/0.png,a\n")
    fails(root, "groups.csv: expected a header line with file,group")
    (root / "groups.csv").write_text("file,group\nbird.png,a\n")
    fails(root, "groups.csv: lists none of the images, which have names like 'cat/0.png'")


def test_group_modulus_on_a_folder(mask_folder):
    data = load_dataset(str(mask_folder({"": 12})), None, DataOptions(group_modulus=4))
    numbers = {name: {int(n[:-4]) % 4 for n in split.names} for name, split in data.splits.items()}
    assert not numbers["train"] & numbers["val"] and len(data.splits["val"]) == 3


def test_unreadable_images_do_not_spoil_the_natural_size(class_folder):
    root = class_folder({"": {"cat": 3, "dog": 3}})
    (root / "cat" / "0.png").write_text("no")
    assert load_dataset(str(root)).size == (12, 16)
    for path in root.rglob("*.png"):
        path.write_text("no")
    data = load_dataset(str(root))  # for the check to name them
    assert (data.size, data.channels) == ((256, 256), 3)


def mini(root, numbers, folder="train"):
    (root / folder).mkdir(parents=True)
    for number in numbers:
        stem = root / folder / f"eecs442_{number:04d}"
        Image.fromarray(draw(number)).save(f"{stem}.jpg")
        Image.fromarray(np.full((12, 16), number % 5, np.uint8)).save(f"{stem}.png")
    return root


def test_a_mini_facade_folder(tmp_path):
    root = mini(tmp_path / "mini_facade", [0, 1, 2, 302, 303, 304, 604, 605, 606])
    mini(root, [0, 1], "test_dev")
    for place in (tmp_path, root):
        data = load_dataset("facades", "segment", DataOptions(data_dir=str(place)))
        assert sizes(data) == {"train": 6, "val": 3, "test": 2}
        assert data.classes == FACADE_CLASSES
        assert len({int(n[8:12]) % 302 for n in data.splits["val"].names}) == 1
    (root / "train" / "eecs442_0303.png").unlink()
    with pytest.raises(InputError, match="eecs442_0303.jpg: image without mask"):
        load_dataset("facades", None, DataOptions(data_dir=str(root)))


def test_no_facades(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"no facades in .*synthetic_facades needs no files"):
        load_dataset("facades", None, DataOptions(data_dir=str(tmp_path)))
    with pytest.raises(InputError, match="x: no such directory"):
        load_dataset("facades", None, DataOptions(data_dir=str(tmp_path / "x")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TFPROJ_DATA", raising=False)
    with pytest.raises(InputError, match=r"no facades in \$TFPROJ_DATA or ./data"):
        load_dataset("facades")


def test_names_and_tasks(class_folder):
    with pytest.raises(
        InputError, match="unknown data set .*'fashion'; did you mean 'fashion_mnist'"
    ):
        load_dataset("fashion")
    with pytest.raises(InputError, match="'facades' is for segment, not classify"):
        load_dataset("facades", "classify")
    with pytest.raises(InputError, match="expected folders images/"):
        load_dataset(str(class_folder()), "segment")


@pytest.mark.real_data
def test_the_real_facades(real_facades):
    data = load_dataset("facades", "segment", DataOptions(data_dir=str(real_facades)))
    train, val = data.splits["train"], data.splits["val"]
    assert len(train) + len(val) == 906 and len(val) == 3 * 31
    assert not set(train.groups) & set(val.groups)
    counts = np.zeros(5, np.int64)
    for split in (train, val):
        for i in range(len(split)):
            counts += np.bincount(split.read_mask(i).ravel(), minlength=5)
    shares = 100 * counts / counts.sum()
    np.testing.assert_allclose(shares, [35.5, 40.6, 2.4, 16.5, 5.1], atol=0.1)


def warnings(root, **options):
    data = load_dataset(str(root), None, DataOptions(**options))
    return [f"{Path(f.path).name}: {f.message}" for f in data.findings if f.severity == "warning"]


@pytest.mark.parametrize("column", ["value", "Value", "id", "ID", "index", "label"])
def test_columns_that_mean_the_mask_values(mask_folder, column):
    root = mask_folder()
    (root / "classes.csv").write_text(f"Name,{column}\nroad,1\nground,0\n")
    data = load_dataset(str(root))
    assert (data.classes, data.mask_values) == (("road", "ground"), (1, 0)) and not data.findings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,id,index\nground,0,1\nroad,1,0\n", "'id' or 'index' may hold the mask values"),
        ("name,value,Value\nground,0,1\nroad,1,0\n", "two columns have one name"),
        ("name,value\nground,0\nroad,\n", "different numbers 0..255, not 0, nothing"),
        ("name\nground,0\nroad,1\n", "'ground,0' has more fields than the header"),
    ],
)
def test_two_statements_in_classes_csv(mask_folder, text, words):
    root = mask_folder()
    (root / "classes.csv").write_text(text)
    fails(root, f"classes.csv: .*{words}")


def test_what_is_not_read_is_said(mask_folder, class_folder):
    root = mask_folder()
    (root / "classes.csv").write_text("name,id,weight,Color\nground,a,1,#000000\nroad,b,2,\n")
    (root / "labels.txt").touch()
    (root / "depth").mkdir()
    found = warnings(root)
    assert [line.split(";")[0] for line in found[:3]] == [
        "classes.csv: ignored: the column 'id'",
        "classes.csv: ignored: the column 'weight'",
        "classes.csv: the colors are not used, since 'road' has none",
    ]
    assert [line.split(":")[0] for line in found[3:]] == ["depth", "labels.txt"]
    root = class_folder({"train": {"cat": 3, "dog": 3}})
    (root / "classes.csv").write_text("name,id\ncat,1\ndog,0\n")
    (root / "train" / "classes.csv").touch()
    assert any("ignored: the mask values" in line for line in warnings(root))
    assert any("outside the class folders" in line for line in warnings(root))


def test_lines_of_groups_csv_that_fit_nothing_and_images_on_no_line(class_folder):
    root = class_folder()
    (root / "groups.csv").write_text("File,group,who\ncat/0.png,a,x\ncat/9.png,a,\nbird.png,b,\n")
    assert warnings(root) == [
        "groups.csv: ignored: the column 'who'; read are file, group",
        "groups.csv: 2 of 3 lines fit no image, such as 'bird.png'",
        "groups.csv: lists 11 of 12 images not, such as 'train/cat/1.png'; "
        "each is a group of its own",
    ]
    (root / "groups.csv").write_text("file,group\ncat/0.png,a\ncat/0.png,b\n")
    fails(root, "groups.csv: 'cat/0.png' is in two groups")
    with pytest.raises(InputError, match="groups.csv and --group-modulus both give groups"):
        load_dataset(str(root), None, DataOptions(group_modulus=2))


def test_a_place_for_data_that_lie_elsewhere(class_folder, tmp_path):
    with pytest.raises(InputError, match="--data-dir is for named data sets"):
        load_dataset(str(class_folder()), None, DataOptions(data_dir=str(tmp_path)))
    with pytest.raises(InputError, match="'digits' needs no files"):
        load_dataset("digits", None, DataOptions(data_dir=str(tmp_path)))


def test_names_in_two_spellings_of_unicode(mask_folder, class_folder):
    """As copied from macOS: e and its accent are two characters."""
    one, two = "caf\u00e9", "cafe\u0301"
    root = mask_folder()
    (root / "images" / "0.jpg").rename(root / "images" / f"{one}.jpg")
    (root / "masks" / "0.png").rename(root / "masks" / f"{two}.png")
    lines = ["file,group", *(f"{i}.jpg,a" for i in range(1, 6)), f"{two}.jpg,b"]
    (root / "groups.csv").write_text("\n".join(lines), "utf-8")
    assert warnings(root) == []
    root = class_folder({"train": {one: 3, "dog": 3}, "val": {two: 2, "dog": 2}})
    assert load_dataset(str(root)).classes == (one, "dog")
    (root / "classes.csv").write_text(f"name\ndog\n{two}\n", "utf-8")
    assert load_dataset(str(root)).classes == ("dog", one)


def test_the_home_directory(class_folder, monkeypatch, tmp_path):
    class_folder()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert load_dataset("~/animals").origin == str(tmp_path / "animals")
    assert DataOptions(data_dir="~/x").data_dir == str(tmp_path / "x")


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".pbm", ".PNM"])
def test_suffixes_of_the_formats_that_are_read(class_folder, suffix):
    root = class_folder()
    kind = "JPEG" if suffix[1] == "j" else "PPM"
    Image.new("1" if suffix == ".pbm" else "L", (16, 12)).save(root / "cat" / f"x{suffix}", kind)
    assert sum(sizes(load_dataset(str(root))).values()) == 13
    assert warnings(root) == []


def test_paths_of_windows_are_those_of_groups_csv(class_folder):
    root = class_folder({"": {"cat": 2, "dog": 2}})
    (root / "groups.csv").write_text("file,group\ncat/0.png,g\n./cat/1.png,g\ndog/0.png,h\n")
    parts = load_dataset(str(root)).splits.values()
    groups = {n: g for part in parts for n, g in zip(part.names, part.groups, strict=True)}
    assert groups["cat/0.png"] == groups["cat/1.png"] == "g"
    (root / "groups.csv").write_text("file,group\ncat\\0.png,g\n.\\cat\\1.png,g\ndog/0.png,h\n")
    parts = load_dataset(str(root)).splits.values()
    assert groups == {n: g for p in parts for n, g in zip(p.names, p.groups, strict=True)}
