import dataclasses
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import write_classes
from PIL import Image

from tfproj import backend
from tfproj.cli.data_report import format_report
from tfproj.cli.main import main
from tfproj.cli.options import SHOWN_WARNINGS
from tfproj.data import DataOptions, load_dataset
from tfproj.data.check import check, quick_check
from tfproj.data.dataset import Dataset, array_split
from tfproj.errors import InputError


def found(report, severity=None):
    """Findings as ``{path: message}``, paths relative to the data set."""
    return {
        p.path.removeprefix(f"{report.name}/"): p.message
        for p in report.findings
        if severity in (None, p.severity)
    }


def quick_fails(name, words, **options):
    with pytest.raises(InputError, match=words) as caught:
        quick_check(load_dataset(str(name), None, DataOptions(**options)))
    assert "\n" not in str(caught.value)
    assert "tfproj data check" in str(caught.value)


def test_a_good_classification_folder(class_folder):
    root = class_folder({"train": {"cat": 5, "dog": 6}, "val": {"cat": 2, "dog": 1}})
    quick_check(load_dataset(str(root)))
    report = check(str(root))
    assert report.ok and report.findings == ()
    assert (report.task, report.classes) == ("classify", ("cat", "dog"))
    train = report.splits["train"]
    assert (train.examples, train.modes) == (11, {"RGB": 11})
    assert (train.height, train.width) == ((12, 12, 12), (16, 16, 16))
    assert {name: c.images for name, c in train.classes.items()} == {"cat": 5, "dog": 6}


def test_a_good_segmentation_folder(mask_folder):
    root = mask_folder({"train": 4, "val": 2})
    quick_check(load_dataset(str(root)))
    report = check(str(root), task="segment")
    assert report.ok and report.findings == ()
    split = load_dataset(str(root)).splits["train"]
    share = np.mean([split.read_mask(i) for i in range(4)])
    road = report.splits["train"].classes["road"]
    assert road.images == 4 and road.pixels == pytest.approx(share)
    assert sum(c.pixels for c in report.splits["train"].classes.values()) == pytest.approx(1)


def test_every_fault_of_a_classification_folder_is_found(class_folder):
    root = class_folder({"train": {"cat": 6, "dog": 6, "owl": 0}, "val": {"cat": 2, "dog": 1}})
    train = root / "train"
    (train / "cat" / "0.png").write_bytes(b"")
    (train / "cat" / "1.png").write_text("text")
    (train / "cat" / "2.png").write_bytes((train / "cat" / "3.png").read_bytes()[:300])
    (train / "cat" / "notes.txt").touch()
    (train / "cat" / "deeper").mkdir()
    (train / "beside.png").touch()
    (root / "Test").mkdir()
    shutil.copy(train / "dog" / "1.png", train / "dog" / "copy.png")
    shutil.copy(train / "dog" / "2.png", train / "cat" / "dog.png")
    with Image.open(train / "dog" / "3.png") as picture:  # other bytes, the same pixels
        picture.save(root / "val" / "dog" / "again.bmp")
    report = check(str(root))
    assert not report.ok
    errors, warnings = found(report, "error"), found(report, "warning")
    assert errors.keys() == {
        "train/owl",
        *(f"train/cat/{i}.png" for i in range(3)),
        "train/dog/2.png",
        "val/dog/again.bmp",
    }
    assert "no images for class 'owl'" in errors["train/owl"]
    assert "empty (0 bytes)" in errors["train/cat/0.png"]
    assert "not an image" in errors["train/cat/1.png"]
    assert "damaged" in errors["train/cat/2.png"]
    assert "two labels: 'dog', but 'cat'" in errors["train/dog/2.png"]
    assert "remove one" in errors["val/dog/again.bmp"]
    assert "train/dog/3.png in 'train'" in errors["val/dog/again.bmp"]
    ignored = {"train/cat/notes.txt", "train/cat/deeper", "train/beside.png", "Test"}
    assert warnings.keys() == {*ignored, "train/dog/copy.png", "val"}
    assert all("ignored" in warnings[file] for file in ignored)
    assert "no example of class 'owl'" in warnings["val"]
    assert report.splits["train"].examples == 14  # unreadable ones are counted
    assert report.splits["train"].modes == {"RGB": 11}


def test_every_fault_of_a_segmentation_folder_is_found(mask_folder):
    root = mask_folder({"": 12}, classes=("ground", "road", "sky"))
    images, masks = root / "images", root / "masks"
    (masks / "0.png").unlink()
    (images / "1.jpg").unlink()
    (images / "2.jpg").write_bytes(b"")
    (masks / "3.png").write_text("text")
    for number, change in ((4, lambda m: m * 255), (5, lambda m: m + 9), (6, lambda m: m[:, 1:])):
        mask = np.asarray(Image.open(masks / f"{number}.png"))
        Image.fromarray(np.ascontiguousarray(change(mask))).save(masks / f"{number}.png")
    shutil.copy(images / "7.jpg", images / "8.jpg")
    (masks / "Thumbs.db").touch()
    shutil.copy(images / "9.jpg", images / "9.jpeg")
    report = check(str(root), DataOptions(val_fraction=0.01))
    problems = found(report)
    expected = {
        "images/0.jpg": "image without mask",
        "masks/1.png": "mask without image",
        "images/2.jpg": "0 bytes",
        "masks/3.png": "not an image",
        "masks/4.png": "{0, 255} mask",
        "masks/5.png": "mask values 9, 10 for 3 classes; name every value in classes.csv",
        "images/6.jpg": "16 x 24 px (height x width) but its mask 16 x 23",
        "images/9.jpg": "same name as 9.jpeg; rename one",
        "masks/Thumbs.db": "ignored",
    }
    for file, words in expected.items():
        assert words in problems.pop(file)
    copies = [file for file, message in problems.items() if "the same image as" in message]
    assert copies in (["images/7.jpg"], ["images/8.jpg"])
    assert "no example of class 'sky'" in problems["train"]


def test_a_finding_names_its_file_whatever_the_file_is_called(class_folder):
    root = class_folder()
    (root / "cat" / "3.png").rename(root / "cat" / "a: b.png").write_bytes(b"")
    finding = check(str(root)).findings[0]
    assert (finding.path, finding.code) == (f"{root}/cat/a: b.png", "unreadable")
    assert finding.message == "the file is empty (0 bytes)"


def test_a_segmentation_folder_without_classes_csv_or_masks(mask_folder):
    root = mask_folder()
    (root / "classes.csv").unlink()
    (root / "images" / "2.jpg").write_bytes(b"")
    report = check(str(root))
    assert not report.ok and report.classes == ()
    assert found(report).keys() == {"classes.csv", "images/2.jpg"}
    assert "0 classes" in format_report(report)
    shutil.rmtree(root / "masks")
    problems = found(check(str(root)))
    assert "no such directory" in problems["masks"]
    assert "image without mask" in problems["images/5.jpg"]


def test_classes_csv_with_bad_values(mask_folder):
    root = mask_folder()
    write_classes(root, ["ground", "road"], value=[7, 7])
    assert "different numbers" in found(check(str(root)), "error")["classes.csv"]


def test_one_class_only(class_folder, mask_folder):
    report = check(str(class_folder({"": {"cat": 4}})))
    assert "1 class folder(s)" in found(report, "error")[report.name]
    root = mask_folder({"train": 3, "val": 1})
    for path in root.rglob("*.png"):
        Image.new("L", (24, 16)).save(path)
    report = check(str(root))
    assert found(report, "error") == {"train": "all pixels are of class 'ground'"}


def test_an_empty_directory(tmp_path):
    report = check(str(tmp_path))
    assert not report.ok
    assert "0 class folder(s)" in found(report, "error")[str(tmp_path)]
    format_report(report)


def test_too_few_to_hold_out_is_a_problem_of_the_data(class_folder):
    report = check(str(class_folder({"": {"cat": 1, "dog": 1}})))
    assert [p.message for p in report.findings if p.severity == "error"] == [
        "2 training example(s) are too few to hold out a validation split; "
        "add examples or a val split"
    ]
    assert report.splits["train"].examples == 2


def test_no_such_data_set(tmp_path, class_folder):
    for name in (tmp_path / "no", "nonsense", "tfds"):
        with pytest.raises(InputError):
            check(str(name))
    with pytest.raises(InputError, match="no such directory"):
        check("facades", DataOptions(data_dir=str(tmp_path / "no")))
    with pytest.raises(InputError, match="expected folders images/"):
        check(str(class_folder()), task="segment")


def test_groups_in_two_splits(class_folder):
    root = class_folder({s: {"cat": 3, "dog": 3} for s in ("train", "val", "test")})
    lines = [f"{animal}/{i}.png,{animal}{i}" for animal in ("cat", "dog") for i in range(3)]
    (root / "groups.csv").write_text("\n".join(["file,group", *lines]))
    report = check(str(root))
    messages = [p.message for p in report.findings if p.code == "groups"]
    assert "6 group(s), such as 'cat0', are in 'train' and in 'val'" in messages[0]
    assert [p.severity for p in report.findings] == ["error", "warning"]
    quick_fails(root, "6 group")


def test_a_groups_file_that_fits_nothing(class_folder):
    root = class_folder()
    (root / "groups.csv").write_text("file,group\nx.png,1\n")
    assert "lists none of the images" in found(check(str(root)), "error")["groups.csv"]


def test_a_modulus_for_names_without_numbers(class_folder):
    root = class_folder()
    (root / "cat" / "0.png").rename(root / "cat" / "zero.png")
    report = check(str(root), DataOptions(group_modulus=3))
    assert "needs a number in every file name" in report.findings[0].message


def arrays(classes=("a", "b", "c"), **splits):
    """A classification data set with these labels in each split."""
    parts = {}
    for name, labels in splits.items():
        rng = np.random.default_rng(len(parts))
        images = rng.integers(0, 256, (len(labels), 6, 6), np.uint8)
        parts[name] = array_split(images, np.array(labels, int))
    return Dataset("toy", "classify", classes, parts, size=(6, 6), channels=1, origin="here")


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (arrays(train=[], val=[0]), "no examples in the split 'train'"),
        (arrays(val=[0]), "no examples in the split 'train'"),
        (arrays(train=[0, 1, 2], val=[]), "no examples in the split 'val'"),
        (arrays(train=[1, 1], val=[1]), "all training examples are of the class 'b'"),
        (arrays(train=[0, 2, 0], val=[1]), "no training example of class 'b'"),
    ],
)
def test_quick_check_of_counts(dataset, words):
    with pytest.raises(InputError, match=f"^toy: {words}.*tfproj data check toy lists all"):
        quick_check(dataset)


def test_quick_check_reads_examples_of_each_split(class_folder, mask_folder):
    root = class_folder({"train": {"cat": 3, "dog": 3}, "val": {"cat": 1, "dog": 1}})
    (root / "val" / "dog" / "0.png").write_text("text")
    quick_fails(root, r"val/dog/0.png: not an image")
    root = mask_folder({"train": 3, "val": 1})
    mask = root / "train" / "masks" / "2.png"
    Image.new("L", (24, 16), 9).save(mask)
    quick_fails(root, r"masks/2.png: mask values 9 for 2 classes")
    Image.new("L", (24, 15)).save(mask)
    quick_fails(root, r"images/2.jpg: the image is 16 x 24 px")


def test_quick_check_of_many_images_is_quick_and_needs_no_tensorflow():
    code = (
        "import sys, time, numpy as np\n"
        "from tfproj.data.dataset import array_split\n"
        "from tfproj.data.check import quick_check\n"
        "from tfproj.data.dataset import Dataset\n"
        "split = array_split(np.zeros((70_000, 28, 28), np.uint8), np.arange(70_000) % 2)\n"
        "splits = {'train': split, 'val': split}\n"
        "data = Dataset('x', 'classify', ('a', 'b'), splits, (28, 28), 1, '')\n"
        "begin = time.process_time(); quick_check(data)\n"
        "assert time.process_time() - begin < 0.3\n"
        "assert 'tensorflow' not in sys.modules and 'tqdm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_class_names_that_no_file_may_carry(class_folder):
    root = class_folder({"": {"cat": 6, "do\ng": 6}})
    quick_fails(root, r"class name 'do\\ng' is no line of text")
    assert "no line of text" in str(check(str(root)).findings)


def test_rare_classes():
    labels = [0] * 300 + [1] * 2 + [2] * 40
    report = check_dataset(arrays(train=labels, val=[0, 1, 2]))
    assert report == ["class 'b' is rare: 0.67% of 'a'"]


def check_dataset(dataset):
    """Warnings of the check about a data set that is not in the registry."""
    from tfproj.data import registry

    source = registry.Source(dataset.task, "", lambda options: dataset)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.DATASETS, dataset.name, source)
        return [finding.message for finding in check(dataset.name).findings]


def test_notes_of_a_source_are_passed_on():
    dataset = arrays(train=[0, 1, 2], val=[0, 1, 2])
    assert check_dataset(dataclasses.replace(dataset, notes=("test: left out",))) == [
        "test: left out"
    ]


def test_progress_is_for_terminals_only(class_folder, capsys):
    check(str(class_folder()))
    assert capsys.readouterr() == ("", "")


def test_works_without_tqdm(class_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert check(str(class_folder())).ok


@pytest.mark.real_data
def test_the_real_facades_have_no_problems(real_facades):
    report = check("facades", DataOptions(data_dir=str(real_facades), limit=60))
    assert report.findings == ()
    assert report.splits["train"].classes["facade"].images == 60


def test_the_quick_check_gives_warnings(class_folder):
    root = class_folder({"train": {"cat": 101, "dog": 1}, "val": {"cat": 2, "dog": 2}})
    (root / "notes.txt").touch()
    found = quick_check(load_dataset(str(root)))
    assert [(f.code, f.severity) for f in found] == [("ignored", "warning"), ("balance", "warning")]
    assert "class 'dog' is rare: 0.99% of 'cat'" in str(found)


def test_train_shows_what_the_check_warns_of(class_folder, capsys, monkeypatch, tmp_path):
    root = class_folder()
    for number in range(SHOWN_WARNINGS + 3):
        (root / f"{number}.txt").touch()

    def stop():
        raise InputError("before TensorFlow is loaded")

    monkeypatch.setattr(backend, "setup", stop)
    assert main(["train", "classify", "--data", str(root), "--runs-dir", str(tmp_path / "r")]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning: " in line]
    assert len(lines) == SHOWN_WARNINGS + 1
    assert lines[0] == f"warning: {root}/0.txt: ignored: a file outside the class folders"
    assert lines[-1] == f"warning: ... and 3 more: tfproj data check {root}"
