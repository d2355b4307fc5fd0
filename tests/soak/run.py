"""Try for so many minutes what must hold, and say what was tried, how often, and what failed.

    python -m tests.soak                              # an hour, as `make soak`
    python -m tests.soak --minutes 10 --only crashes
    python -m tests.soak --only "crashes: tune" --trial 17 --seed 3   # one attempt again
    python -m tests.soak --json FILE --resume         # goes on after an interruption

The minutes are divided among the cases by their weights; what one does not need, the others get.
The seed says in which order they come: in few minutes some are left out.
The exit code is 1 where anything failed. The folder of a failed attempt is kept, and named.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tfproj.core.files import write_json, write_text
from tfproj.runs import environment

from . import crashes, faults, hostile, load, workers
from .frame import Case, Counts, record

# A module a subject, each with a list of cases.
CASES: list[Case] = [*crashes.CASES, *workers.CASES, *faults.CASES, *load.CASES]
CASES += hostile.CASES
LATE = "no time was left"
BEGIN, END = "<!-- soak: begin -->", "<!-- soak: end -->"


def main(argv: list[str] | None = None) -> None:
    """The command line; exits with 1 where anything failed."""
    options = _parser().parse_args(argv)
    cases = [case for case in CASES if not options.only or case.name.startswith(options.only)]
    if not cases:
        sys.exit(f"error: no case begins with {options.only!r}; see --list")
    if options.list:
        print("\n".join(case.name for case in cases))
        return
    report = soak(cases, options)
    if options.markdown:
        _into_page(options.markdown, table(report))
    print(table(report))
    sys.exit(any(row["failed"] for row in report["cases"].values()))


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.split("\n")[0])
    made.add_argument("--minutes", type=float, default=60.0, help="in all [60]")
    made.add_argument("--only", metavar="NAME", help="cases whose name begins so")
    made.add_argument("--list", action="store_true", help="name the cases")
    made.add_argument("--seed", type=int, default=0, help="of all that is drawn [0]")
    made.add_argument("--trial", type=int, help="only this attempt, of each case")
    made.add_argument("--most", type=int, help="at most so many attempts of each case")
    made.add_argument("--json", type=Path, metavar="FILE", help="the report, after each case")
    made.add_argument(
        "--resume", action="store_true", help="try what FILE has not, with the same seed"
    )
    made.add_argument("--markdown", type=Path, metavar="FILE", help="the table, between its marks")
    return made


def soak(cases: list[Case], options: argparse.Namespace) -> dict[str, Any]:
    """The report: ``minutes``, ``seed``, ``machine``, and ``cases`` by name."""
    report = {"minutes": options.minutes, "seed": options.seed, "machine": _machine(), "cases": {}}
    if options.resume and options.json and options.json.is_file():
        known = json.loads(options.json.read_text(encoding="utf-8"))
        done = {name: row for name, row in known["cases"].items() if row["skipped"] != LATE}
        report["cases"] = done if known["seed"] == options.seed else {}
        report["minutes"] += known["minutes"] if report["cases"] else 0
    cases = [case for case in cases if case.name not in report["cases"]]
    random.Random(options.seed).shuffle(cases)
    end = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="soak-shared-") as folder:
        for index, case in enumerate(cases):
            share = case.weight / sum(other.weight for other in cases[index:])
            seconds = share * (end - time.monotonic())
            print(f"{case.name}: {max(0, seconds):.0f} s ...", file=sys.stderr, flush=True)
            late = Counts(skipped=LATE)
            counts = _run(case, seconds, options, Path(folder)) if seconds > 0 else late
            print(f"{case.name}: {_line(counts)}", file=sys.stderr, flush=True)
            report["cases"][case.name] = record(counts)
            if options.json:
                write_json(options.json, report)
    return report


def _run(case: Case, seconds: float, options: argparse.Namespace, shared: Path) -> Counts:
    numbers = range(min(case.most, options.most or case.most))
    if options.trial is not None:
        numbers = range(options.trial, options.trial + 1)
    return case.run(seconds, options.seed, shared, numbers)


def _line(counts: Counts) -> str:
    if counts.skipped:
        return f"skipped: {counts.skipped}"
    return f"{counts.tried} tried, {counts.failed} failed, {counts.seconds:.0f} s"


def _machine() -> dict[str, Any]:
    facts = environment.describe("float32")
    return {key: facts[key] for key in ("cpu", "cpus", "platform", "versions") if key in facts}


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = ["| what | tried | failed | seconds | |", "|---|---:|---:|---:|---|"]
    for name, row in sorted(report["cases"].items()):
        notes = f"skipped: {row['skipped']}" if row["skipped"] else "; ".join(row["notes"])
        notes = notes.replace("|", "\\|")
        counts = ("", "", "") if row["skipped"] else (
            f"{row['tried']:,}", f"{row['failed']:,}", f"{row['seconds']:.0f}"
        )  # fmt: skip
        lines.append("| " + " | ".join((name, *counts, notes)) + " |")
    cpu = report["machine"].get("cpu", "")
    command = f"`python -m tests.soak --minutes {report['minutes']:g} --seed {report['seed']}`"
    return "\n".join([*lines, "", f"{command}, {cpu}".rstrip(", ")])


def _into_page(page: Path, text: str) -> None:
    before, mark, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    if not mark or END not in rest:
        sys.exit(f"error: {page}: no {BEGIN} and {END}")
    write_text(page, f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
