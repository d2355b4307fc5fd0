import numpy as np
import pytest

from tfproj import backend

backend.setup()

from tfproj.data.dataset import Split, array_split  # noqa: E402
from tfproj.errors import InputError, TfprojError  # noqa: E402
from tfproj.training import pipeline  # noqa: E402
from tfproj.training.augment import for_statistics, mirror, photo_mix  # noqa: E402
from tfproj.training.cache import Cache  # noqa: E402
from tfproj.training.pipeline import eval_batches, train_batches  # noqa: E402


def numbered(count=20, size=8):
    """Image i is filled with the value i, and has the label i."""
    images = np.arange(count, dtype=np.uint8)[:, None, None].repeat(size, 1).repeat(size, 2)
    return array_split(images, np.arange(count))


def cache(split=None, size=(8, 8)):
    return Cache(split or numbered(), size, 1)


def labels(dataset):
    return [y.numpy().tolist() for _, y in dataset]


def test_an_epoch_sees_every_example_once_and_image_fits_label():
    batches = list(train_batches(cache(), 5, range(1), seed=0, augment="none"))
    seen = np.concatenate([y for _, y in batches])
    assert sorted(seen) == list(range(20))
    for x, y in batches:
        np.testing.assert_array_equal(x[:, 0, 0, 0], y)


def test_epochs_differ_and_the_seed_decides():
    first = labels(train_batches(cache(), 5, range(2), seed=0, augment="none"))
    assert first[:4] != first[4:]
    assert first == labels(train_batches(cache(), 5, range(2), seed=0, augment="none"))
    assert first != labels(train_batches(cache(), 5, range(2), seed=1, augment="none"))


@pytest.mark.parametrize("augment", ["none", "shift_flip"])
def test_starting_at_an_epoch_continues_the_same_stream(augment):
    whole = list(train_batches(cache(), 5, range(3), seed=3, augment=augment))
    part = list(train_batches(cache(), 5, range(2, 3), seed=3, augment=augment))
    assert len(part) == 4
    for (x, y), (later_x, later_y) in zip(whole[8:], part, strict=True):
        np.testing.assert_array_equal(x, later_x)
        np.testing.assert_array_equal(y, later_y)


def test_a_step_is_augmented_by_its_own_generator_after_it_was_cached():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 16, 16, 3), np.uint8)
    masks = rng.integers(0, 5, (20, 16, 16), np.uint8)
    split = Split([str(i) for i in range(20)], lambda i: images[i], read_mask=lambda i: masks[i])
    examples = Cache(split, (16, 16), 3)
    plain = list(train_batches(examples, 5, range(2), seed=3, augment="none"))
    changed = list(train_batches(examples, 5, range(2), seed=3, augment="photo_mix"))
    for step, (before, after) in enumerate(zip(plain, changed, strict=True)):
        own = np.random.default_rng([3, step, 1])
        epoch, place = divmod(step, 4)
        order = pipeline.epoch_order(3, epoch, 20)[place * 5 : (place + 1) * 5]
        mirrored = pipeline.mirrored_in(3, epoch, 20)[order]
        expected = photo_mix(*mirror(*(part.numpy() for part in before), mirrored), own)
        for part, wanted in zip(after, expected, strict=True):
            np.testing.assert_array_equal(part, wanted)
    np.testing.assert_array_equal(examples.images, images)


def test_an_image_and_its_mirror_image_take_turns():
    examples = cache(array_split(np.tile(np.arange(8, dtype=np.uint8), (20, 8, 1)), np.arange(20)))
    plain = np.arange(8)
    seen = []
    for epoch in range(4):
        batches = train_batches(examples, 5, range(epoch, epoch + 1), seed=3, augment="flip")
        images, numbers = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        rows = dict(zip(numbers, images[:, 0, :, 0].tolist(), strict=True))
        assert all(row in (plain.tolist(), plain[::-1].tolist()) for row in rows.values())
        seen.append([rows[i] == plain.tolist() for i in range(20)])
    even, odd = np.array(seen[0]), np.array(seen[1])
    assert 3 < even.sum() < 17
    np.testing.assert_array_equal(odd, ~even)
    assert seen[2:] == seen[:2]


def test_a_mirrored_example_gets_the_class_of_its_mirror_image():
    ramp = np.tile(np.arange(8, dtype=np.uint8), (20, 8, 1))
    examples = cache(array_split(ramp, np.arange(20) % 3))
    batches = train_batches(examples, 5, range(1), 3, "flip", mirrored=(0, 2, 1))
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    as_it_was = images[:, 0, 0, 0] == 0
    expected = pipeline.epoch_order(3, 0, 20) % 3
    swapped = np.array([0, 2, 1])[expected]
    np.testing.assert_array_equal(labels, np.where(as_it_was, expected, swapped))
    np.testing.assert_array_equal(examples.targets, np.arange(20) % 3)


def test_statistics_come_from_the_first_batches_plain_unless_noise_was_trained_with():
    assert [for_statistics(n) for n in ("photo_mix", "shift_flip")] == ["none", "none"]
    for augment in ("none", for_statistics("shift_flip_erase")):
        found = pipeline.first_batches(cache(), 8, seed=3, augment=augment)
        trained = [x for x, _ in train_batches(cache(), 8, range(1), seed=3, augment=augment)]
        assert len(found) == 2
        np.testing.assert_array_equal(found, trained)
    plain = pipeline.first_batches(cache(), 8, seed=3, augment="none")
    assert (np.array(found) != plain).any()


def test_evaluation_sees_all_in_order_with_a_smaller_last_batch():
    dataset = eval_batches(cache(), 8)
    assert labels(dataset) == [list(range(8)), list(range(8, 16)), list(range(16, 20))]
    assert len(dataset) == 3


def test_a_split_smaller_than_a_batch():
    batches = labels(train_batches(cache(numbered(3)), 8, range(2), seed=0, augment="none"))
    assert [sorted(batch) for batch in batches] == [[0, 1, 2], [0, 1, 2]]


def test_each_example_is_decoded_once():
    split, reads = numbered(), []
    counted = Split(split.names, lambda i: reads.append(i) or split.read_image(i), split.labels)
    list(train_batches(cache(counted), 5, range(3), seed=0, augment="none"))
    assert sorted(reads) == list(range(20))


def test_images_are_resized_and_masks_keep_their_values():
    image = np.zeros((10, 20, 3), np.uint8)
    mask = np.where(np.arange(20) < 10, 4, 0)[None].repeat(10, 0).astype(np.uint8)
    split = Split(["a"], lambda i: image, read_mask=lambda i: mask)
    x, y = Cache(split, (16, 16), 3).batch(np.array([0]))
    assert x.shape == (1, 16, 16, 3)
    assert y.shape == (1, 16, 16)
    assert set(np.unique(y)) == {0, 4}


def test_a_mask_of_another_size_is_refused():
    split = Split(
        ["a.jpg"],
        lambda i: np.zeros((8, 8, 3), np.uint8),
        read_mask=lambda i: np.zeros((8, 9), np.uint8),
    )
    with pytest.raises(InputError, match=r"8 x 8 .* 8 x 9"):
        Cache(split, (8, 8), 3).batch(np.array([0]))


@pytest.mark.parametrize("at_once", [True, False])
def test_what_does_not_fit_in_memory_goes_to_a_file(monkeypatch, at_once):
    monkeypatch.setattr("tfproj.core.hardware.free_memory", lambda: 100)
    if not at_once:  # macOS and Windows have no such call
        monkeypatch.delattr("os.posix_fallocate")
    stored = cache()
    assert isinstance(stored.images, np.memmap)
    x, y = stored.batch(np.array([3, 5]))
    np.testing.assert_array_equal(x[:, 0, 0, 0], [3, 5])


def test_a_full_disk_is_one_line(monkeypatch):
    monkeypatch.setattr("tfproj.core.hardware.free_memory", lambda: 100)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(TfprojError, match=r"No space left on device.; point TMPDIR"):
        cache()


def test_one_iterator_serves_all_epochs_with_autotune_off():
    options = train_batches(cache(), 5, range(3), seed=0, augment="none").options()
    assert options.autotune.enabled is False
    assert options.deterministic is True
