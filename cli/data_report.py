"""The text of ``tfproj data check``."""

from __future__ import annotations

from collections.abc import Sequence

from tfproj.cli.options import table
from tfproj.core.words import duration, plural
from tfproj.data.check_report import ClassCount, Deep, Report
from tfproj.data.findings import Finding

# So many lines for one code; --json has them all.
SHOWN = 20


def format_report(report: Report) -> str:
    """The report for people: splits, classes, and what was found last."""
    parts = [
        f"{report.name}: {report.task}, {len(report.classes)} classes, from {report.origin}",
        table(_split_rows(report), ["split", "examples", "height", "width", "modes"]),
        table(_class_rows(report), _class_header(report)) if report.classes else "",
        "\n".join(_deep_lines(report.deep)) if report.deep else "",
        "\n".join(_finding_lines(report.findings)),
    ]
    return "\n\n".join(part for part in parts if part)


def _split_rows(report: Report) -> list[list[str]]:
    rows = []
    for name, split in report.splits.items():
        modes = ", ".join(f"{mode} {count:,}" for mode, count in split.modes.items())
        sides = (_sides(split.height), _sides(split.width))
        rows.append([name, f"{split.examples:,}", *sides, modes or "-"])
    return rows


def _sides(values: tuple[int, int, int] | None) -> str:
    if values is None:
        return "-"
    low, median, high = values
    return str(low) if low == high else f"{low}..{high} (median {median})"


def _class_header(report: Report) -> list[str]:
    kinds = ("images", "pixels") if report.task == "segment" else ()
    columns = [f"{split} {kind}" for split in report.splits for kind in kinds]
    return ["class", *(columns or report.splits)]


def _class_rows(report: Report) -> list[list[str]]:
    """The count of each split and, for segmentation, the share of its pixels; then void."""
    rows = []
    void = any(split.void for split in report.splits.values())
    for name in (*report.classes, *[None] * void):
        row = [name or "(void)"]
        for split in report.splits.values():
            count = split.classes[name] if name else split.void or ClassCount(0, 0.0)
            row.append(f"{count.images:,}")
            if report.task == "segment":
                row.append("-" if count.pixels is None else f"{count.pixels:.1%}")
        rows.append(row)
    return rows


def _deep_lines(deep: Deep) -> list[str]:
    """What was looked at, and what could not be looked for."""
    how = f"compared by the features of {deep.features} in {duration(deep.seconds)}"
    lines = [f"{plural(deep.images, 'image')} {how}"]
    return [*lines, *(f"not looked for: {words}" for words in deep.unjudged)]


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
    counts = (plural(errors, "error"), plural(len(findings) - errors, "warning"))
    return [*lines, f"{counts[0]}, {counts[1]}" if findings else "no problems found"]
