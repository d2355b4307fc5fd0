"""What a file is that is not what was asked for, told by its first bytes."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import BinaryIO

HEAD = 1000  # bytes that tell

# Bytes at a place -> what they begin, and what to do with it where that is not plain.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself; run: git lfs pull"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftypheic", "a HEIC image"),
    (4, b"ftypheix", "a HEIC image"),
    (4, b"ftypmif1", "a HEIF image"),
    (4, b"ftypmsf1", "a HEIF image"),
    (4, b"ftyp", "a video"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (4, b"ORTM", "a model in onnxruntime's own format"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, such as old Keras models (.h5)"),
    (0, b"\x80\x02", "a pickle, such as old PyTorch models (.pt, .pth)"),
    (0, b"\x80\x03", "a pickle"),
    (0, b"\x80\x04", "a pickle"),
    (0, b"\x80\x05", "a pickle"),
    (0, b"GGUF", "a GGUF model"),
    (8, b'{"', "a safetensors file"),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (0, b"8BPS", "a Photoshop image"),
    (0, b"\x00\x00\x01\x00", "an icon (.ico)"),
    (0, b"v/1\x01", "an OpenEXR image"),
    (128, b"DICM", "a DICOM image"),
    (0, b"\x93NUMPY", "a NumPy array (.npy)"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
)
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"BM")


def kind_of(source: bytes | Path) -> str | None:
    """What a file, or its bytes, are in words; None where that is not known or can't be read."""
    try:
        return _kind(source)
    except OSError:
        return None


def _kind(source: bytes | Path) -> str | None:
    if isinstance(source, Path):
        with source.open("rb") as file:
            data = file.read(HEAD)
    else:
        data = source[:HEAD]
    for at, signature, words in _SIGNATURES:
        if data.startswith(signature, at):
            return words
    if data.startswith(b"PK\x03\x04"):
        return _archive(source if isinstance(source, Path) else io.BytesIO(source))
    if data.startswith(_IMAGES) or (data.startswith(b"RIFF") and data[8:12] == b"WEBP"):
        return "an image"
    return _text(data)


def _archive(file: Path | BinaryIO) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError):
        return "a damaged ZIP archive"
    if "model.weights.h5" in names:
        return "a Keras model (.keras)"
    if any(name.endswith("data.pkl") for name in names):
        return "a PyTorch model (.pt, .pth)"
    return "a ZIP archive"


def _text(start: bytes) -> str | None:
    head = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "an HTML page, such as a site sends in place of a file; download it again"
    if b"<svg" in head:
        return "an SVG drawing"
    if head.startswith(b"<?xml"):
        return "an XML file"
    if head and not re.search(rb"[^\t\n\r\x20-\x7e\x80-\xff]", head) and _is_utf8(start):
        return "a text file"
    return None


def _is_utf8(start: bytes) -> bool:
    try:
        start[:-4].decode()  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return True
