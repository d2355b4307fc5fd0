"""``tfproj demo``."""

from __future__ import annotations

from pathlib import Path

import click

from tfproj import backend
from tfproj.cli.options import common, print_json, table


@click.command()
@click.option("--output", default="demo", show_default=True, metavar="DIR", help="Where it goes.")
@common
def demo(output: str, as_json: bool) -> None:
    """Train, evaluate, export and predict for both tasks, in a few minutes.

    Uses Fashion-MNIST and facades where they are found, else data that need no network.
    """
    click.echo("loading TensorFlow ...", err=True)
    backend.setup()
    from tfproj.cli.run_demo import run_demo, to_record  # noqa: PLC0415 (loads TensorFlow)

    records = [to_record(result) for result in run_demo(Path(output))]
    if as_json:
        print_json(records)
    else:
        click.echo(format_demo(records))


def format_demo(records: list[dict]) -> str:
    """A table, then where everything is."""
    rows = [
        [
            record["task"],
            f"{record['measure']} {record['value']:.4f}",
            f"{record['parameters']:,}",
            f"{record['onnx_bytes'] / 1e6:.2f} MB",
            f"{record['max_difference']:.0e}",
            f"{record['seconds']:.0f} s",
        ]
        for record in records
    ]
    header = ["task", "result", "parameters", "ONNX", "difference to Keras", "time"]
    lines = ["", table(rows, header), ""]
    for record in records:
        lines += [
            f"{record['task']}: {record['data']}",
            f"  run          {record['run']}",
            f"  report       {record['report']}",
            f"  ONNX         {record['onnx']}",
            f"  predictions  {record['predictions']} (made without TensorFlow)",
        ]
    return "\n".join(lines)
