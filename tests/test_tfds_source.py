"""``tfds:NAME`` against real TFDS directories, prepared here from drawn examples; no network."""

import logging
import socket
import subprocess
import sys

import numpy as np
import pytest

from tfproj.core import image
from tfproj.data.dataset import DataOptions
from tfproj.data.registry import load_dataset
from tfproj.data.sources.fashion_mnist import FASHION_CLASSES, fashion_mnist
from tfproj.data.sources.tfds import tfds_dataset
from tfproj.data.sources.tfds_examples import import_tfds, quiet
from tfproj.errors import InputError

tfds = import_tfds()
F = tfds.features
RNG = np.random.default_rng(5)


def store(folder, name, features, **splits):
    """Prepare a data set under ``folder``; each split is a list of examples."""
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        data_dir=folder,
        features=F.FeaturesDict(features),
        split_datasets={split: list(enumerate(examples)) for split, examples in splits.items()},
        homepage="https://example.org/",
        citation="@article{x,\n  title = {On Drawn Examples},\n}",
    )


def pixels(*shape, below=256):
    return RNG.integers(0, below, shape, dtype=np.uint8)


def load(name, folder, task=None):
    return tfds_dataset(name, task, DataOptions(data_dir=str(folder)))


def message(*args):
    """The error of a load that must fail, which has to be one line."""
    with pytest.raises(InputError) as caught:
        load(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


CLOTHES = [pixels(28, 28, 1) for _ in range(30)]
SCENES = [pixels(40 + i, 24, 3) for i in range(5)]
TRIMAPS = [pixels(40 + i, 24, 1, below=3) * 2 + 1 for i in range(5)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A TFDS data directory with a tiny fashion_mnist and a set of pictures with masks."""
    folder = tmp_path_factory.mktemp("tfds")
    clothes = [{"image": x, "label": i % 10} for i, x in enumerate(CLOTHES)]
    features = {
        "image": F.Image(shape=(28, 28, 1)),
        "label": F.ClassLabel(names=list(FASHION_CLASSES)),
    }
    store(folder, "fashion_mnist", features, train=clothes, test=clothes[:10])
    scenes = [
        {"image": x, "label": i % 2, "species": 0, "segmentation_mask": y}
        for i, (x, y) in enumerate(zip(SCENES, TRIMAPS, strict=True))
    ]
    features = {
        "image": F.Image(),
        "species": F.ClassLabel(names=["animal"]),
        "label": F.ClassLabel(names=["cat", "dog"]),
        "segmentation_mask": F.Image(shape=(None, None, 1)),
    }
    store(folder, "scenes", features, train=scenes, validation=scenes[:2], spare=scenes[:1])
    return folder


def test_prepared_fashion_mnist_is_read_offline_and_silently(root, capfd):
    dataset = load("fashion_mnist", root, "classify")
    assert capfd.readouterr().out == ""
    assert (dataset.task, dataset.size, dataset.channels) == ("classify", (28, 28), 1)
    assert dataset.classes == FASHION_CLASSES
    assert {k: len(v) for k, v in dataset.splits.items()} == {"train": 30, "test": 10}
    assert dataset.origin == str(root / "fashion_mnist" / "1.0.0")
    assert dataset.license == "On Drawn Examples; https://example.org/"


def test_images_come_as_encoded_bytes_with_their_labels(root):
    train = load("fashion_mnist", root).splits["train"]
    assert train.names == [str(i) for i in range(30)]
    assert train.labels.dtype == np.int32
    originals = {x.tobytes(): i % 10 for i, x in enumerate(CLOTHES)}
    for i, label in enumerate(train.labels):
        assert isinstance(train.read_image(i), bytes)
        assert originals.pop(image.load(train.read_image(i), None, 1).tobytes()) == label


def test_order_and_fingerprint_do_not_change(root):
    first, second = (load("fashion_mnist", root) for _ in range(2))
    assert first.fingerprint() == second.fingerprint()


def test_the_registry_and_fashion_mnist_itself_use_it(root):
    dataset = load_dataset("tfds:fashion_mnist", "classify", DataOptions(data_dir=str(root)))
    assert {k: len(v) for k, v in dataset.splits.items()} == {"train": 20, "val": 10, "test": 10}
    assert len(fashion_mnist(DataOptions(data_dir=str(root))).splits["train"]) == 30


def test_one_version_folder_can_be_given(root):
    assert len(load("fashion_mnist", root / "fashion_mnist" / "1.0.0").splits["train"]) == 30
    assert "holds the TFDS set 'scenes'" in message("mnist", root / "scenes" / "1.0.0")


def test_label_and_mask_make_a_classification_by_default(root):
    dataset = load("scenes", root)
    assert (dataset.task, dataset.classes, dataset.channels) == ("classify", ("cat", "dog"), 3)
    assert set(dataset.splits) == {"train", "val"}
    assert dataset.size == (42, 24)


def test_masks_without_names_are_scanned_for_their_values(root):
    dataset = load("scenes:1.*.*", root, "segment")
    assert dataset.classes == ("class_1", "class_3", "class_5")
    assert dataset.size == (40, 24)
    train = dataset.splits["train"]
    expected = {x.tobytes(): y[..., 0] // 2 for x, y in zip(SCENES, TRIMAPS, strict=True)}
    for i in range(5):
        mask = train.read_mask(i)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(
            mask, expected[image.load(train.read_image(i), None, 3).tobytes()]
        )


def test_named_masks_keep_all_names_and_refuse_other_values(tmp_path):
    features = {
        "image": F.Image(shape=(16, 21, 3)),
        "segmentation_map": F.LabeledImage(labels=["sky", "road", "tree"]),
    }
    good = {"image": pixels(16, 21, 3), "segmentation_map": pixels(16, 21, 1, below=2)}
    store(tmp_path, "roads", features, train=[good], test=[{**good, "segmentation_map": PAST_END}])
    dataset = load("roads", tmp_path)
    assert (dataset.task, dataset.classes) == ("segment", ("sky", "road", "tree"))
    assert dataset.size == (16, 24)
    mask = dataset.splits["train"].read_mask(0)
    np.testing.assert_array_equal(mask, good["segmentation_map"][..., 0])
    with pytest.raises(InputError, match="^example 0: mask value 3 is none of 3 classes"):
        dataset.splits["test"].read_mask(0)
    assert "is for segment, not classify" in message("roads", tmp_path, "classify")


PAST_END = np.full((16, 21, 1), 3, np.uint8)


def test_sets_that_cannot_be_used(tmp_path):
    label, picture = F.ClassLabel(names=["a", "b"]), F.Image(shape=(8, 8, 3))
    example = {"image": pixels(8, 8, 3), "label": 1}
    store(tmp_path, "no_train", {"image": picture, "label": label}, test=[example])
    store(tmp_path, "no_label", {"image": picture}, train=[{"image": example["image"]}])
    store(tmp_path, "hidden", {"image": picture, "label": label}, train=[{**example, "label": -1}])
    floats = {"image": np.zeros((8, 8, 1), np.float32), "label": 0}
    features = {"image": F.Image(shape=(8, 8, 1), dtype=np.float32), "label": label}
    store(tmp_path, "floats", features, train=[floats])
    assert "no 'train' split with examples; it has: {'test': 1}" in message("no_train", tmp_path)
    assert "its features: image (Image)" in message("no_label", tmp_path)
    assert "without a label" in message("hidden", tmp_path)
    assert "float images" in message("floats", tmp_path)


def test_a_split_with_withheld_labels_is_left_out(tmp_path):
    features = {"image": F.Image(shape=(8, 8, 3)), "label": F.ClassLabel(names=["a", "b"])}
    example = {"image": pixels(8, 8, 3), "label": 1}
    store(tmp_path, "contest", features, train=[example], test=[{**example, "label": -1}])
    dataset = load("contest", tmp_path)
    assert list(dataset.splits) == ["train"]
    assert dataset.notes == ("test: left out, not labelled",)


def test_damaged_records_are_an_input_error(tmp_path):
    features = {"image": F.Image(shape=(8, 8, 3)), "label": F.ClassLabel(names=["a", "b"])}
    store(tmp_path, "worn", features, train=[{"image": pixels(8, 8, 3), "label": 1}])
    record = next(tmp_path.rglob("*.tfrecord*"))
    record.write_bytes(record.read_bytes()[:-20])
    assert "cannot be read" in message("worn", tmp_path)


@pytest.mark.parametrize("name", ["fashion_mnis", "fashon_mnist:3.*.*"])
def test_unknown_names_give_the_closest(name, tmp_path, capfd):
    text = message(name, tmp_path)
    asked = name.split(":")[0]
    assert f"unknown TFDS data set {asked!r}; did you mean 'fashion_mnist'?" in text
    assert len(text) < 200 and "https://" in text  # there are too many to list them all
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", ["", "a b", "fashion_mnist/none", "fashion_mnist:9.9.9"])
def test_malformed_names_give_one_line(name, tmp_path):
    assert message(name, tmp_path).startswith(f"tfds:{name}: ")


@pytest.fixture
def offline(monkeypatch):
    def refuse(*args):
        raise OSError("Name or service not known")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr("urllib.request.getproxies", dict)


def test_without_network_it_fails_at_once(offline, tmp_path, capfd):
    text = message("fashion_mnist", tmp_path)
    assert text.startswith(f"tfds:fashion_mnist: not in {tmp_path}/fashion_mnist/3.0.1 ")
    assert "no connection to fashion-mnist.s3-website" in text
    assert capfd.readouterr().out == ""


def test_manual_downloads_name_the_folder(offline, tmp_path, capfd):
    text = message("imagenet2012", tmp_path)
    assert f"by hand into {tmp_path}/downloads/manual: " in text
    assert capfd.readouterr().out == ""


def test_a_missing_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert "pip install 'tfproj[train]'" in message("mnist", tmp_path)


def test_logging_levels_are_given_back():
    logger = logging.getLogger("absl")
    before = logger.level
    with quiet():
        assert logger.level == logging.ERROR
    assert logger.level == before


def test_importing_the_module_loads_no_tensorflow():
    code = "import sys, tfproj.data.registry; print({'tensorflow', 'keras'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "set()\n", run.stderr
