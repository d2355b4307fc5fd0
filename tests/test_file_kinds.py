"""Files that are not what was asked for are named: models of other kinds, images of others."""

import io
import struct
import sys
import zipfile

import pytest
from PIL import Image
from tiny_models import SPECS, pixels, png, tiny_model

from tfproj.cli.main import main
from tfproj.core import image
from tfproj.core.file_kinds import kind_of
from tfproj.errors import InputError
from tfproj.runs.run import find_run

pytestmark = pytest.mark.light


def archive(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        for name in names:
            members.writestr(name, "x")
    return file.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
MODELS = {
    "a.keras": (archive("metadata.json", "config.json", "model.weights.h5"), "a Keras model"),
    "a.pt": (archive("archive/data.pkl", "archive/version"), "a PyTorch model"),
    "a.pth": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "old PyTorch models"),
    "a.tflite": (b"\x1c\0\0\0TFL3" + bytes(40), "a TensorFlow Lite model"),
    "a.h5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "old Keras models"),
    "a.onnx": (LFS, "a Git LFS pointer, not the file itself; run: git lfs pull"),
    "b.onnx": (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "an HTML page"),
    "c.onnx": (b"not found\n", "a text file"),
    "a.zip": (archive("a.txt"), "a ZIP archive"),
    "b.zip": (archive("a.txt")[:40], "a damaged ZIP archive"),
    "a.png": (png(pixels(0, SPECS["classify"])), "an image"),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_of_other_kinds(tmp_path, capsys, name):
    data, words = MODELS[name]
    path = tmp_path / name
    path.write_bytes(data)
    (tmp_path / "photo.png").write_bytes(png(pixels(0, SPECS["classify"])))
    assert main(["predict", str(path), str(tmp_path / "photo.png")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {path}: not an ONNX file, but ") and words in said
    assert "tfproj export RUN --onnx" in said and len(said.splitlines()) == 1
    with pytest.raises(InputError, match=f"^{path}: not a run directory, but .*{words}"):
        find_run(str(path))


def test_a_model_of_ours_is_of_no_other_kind():
    assert kind_of(tiny_model()) is None and kind_of(b"") is None and kind_of(b"\x00" * 99) is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (LFS, "a Git LFS pointer"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "a HEIC image"),
        (b"\0\0\0\x1cftypavif" + bytes(20), "an AVIF image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"<html>login</html>", "an HTML page"),
    ],
)
def test_pictures_of_other_kinds(data, words):
    with pytest.raises(InputError, match=f"not an image, or not one of PNG, .*: {words}"):
        image.load(data, None, 3)


def tiff(*entries):
    """A little-endian TIFF file of 4 x 4 px with these (tag, type, value) and no pixels."""
    size = ((256, 3, 4), (257, 3, 4), (259, 3, 1), (273, 4, 8), (278, 3, 4))
    tags = b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in sorted((*size, *entries))
    )
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(size) + len(entries)) + tags + bytes(4)


def test_pictures_that_begin_as_one_are_not_called_no_image():
    chunk = struct.pack(">I", 7) + b"tIME" + bytes(7) + struct.pack(">I", 1)
    whole = png(pixels(0, SPECS["classify"]))
    for data, words in (
        (whole[:33] + chunk + whole[33:], "damaged PNG image .*tIME"),
        (tiff((258, 3, 10), (262, 3, 1), (277, 3, 1)), "TIFF with 10 bits per sample; save it"),
        (tiff((258, 3, 32), (262, 3, 2), (277, 3, 1), (339, 3, 3)), "TIFF with floating-point"),
        (tiff((258, 3, 8), (262, 3, 9), (277, 3, 1)), "damaged TIFF image"),
        (b"\xff\xd8\xff" + bytes(9), "damaged JPEG image"),
    ):
        with pytest.raises(InputError, match=f"^x: {words}") as caught:
            image.load(data, None, 3, "x")
        assert "not an image" not in str(caught.value)


def test_init_with_a_model_of_another_kind(tmp_path, capsys):
    pytest.importorskip("tensorflow")
    path = tmp_path / "resnet50.pth"
    path.write_bytes(MODELS["a.pt"][0])
    assert main(["train", "classify", "--data", "digits", "--init", str(path)]) == 2
    assert "resnet50.pth: not a run directory, but a PyTorch model" in capsys.readouterr().err


def damaged_fax(path):
    """libtiff writes about it to file descriptor 2, and Pillow says nothing."""
    picture = Image.new("1", (256, 256), 1)
    picture.paste(0, (40, 40, 200, 200))
    picture.save(path, compression="group4")
    data = bytearray(path.read_bytes())
    data[11:13] = b"\0\x12"
    path.write_bytes(data)


def test_what_a_decoder_writes_to_stderr_is_one_line(tmp_path, capfd):
    (tmp_path / "a.onnx").write_bytes(tiny_model())
    damaged_fax(tmp_path / "fax.tif")
    assert main(["predict", str(tmp_path / "a.onnx"), str(tmp_path / "fax.tif")]) == 0
    captured = capfd.readouterr()
    assert "fax.tif: " in captured.out
    [line] = captured.err.splitlines()
    assert line.startswith("note: parts of an image could not be read") and "Fax4Decode" in line


def test_stderr_is_as_before_afterwards(tmp_path, capfd):
    (tmp_path / "a.onnx").write_bytes(tiny_model())
    (tmp_path / "a.png").write_bytes(b"")
    before = sys.stderr
    assert main(["predict", str(tmp_path / "a.onnx"), str(tmp_path / "a.png")]) == 2
    assert sys.stderr is before and "0 bytes" in capfd.readouterr().err
    print("after", file=sys.stderr)
    assert capfd.readouterr().err == "after\n"
