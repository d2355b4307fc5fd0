"""What ``tfproj data check`` found, as plain values and as text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfproj.data.findings import Finding

SCHEMA = 1
# So many lines for one code; --json has them all.
SHOWN = 20


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
    """

    examples: int
    classes: Mapping[str, ClassCount]
    height: tuple[int, int, int] | None
    width: tuple[int, int, int] | None
    modes: Mapping[str, int]


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
        record = {"schema": SCHEMA, **dataclasses.asdict(self), "ok": self.ok}
        record["classes"] = list(self.classes)
        record["problems"] = [
            {"severity": f.severity, "file": f.path, "message": f.message, "kind": f.code}
            for f in self.findings
        ]
        del record["findings"]
        for split in record["splits"].values():
            for side in ("height", "width"):
                values = split[side]
                split[side] = values and dict(zip(("min", "median", "max"), values, strict=True))
        return record


def format_report(report: Report) -> str:
    """The report for people: splits, classes, and what was found last."""
    parts = [
        f"{report.name}: {report.task}, {len(report.classes)} classes, from {report.origin}",
        _table([("split", "examples", "height", "width", "modes"), *_split_rows(report)]),
        _table(_class_rows(report)),
        "\n".join(_finding_lines(report.findings)),
    ]
    return "\n\n".join(part for part in parts if part)


def _split_rows(report: Report) -> list[tuple[str, ...]]:
    rows = []
    for name, split in report.splits.items():
        modes = ", ".join(f"{mode} {count:,}" for mode, count in split.modes.items())
        sides = (_sides(split.height), _sides(split.width))
        rows.append((name, f"{split.examples:,}", *sides, modes or "-"))
    return rows


def _sides(values: tuple[int, int, int] | None) -> str:
    if values is None:
        return "-"
    low, median, high = values
    return str(low) if low == high else f"{low}..{high} (median {median})"


def _class_rows(report: Report) -> list[tuple[str, ...]]:
    """A column of counts for each split and, for segmentation, one of pixel shares."""
    shares = report.task == "segment"
    header = ["class"]
    for split in report.splits:
        header += [f"{split} images", f"{split} pixels"] if shares else [split]
    rows = []
    for name in report.classes:
        row = [name]
        for split in report.splits.values():
            count = split.classes[name]
            row.append(f"{count.images:,}")
            if shares:
                row.append("-" if count.pixels is None else f"{count.pixels:.1%}")
        rows.append(tuple(row))
    return [tuple(header), *rows] if rows else []


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned: the first to the left, the others to the right."""
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _finding_lines(findings: Sequence[Finding]) -> list[str]:
    alike: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding.severity, finding.code), []).append(finding)
    lines = []
    for (severity, code), members in alike.items():
        lines += [f"{severity}: {finding}" for finding in members[:SHOWN]]
        if len(members) > SHOWN:
            lines.append(f"{severity}: ... and {len(members) - SHOWN:,} more ({code})")
    errors = sum(finding.severity == "error" for finding in findings)
    counts = (_counted(errors, "error"), _counted(len(findings) - errors, "warning"))
    return [*lines, f"{counts[0]}, {counts[1]}" if findings else "no problems found"]


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
