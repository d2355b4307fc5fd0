import dataclasses
import os

import numpy as np
import pytest

from tfproj.data import DataOptions, Dataset, load_dataset
from tfproj.data.dataset import Split, array_split
from tfproj.data.splits import finish, hold_out, numbered_groups
from tfproj.errors import InputError


def labelled(*counts):
    """A classification split with so many examples of each class, mixed."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    return array_split(np.arange(len(labels), dtype=np.uint8)[:, None, None], labels)


def named(names, **fields):
    return Split(names=names, read_image=lambda i: names[i], **fields)


def dataset(classes=("a", "b", "c"), **splits):
    return Dataset("toy", "classify", classes, splits, size=(1, 1), channels=1, origin="here")


def test_the_hold_out_depends_on_nothing_but_the_data():
    first, second = (hold_out(labelled(20, 30), 0.2) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.names == b.names
    train, val = first
    assert sorted([*train.names, *val.names]) == sorted(labelled(20, 30).names)
    assert list(train.names) == sorted(train.names, key=int)  # the order of the source is kept


def test_parts_read_their_own_examples():
    whole = labelled(10, 10)
    for part in hold_out(whole, 0.2):
        for i, name in enumerate(part.names):
            assert part.read_image(i) == whole.read_image(int(name))
            assert part.labels[i] == whole.labels[int(name)]
            assert part.label_of(i) == f"example {name}"


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_class_proportions_are_kept(fraction):
    train, val = hold_out(labelled(40, 80, 200), fraction)
    assert np.bincount(val.labels).tolist() == [40 * fraction, 80 * fraction, 200 * fraction]


def test_a_class_always_keeps_an_example_to_learn_from():
    train, val = hold_out(labelled(1, 2, 30), 0.9)
    assert np.bincount(train.labels).tolist() == [1, 1, 3]
    assert np.bincount(val.labels).tolist() == [0, 1, 27]


@pytest.mark.parametrize("fraction", [0.1, 0.3])
def test_views_of_one_facade_stay_together(fraction):
    names = [f"eecs442_{i:04d}.jpg" for i in range(906)]
    split = named(names, groups=numbered_groups(names, 302))
    train, val = hold_out(split, fraction)
    assert not set(train.groups) & set(val.groups)
    assert len(set(val.groups)) == np.ceil(302 * fraction)
    assert len(val) == 3 * len(set(val.groups))
    numbers = {int(name[8:12]) for name in val.names}
    assert all((n + 302) % 906 in numbers for n in numbers)


def test_groups_come_from_the_last_number_of_a_name():
    names = ["eecs442_0001.jpg", "eecs442_0303.jpg", "a1/b7.png", "2_604"]
    assert numbered_groups(names, 302).tolist() == [1, 1, 7, 0]
    with pytest.raises(InputError, match="needs a number in every file name; 'x.jpg' has none"):
        numbered_groups(["1.jpg", "x.jpg"], 2)


def test_group_modulus_applies_to_any_data_set():
    split = labelled(30, 30, 30)
    data = finish(dataset(train=split), DataOptions(group_modulus=30, val_fraction=0.2))
    train, val = data.splits["train"], data.splits["val"]
    assert (len(train), len(val)) == (72, 18)
    assert not {int(n) % 30 for n in train.names} & {int(n) % 30 for n in val.names}


def grouped(groups, labels):
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None]
    return dataclasses.replace(array_split(images, labels), groups=np.array(groups))


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.3])
def test_every_class_with_two_groups_is_in_both_parts(fraction):
    # Two groups of class 0, ten of class 1, one of class 2, and five that mix all three.
    groups = np.repeat(np.arange(18), 6)
    labels = np.where(groups < 2, 0, np.where(groups < 12, 1, np.where(groups < 13, 2, 0)))
    mixed = groups > 12
    labels[mixed] = np.arange(mixed.sum()) % 3
    train, val = hold_out(grouped(groups, labels), fraction)
    assert not set(train.groups) & set(val.groups)
    assert set(train.labels) == set(val.labels) == {0, 1, 2}
    assert len(set(val.groups)) <= max(3, np.ceil(18 * fraction) + 1)
    # A class with one group is learned, not measured.
    single = np.repeat(np.arange(13), 6)
    train, val = hold_out(grouped(single, labels[:78]), fraction)
    assert set(train.labels) == {0, 1, 2} and set(val.labels) == {0, 1}


def test_groups_that_are_a_class_each_can_not_be_held_out():
    split = grouped(np.repeat([0, 1], 10), np.repeat([0, 1], 10))
    with pytest.raises(InputError, match="groups that are each the only one of a class"):
        hold_out(split, 0.1)


def test_too_few_examples_to_hold_out():
    for split in (labelled(1, 1), labelled(0), named(["a1", "b1"], groups=np.array([1, 1]))):
        with pytest.raises(InputError, match=r"are too few .* add examples or a val split"):
            hold_out(split, 0.1)


def test_a_val_split_that_exists_is_used():
    data = finish(dataset(val=labelled(1, 1, 1), train=labelled(2, 2, 2)), DataOptions())
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 6, "val": 3}
    assert list(data.splits) == ["train", "val"]


def test_the_class_order_of_a_run_wins():
    data = dataset(("a", "b"), train=labelled(4, 6), val=labelled(1, 1))
    data = dataclasses.replace(data, colors=("#AAAAAA", "#BBBBBB"))
    swapped = finish(data, DataOptions(classes=("b", "a")))
    assert swapped.classes == ("b", "a") and swapped.colors == ("#BBBBBB", "#AAAAAA")
    np.testing.assert_array_equal(swapped.splits["train"].labels, 1 - data.splits["train"].labels)
    more = finish(data, DataOptions(classes=("b", "new", "a")))
    assert np.bincount(more.splits["train"].labels).tolist() == [6, 0, 4] and more.colors == ()
    with pytest.raises(InputError, match="toy: class 'a' is not one of the model's: b, c"):
        finish(data, DataOptions(classes=("b", "c")))


def test_the_class_order_of_a_run_applies_to_folders(class_folder):
    root = class_folder({"train": {"ant": 3, "bee": 5}, "val": {"ant": 1, "bee": 2}})
    data = load_dataset(str(root), "classify", DataOptions(classes=("bee", "ant")))
    assert data.classes == ("bee", "ant")
    assert np.bincount(data.splits["train"].labels).tolist() == [5, 3]
    for i, name in enumerate(data.splits["val"].names):
        assert name.startswith(data.classes[data.splits["val"].labels[i]])


def test_the_class_order_of_a_run_applies_to_masks(mask_folder):
    root = mask_folder()
    plain, swapped = (
        load_dataset(str(root), "segment", DataOptions(classes=classes)).splits["train"]
        for classes in (None, ("road", "ground"))
    )
    np.testing.assert_array_equal(swapped.read_mask(2), 1 - plain.read_mask(2))


def test_the_limit_is_deterministic_and_keeps_every_class():
    splits = {"train": labelled(500, 500, 2), "val": labelled(80, 80), "test": labelled(30)}
    first, second = (finish(dataset(**splits), DataOptions(limit=10)) for _ in range(2))
    assert {name: len(split) for name, split in first.splits.items()} == {
        "train": 10,
        "val": 50,
        "test": 30,
    }
    assert set(first.splits["train"].labels) == {0, 1, 2}
    assert first.splits["train"].names == second.splits["train"].names
    assert len(finish(dataset(**splits), DataOptions(limit=800)).splits["val"]) == 80


def test_the_fingerprint_changes_with_names_labels_and_classes():
    data = dataset(train=labelled(3, 3, 3))
    split = data.splits["train"]
    others = [
        dataset(("a", "b", "d"), train=split),
        dataset(train=dataclasses.replace(split, labels=np.roll(split.labels, 1))),
        dataset(train=dataclasses.replace(split, names=[f"{n}x" for n in split.names])),
        dataset(val=split),
    ]
    assert len({d.fingerprint() for d in [data, *others]}) == 5
    assert dataset(train=labelled(3, 3, 3)).fingerprint() == data.fingerprint()


def grown(names, fraction=0.2, groups=None, labels=None):
    """The names held out of a set to which more may be added."""
    fields = {"groups": None if groups is None else np.array(groups)}
    if labels is not None:
        fields["labels"] = np.array(labels, np.int32)
    train, val = hold_out(named(names, **fields), fraction, may_grow=True)
    assert not set(train.names) & set(val.names)
    return set(val.names)


def test_what_was_validated_stays_so_when_the_data_grow():
    names = [f"cat/{i}.jpg" for i in range(100)]
    before = grown(names)
    assert 10 <= len(before) <= 30
    more = sorted([*names, *(f"cat/new{i}.jpg" for i in range(300))])
    assert grown(more) & set(names) == before
    assert grown(names[::2]) == before & set(names[::2])
    groups = [name[:6] for name in more]
    held = grown(more, groups=groups)
    assert {name[:6] for name in held}.isdisjoint({n[:6] for n in set(more) - held})


def test_every_class_of_data_that_may_grow_is_in_both_parts():
    names = [f"{label}{i}" for label in "abcdefgh" for i in range(3)]
    labels = np.repeat(np.arange(8), 3)
    for fraction in (0.01, 0.5, 0.99):
        held = grown(names, fraction, labels=labels)
        for label in "abcdefgh":
            assert 1 <= sum(name.startswith(label) for name in held) <= 2


def test_a_directory_may_grow_and_a_named_data_set_keeps_its_split(class_folder, mask_folder):
    root = class_folder({"": {"cat": 30, "dog": 30}})
    before = load_dataset(str(root)).splits["val"].names
    for index in range(1, 30, 2):
        (root / "cat" / f"{index}.png").rename(root / "cat" / f"{index + 100}.png")
    after = load_dataset(str(root)).splits["val"].names
    here = {path.relative_to(root).as_posix() for path in root.rglob("*.png")}
    assert set(after) >= set(before) & here and not load_dataset("digits").may_grow
    assert load_dataset(str(mask_folder())).may_grow
    # By which the published figures were measured.
    assert load_dataset("digits").splits["val"].names[:5] == ["3", "10", "15", "22", "32"]


@pytest.mark.parametrize("length", [100, 200_000])
def test_a_file_changed_at_equal_length_is_noticed(tmp_path, length):
    file = tmp_path / "a.bin"
    split = named(["a"], files=[file])
    found = set()
    for change in (None, 0, length // 3 if length < 1000 else length - 1000, length - 1):
        content = bytearray(length)
        if change is not None:
            content[change] = 1
        file.write_bytes(content)
        os.utime(file, (1, 1))
        found.add(dataset(train=split).contents())
    assert len(found) == 4
    file.write_bytes(bytes(length + 1))
    assert dataset(train=split).contents() not in found


def test_names_of_either_system_are_the_same_data():
    windows, posix = (dataset(train=named([name])) for name in (r"cat\1.jpg", "cat/1.jpg"))
    assert windows.fingerprint() == posix.fingerprint()
