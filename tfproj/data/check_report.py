"""What ``tfproj data check`` found, as plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfproj.data.findings import Finding, Suspicion

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
class Deep:
    """What ``--deep`` has looked at.

    Attributes:
        findings: by kind, the surest first.
        images: how many pictures.
        features: by what they were compared.
        seconds: it took.
        unjudged: what could not be looked for, and why.
    """

    findings: tuple[Suspicion, ...]
    images: int
    features: str
    seconds: float
    unjudged: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """A checked data set.

    Attributes:
        name, task, origin, classes: as in :class:`tfproj.data.dataset.Dataset`.
        splits: by ``train``, ``val``, ``test``.
        findings: errors first, then as found; those of ``deep`` come last.
        deep: what ``--deep`` has looked at.
    """

    name: str
    task: str
    origin: str
    classes: tuple[str, ...]
    splits: Mapping[str, SplitReport]
    findings: tuple[Finding, ...]
    deep: Deep | None = None

    def with_deep(self, deep: Deep) -> Report:
        """And what was found among the pictures."""
        return dataclasses.replace(self, deep=deep, findings=(*self.findings, *deep.findings))

    @property
    def ok(self) -> bool:
        """Whether a training makes sense: no errors, whatever the warnings."""
        return not any(finding.severity == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, for ``--json``."""
        record = {"schema": SCHEMA, **dataclasses.asdict(self)}
        del record["findings"]
        if self.deep is None:
            del record["deep"]
        else:
            del record["deep"]["findings"]
        record["classes"] = list(self.classes)
        record["problems"] = [
            {"severity": f.severity, "file": f.path, "message": f.message, "kind": f.code}
            | (dict(f.facts) if isinstance(f, Suspicion) else {})
            for f in self.findings
        ]
        record["ok"] = self.ok
        for split in record["splits"].values():
            for side in ("height", "width"):
                values = split[side]
                split[side] = values and dict(zip(("min", "median", "max"), values, strict=True))
        return record
