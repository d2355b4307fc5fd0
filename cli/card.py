"""``tfproj card``."""

from __future__ import annotations

from pathlib import Path

import click

from tfproj.cli.options import common, print_json, runs_dir
from tfproj.core.files import write_text
from tfproj.report.card import card as make_card
from tfproj.runs.run import find_run


@click.command()
@click.argument("run", required=False)
@click.option("--output", metavar="FILE", help="Markdown file to write. [default: stdout]")
@runs_dir
@common
def card(run: str | None, output: str | None, runs_dir: str, as_json: bool) -> None:
    """Write the model card of RUN: what it is for, how it was made, what was measured, its limits.

    It is Markdown with front matter, as the Hugging Face hub takes for a model's README.
    """
    found = find_run(run, runs_dir)
    text = make_card(found)
    if output is not None:
        write_text(Path(output), text)
    if as_json:
        print_json({"run": str(found.path), "card": text, "output": output})
    else:
        click.echo(text if output is None else output, nl=output is not None)
