"""The CMP Facade Database from small archives drawn here, through real TFDS."""

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfproj.core import image
from tfproj.data.dataset import DataOptions
from tfproj.data.sources import cmp_facade
from tfproj.data.sources import tfds as tfds_source
from tfproj.data.sources.facade_classes import FACADE_CLASSES, FACADE_COLORS
from tfproj.data.sources.facades import facades
from tfproj.errors import InputError

tfds = tfds_source.import_tfds()
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
    train = cmp_facade.load(folder).splits["train"]
    seeds = {"cmp_b0001.jpg": 1, "cmp_b0002.jpg": 2, "cmp_x0001.jpg": 3}
    for i, name in enumerate(train.names):
        mask = train.read_mask(i)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, expected_classes(annotation(seeds[name])))
        assert train.read_image(i) == jpeg()
        assert image.load(train.read_image(i), None, 3).shape == (32, 40, 3)


def test_all_annotation_values_have_a_class():
    assert sorted(cmp_facade.CLASS_OF_VALUE) == list(range(13))
    assert {v: c for v, c in cmp_facade.CLASS_OF_VALUE.items() if c != "others"} == KEPT


def test_one_archive_is_enough_and_another_is_noticed_later(folder, tmp_path):
    extended = (folder / EXTENDED).read_bytes()
    (folder / EXTENDED).unlink()
    assert len(cmp_facade.load(folder).splits["train"]) == 2
    (folder / EXTENDED).write_bytes(extended)
    assert len(cmp_facade.load(folder).splits["train"]) == 3


def test_prepared_data_are_used_again(folder, monkeypatch):
    first = cmp_facade.load(folder)
    monkeypatch.setattr(cmp_facade, "read_archive", None)
    assert cmp_facade.load(folder).fingerprint() == first.fingerprint()
    assert any((folder / "prepared").rglob("*.tfrecord*"))


def test_nothing_is_left_where_the_folder_cannot_be_written(folder, monkeypatch):
    monkeypatch.setattr(cmp_facade, "_writable", lambda place: False)
    places = []
    monkeypatch.setattr(tfds_source, "prepare", spy(tfds_source.prepare, places))
    assert len(cmp_facade.load(folder).splits["train"]) == 3
    assert not (folder / "prepared").exists()
    assert places
    assert not places[0].exists()


def spy(prepare, places):
    def wrapped(builder, *args, **kwargs):
        places.append(Path(builder.data_dir))
        return prepare(builder, *args, **kwargs)

    return wrapped


def test_a_file_in_the_way_makes_the_folder_unwritable(tmp_path):
    (tmp_path / "prepared").write_text("")
    assert not cmp_facade._writable(tmp_path / "prepared" / "x")
    assert cmp_facade._writable(tmp_path / "other" / "x")


def test_the_builder_is_an_ordinary_one(folder, tmp_path):
    builder = tfds.builder("cmp_facade", data_dir=str(tmp_path / "tfds"))
    config = tfds.download.DownloadConfig(manual_dir=str(folder))
    builder.download_and_prepare(download_config=config)
    assert builder.info.splits["train"].num_examples == 3
    assert builder.info.features["segmentation_mask"].names == list(FACADE_CLASSES)
    example = next(iter(tfds.as_numpy(builder.as_dataset(split="train"))))
    assert example["image"].shape == (32, 40, 3)
    assert example["segmentation_mask"].shape == (32, 40, 1)
    assert example["segmentation_mask"].max() == 4


def test_missing_archives_are_named(tmp_path):
    text = message(tmp_path)
    for part in (BASE, EXTENDED, str(tmp_path), "CMP Facade Database", cmp_facade.HOMEPAGE):
        assert part in text


def message(folder):
    """The error of a load that must fail, which has to be one line."""
    with pytest.raises(InputError) as caught:
        cmp_facade.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.98])
def test_truncated_archives(folder, part):
    data = (folder / BASE).read_bytes()
    (folder / BASE).write_bytes(data[: int(len(data) * part)])
    assert message(folder).startswith(f"{folder / BASE}: damaged archive (")
    assert not list((folder / "prepared").rglob("*.tfrecord*"))


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
        ({"cmp_b1.jpg": jpeg(32, 48), "cmp_b1.png": MASK}, "40 x 32 px, but the image has 48 x 32"),
        ({"cmp_b1.jpg": b"JFIF", "cmp_b1.png": MASK}, "base/cmp_b1.jpg: "),
        ({"cmp_b1.jpg": jpeg(), "cmp_b1.png": MASK[:200]}, "base/cmp_b1.png: damaged image"),
        (
            {"cmp_b1.jpg": jpeg(), "cmp_b1.png": palette_png(annotation(values=range(14)))},
            "base/cmp_b1.png: value 13; expected 0..12",
        ),
        (
            {"cmp_b1.jpg": jpeg(), "cmp_b1.png": encoded(Image.new("RGB", (40, 32), "red"), "PNG")},
            "base/cmp_b1.png: RGB pixels; expected one class value per pixel",
        ),
    ],
)
def test_archives_that_do_not_hold_what_they_should(tmp_path, members, reason):
    write(tmp_path / BASE, members, "base/")
    text = message(tmp_path)
    assert text.startswith(str(tmp_path / BASE))
    assert reason in text


def test_no_data_are_written_to_the_home_directory(folder, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    # Another process: where home is, TFDS asks as it is imported.
    code = "import sys, pathlib; from tfproj.data.sources import cmp_facade\n"
    code += "print(len(cmp_facade.load(pathlib.Path(sys.argv[1])).splits['train']))"
    command = [sys.executable, "-c", code, str(folder)]
    environment = {**os.environ, "HOME": str(home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and int(done.stdout) > 0, done.stderr
    assert not list(home.rglob("*facade*")) and not (home / "tensorflow_datasets").exists()
