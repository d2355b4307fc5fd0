"""``tfproj data list``, ``check``, ``prepare`` and ``convert``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tfproj.cli.data_report import format_report
from tfproj.cli.options import (
    SuggestingGroup,
    common,
    print_json,
    runs_dir,
    say_notes,
    say_warnings,
)
from tfproj.cli.terminal import quiet_libraries
from tfproj.core.files import read_object
from tfproj.data import DATASETS, DataOptions, load_dataset
from tfproj.data.check import check_dataset, split_dataset
from tfproj.data.dataset import Dataset
from tfproj.data.registry import read_dataset, require_sound
from tfproj.data.sources.formats.recognise import FORMATS
from tfproj.data.write_folder import write_folder
from tfproj.errors import InputError
from tfproj.runs.run import Run, find_run


@click.group(cls=SuggestingGroup)
def data() -> None:
    """List, check, prepare and convert data sets.

    DATA is a name, tfds:NAME, or a directory: class folders (with or without train, val, test
    above them), images/ and masks/ with a classes.csv, or a format of another tool.
    """


@data.command("list")
@common
def list_data(as_json: bool) -> None:
    """List the data sets by name."""
    rows = [(name, source.task, source.summary) for name, source in DATASETS.items()]
    if as_json:
        print_json([dict(zip(("name", "task", "summary"), row, strict=True)) for row in rows])
        return
    rows += [
        ("tfds:NAME", "either", "any TensorFlow Datasets set with image and label or mask"),
        ("DIRECTORY", "either", "class folders, or images/ + masks/ + classes.csv"),
        *(("--format " + name, known.task, known.summary) for name, known in FORMATS.items()),
    ]
    click.echo("\n".join(f"{name:<20}{task:<10}{summary}" for name, task, summary in rows))


def _data_options(command: Callable) -> Callable:
    """The flags that find a data set."""
    for option in (
        click.option("--limit", type=click.IntRange(min=1), help="Only so many training examples."),
        click.option("--val-fraction", type=float, default=0.1, show_default=True),
        click.option("--group-modulus", type=click.IntRange(min=1), help="See 'tfproj train'."),
        click.option("--data-dir", help="Where the named data set lies."),
        click.option("--format", help="How a directory is laid out. [default: recognised]"),
        click.argument("data"),
    ):
        command = option(command)
    return command


@data.command()
@_data_options
@click.option(
    "--deep",
    is_flag=True,
    help="Also compare the images: label errors, near-duplicates, leaks, images out of place.",
)
@click.option("--html", metavar="FILE", help="With --deep: a page of it, with the pictures.")
@click.option("--run", metavar="RUN", help="With --deep: keep it with RUN, whose report shows it.")
@runs_dir
@click.option("--multi-label", is_flag=True, help="Images have any number of the classes.")
@common
def check(
    data: str, deep: bool, html: str | None, run: str | None, runs_dir: str, as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Look at every file of DATA; exit code 1 where training would go wrong.

    What --deep finds is probable and not certain, so it changes no exit code. It takes the extra
    'train'.
    """
    if (html or run) and not deep:
        raise InputError(f"{'--html' if html else '--run'} shows what --deep finds; add --deep")
    with quiet_libraries():
        dataset = split_dataset(data, DataOptions(**options))
        keep = _keepers(dataset, html, find_run(run, runs_dir) if run else None)
        report = check_dataset(dataset)
        if deep:
            from tfproj.evaluation import data_doctor  # noqa: PLC0415 (TensorFlow, for this alone)

            found = data_doctor.examine(dataset, report.findings)
            report = report.with_deep(found)
            record = data_doctor.record(dataset, found) if keep else {}
            for write in keep:
                print(f"written: {write(record)}", file=sys.stderr)
    if as_json:
        print_json(report.to_dict())
    else:
        click.echo(format_report(report))
    if not report.ok:
        raise click.exceptions.Exit(1)


def _keepers(dataset: Dataset, html: str | None, run: Run | None) -> list[Callable]:
    """What writes the findings of ``--deep`` with their pictures, each place tried before."""
    keep: list[Callable] = []
    if html:
        from tfproj.report import new_data_page  # noqa: PLC0415 (few want a page)

        keep.append(new_data_page(html))
    if run:
        run.require(run.splits_file)
        if read_object(run.splits_file)["fingerprint"] != dataset.fingerprint():
            raise InputError(
                f"{run.path}: was not trained on these splits of these images; give DATA and the "
                f"options that its {run.config_file.name} has"
            )
        keep.append(run.write_data_check)
    return keep


@data.command()
@_data_options
@click.option("--output", required=True, metavar="DIR", help="A new or empty directory.")
@common
def prepare(data: str, output: str, as_json: bool, **options: Any) -> None:
    """Download, build or draw DATA, and write it as a directory of images.

    The directory can be given to --data again, and holds the splits as tfproj makes them.
    """
    with quiet_libraries():
        dataset = load_dataset(data, options=DataOptions(**options))
        path = write_folder(dataset, output)
    _say_written(dataset, path, as_json)


@data.command()
@click.argument("source")
@click.option("--format", help="How SOURCE is laid out. [default: recognised]")
@click.option("--output", required=True, metavar="DIR", help="A new or empty directory.")
@common
def convert(source: str, output: str, as_json: bool, **options: Any) -> None:
    """Write SOURCE, a directory in any format that is read, in the plain layout.

    That is class folders, or images/ and masks/ with a classes.csv, below the splits of SOURCE.
    Images are copied as they are.
    """
    with quiet_libraries():
        dataset = read_dataset(source, None, DataOptions(**options))
        require_sound(dataset, dataset.findings)
        say_notes(dataset)
        say_warnings(dataset)
        path = write_folder(dataset, output)
    _say_written(dataset, path, as_json)


def _say_written(dataset: Dataset, path: Path, as_json: bool) -> None:
    counts = {name: len(split) for name, split in dataset.splits.items()}
    if as_json:
        print_json({"path": str(path), "task": dataset.task, "examples": counts})
    else:
        click.echo(f"{path}: " + ", ".join(f"{n:,} {name}" for name, n in counts.items()))
