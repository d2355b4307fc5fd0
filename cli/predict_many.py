"""``tfproj predict --engine``: the same answers for millions of images, on Dask or Ray."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfproj.cli.options import print_json
from tfproj.cli.terminal import Progress, quiet_libraries
from tfproj.core.words import printable
from tfproj.errors import InputError
from tfproj.inference.image_files import SHOWN, say_left_out
from tfproj.inference.session import providers_of

if TYPE_CHECKING:
    from tfproj.bulk.task import Job

# Options that belong to --engine, and those that don't go with it.
OWN = ("workers", "address", "list_file", "column", "part_size")
OTHERS = ("overlay", "explain", "html", "selftest")


def engine_options(command: Callable) -> Callable:
    """Add --engine, and what goes with it."""
    options = (
        click.option("--engine", type=click.Choice(["dask", "ray"]),
                     help="Spread the work over processes; the same call continues after a kill."),
        click.option("--workers", type=click.IntRange(min=1),
                     help="Processes on this machine. [default: its CPUs]"),
        click.option("--address", metavar="URL", help="Of a running cluster, with --engine."),
        click.option("--list", "list_file", metavar="FILE",
                     help="Images by name, one a line, or a column of Parquet, with --engine."),
        click.option("--column", metavar="NAME", help="Which column of a Parquet --list."),
        click.option("--part-size", type=click.IntRange(min=1),
                     help="Images of a part, with --engine. [default: 1000]"),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def check(options: dict[str, Any]) -> None:
    """InputError where options exclude each other."""

    def flags(names: tuple[str, ...]) -> str:
        given = [name for name in names if options[name]]
        return ", ".join("--" + name.removesuffix("_file").replace("_", "-") for name in given)

    if not options["engine"]:
        if flags(OWN):
            raise InputError(f"{flags(OWN)}: only with --engine dask or ray")
        if options["file_format"] == "parquet":
            raise InputError("--format parquet: only with --engine dask or ray")
        return
    if flags(OTHERS):
        raise InputError(f"{flags(OTHERS)}: not with --engine")
    if options["output"] is None or options["file_format"] == "jsonl":
        raise InputError("--engine needs --output, and writes csv or parquet")
    if options["workers"] and options["address"]:
        raise InputError("--workers and --address exclude each other: a cluster has its own")
    if options["column"] and not options["list_file"]:
        raise InputError("--column needs --list")


def run(model: str, images: tuple[str, ...], as_json: bool, options: dict[str, Any]) -> None:
    """Predict what the output does not hold; exit code 1 where any image could not be read.

    Args:
        model: an ONNX file, or a name of the package.
        images: files, folders, patterns and URLs.
    """
    # Here, since a call without an engine needs none of it.
    from tfproj.bulk import engines, plan, task  # noqa: PLC0415

    engines.require(options["engine"], options["address"])
    listed = plan.listed(options["list_file"], options["column"]) if options["list_file"] else ()
    job, others = _job(model, options), list[Path]()
    found = itertools.chain(plan.find(images, job.output, others), listed)
    first = list(itertools.islice(found, 1))  # what is not there is said before the output is begun
    with quiet_libraries():
        job = task.begin(job)
    made = plan.Plan(job.parts)
    tasks = made.tasks(itertools.chain(first, found), job.part_size)
    done = errors = 0
    with Progress(None, "images") as progress:
        for answer in engines.run(
            options["engine"], job, tasks, options["workers"], options["address"]
        ):
            progress.clear()
            for text in answer.errors[: max(0, SHOWN - errors)]:
                click.echo(f"error: {printable(text)}", err=True)
            done, errors = done + answer.images, errors + len(answer.errors)
            progress.step(answer.images)
    if others:
        click.echo(f"note: {printable(say_left_out(others))}", err=True)
    _say(as_json, {"images": done, "errors": errors, "left_out": made.left_out,
                   "earlier_errors": made.errors, "output": job.output})  # fmt: skip


def _job(model: str, options: dict[str, Any]) -> Job:
    from tfproj.bulk import places, task  # noqa: PLC0415 (as above)

    output = places.plain(options["output"])
    provider = [options["provider"]] if options["provider"] else None
    given = {"flip": options["flip"], "unknown_below": options["unknown_below"],
             "threads": options["threads"] or 1,
             "providers": tuple(providers_of(options["device"], provider)),
             "tiles": options["tiles"] if options["tile_scale"] is None
             else options["tile_scale"]}  # fmt: skip
    return task.Job(
        model,
        # Workers may have another working directory.
        output.rstrip("/") if places.is_remote(output) else os.path.abspath(output),
        options["file_format"] or "csv",
        options["part_size"] or task.PART_SIZE,
        options["top"],
        options["batch_size"],
        tuple(sorted(given.items())),
    )


def _say(as_json: bool, found: dict[str, Any]) -> None:
    if as_json:
        print_json(found)
    else:
        left_out = f"; {found['left_out']:,} left out, which the parts hold or the list repeats"
        predicted = found["images"] - found["errors"]
        click.echo(f"{predicted:,} images predicted{left_out * (found['left_out'] > 0)}")
        click.echo(f"parts: {found['output']}/parts")
    errors = found["errors"] + found["earlier_errors"]
    if errors:
        click.echo(f"{errors:,} images could not be read: see the column error", err=True)
        raise click.exceptions.Exit(1)
