"""``tfproj tune classify`` and ``tfproj tune segment``."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tfproj.cli.options import (
    SizedCommand,
    SuggestingGroup,
    common,
    number,
    print_json,
    runs_dir,
    table,
)
from tfproj.cli.train import build_config, load_training, require_alone
from tfproj.cli.train_options import config_options
from tfproj.errors import missing_extra
from tfproj.experiment.plan import Plan, plan
from tfproj.runs.run import check_place
from tfproj.search.space import default_space, own_values, read_space


@click.group(cls=SuggestingGroup)
def tune() -> None:
    """Search for better settings of a training; every trial is a run.

    Bad trials end early. The same command, started again or elsewhere, works on the same study.
    """


def _options(task: str) -> Callable[[Callable], Callable]:
    def decorate(command: Callable) -> Callable:
        for option in (
            common,
            runs_dir,
            click.option("--name", help="Of the runs; a number follows. [default: the study's]"),
            config_options(task),
            click.option("--space", metavar="FILE", help="YAML: what is tried. [default: a few]"),
            click.option(
                "--trials", type=click.IntRange(min=1), default=20, show_default=True,
                help="Of the study, all workers together.",
            ),
            click.option(
                "--study", required=True, metavar="FILE|URL",
                help="Journal file, or database (sqlite:///FILE, postgresql://...[#NAME]).",
            ),
        ):  # fmt: skip
            command = option(command)
        return command

    return decorate


@tune.command(cls=SizedCommand)
@_options("classify")
def classify(**options: Any) -> None:
    """Search for the settings of an image classifier."""
    _tune("classify", **options)


@tune.command(cls=SizedCommand)
@_options("segment")
def segment(**options: Any) -> None:
    """Search for the settings of a segmenter."""
    _tune("segment", **options)


def _tune(
    task: str,
    study: str,
    trials: int,
    space: str | None,
    preset: str | None,
    config_file: str | None,
    name: str | None,
    runs_dir: str,
    as_json: bool,
    **flags: Any,
) -> None:
    if importlib.util.find_spec("optuna") is None:
        raise missing_extra("optuna", "tune")
    require_alone("tune searches")
    flags = {key: value for key, value in flags.items() if value is not None}
    planned = plan(build_config(task, preset, config_file, flags, runs_dir))
    config = planned.config
    tried = read_space(space, config, flags) if space else default_space(config, flags)
    from tfproj.search.study import open_study  # noqa: PLC0415 (the extra "tune")

    opened = open_study(study, _record(planned, tried), own_values(config, tried))
    stem = name or (opened.study_name if "://" in study else Path(study).stem)
    check_place(runs_dir, task, f"{stem}-", True)  # whether runs may be called so, and lie there
    load_training(planned)
    from tfproj.search.tune import Search  # noqa: PLC0415 (loads TensorFlow)

    search = Search(opened, config, tried, runs_dir, stem)
    search.go_on(trials)
    result = search.result()
    print_json(result) if as_json else _print(task, result)


def _record(planned: Plan, space: dict[str, Any]) -> dict[str, Any]:
    """What a study is of. Data are known by their content: they may lie elsewhere on a machine."""
    config = planned.config.to_dict()
    for name in ("data", "data_dir"):
        del config[name]
    return {**config, "data": planned.dataset.fingerprint(), "space": space}


def _print(task: str, result: dict[str, Any]) -> None:
    best, shares = result["best"], result["importance"]
    rows = [
        [Path(trial["run"]).name, trial["state"], number(trial["value"])]
        for trial in result["trials"]
    ]
    click.echo(table(rows, ["trial", "state", result["metric"]]) + "\n")
    rows = [
        [name, _shown(value), number(shares.get(name), 2)] for name, value in best["values"].items()
    ]
    click.echo(table(rows, [f"best: {Path(best['run']).name}", "value", "importance"]))
    again = f"tfproj train {task} --config {shlex.quote(best['run'] + '/config.json')}"
    click.echo(f"\n{again}")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
