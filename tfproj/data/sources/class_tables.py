"""The table that says what mask files hold: ``classes.csv``, or one that another tool writes."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from tfproj.core.words import nfc
from tfproj.data.findings import Findings
from tfproj.data.masks import IGNORE, MaskCoding
from tfproj.data.sources.classes import Classes
from tfproj.data.sources.tables import (
    colors_of,
    mask_coding,
    read_classes,
    read_csv,
    read_text,
    require_classes,
)
from tfproj.errors import InputError

# Name -> a line of it: CVAT's Pascal VOC, CamVid, LabelMe's converter.
TEXTS = {
    "labelmap.txt": r"(?P<name>[^:]+):(?P<r>\d+),(?P<g>\d+),(?P<b>\d+)(:.*)?",
    "label_colors.txt": r"(?P<r>\d+)\s+(?P<g>\d+)\s+(?P<b>\d+)\s+(?P<name>.+)",
    "class_names.txt": r"(?P<name>.+)",
}
CSV = "class_dict.csv"  # name,r,g,b, as CamVid is handed on
NAMES = ("classes.csv", *TEXTS, CSV)


@dataclass(frozen=True)
class ClassTable:
    """Classes, and what mask files hold for them.

    Attributes:
        names, colors: of the classes, in label order; colors may be empty.
        coding: of all that mask files hold, void included.
        path: the file that says so.
        indices: class index, or void, for each entry of ``coding``; empty where they are equal.
    """

    names: tuple[str, ...]
    colors: tuple[str, ...]
    coding: MaskCoding
    path: Path
    indices: tuple[int, ...] = ()

    @classmethod
    def of_any_value(cls, folder: Path) -> ClassTable:
        """In which each value is a class, without a name: where the table can't be read."""
        return cls((), (), MaskCoding.plain(256), folder / "classes.csv")

    @property
    def class_values(self) -> tuple[int, ...]:
        """What a mask file holds for each class."""
        entries = self.indices or range(len(self.names))
        return tuple(self.coding.values[entries.index(i)] for i in range(len(self.names)))

    @property
    def void(self) -> bool:
        """Whether masks may hold pixels that are not to be counted."""
        return self.coding.void or IGNORE in self.indices


def class_table(folder: Path, findings: Findings) -> ClassTable:
    """The table that lies in a directory; InputError where none does, or it is damaged."""
    rows, path = class_rows(folder, findings)
    return table_of(rows, path, spelled=path.name == "classes.csv")


def class_rows(folder: Path, findings: Findings) -> tuple[list[dict[str, str]], Path]:
    """Rows of ``name``, and ``color`` or ``value``, and the file that they are from."""
    there = [folder / name for name in NAMES if (folder / name).is_file()]
    for path in there[1:]:
        findings.warn(path, "ignored", f"ignored: {there[0].name} says what masks hold")
    if not there or there[0].name == "classes.csv":
        return read_classes(folder, findings, required=True), folder / "classes.csv"
    return _rows(there[0]), there[0]


def _rows(path: Path) -> list[dict[str, str]]:
    if path.name == CSV:
        lines = read_csv(path, "name", "r", "g", "b")
    else:
        lines = []
        for number, line in enumerate(read_text(path).splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                if not (match := re.fullmatch(TEXTS[path.name], line.strip())):
                    raise InputError(f"{path}: line {number}: {line[:40]!r} is no class")
                lines.append(match.groupdict())
    return [{"name": nfc(line["name"].strip()), **_color(line, path)} for line in lines]


def _color(line: dict[str, str], path: Path) -> dict[str, str]:
    channels = [line[key] for key in "rgb" if key in line]
    if not all(re.fullmatch("[0-9]{1,3}", text) and int(text) < 256 for text in channels):
        raise InputError(f"{path}: {line['name']!r} has a color that is not of 0..255")
    return {"color": "#" + "".join(f"{int(text):02X}" for text in channels)} if channels else {}


def table_of(
    rows: list[dict[str, str]],
    path: Path,
    void: tuple[int, str] | None = None,
    spelled: bool = False,
) -> ClassTable:
    """The table with these rows of ``name``, and ``color`` or ``value``.

    Args:
        void: value and color of pixels that are not to be counted, where no class has them.
        spelled: see :class:`Classes`.
    """
    require_classes(rows, path)
    classes = Classes([row["name"] for row in rows], path, spelled=spelled)
    indices = [classes.values[row["name"]] for row in rows]
    colors, coding = colors_of(rows), mask_coding(rows, path)
    firsts = [indices.index(index) for index in range(len(classes.names))]
    if void is not None and void[0] not in coding.values and void[1] not in coding.colors:
        indices.append(IGNORE)
        more = (*coding.colors, void[1]) if coding.colors else ()
        coding = MaskCoding((*coding.values, void[0]), more, coding.stated)
    coding = dataclasses.replace(coding, void=IGNORE not in coding.values)
    return ClassTable(
        classes.names,
        tuple(colors[entry] for entry in firsts) if colors else (),
        coding,
        path,
        tuple(indices),
    )
