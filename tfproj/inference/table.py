"""Tables of predictions that grow line by line and can be continued after an interruption."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tfproj.core.files import csv_line, cut_last_line, read_json, write_json, writing
from tfproj.errors import InputError

FORMATS = ("csv", "jsonl")
# Names that a table has in its directory, complete or not.
TABLES = [f"predictions.{name}{end}" for name in FORMATS for end in ("", ".partial")]


class Output:
    """``predictions.csv`` or ``.jsonl`` in a directory, or nothing where there is none.

    While it is written it is called ``.partial``; beside it lies ``.partial.json`` with the
    settings, so that an interrupted table is only continued with the same ones.

    Attributes:
        done: images that an interrupted table already holds, and the picture of each, or "".
    """

    def __init__(self, folder: Path | None, file_format: str = "csv"):
        if file_format not in FORMATS:
            raise InputError(f"format {file_format!r}; expected one of {', '.join(FORMATS)}")
        self.done: dict[str, str] = {}
        self._format = file_format
        self._file: IO[str] | None = None
        self._header: list[str] | None = None
        if folder is not None:
            self.path = folder / f"predictions.{file_format}"
            self._partial = folder / f"predictions.{file_format}.partial"
            self._settings = folder / f"predictions.{file_format}.partial.json"

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, folder: Path | None, file_format: str, settings: dict[str, Any], resume: bool
    ) -> Iterator[Output]:
        """The table, complete under its own name when the block ends well.

        Args:
            folder: where it goes, made if need be; None: nowhere.
            file_format: ``csv`` or ``jsonl``.
            settings: what the rows depend on, plain JSON types.
            resume: continue an interrupted table if there is one.

        Raises:
            InputError: not writable, or an interrupted table that is damaged or of other settings.
        """
        table = cls(folder, file_format)
        if folder is None:
            yield table
            return
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if resume and table._partial.exists():
                table._continue(settings)
            else:
                write_json(table._settings, settings)
            # Names of files may hold bytes that are no UTF-8; they are written as they are.
            table._file = table._partial.open(
                "a" if table.done else "w", encoding="utf-8", errors="surrogateescape", newline=""
            )
        with table._file:
            yield table
        os.replace(table._partial, table.path)
        table._settings.unlink(missing_ok=True)

    def write(self, record: dict[str, Any]) -> None:
        """Add one record; it is handed to the system at once, so a kill loses none."""
        if self._file is None:
            return
        if self._format == "csv":
            row = flat(record)
            if self._header is None:
                self._header = list(row)
                self._file.write(csv_line(self._header))
            self._file.write(csv_line(row.values()))
        else:
            self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def _continue(self, settings: dict[str, Any]) -> None:
        if read_json(self._settings) != json.loads(json.dumps(settings)):
            raise InputError(
                f"{self._partial}: written with another model or other options; resume with the "
                "same, or start anew without --resume"
            )
        cut_last_line(self._partial)
        with self._partial.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            try:
                rows = self._csv_rows(file) if self._format == "csv" else map(json.loads, file)
                self.done.update((row["image"], _picture(row)) for row in rows)
            except (ValueError, KeyError, TypeError, IndexError, csv.Error):
                raise InputError(f"{self._partial}: damaged; start anew without --resume") from None

    def _csv_rows(self, file: IO[str]) -> Iterator[dict[str, str]]:
        header = None
        for row in csv.reader(file):
            if header is None:
                header = row
            elif len(row) != len(header):
                raise ValueError
            else:
                self._header = header
                yield dict(zip(header, row, strict=True))


def _picture(row: dict[str, Any]) -> str:
    return str(row.get("mask") or row.get("explanation", ""))


def flat(record: dict[str, Any]) -> dict[str, Any]:
    """A record as one row: column -> value."""
    row = {"image": record["image"]}
    if "shares" in record:
        row["mask"] = record.get("mask", "")
        row.update({f"share_{name}": share for name, share in record["shares"].items()})
        return row
    if "labels" in record:
        row["labels"] = "|".join(answer["label"] for answer in record["labels"])
    for rank, answer in enumerate(record["top"], 1):
        suffix = "" if rank == 1 else f"_{rank}"
        row[f"label{suffix}"] = answer["label"]
        row[f"probability{suffix}"] = answer["probability"]
    if "label" in record:  # with a threshold, the first label may be "unknown"
        row["label"], row["confidence"] = record["label"], record["confidence"]
    more = ("unknown_score", "explanation")
    row.update({name: record[name] for name in more if name in record})
    return row
