"""Records of predictions on stdout: as text, CSV, JSON lines, or one JSON document."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import click

from tfproj.core.files import csv_line
from tfproj.core.words import printable
from tfproj.inference.table import flat


def print_records(records: Iterator[dict[str, Any]], failures: list, style: str) -> int:
    """Print each record when it comes, as text, csv, jsonl or one JSON document; count them."""
    count = 0
    # Settings are refused with the first record: stdout is then still empty.
    first = list(itertools.islice(records, 1))
    if style == "json":
        click.echo('{"predictions": [', nl=False)
    for record in itertools.chain(first, records):
        if style == "text":
            click.echo(printable(format_record(record)))
        elif style == "csv":
            row = flat(record)
            lines = ([] if count else [list(row)]) + [row.values()]
            click.echo("".join(map(csv_line, lines)).encode("utf-8", "surrogateescape"), nl=False)
        else:
            before = "" if style == "jsonl" else ",\n  " if count else "\n  "
            click.echo(before + json.dumps(record), nl=style == "jsonl")
        count += 1
    if style == "json":
        click.echo('\n], "failures": ' + json.dumps(failures) + "}")
    return count


def format_record(record: dict) -> str:
    """One line for people."""
    if "top" in record:
        answers = _listed(record["top"])
        if "labels" in record:
            given = _listed(record["labels"]) or "no label"
            more = f" (the most probable: {answers})"
            answers = given + more * (not record["labels"] or len(record["top"]) > 1)
        if record.get("label") == "unknown":
            far = record.get("unknown_score")
            sure = f"{record['confidence']:.4f}" if far is None else f"(score {far:.2f})"
            answers = f"unknown {sure} (perhaps {answers})"
    else:
        answers = ", ".join(f"{name} {share:.1%}" for name, share in record["shares"].items())
    picture = record.get("mask") or record.get("explanation")
    return f"{record['image']}: {answers}" + (f" -> {picture}" if picture else "")


def _listed(answers: list[dict[str, Any]]) -> str:
    return ", ".join(f"{answer['label']} {answer['probability']:.4f}" for answer in answers)
