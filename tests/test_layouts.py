"""Segmentation sets of other layouts, which must not pass as classes of photographs."""

import numpy as np
import pytest
from conftest import draw
from PIL import Image

from tfproj.data import load_dataset
from tfproj.data.check import check
from tfproj.errors import InputError


def mask(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 3, (16, 24)).astype(np.uint8))


def fill(root, images, masks, count=5):
    """Files named by these patterns: ``images/{}.jpg``."""
    for index in range(count):
        for pattern, picture in (
            (images, Image.fromarray(draw(index, (16, 24)))),
            (masks, mask(index)),
        ):
            path = root / pattern.format(f"n{index}")
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)


@pytest.mark.parametrize(
    ("images", "masks", "words"),
    [
        ("photos/{}.jpg", "areas/{}.png", "areas/ seems to hold the masks of photos/"),
        ("Images/{}.jpg", "Masks/{}_mask.png", "Masks/ seems to hold the masks of Images/"),
        ("train/{}.png", "trainseg/{}.png", "trainseg/ seems to hold the masks of train/"),
        ("train/x/{}.jpg", "train/y/{}.png", "y/ seems to hold the masks of x/"),
        ("img_dir/train/{}.jpg", "ann_dir/train/{}.png", "ann_dir/ seems to hold the masks of"),
        ("leftImg8bit/a/{}_left.png", "gt/a/{}_gt.png", "gt/ seems to hold the masks of left"),
        ("{}.jpg", "{}.png", "n0.png seems to be the mask of n0.jpg"),
        ("benign/{}.png", "benign/{}_mask.png", "n0_mask.png seems to be the mask of n0.png"),
    ],
)
def test_images_and_masks_in_folders_of_other_names(tmp_path, images, masks, words):
    root = tmp_path / "set"
    fill(root, images, masks)
    for task in (None, "classify", "segment"):
        with pytest.raises(InputError, match=f"^{root}: {words}.*images/ and masks/"):
            load_dataset(str(root), task)
    with pytest.raises(InputError, match="seems to"):
        check(str(root))


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
        ("images/{}.jpg", "labels/{}.png"),
        ("train/{}.png", "trainannot/{}.png"),
        ("{}.jpg", "{}_mask.png"),
    ],
)
def test_layouts_that_are_known_and_name_no_classes(tmp_path, images, masks):
    fill(tmp_path, images, masks)
    for task in (None, "segment"):
        with pytest.raises(InputError, match="classes.csv: missing; list the classes"):
            load_dataset(str(tmp_path), task)
    (tmp_path / "classes.csv").write_text("name\na\nb\nc\n")
    dataset = load_dataset(str(tmp_path))
    assert dataset.task == "segment" and sum(map(len, dataset.splits.values())) == 5


def test_folders_that_are_listed_as_classes(tmp_path):
    root = tmp_path / "set"
    fill(root, "photo/{}.png", "drawing/{}.png", 12)
    (root / "classes.csv").write_text("name\nphoto\ndrawing\n")
    assert load_dataset(str(root)).classes == ("photo", "drawing")


def test_photographs_with_and_without_a_mask(class_folder):
    """The classes of face masks: numbered photographs of one size."""
    root = class_folder({"": {"mask": 6, "no_mask": 6}})
    assert check(str(root)).ok


@pytest.mark.parametrize(
    ("image", "mask"), [("{}", "{}_areas"), ("{}", "mask_{}"), ("{}_photo", "{}_gt_ids")]
)
def test_masks_that_are_called_otherwise(tmp_path, mask_folder, image, mask):
    root = mask_folder()
    for folder, pattern in (("images", image), ("masks", mask)):
        for path in list((root / folder).iterdir()):
            path.rename(path.with_stem(pattern.format(path.stem)))
    one, other = image.format(0), mask.format(0)
    with pytest.raises(InputError, match=f"masks are called like '{other}' where .* '{one}'"):
        load_dataset(str(root))
