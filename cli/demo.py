"""``tfproj demo``."""

from __future__ import annotations

from pathlib import Path

import click

from tfproj import backend
from tfproj.cli.options import common, print_json, table


@click.command()
@click.option(
    "--output", default="demo", show_default=True, metavar="DIR", help="Directory for the results."
)
@common
def demo(output: str, as_json: bool) -> None:
    """Train, evaluate, export and predict for both tasks, in a few minutes.

    Uses Fashion-MNIST and facades where they are found, else data that need no network.
    """
    click.echo("loading TensorFlow ...", err=True)
    backend.setup()
    from tfproj.cli.run_demo import run_demo  # noqa: PLC0415 (loads TensorFlow)

    results = run_demo(Path(output))
    if as_json:
        print_json(results)
    else:
        click.echo(format_demo(results))


def format_demo(results: list[dict]) -> str:
    """A table, then where everything is."""
    rows = [
        [
            result["task"],
            f"{result['measure']} {result['value']:.4f}",
            f"{result['parameters']:,}",
            f"{result['onnx_bytes'] / 1e6:.2f} MB",
            f"{result['max_difference']:.0e}",
            f"{result['seconds']:.0f} s",
        ]
        for result in results
    ]
    header = ["task", "result", "parameters", "ONNX", "difference to Keras", "time"]
    lines = ["", table(rows, header), ""]
    for result in results:
        lines += [
            f"{result['task']}: {result['data']}",
            f"  run          {result['run']}",
            f"  report       {result['report']}",
            f"  ONNX         {result['onnx']}",
            f"  predictions  {result['predictions']} (made without TensorFlow)",
        ]
    return "\n".join(lines)
