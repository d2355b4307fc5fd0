"""``tfproj export``."""

from __future__ import annotations

from typing import Any

import click

from tfproj.cli.options import SizedCommand, common, image_size, print_json, runs_dir
from tfproj.export.budget import Budget, export_within
from tfproj.export.job import Options
from tfproj.export.onnx_file import export_onnx
from tfproj.runs.run import find_run

_ABOVE_0 = click.FloatRange(min=0, min_open=True)


@click.command(cls=SizedCommand)
@click.argument("run", required=False)
@click.option("--onnx", is_flag=True, expose_value=False, help="The format, and the only one.")
@click.option(
    "--output",
    metavar="FILE",
    help="File to write. [default: model.onnx in RUN, model.int8.onnx with --int8]",
)
@click.option("--int8", is_flag=True, help="Quantise; fails unless it is as good and faster.")
@click.option("--half", is_flag=True, help="Keep weights in 16 bits: half the size, same speed.")
@click.option("--dynamic-size", is_flag=True, help="Leave height and width free (segmentation).")
@click.option(
    "--opset",
    type=click.IntRange(15, 18),
    help="ONNX operator set. [default: 18, or what --target-ort reads]",
)
@click.option("--target-ort", metavar="VERSION", help="Oldest onnxruntime that must load the file.")
@click.option("--data", metavar="DIR", help="Other data, or the run's own where they lie now.")
@click.option("--no-data", is_flag=True, help="Verify on generated images, without any data.")
@click.option(
    "--keep-rejected", "keep", is_flag=True, help="Write a rejected file as FILE.rejected."
)
@image_size("[default: that of the training]")
@click.option(
    "--max-ms", type=_ABOVE_0, help="Choose what takes at most so long for an image here."
)
@click.option("--max-mb", type=_ABOVE_0, help="Choose what takes at most so many megabytes.")
@click.option("--triton", metavar="DIR", help="Also write a Triton model repository into DIR.")
@runs_dir
@common
def export(
    run: str | None,
    output: str | None,
    runs_dir: str,
    as_json: bool,
    max_ms: float | None,
    max_mb: float | None,
    **options: Any,
) -> None:
    """Write the best weights of RUN as one ONNX file, checked against Keras.

    No file is written where the answers differ. With --max-ms or --max-mb: the first that fits of
    float32, --half and --int8, at the size of the training, three quarters of it, and half.
    """
    found = find_run(run, runs_dir)
    click.echo(f"exporting {found.path} ...", err=True)
    if max_ms is None and max_mb is None:
        result = export_onnx(found, output, Options(**options))
    else:
        result = export_within(found, output, Options(**options), Budget(max_ms, max_mb))
    if as_json:
        print_json({"run": str(found.path), **result})
    else:
        click.echo(format_export(result))


def format_export(result: dict) -> str:
    """A few lines for people."""
    check = result["verification"]
    sizes, half = check.get("sizes"), result.get("half")
    lines = [
        f"{result['path']}: {result['bytes']:,} bytes, {result['parameters']:,} parameters",
        f"{_verified(result)} on {check['images']} {_kind(check)} at batch sizes "
        f"{', '.join(map(str, check['batch_sizes']))}"
        + (f" and {len(sizes)} image sizes" if sizes else "")
        + f": probabilities differ by at most {check['max_difference']:.1e} (mean "
        f"{check['mean_difference']:.1e}, tolerance {check['tolerance']:g}), same class for "
        f"{check['agreement']:.2%}",
        *_metrics(check["metrics"], ("keras", "onnx")),
    ]
    if result.get("calibration"):
        fit = result["calibration"]
        lines.append(
            f"temperature {fit['temperature']:.3f}: negative log likelihood {fit['nll_before']:.4f}"
            f" -> {fit['nll_after']:.4f} on {fit['examples']} validation examples"
        )
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
    return "\n".join(lines)


def _kind(check: dict) -> str:
    if check["split"] == "generated":
        return "generated images"
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
    return [
        f"int8: {facts['speed_ratio']:.2f} times as fast as float32 ({facts['cpu']}), calibrated "
        f"by {facts['method']} on {facts['calibration_images']} training images; probabilities "
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
