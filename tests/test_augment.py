import numpy as np
import pytest

from tfproj.runs.config import AUGMENTATIONS
from tfproj.training.augment import (
    ASPECT,
    AUGMENT,
    ERASE_AREA,
    PASTE_AREA,
    _recolor,
    erase,
    mirror,
    photo,
    photo_mix,
    photo_wide,
    shift,
    shift_erase,
)


def generator(seed=7):
    return np.random.default_rng(seed)


def coordinates(count=16, size=32):
    """Images whose red and green channels say where a pixel came from; masks say it coarsely."""
    row, column = np.mgrid[:size, :size]
    image = np.stack([row * 8, column * 8, np.full((size, size), 128)], -1).astype(np.uint8)
    mask = (row // 8 * 4 + column // 8).astype(np.uint8)
    return np.repeat(image[None], count, 0), np.repeat(mask[None], count, 0)


def test_every_configured_policy_exists():
    assert set(AUGMENT) == set(AUGMENTATIONS)


PHOTOS = [photo, photo_mix, photo_wide]


def mirror_half(images, masks, rng):
    return mirror(images, masks, rng.random(len(images)) < 0.5)


@pytest.mark.parametrize("transform", [*PHOTOS, erase, mirror_half, shift, shift_erase])
def test_what_is_given_stays_as_it_was(transform):
    images, masks = coordinates()
    target = masks if transform in PHOTOS else np.arange(len(images), dtype=np.int32)
    given = images.copy(), target.copy()
    changed = transform(images, target, generator())
    for before, after, copy in zip((images, target), changed, given, strict=True):
        np.testing.assert_array_equal(before, copy)
        assert (after.shape, after.dtype) == (copy.shape, copy.dtype)
    assert (changed[0] != images).any()


def test_a_function_of_the_seed():
    images, masks = coordinates()
    once, again = (photo(images, masks, generator())[0] for _ in range(2))
    other = photo(images, masks, generator(8))[0]
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()


def test_examples_of_a_batch_differ():
    images, masks = coordinates()
    changed = photo(images, masks, generator())[1]
    assert len({mask.tobytes() for mask in changed}) > len(images) // 2


@pytest.mark.parametrize("transform", [*PHOTOS, mirror_half, shift])
def test_image_and_mask_move_together(monkeypatch, transform):
    monkeypatch.setattr("tfproj.training.augment._jitter", lambda images, rng: images)
    images, masks = coordinates()
    moved, moved_masks = transform(images, masks, generator())
    # Where a pixel came from, as its colour says, must lie in the cell that its mask says.
    row, column = moved[..., 0] / 8, moved[..., 1] / 8
    cell_row, cell_column = moved_masks // 4 * 8, moved_masks % 4 * 8
    for place, cell in ((row, cell_row), (column, cell_column)):
        assert ((place >= cell - 0.51) & (place <= cell + 7.51)).mean() > 0.999


def test_labels_are_never_mixed():
    images, _ = coordinates()
    masks = np.where(np.arange(32) % 2, 4, 0)[None, None].repeat(32, 1).repeat(16, 0)
    moved = photo(images, masks.astype(np.uint8), generator())[1]
    assert set(np.unique(moved)) == {0, 4}


def test_only_the_chosen_are_mirrored():
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), np.uint8)
    chosen = np.array([True, False, False, True])
    moved, labels = mirror(images, np.arange(4), chosen)
    np.testing.assert_array_equal(labels, np.arange(4))
    np.testing.assert_array_equal(moved[chosen], images[chosen, :, ::-1])
    np.testing.assert_array_equal(moved[~chosen], images[~chosen])


def test_shift_moves_whole_pixels_by_at_most_two():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 28, 28, 1), np.uint8)
    moved, labels = shift(images, np.arange(64), generator())
    np.testing.assert_array_equal(labels, np.arange(64))
    found = set()
    for before, after in zip(images[..., 0], moved[..., 0], strict=True):
        inner = after[2:-2, 2:-2]
        matches = [
            (dy, dx)
            for dy in range(5)
            for dx in range(5)
            if (before[dy : dy + 24, dx : dx + 24] == inner).all()
        ]
        assert len(matches) == 1
        found.update(matches)
    assert len(found) > 16


def test_photo_wide_turns_and_stretches():
    column = np.broadcast_to(np.arange(64) * 4, (16, 64, 64)).astype(np.uint8)
    moved = photo_wide(column[..., None], np.arange(16), generator())[0][..., 0].astype(int)
    inner = moved[:, 16:48, 16:48]
    assert (np.ptp(inner, axis=1).max(axis=1) > 0).mean() > 0.9  # columns are no longer upright


def test_photo_wide_stretches_one_side(monkeypatch):
    monkeypatch.setattr("tfproj.training.augment._jitter", lambda images, rng: images)
    row, column = np.mgrid[:64, :64].astype(np.uint8) * 4
    images = np.stack([np.stack([row, column], -1)] * 64)
    moved = photo_wide(images, np.arange(64), generator())[0][:, 16:48, 16:48].astype(float)
    along_y, along_x = (np.abs(np.diff(moved[..., k], axis=k + 1)).mean((1, 2)) for k in (0, 1))
    ratios = along_y / along_x  # of source pixels to a target pixel
    assert ASPECT[0] * 0.95 < ratios.min() < 0.9 and 1.11 < ratios.max() < ASPECT[1] * 1.05


@pytest.mark.parametrize("channels", [1, 3])
def test_recolored_as_documented(channels):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, channels), np.uint8)
    changed = _recolor(image, (1.5, 0.8, 0.7))
    lit = 1.5 * (image.mean() + 0.8 * (image - image.mean()))
    grey = lit.mean(-1, keepdims=True)
    expected = np.clip(np.round(grey + 0.7 * (lit - grey)), 0, 255)
    assert (expected == 255).any()
    np.testing.assert_allclose(changed, expected, atol=1)
    assert (changed == expected).mean() > 0.95


def test_pasted_rectangles_come_from_the_image_before_with_their_mask(monkeypatch):
    still = "tfproj.training.augment.photo_wide", lambda images, masks, rng: (images, masks)
    monkeypatch.setattr(*still)
    numbers = np.arange(64, dtype=np.uint8)[:, None, None]
    masks = numbers.repeat(32, 1).repeat(32, 2)
    mixed, mixed_masks = photo_mix(np.stack([masks] * 3, -1), masks, generator())
    np.testing.assert_array_equal(mixed[..., 0], mixed_masks)
    pasted = mixed_masks != numbers
    np.testing.assert_array_equal(mixed_masks, np.where(pasted, (numbers - 1) % 64, numbers))
    shares = pasted.mean((1, 2))
    assert 20 < np.count_nonzero(shares) < 44
    assert shares.max() <= PASTE_AREA[1] * 1.1


def test_erasing_leaves_masks_where_the_shift_put_them():
    images, masks = coordinates()
    moved = shift(images, masks, generator())[1]
    np.testing.assert_array_equal(shift_erase(images, masks, generator())[1], moved)
    assert (moved != masks).any()


def test_labels_can_not_be_pasted():
    with pytest.raises(ValueError, match="for masks"):
        photo_mix(np.zeros((2, 8, 8, 1), np.uint8), np.arange(2), generator())


def test_erased_rectangles_are_noise_and_the_rest_is_untouched():
    images = np.full((256, 28, 28, 1), 255, np.uint8)
    changed, labels = shift_erase(images, np.arange(256), generator())
    np.testing.assert_array_equal(labels, np.arange(256))
    erased = changed[..., 0] != 255
    chosen = erased[erased.any(axis=(1, 2))]
    assert 96 < len(chosen) < 160
    for mask in chosen:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert box.mean() > 0.9  # noise is 255 once in 256 pixels
        assert box.size <= (ERASE_AREA[1] * 1.2) * 28 * 28
    assert np.mean([mask.mean() for mask in chosen]) == pytest.approx(0.21, abs=0.05)


def test_grey_images_and_labels_pass_through_photo():
    images = np.full((4, 16, 16, 1), 100, np.uint8)
    moved, labels = photo(images, np.arange(4), generator())
    assert moved.shape == images.shape
    assert moved.dtype == np.uint8
    np.testing.assert_array_equal(labels, range(4))
