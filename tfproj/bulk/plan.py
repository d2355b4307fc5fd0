"""From what is to be predicted to tasks: images as they come, without what the parts hold."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfproj.bulk import places
from tfproj.bulk.parts import Parts, arrow
from tfproj.bulk.task import clean
from tfproj.errors import InputError, first_line
from tfproj.inference.image_files import each_image

PARQUET = b"PAR1"  # how its files begin


@dataclass
class Plan:
    """Tasks, and what was left out of them.

    Attributes:
        left_out: images that parts hold, or that came before in the list.
        errors: how many of what the parts hold are errors.
    """

    parts: Parts
    left_out: int = 0
    errors: int = 0

    def tasks(self, images: Iterable[str], size: int) -> Iterator[list[str]]:
        """Lists of ``size`` images; the driver keeps some 100 bytes for each image."""
        seen = set()
        for row in self.parts.held({"image": str, "error": str}):
            seen.add(hash(row["image"]))
            self.errors += row["error"] is not None
        some: list[str] = []
        for image in images:
            key = hash(clean(image))
            if key in seen:
                self.left_out += 1
                continue
            seen.add(key)
            some.append(image)
            if len(some) == size:
                yield some
                some = []
        if some:
            yield some


def find(
    arguments: Sequence[str], output: str, left_out: list[Path] | None = None
) -> Iterator[str]:
    """Images of files, folders, patterns and URLs, one by one; local paths become absolute.

    Args:
        left_out: as in :func:`tfproj.inference.image_files.find_images`.

    Raises:
        InputError: one of them does not exist, or holds no image.
    """
    given = [places.plain(argument) for argument in arguments]
    local = [argument for argument in given if not places.is_remote(argument)]
    yield from map(os.path.abspath, each_image(local, output, left_out))
    for url in filter(places.is_remote, given):
        yield from places.search(url, output)


def listed(file: str, column: str | None) -> Iterator[str]:
    """Images that a text file names, one a line, or a column of a Parquet file.

    Raises:
        InputError: the list can't be read, or has no such column.
    """
    try:
        data = places.read(places.plain(file))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from None
    if not column and data.startswith(PARQUET):
        raise InputError(f"{file}: is Parquet; say with --column which column names the images")
    # Windows' editors begin a text with a mark.
    lines = () if column else data.decode("utf-8-sig", errors="surrogateescape").splitlines()
    names = _column(data, file, column) if column else iter(lines)
    first = list(itertools.islice(names, 1))  # or a wrong column shows when the rest is done
    paths = map(places.plain, filter(None, itertools.chain(first, names)))
    return (path if places.is_remote(path) else os.path.abspath(path) for path in paths)


def _column(data: bytes, file: str, column: str) -> Iterator[str]:
    pyarrow = arrow()
    try:
        table = pyarrow.parquet.ParquetFile(io.BytesIO(data))
        for batch in table.iter_batches(columns=[column]):
            yield from map(str, batch.column(column).drop_null().to_pylist())
    except (pyarrow.ArrowException, KeyError) as error:
        raise InputError(f"{file}: no column {column!r} ({first_line(error)})") from None
