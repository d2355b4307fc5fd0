"""``tfproj predict``: an ONNX file over images, without TensorFlow."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfproj.cli import predict_many
from tfproj.cli.options import common, print_json, runs_dir
from tfproj.cli.records import print_records
from tfproj.cli.terminal import Progress, TileProgress, quiet_libraries
from tfproj.core.files import exists
from tfproj.core.words import plural, printable
from tfproj.errors import InputError
from tfproj.inference.image_files import (
    Settings,
    find_images,
    require_apart,
    say_left_out,
    stream_files,
)
from tfproj.inference.predictor import Predictor
from tfproj.pretrained import means_pretrained, names, pretrained_file

if TYPE_CHECKING:
    from tfproj.report.predictions import PredictionPage


class Threshold(click.ParamType):
    """A number in 0..1, or ``auto``."""

    name = "P"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return value if value == "auto" else click.FloatRange(0, 1).convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is not in 0..1, nor 'auto'", param, ctx)


@click.command()
@click.argument("model")
@click.argument("images", nargs=-1)
@click.option("--output", metavar="DIR", help="Write predictions.csv, masks and overlays there.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["csv", "jsonl", "parquet"]),
    help="Of the table in --output [default: csv], or of what is printed without it.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted table in --output.")
@click.option(
    "--overlay", is_flag=True, help="Segmentation: also write the image with its mask on top."
)
@click.option(
    "--explain", is_flag=True, help="Classification: also write where the model looks, in colours."
)
@click.option("--html", metavar="FILE", help="Also write a page of the images and predictions.")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Classification: how many classes to show.",
)
@click.option(
    "--unknown-below",
    type=Threshold(),
    help="Classification: label an image 'unknown' if its calibrated probability is below P; "
    "'auto' if it is unlike the training images, by the file's own score. [default: off]",
)
@click.option(
    "--flip", is_flag=True, help="Average with the mirror image: a little better, half as fast."
)
@click.option(
    "--tiles",
    is_flag=True,
    help="Segmentation: take large images in overlapping tiles, at the scale of the training.",
)
@click.option(
    "--tile-scale",
    type=float,
    metavar="S",
    help="As --tiles, with S pixels of the model for one of the image.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True)
@click.option(
    "--threads", type=click.IntRange(min=1), help="[default: all CPUs this process may use]"
)
@click.option("--provider", metavar="NAME", help="onnxruntime execution provider. [default: CPU]")
@click.option("--device", metavar="cpu|cuda", help="In the place of --provider.")
@click.option(
    "--selftest",
    is_flag=True,
    help="Predict the images that the file carries and compare; IMAGES may be left out.",
)
@predict_many.engine_options
@runs_dir
@common
def predict(
    model: str, images: tuple[str, ...], runs_dir: str, as_json: bool, **options: Any
) -> None:
    """Predict IMAGES (files or directories) with MODEL: an ONNX file, a run, or a pretrained model.

    A file that can't be read is reported and left out; the others are predicted, and the exit
    code is 1 (2 where no file could be predicted).
    """  # fmt: skip
    predict_many.check(options)
    selftest = options.pop("selftest")
    pictured = options["output"] or options["html"] or not selftest
    if not images and pictured and not options["list_file"]:
        raise click.UsageError("Missing argument 'IMAGES...'.")
    if options["engine"]:
        path = model_file(model, runs_dir)
        predictor = Predictor(path, threads=1)
        require_current(path, model, predictor.metadata)
        if predictor.spec.task == "segment":
            require_apart(images, options["output"])
        # A name of the package is another path on another machine.
        name = model if means_pretrained(model, runs_dir) else str(path.absolute())
        predict_many.run(name, images, as_json, options)
        return
    _check_options(options, as_json)
    with quiet_libraries():
        _run(model, images, runs_dir, as_json, selftest, options)


def _run(
    model: str,
    images: tuple[str, ...],
    runs_dir: str,
    as_json: bool,
    selftest: bool,
    options: dict[str, Any],
) -> None:
    left_out: list[Path] = []
    paths = find_images(images, options["output"], left_out)
    if left_out:
        click.echo(f"note: {printable(say_left_out(left_out))}", err=True)
    path = model_file(model, runs_dir)
    predictor = _open(path, options)
    require_current(path, model, predictor.metadata)
    writes = predictor.spec.task == "segment" or options["explain"]
    if writes and options["output"] is not None:
        require_apart(images, options["output"])
    if selftest:
        _selftest(predictor, as_json and not images)
    if paths:
        _predict(predictor, paths, as_json, options)


def _check_options(options: dict[str, Any], as_json: bool) -> None:
    for name in ("overlay", "resume", "explain"):
        if options[name] and options["output"] is None:
            raise InputError(f"--{name} needs --output")
    if as_json and options["file_format"] and options["output"] is None:
        raise InputError("--json and --format exclude each other without --output")


def _open(path: Path, options: dict[str, Any]) -> Predictor:
    scale = options["tile_scale"]
    return Predictor(
        path, threads=options["threads"], unknown_below=options["unknown_below"],
        flip=options["flip"], explain=options["explain"], device=options["device"],
        providers=[options["provider"]] if options["provider"] else None,
        tiles=options["tiles"] if scale is None else scale, on_tile=TileProgress(),
    )  # fmt: skip


def require_current(path: Path, model: str, metadata: dict[str, Any]) -> None:
    """Whether the export of a run is of the weights that the run has now.

    Raises:
        InputError: it is not, and the run was asked for, not the file.
    """
    training = metadata.get("training")
    made_from = training.get("weights_sha256") if isinstance(training, dict) else None
    if not made_from:
        return
    from tfproj.runs.run import Run  # noqa: PLC0415 (a model of the package is of no run)

    run = Run(path.parent)
    if run.best_weights.is_file() and made_from != run.weights_digest():
        message = f"{path}: made from other weights than {run.best_weights.name} beside it"
        if Path(model) != path:
            raise InputError(f"{message}; export them: tfproj export {shlex.quote(str(run.path))}")
        click.echo(f"note: {message}", err=True)


def _selftest(predictor: Predictor, as_json: bool) -> None:
    found = predictor.selftest()
    if as_json:
        print_json({"selftest": asdict(found)})
    else:
        click.echo(
            f"self-test passed: {found.vectors} images, largest difference "
            f"{found.max_difference:.2g} (tolerance {found.tolerance:g})",
            err=True,
        )


def _predict(
    predictor: Predictor, paths: list[Path], as_json: bool, options: dict[str, Any]
) -> None:
    failures: list[dict[str, str]] = []
    folder = options["output"]
    settings = Settings(
        None if folder is None else Path(folder), options["batch_size"], options["top"],
        options["overlay"], options["file_format"] or "csv", options["resume"],
    )  # fmt: skip
    page = _page(options["html"])
    records = stream_files(predictor, paths, settings, page.add if page else None)
    style = "json" if as_json else options["file_format"] if folder is None else None
    try:
        done = print_records(_report(records, failures, len(paths)), failures, style or "text")
    except (KeyboardInterrupt, BrokenPipeError):
        if folder is not None:
            click.echo(
                f"stopped; finished results are in {folder}; continue with --resume", err=True
            )
        raise
    if page is not None:
        earlier = len(paths) - done - len(failures)
        without = f" (without {plural(earlier, 'image')} of earlier calls)" * (earlier > 0)
        click.echo(f"page: {page.write(options['html'])}{without}", err=True)
    if failures:
        click.echo(f"{len(failures)} of {len(paths)} images could not be read", err=True)
        raise click.exceptions.Exit(1 if done or len(failures) < len(paths) else 2)


def _page(output: str | None) -> PredictionPage | None:
    """The page to collect results in; InputError before any work where it can't be written."""
    if output is None:
        return None
    from tfproj.report import new_prediction_page  # noqa: PLC0415 (few want a page)

    return new_prediction_page(output)


def _report(
    records: Iterable[dict[str, Any]], failures: list[dict[str, str]], total: int
) -> Iterator[dict[str, Any]]:
    """Pass on what was predicted; show the way and the failures on stderr."""
    with Progress(total, "images") as progress:
        for record in records:
            progress.clear()
            if "error" in record:
                failures.append(record)
                click.echo(f"error: {printable(record['error'])}", err=True)
            else:
                yield record
            progress.step()


def model_file(model: str, runs_dir: str) -> Path:
    """The ONNX file that the argument means: a file, a pretrained model, the export of a run.

    Raises:
        InputError: there is none, or the name is that of a pretrained model and of a run.
    """
    path = Path(model)
    if path.suffix == ".onnx" or exists(Path.is_file, path):
        return path
    if means_pretrained(model, runs_dir):
        return pretrained_file(model)
    from tfproj.runs.run import find_run  # noqa: PLC0415 (files and models of the package are no runs)

    run = find_run(model, runs_dir, others=names())
    if not run.onnx_file.is_file():
        raise InputError(f"{run.path}: not exported yet; first: tfproj export {run.path} --onnx")
    return run.onnx_file
