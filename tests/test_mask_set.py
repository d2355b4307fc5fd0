"""What shows only where the masks of a folder are compared with each other and their images."""

import io

import numpy as np
import pytest
from conftest import write_classes
from PIL import Image

from tfproj.data import load_dataset
from tfproj.data.check import check, quick_check
from tfproj.errors import InputError


def masks_of(root):
    return sorted((root / "masks").iterdir(), key=lambda path: int(path.stem))


def said(root, code):
    return [(f.severity, f.message) for f in check(str(root)).findings if f.code == code]


def repainted(path, *colors):
    """The mask as a palette picture in which these are the first colours."""
    picture = Image.fromarray(np.asarray(Image.open(path)))
    picture.putpalette([value for color in colors for value in color])
    picture.save(path)


def test_palettes_that_differ_where_values_decide(mask_folder):
    black, red, blue = (0, 0, 0), (255, 0, 0), (0, 0, 255)
    root = mask_folder()
    for path in masks_of(root):
        repainted(path, black, red)
    assert not said(root, "palette")
    repainted(masks_of(root)[3], black, blue)
    (severity, message), *more = said(root, "palette")
    assert severity == "warning" and "value 1 has the color #" in message and not more
    repainted(masks_of(root)[3], red, black)
    (severity, message), *_ = said(root, "palette")
    assert severity == "error" and "list the colors of all classes in classes.csv" in message
    with pytest.raises(InputError, match="list the colors"):
        quick_check(load_dataset(str(root)))
    write_classes(root, ["ground", "road"], color=["#000000", "#FF0000"])
    assert check(str(root)).ok


def turned(root, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    for path in (root / "images").iterdir():
        Image.open(path).save(path, exif=exif, quality=95)


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_turns_that_sizes_do_not_show_are_said_once(mask_folder, orientation):
    root = mask_folder()
    turned(root, orientation)
    [(severity, message)] = said(root, "exif")
    assert severity == "warning" and message.startswith("6 of 6 masks belong to images that EXIF")
    turned(root, 1)
    assert not said(root, "exif")


def test_masks_of_the_stored_image(mask_folder):
    root = mask_folder()
    turned(root, 6)
    errors = said(root, "mask")
    assert len(errors) == 6
    assert "EXIF turns the image to 24 x 16 px (height x width)" in errors[0][1]
    for path in masks_of(root):
        picture = Image.open(path).transpose(Image.Transpose.ROTATE_270)
        picture.save(path)
    assert check(str(root)).ok and not said(root, "exif")


def saved_as_jpeg(root, quality):
    for path in masks_of(root):
        file = io.BytesIO()
        Image.open(path).save(file, "JPEG", quality=quality)
        Image.fromarray(np.asarray(Image.open(file)).clip(0, 1)).save(path)


def test_masks_that_were_jpeg_once(mask_folder):
    size = (96, 128)
    root = mask_folder(size=size)
    y, x = np.mgrid[: size[0], : size[1]]
    for number, path in enumerate(masks_of(root)):
        disc = (y - 40) ** 2 + (x - 20 - 9 * number) ** 2 < (18 + 5 * number) ** 2
        Image.fromarray(disc.astype(np.uint8)).save(path)
    assert not said(root, "lossy")
    saved_as_jpeg(root, 90)
    [(severity, message)] = said(root, "lossy")
    assert severity == "error" and "6 of 6 masks show the traces of JPEG" in message


def test_masks_whose_edges_are_those_of_blocks(mask_folder):
    root = mask_folder(size=(48, 64))
    for number, path in enumerate(masks_of(root)):
        mask = np.zeros((48, 64), np.uint8)
        mask[8 : 16 + 8 * (number % 3), 8:40] = 1
        Image.fromarray(mask).save(path)
    [(severity, message)] = said(root, "lossy")
    assert severity == "warning" and "multiples of 8 pixels" in message
