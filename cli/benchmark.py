"""``tfproj benchmark``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tfproj.cli.options import common, number, print_json, runs_dir, table
from tfproj.cli.predict import model_file
from tfproj.core import hardware
from tfproj.errors import InputError
from tfproj.inference.predictor import Predictor
from tfproj.inference.profile import operators
from tfproj.inference.session import CPU
from tfproj.inference.timing import Timing, busy, measure, thread_counts


@click.command()
@click.argument("model")
@click.option(
    "--threads",
    "counts",
    type=click.IntRange(min=1),
    multiple=True,
    help="May be given several times. [default: 1 to the CPUs this process may use]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1, max=600),
    default=2.0,
    show_default=True,
    help="How long to measure the latency, and as long again the throughput.",
)
@click.option("--provider", metavar="NAME", help="onnxruntime execution provider. [default: CPU]")
@click.option(
    "--operators", "by_operator", is_flag=True, help="Say which operators take how long, instead."
)
@runs_dir
@common
def benchmark(
    model: str,
    counts: tuple[int, ...],
    seconds: float,
    provider: str | None,
    by_operator: bool,
    runs_dir: str,
    as_json: bool,
) -> None:
    """Time MODEL on this machine: an ONNX file, a run, or a pretrained model.

    Each number of threads has a process of its own. Images are in memory and of the model's size.
    """
    path = model_file(model, runs_dir)
    spec = Predictor(path, providers=[provider or CPU]).spec  # refused here, in one line
    note = busy()
    if note:
        click.echo(f"note: {note}", err=True)
    counts = tuple(dict.fromkeys(counts)) or thread_counts()
    if by_operator:
        _by_operator(path, counts, seconds, provider or CPU, as_json)
        return
    found = [measure(path, threads, seconds, provider or CPU) for threads in counts]
    length, cpu = path.stat().st_size, hardware.cpu_name()
    if as_json:
        timings = [asdict(timing) for timing in found]
        print_json(
            {"model": str(path), "bytes": length, "cpu": cpu, "busy": note, "timings": timings}
        )
        return
    size = f"{spec.height} x {spec.width} x {spec.channels}"
    click.echo(f"{path}: {length / 1e6:.2f} MB, images of {size}, on {cpu}")
    click.echo(format_timings(found))


def _by_operator(
    path: Path, counts: tuple[int, ...], seconds: float, provider: str, as_json: bool
) -> None:
    if provider != CPU:
        raise InputError(f"--operators: onnxruntime does not look into {provider}; leave it out")
    found = {threads: operators(path, threads, seconds) for threads in counts}
    if as_json:
        print_json({"model": str(path), "cpu": hardware.cpu_name(), "operators": [
            {"threads": threads, **asdict(one)} for threads, ones in found.items() for one in ones
        ]})  # fmt: skip
        return
    click.echo(f"{path}: microseconds for one image, on {hardware.cpu_name()}")
    for threads, ones in found.items():
        total = sum(one.us for one in ones)
        rows = [
            [one.name, str(one.nodes), f"{one.us:.0f}", f"{one.us / total:.0%}"] for one in ones
        ]
        rows.append(["all", str(sum(one.nodes for one in ones)), f"{total:.0f}", ""])
        click.echo(table(rows, [f"threads: {threads}", "nodes", "us", "share"]))


def format_timings(found: list[Timing]) -> str:
    """A table for people."""
    header = ["threads", "p50 ms", "p99 ms", f"images/s (batch {found[0].batch})", "start s",
              "peak MB"]  # fmt: skip
    rows: list[list[Any]] = [
        [str(t.threads), number(t.p50_ms, 2), number(t.p99_ms, 2), number(t.images_per_s, 1),
         number(t.start_s, 2), number(t.peak_mb, 0)]
        for t in found
    ]  # fmt: skip
    return table(rows, header)
