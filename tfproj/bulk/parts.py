"""The parts of an output: which settings they have, what they hold."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfproj.bulk import places
from tfproj.core.files import csv_line
from tfproj.errors import InputError, missing_extra, unknown_name

Row = dict[str, Any]
FORMATS = ("csv", "parquet")


@dataclass(frozen=True)
class Parts:
    """``parts/part-DIGEST.csv`` (or ``.parquet``) below a folder or URL.

    A part is called after the images in it: the same images make the same part, whoever writes it.
    """

    place: str
    file_format: str

    def __post_init__(self) -> None:
        if self.file_format not in FORMATS:
            raise unknown_name("unknown format", self.file_format, FORMATS)
        if self.file_format == "parquet":
            arrow()

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Keep the settings of a new output; InputError where one was begun with others."""
        url = f"{self.place}/settings.json"
        settings = json.loads(json.dumps(settings))
        try:
            known = dict(json.loads(places.read(url)))
        except FileNotFoundError:
            places.write(url, json.dumps(settings, indent=2).encode())
            return
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{url}: can't be read ({error}); choose another output") from None
        for key in {**settings, **known}:
            if known.get(key) != settings.get(key):
                raise InputError(
                    f"{self.place}: was begun with {key} {known.get(key)!r}, now it is "
                    f"{settings.get(key)!r}; give the same settings, or another output"
                )

    def name(self, images: Sequence[str]) -> str:
        """Of the part that holds these images."""
        return f"part-{digest(*images)}.{self.file_format}"

    def write(self, name: str, rows: Sequence[Row], columns: Mapping[str, type]) -> None:
        """A part, whole or not there."""
        dump = _to_csv if self.file_format == "csv" else _to_parquet
        places.write(f"{self.place}/parts/{name}", dump(rows, columns))

    def read(self, name: str, columns: Mapping[str, type]) -> list[Row] | None:
        """Some or all columns of a part; None where it isn't there.

        Raises:
            InputError: it is damaged.
        """
        url = f"{self.place}/parts/{name}"
        try:
            data = places.read(url)
            return (_from_csv if self.file_format == "csv" else _from_parquet)(data, columns)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise InputError(f"{url}: damaged ({error}); remove it") from None

    def held(self, columns: Mapping[str, type]) -> Iterator[Row]:
        """The rows of all parts."""
        for name in places.names(f"{self.place}/parts"):
            if name.startswith("part-"):
                yield from self.read(name, columns) or ()


def digest(*texts: str) -> str:
    """20 hexadecimal digits that follow from the texts alone."""
    joined = "\0".join(texts).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(joined, digest_size=10).hexdigest()


def _to_csv(rows: Sequence[Row], columns: Mapping[str, type]) -> bytes:
    lines = [columns, *([row[name] for name in columns] for row in rows)]
    return "".join(map(csv_line, lines)).encode()


def _from_csv(data: bytes, columns: Mapping[str, type]) -> list[Row]:
    def value(name: str, row: Row) -> Any:
        # An empty cell is an empty text only where the image was predicted.
        absent = row[name] == "" and (row["error"] or name == "error")
        return None if absent else columns[name](row[name])

    rows = csv.DictReader(io.StringIO(data.decode(), newline=""))
    return [{name: value(name, row) for name in columns} for row in rows]


def _to_parquet(rows: Sequence[Row], columns: Mapping[str, type]) -> bytes:
    package = arrow()
    kinds = {str: package.string(), float: package.float64()}
    schema = package.schema([(name, kinds[kind]) for name, kind in columns.items()])
    data = io.BytesIO()
    package.parquet.write_table(package.Table.from_pylist(rows, schema), data)
    return data.getvalue()


def _from_parquet(data: bytes, columns: Mapping[str, type]) -> list[Row]:
    return arrow().parquet.read_table(io.BytesIO(data), columns=list(columns)).to_pylist()


def arrow() -> Any:
    """The package pyarrow, with its module for Parquet."""
    try:
        import pyarrow.parquet  # noqa: PLC0415 (an extra, which CSV does not need)
    except ImportError:
        raise missing_extra("pyarrow", "bulk") from None
    return pyarrow
