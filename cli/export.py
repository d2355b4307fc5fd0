"""``tfproj export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tfproj import backend
from tfproj.cli.options import SizedCommand, common, device, image_size, print_json, runs_dir
from tfproj.cli.predict import model_file
from tfproj.core.spec import LAYOUTS, RESIZES
from tfproj.export.any_model import PREPROCESSING, export_model
from tfproj.export.budget import Budget, export_within
from tfproj.export.job import CONVERTERS, Options
from tfproj.export.keras_file import is_keras
from tfproj.export.onnx_file import export_onnx
from tfproj.export.runtimes import FORMATS
from tfproj.export.web import write_page
from tfproj.pretrained import means_pretrained
from tfproj.runs.run import find_run

# What must be said of a model that is no run.
OF_KERAS = ("classes", "images", "preprocessing", "resize")
_ABOVE_0 = click.FloatRange(min=0, min_open=True)


@click.command(cls=SizedCommand)
@click.argument("run", required=False, metavar="[RUN|MODEL.keras]")
@click.option("--onnx", is_flag=True, expose_value=False, help="The format, if no other is named.")
@click.option("--format", type=click.Choice(list(FORMATS)), default="onnx", help="[default: onnx]")
@click.option(
    "--output",
    metavar="FILE",
    help="File to write. [default: model.onnx in RUN, model.int8.onnx with --int8]",
)
@click.option("--int8", is_flag=True, help="Quantise; fails unless it is as good and faster.")
@click.option("--half", is_flag=True, help="Keep weights in 16 bits: half the size, same speed.")
@click.option("--dynamic-size", is_flag=True, help="Leave height and width free (segmentation).")
@click.option(
    "--layout",
    type=click.Choice(LAYOUTS, case_sensitive=False),
    help="NCHW: float32 0..255, probabilities first. [default: NHWC, uint8]",
)
@click.option(
    "--opset",
    type=click.IntRange(15, 18),
    help="ONNX operator set. [default: 17, or what --target-ort reads]",
)
@click.option("--target-ort", metavar="VERSION", help="Oldest onnxruntime that must load the file.")
@click.option(
    "--converter",
    type=click.Choice(CONVERTERS),
    default=CONVERTERS[0],
    help="What makes the graph. [default: tf2onnx]",
)
@click.option("--data", metavar="DIR", help="Other data, or the run's own where they lie now.")
@click.option("--no-data", is_flag=True, help="Verify on generated images, without any data.")
@click.option(
    "--keep-rejected", "keep", is_flag=True, help="Write a rejected file as FILE.rejected."
)
@image_size("[default: that of the training, or the model]")
@click.option(
    "--max-ms", type=_ABOVE_0, help="Choose what takes at most so long for an image here."
)
@click.option("--max-mb", type=_ABOVE_0, help="Choose what takes at most so many megabytes.")
@click.option("--triton", metavar="DIR", help="Also write a Triton model repository into DIR.")
@click.option("--web", metavar="DIR", help="Also write a page that runs the file in a browser.")
@click.option("--single-file", is_flag=True, help="That page as one HTML file.")
@runs_dir
@click.option("--classes", metavar="FILE", help="Names, one a line, in the order of outputs.")
@click.option("--images", metavar="DIR", help="Pictures to verify and calibrate with.")
@click.option(
    "--preprocessing",
    type=click.Choice(list(PREPROCESSING)),
    help="What it wants of pixels 0..255. [default: what its first layers do]",
)
@click.option("--resize", type=click.Choice(RESIZES), help="[default: stretch]")
@device
@common
def export(
    run: str | None,
    output: str | None,
    runs_dir: str,
    as_json: bool,
    max_ms: float | None,
    max_mb: float | None,
    device: str | None,
    **options: Any,
) -> None:
    """Write the best weights of RUN, or any Keras model, as a file that is checked against Keras.

    No file is written where the answers differ. With --max-ms or --max-mb: the first that fits of
    float32, --half and --int8, at the size of the training, three quarters of it, and half.

    With --format, it is the runtime of TensorFlow Lite or OpenVINO that is asked. OpenVINO's file
    is two: model.xml, and model.bin beside it.

    With --web, RUN may also be an exported file or a pretrained model: only the page is made then.

    --classes, --images, --preprocessing and --resize are for a Keras model.
    """
    backend.use_device(device)
    given = {name: options.pop(name) for name in OF_KERAS}
    about = {name: value for name, value in given.items() if value is not None}
    budget = None if max_ms is None and max_mb is None else Budget(max_ms, max_mb)
    if run is not None and is_keras(run):
        if budget is not None:
            raise click.UsageError("--max-ms and --max-mb are for runs, not for a Keras model")
        result = {"model": run, **_export_keras(run, output, about, options)}
    elif about:
        flag = next(iter(about)).replace("_", "-")
        raise click.UsageError(f"--{flag} is for a Keras model: tfproj export MODEL.keras")
    elif options["web"] is not None and run is not None and is_file(run, runs_dir):
        others = (output, budget, device) != (None, None, None)
        page = _page_alone(model_file(run, runs_dir), Options(**options), others)
        print_json({"web": str(page)}) if as_json else click.echo(page)
        return
    else:
        found = find_run(run, runs_dir)
        click.echo(f"exporting {found.path} ...", err=True)
        chosen = Options(**options)
        if budget is None:
            result = export_onnx(found, output, chosen)
        else:
            result = export_within(found, output, chosen, budget)
        result = {"run": str(found.path), **result}
    if as_json:
        print_json(result)
    else:
        click.echo(format_export(result))


def _page_alone(file: Path, options: Options, others: bool) -> Path:
    """The page of a file that is there; ``others``: more was asked for than ``options`` hold."""
    if others or options != Options(web=options.web, single_file=options.single_file):
        raise click.UsageError(
            f"{file} is exported: only its page is made; --web and --single-file are for it alone"
        )
    return write_page(file, str(options.web), options.single_file)


def _export_keras(model: str, output: str | None, about: dict, options: dict) -> dict[str, Any]:
    if "classes" not in about:
        raise click.UsageError("a Keras model names no classes: --classes FILE, one name a line")
    if ("images" in about) == options["no_data"]:
        raise click.UsageError("give --images DIR, pictures as the model is for, or --no-data")
    return export_model(model, output, **about, **options)


def is_file(model: str, runs_dir: str) -> bool:
    """Whether the argument is a file that was exported, and no run."""
    return Path(model).suffix == ".onnx" or means_pretrained(model, runs_dir)


def format_export(result: dict) -> str:
    """A few lines for people."""
    check = result["verification"]
    sizes, half = check.get("sizes"), result.get("half")
    kind = "given" if check["split"] == "given" else "validation"
    lines = [
        f"{result['path']}: {result['bytes']:,} bytes, {result['parameters']:,} parameters",
        f"{_verified(result)} on {check['images']} {_kind(check)} at batch sizes "
        f"{', '.join(map(str, check['batch_sizes']))}"
        + (f" and {len(sizes)} image sizes" if sizes else "")
        + f": probabilities differ by at most {check['max_difference']:.1e} (mean "
        f"{check['mean_difference']:.1e}, tolerance {check['tolerance']:g}), same class for "
        f"{check['agreement']:.2%}",
        *_metrics(check["metrics"], tuple(next(iter(check["metrics"].values()), ()))),
    ]
    if result.get("calibration"):
        fit = result["calibration"]
        lines.append(
            f"temperature {fit['temperature']:.3f}: negative log likelihood {fit['nll_before']:.4f}"
            f" -> {fit['nll_after']:.4f} on {fit['examples']} {kind} examples"
        )
    if result.get("thresholds"):
        least, most = min(result["thresholds"]), max(result["thresholds"])
        lines.append(f"thresholds of the classes, by F1: {least:.3f} to {most:.3f}")
    if half:
        lines += [
            f"weights of 16 bits: probabilities differ from those of the trained ones by at most "
            f"{half['max_difference']:.1e} (mean {half['mean_difference']:.1e}), same class for "
            f"{half['agreement']:.2%}",
            *_metrics(half["metrics"], ("float32", "half")),
        ]
    lines += _quantization(result.get("quantization"))
    lines += _budget(result.get("budget"))
    if result.get("triton"):
        lines.append(f"Triton model repository: {result['triton']}")
    if result.get("web"):
        lines.append(f"page: {result['web']}")
    return "\n".join(lines)


def _kind(check: dict) -> str:
    if check["split"] == "generated":
        return "generated images"
    if check["split"] == "given":
        return f"images of {check['data']}"
    return f"files of {check['split']}" + (f" of {check['data']}" if "data" in check else "")


def _verified(result: dict) -> str:
    """What was compared with what: an int8 file and rounded weights have a test of their own."""
    if result.get("quantization"):
        return "float32 graph, from which it was made, verified against Keras"
    if result.get("half"):
        return "verified against Keras with the same 16-bit weights"
    return "verified against Keras"


def _metrics(metrics: dict, kinds: tuple[str, str]) -> list[str]:
    return [
        f"{name.replace('_', ' ')}: "
        + ", ".join(f"{kind} " + ("-" if v[kind] is None else f"{v[kind]:.4f}") for kind in kinds)
        for name, v in metrics.items()
    ]


def _quantization(facts: dict | None) -> list[str]:
    if not facts:
        return []
    excluded = ", ".join(facts["excluded"]) or "none"
    ratio = facts.get("speed_ratio")  # of TensorFlow Lite it is for another machine to say
    speed = f"{ratio:.2f} times as fast as float32 ({facts['cpu']}), " if ratio else ""
    return [
        f"int8: {speed}calibrated "
        f"by {facts['method']} on {facts['calibration_images']} images; probabilities "
        f"differ from float32 by {facts['mean_difference']:.1e} on average",
        f"left in float32: {excluded}",
        *_metrics(facts["metrics"], ("float32", "int8")),
    ]


def _budget(facts: dict | None) -> list[str]:
    if not facts:
        return []
    chosen = facts["chosen"]
    found = chosen["p50_ms"][chosen["threads"]]
    lines = [
        f"{_candidate(one)}: {one['reason']}" for one in facts["tried"] if one["reason"] is not None
    ]
    return [
        *lines,
        f"{_candidate(chosen)}: fits with {chosen['mb']:.2f} MB, {found:.2f} ms an image on "
        f"{chosen['threads']} thread{'s' * (chosen['threads'] > 1)}",
    ]


def _candidate(facts: dict) -> str:
    return f"{facts['kind']} at {facts['size'][0]} x {facts['size'][1]}"
