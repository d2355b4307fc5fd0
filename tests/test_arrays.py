import gzip

import numpy as np
import pytest

from tfproj.core import image
from tfproj.data import DataOptions, load_dataset
from tfproj.data.sources import fashion_mnist
from tfproj.errors import InputError


def idx(array):
    """The bytes of an IDX file of uint8."""
    head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return head + array.astype(np.uint8).tobytes()


def toy(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 28, 28), np.uint8), np.arange(count, dtype=np.uint8) % 10


def write(folder, mark="-", suffix="", train=40, test=20):
    folder.mkdir(parents=True, exist_ok=True)
    for stem, count in (("train", train), ("t10k", test)):
        for kind, array in zip(("images", "labels"), toy(count), strict=True):
            data = idx(array)
            path = folder / f"{stem}-{kind}{mark}idx{array.ndim}-ubyte{suffix}"
            path.write_bytes(gzip.compress(data) if suffix else data)
    return folder


def load(folder, **options):
    return load_dataset("fashion_mnist", "classify", DataOptions(data_dir=str(folder), **options))


@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("inside", ["", "fashion_mnist", "FashionMNIST"])
def test_idx_files_of_either_spelling(tmp_path, mark, suffix, inside):
    write(tmp_path / inside, mark, suffix)
    data = load(tmp_path)
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 30,
        "val": 10,
        "test": 20,
    }
    assert (data.size, data.channels, len(data.classes)) == ((28, 28), 1, 10)
    images, labels = toy(20)
    for i in range(20):
        np.testing.assert_array_equal(data.splits["test"].read_image(i), images[i])
        assert data.splits["test"].labels[i] == labels[i]
    assert image.load(data.splits["train"].read_image(0), (28, 28), 1).shape == (28, 28, 1)


def test_the_usual_places(tmp_path, monkeypatch):
    write(tmp_path / "b" / "fashion_mnist")
    monkeypatch.setenv("TFPROJ_DATA", f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    assert load_dataset("fashion_mnist").origin == str(tmp_path / "b" / "fashion_mnist")


def test_a_data_dir_that_is_missing(tmp_path):
    with pytest.raises(InputError, match="no/such: no such directory"):
        load(tmp_path / "no/such")


def test_a_file_of_the_four_is_missing(tmp_path):
    (write(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match=r"t10k-labels-idx.-ubyte \(or .gz\) is missing"):
        load(tmp_path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("keep", [0, 3, 10, 100, -1])
def test_truncated_idx_files(tmp_path, suffix, keep):
    path = write(tmp_path, suffix=suffix) / f"train-images-idx3-ubyte{suffix}"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_the_message_gives_both_sizes(tmp_path):
    path = write(tmp_path) / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"31371 bytes, but its header promises .*\(40, 28, 28\)"):
        load(tmp_path)


def test_a_header_that_promises_more_than_fits_in_64_bits(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes((0, 0, 8, 3)) + b"\xff" * 12)
    with pytest.raises(InputError, match="header promises"):
        fashion_mnist.read_idx(path, 3)


def test_labels_and_images_that_do_not_fit(tmp_path):
    path = write(tmp_path) / "train-labels-idx1-ubyte"
    path.write_bytes(idx(np.zeros(39)))
    with pytest.raises(InputError, match="40 images but 39 labels in train"):
        load(tmp_path)
    path.write_bytes(idx(np.full(40, 10)))
    with pytest.raises(InputError, match="label 10 is above 9"):
        load(tmp_path)
    path.write_bytes((tmp_path / "train-images-idx3-ubyte").read_bytes())
    with pytest.raises(InputError, match=r"not an IDX file of 1 dimension"):
        load(tmp_path)


def test_digits():
    pytest.importorskip("sklearn")
    data = load_dataset("digits", "classify")
    counts = {name: len(split) for name, split in data.splits.items()}
    assert sum(counts.values()) == 1797 and counts["test"] == 359
    assert data.classes == tuple("0123456789") and (data.size, data.channels) == ((8, 8), 1)
    pixels = np.stack([data.splits["train"].read_image(i) for i in range(counts["train"])])
    assert pixels.dtype == np.uint8 and pixels.min() == 0 and pixels.max() == 255
    for split in data.splits.values():
        assert set(split.labels) == set(range(10))


@pytest.mark.real_data
def test_fashion_mnist_is_complete_and_balanced(real_fashion):
    data = load(real_fashion)
    train, val, test = (data.splits[name] for name in ("train", "val", "test"))
    assert (len(train) + len(val), len(test)) == (60_000, 10_000)
    for split in (train, val, test):
        assert len(set(np.bincount(split.labels))) == 1
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert not set(train.names) & set(val.names)
