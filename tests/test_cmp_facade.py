"""The CMP Facade Database from small archives drawn here."""

import io
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from tfproj.core import image
from tfproj.data import DataOptions, load_dataset
from tfproj.data.check import check, quick_check
from tfproj.data.sources.cmp_facade import CLASS_OF_VALUE, HOMEPAGE, cmp_facade
from tfproj.data.sources.facade_classes import FACADE_CLASSES, FACADE_COLORS
from tfproj.data.sources.facades import facades
from tfproj.errors import InputError

BASE, EXTENDED = "CMP_facade_DB_base.zip", "CMP_facade_DB_extended.zip"
KEPT = {2: "facade", 3: "window", 7: "balcony", 11: "pillar"}


def annotation(seed=0, height=32, width=40, values=range(13)):
    """uint8 (height, width) that holds each of ``values``."""
    rng = np.random.default_rng(seed)
    return rng.permutation(np.resize(np.array(values, np.uint8), height * width)).reshape(
        height, width
    )


def jpeg(height=32, width=40):
    rows = np.linspace(0, 255, height, dtype=np.uint8)[:, None, None]
    return encoded(Image.fromarray(np.broadcast_to(rows, (height, width, 3)).copy()), "JPEG")


def palette_png(values):
    picture = Image.fromarray(values).convert("P")
    picture.putpalette([(37 * v) % 256 for v in range(768)])
    return encoded(picture, "PNG")


def encoded(picture, kind):
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def facade(stem, seed=0):
    return {f"{stem}.jpg": jpeg(), f"{stem}.png": palette_png(annotation(seed)), f"{stem}.xml": b""}


def write(path, members, prefix=""):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(prefix + name, data)
    return path


@pytest.fixture
def folder(tmp_path):
    """Both archives; the members of the second lie in no folder."""
    base = {**facade("cmp_b0001", 1), **facade("cmp_b0002", 2), "../readme.txt": b""}
    write(tmp_path / BASE, base, "base/")
    write(tmp_path / EXTENDED, facade("cmp_x0001", 3))
    return tmp_path


def expected_classes(values):
    """The mapping written out a second time, pixel by pixel."""
    names = [[KEPT.get(int(value), "others") for value in row] for row in values]
    return [[FACADE_CLASSES.index(name) for name in row] for row in names]


def test_both_archives_become_one_training_split(folder, capfd):
    dataset = facades(DataOptions(data_dir=str(folder)))
    assert capfd.readouterr().out == ""
    assert (dataset.name, dataset.task, dataset.channels) == ("facades", "segment", 3)
    assert (dataset.classes, dataset.colors) == (FACADE_CLASSES, FACADE_COLORS)
    assert (dataset.size, dataset.origin) == ((256, 256), str(folder))
    assert list(dataset.splits) == ["train"]
    names = ["cmp_b0001.jpg", "cmp_b0002.jpg", "cmp_x0001.jpg"]
    assert sorted(dataset.splits["train"].names) == names


def test_every_pixel_is_mapped(folder):
    train = cmp_facade(folder).splits["train"]
    seeds = {"cmp_b0001.jpg": 1, "cmp_b0002.jpg": 2, "cmp_x0001.jpg": 3}
    for i, name in enumerate(train.names):
        mask = train.read_mask(i)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, expected_classes(annotation(seeds[name])))
        assert train.read_image(i) == jpeg()
        assert image.load(train.read_image(i), None, 3).shape == (32, 40, 3)


def test_all_annotation_values_have_a_class():
    assert sorted(CLASS_OF_VALUE) == list(range(13))
    assert {v: c for v, c in CLASS_OF_VALUE.items() if c != "others"} == KEPT


def test_one_archive_is_enough_and_another_is_noticed_later(folder):
    extended = (folder / EXTENDED).read_bytes()
    (folder / EXTENDED).unlink()
    assert len(cmp_facade(folder).splits["train"]) == 2
    (folder / EXTENDED).write_bytes(extended)
    assert len(cmp_facade(folder).splits["train"]) == 3


def test_missing_archives_are_named(tmp_path):
    text = message(tmp_path)
    for part in (BASE, EXTENDED, str(tmp_path), "CMP Facade Database", HOMEPAGE):
        assert part in text


def message(folder):
    """The error of a load that must fail, which has to be one line."""
    with pytest.raises(InputError) as caught:
        load_dataset("facades", "segment", DataOptions(data_dir=str(folder)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.98])
def test_truncated_archives(folder, part):
    data = (folder / BASE).read_bytes()
    (folder / BASE).write_bytes(data[: int(len(data) * part)])
    assert message(folder).startswith(f"{folder / BASE}: damaged archive (")


def test_an_archive_with_a_damaged_member(folder):
    data = bytearray((folder / BASE).read_bytes())
    start = data.index(jpeg())
    data[start + 100 : start + 120] = bytes(20)
    (folder / BASE).write_bytes(data)
    assert "damaged archive (Bad CRC-32" in message(folder)


MASK = palette_png(annotation())


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"readme.txt": b""}, "holds no images"),
        ({"cmp_b1.jpg": jpeg()}, "base/cmp_b1.jpg has no cmp_b1.png beside it"),
        ({**facade("cmp_b2"), "cmp_b1.png": MASK}, "base/cmp_b1.png has no cmp_b1.jpg beside it"),
    ],
)
def test_archives_that_do_not_hold_what_they_should(tmp_path, members, reason):
    write(tmp_path / BASE, members, "base/")
    text = message(tmp_path)
    assert text.startswith(str(tmp_path / BASE))
    assert reason in text


@pytest.mark.parametrize(
    ("picture", "mask", "reason"),
    [
        (jpeg(32, 48), MASK, "the image is 32 x 48 px (height x width) but its mask 32 x 40"),
        (b"JFIF", MASK, "not an image"),
        (jpeg()[:400], MASK, "damaged image"),
        (jpeg(), MASK[:200], "damaged image"),
        (jpeg(), palette_png(annotation(values=range(14))), "value 13; expected 0..12"),
        (
            jpeg(),
            encoded(Image.new("RGB", (40, 32), "red"), "PNG"),
            "RGB pixels; expected one class value per pixel",
        ),
    ],
)
def test_unfit_members_are_found_before_a_training(folder, picture, mask, reason):
    write(folder / EXTENDED, {"cmp_x1.jpg": picture, "cmp_x1.png": mask})
    options = DataOptions(data_dir=str(folder))
    errors = [finding for finding in check("facades", options).findings if finding.code in
              ("unreadable", "mask")]  # fmt: skip
    assert [finding.path for finding in errors] == ["example cmp_x1.jpg"]
    assert reason in errors[0].message
    with pytest.raises(InputError, match="^example cmp_x1.jpg: .* lists all problems"):
        quick_check(load_dataset("facades", "segment", options))


def test_nothing_is_written_and_no_tensorflow_is_loaded(folder):
    before = sorted(folder.rglob("*"))
    code = (
        "import sys, pathlib; from tfproj.data.sources.cmp_facade import cmp_facade\n"
        "cmp_facade(pathlib.Path(sys.argv[1])).splits['train'].read_mask(0)\n"
        "print({'tensorflow', 'tensorflow_datasets'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", code, str(folder)]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "set()\n"
    assert sorted(folder.rglob("*")) == before
