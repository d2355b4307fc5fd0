"""``tfproj report``."""

from __future__ import annotations

import click

from tfproj.cli.options import common, print_json, runs_dir
from tfproj.report import build, build_study
from tfproj.runs.run import find_run


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option(
    "--output",
    metavar="FILE",
    help="HTML file to write. [default: report.html in RUN; comparison.html here for several, "
    "study.html for a search]",
)
@click.option("--study", metavar="FILE|URL", help="Report on a search of tfproj tune instead.")
@click.option("--open", "open_page", is_flag=True, help="Show the page in the browser.")
@runs_dir
@common
def report(
    runs: tuple[str, ...],
    output: str | None,
    study: str | None,
    open_page: bool,
    runs_dir: str,
    as_json: bool,
) -> None:
    """Write the report of RUN as one HTML file, compare several runs, or show a search.

    The page needs no network. Its figures (PNG) and numbers (JSON, CSV) are written into a folder
    beside it. Only files of the run directories are read.
    """
    if study and runs:
        raise click.UsageError("a study or runs; leave out one")
    found = [] if study else [find_run(name, runs_dir) for name in runs or (None,)]
    page = build_study(study, output) if study else build(found, output)
    if as_json:
        print_json({"runs": [str(run.path) for run in found], "report": str(page)})
    else:
        click.echo(page)
    if open_page:
        click.launch(str(page))
