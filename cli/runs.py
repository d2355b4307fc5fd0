"""``tfproj runs``."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path
from typing import Any

import click

from tfproj.cli.options import common, number, print_json, runs_dir, table
from tfproj.core.spec import TASKS
from tfproj.core.words import duration
from tfproj.errors import InputError
from tfproj.runs.listing import FIELDS, list_runs, remove

STATES = ("training", "finished", "pruned", "stopped")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--task", type=click.Choice(TASKS), help="Only runs of this task.")
@click.option("--data", help="Only runs on this data set, as it was named.")
@click.option("--preset", help="Only runs of this preset.")
@click.option("--state", type=click.Choice(STATES), help="Only runs in this state.")
@click.option(
    "--sort", type=click.Choice(FIELDS), default="age", show_default=True, help="Column to sort by."
)
@click.option("--reverse", is_flag=True, help="The other way round.")
@click.option("--remove", "to_remove", is_flag=True, help="Remove the runs listed, once asked.")
@click.option("--yes", is_flag=True, help="Remove without asking.")
@runs_dir
@common
def runs(
    names: tuple[str, ...],
    sort: str,
    reverse: bool,
    to_remove: bool,
    yes: bool,
    runs_dir: str,
    as_json: bool,
    **filters: str | None,
) -> None:
    """List runs, the newest first: all, or those called NAME ('digits-*' in quotes).

    The value is the best one on the validation split.
    """
    if yes and not to_remove:
        raise InputError("--yes is for --remove")
    if to_remove and not (names or any(filters.values())):
        raise InputError("--remove: say which runs, by name or by a filter")
    found = list_runs(runs_dir, names, **filters)
    # The best value first, but the least of anything else; what has no value stands last.
    downwards = (sort in ("value", "epochs", "exported")) != reverse
    known = sorted((r for r in found if r[sort] is not None), key=itemgetter(sort))
    found = (known[::-1] if downwards else known) + [r for r in found if r[sort] is None]
    if to_remove:
        _remove(found, yes)
    if as_json:
        print_json(found)
    else:
        click.echo(_table(found) if found else f"no such run in {runs_dir}/")


def _remove(found: list[dict[str, Any]], yes: bool) -> None:
    paths = [Path(run["path"]) for run in found]
    if not paths:
        return
    if not yes:
        click.echo(_table(found), err=True)
        try:
            agreed = click.confirm(f"remove these {len(paths)} runs?", err=True)
        except click.Abort:
            agreed = False
        if not agreed:
            raise InputError("nothing was removed; answer y, or give --yes")
    remove(paths)
    click.echo(f"removed {len(paths)} runs:", err=True)


def _table(found: list[dict[str, Any]]) -> str:
    header = ["run", "data", "preset", "state", "metric", "value", "epochs", "age", "exported"]
    rows = [
        [
            *(run[key] for key in ("run", "data", "preset", "state")),
            run["metric"].removeprefix("val_"),
            number(run["value"]),
            f"{run['epochs']}/{run['of']}",
            duration(run["age"]),
            "yes" if run["exported"] else "no",
        ]
        for run in found
    ]
    return table(rows, header)
