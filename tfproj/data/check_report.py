"""What ``tfproj data check`` found, as plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfproj.data.findings import Finding

SCHEMA = 1


@dataclass(frozen=True)
class ClassCount:
    """One class in one split.

    Attributes:
        images: images of the class or, for segmentation, with at least one pixel of it.
        pixels: share of the split's pixels, 0..1, for segmentation; else None.
    """

    images: int
    pixels: float | None = None


@dataclass(frozen=True)
class SplitReport:
    """One split.

    Attributes:
        examples: how many there are, readable or not.
        classes: by class name, in label order; segmentation counts readable masks only.
        height, width: (smallest, median, largest) in pixels; None where nothing is readable.
        modes: images by Pillow mode, such as ``{"RGB": 812, "L": 1}``.
        void: pixels that are not to be counted; their share is one of all pixels, that of a class
            one of the others. None where there are none.
    """

    examples: int
    classes: Mapping[str, ClassCount]
    height: tuple[int, int, int] | None
    width: tuple[int, int, int] | None
    modes: Mapping[str, int]
    void: ClassCount | None = None


@dataclass(frozen=True)
class Report:
    """A checked data set.

    Attributes:
        name, task, origin, classes: as in :class:`tfproj.data.dataset.Dataset`.
        splits: by ``train``, ``val``, ``test``.
        findings: errors first, then as found.
    """

    name: str
    task: str
    origin: str
    classes: tuple[str, ...]
    splits: Mapping[str, SplitReport]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether a training makes sense: no errors, whatever the warnings."""
        return not any(finding.severity == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, for ``--json``."""
        record = {"schema": SCHEMA, **dataclasses.asdict(self)}
        del record["findings"]
        record["classes"] = list(self.classes)
        record["problems"] = [
            {"severity": f.severity, "file": f.path, "message": f.message, "kind": f.code}
            for f in self.findings
        ]
        record["ok"] = self.ok
        for split in record["splits"].values():
            for side in ("height", "width"):
                values = split[side]
                split[side] = values and dict(zip(("min", "median", "max"), values, strict=True))
        return record
