"""``tfproj train classify`` and ``tfproj train segment``."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from tfproj import backend, pretrained
from tfproj.cli.evaluate import format_metrics, write_report
from tfproj.cli.options import (
    SizedCommand,
    SuggestingGroup,
    number,
    print_json,
    say_notes,
    say_warnings,
    table,
)
from tfproj.cli.train_options import NEWEST, train_options
from tfproj.errors import InputError
from tfproj.experiment import presets
from tfproj.experiment.balance import explain
from tfproj.experiment.plan import Plan, explain_size, plan, plan_resume
from tfproj.export.job import CONVERTERS, Options
from tfproj.export.onnx_file import export_onnx
from tfproj.inference.model_file import read_model
from tfproj.runs import DEFAULT_ROOT
from tfproj.runs import config as configs
from tfproj.runs.lock import require_unlocked
from tfproj.runs.run import Run, check_place, find_run
from tfproj.search.spread import over_seeds

if TYPE_CHECKING:
    from tfproj.training.together import Together


@click.group(cls=SuggestingGroup)
def train() -> None:
    """Train a model into a new run directory, runs/TASK/NAME.

    The preset gives the recipe, a --config file changes it, and flags win over both.
    """


@train.command(cls=SizedCommand)
@train_options("classify")
def classify(**options: Any) -> None:
    """Train an image classifier: one class per image, or several (--multi-label)."""
    _train("classify", **options)


@train.command(cls=SizedCommand)
@train_options("segment")
def segment(**options: Any) -> None:
    """Train a segmenter: one class per pixel."""
    _train("segment", **options)


def _train(
    task: str,
    name: str | None,
    overwrite: bool,
    resume: str | None,
    seeds: int | None,
    tensorboard: bool,
    tracker: str | None,
    no_evaluate: bool,
    report: bool,
    device: str | None,
    runs_dir: str,
    as_json: bool,
    **chosen: Any,
) -> None:
    flags = {key: value for key, value in chosen.items() if value is not None}
    trackers = [*["tensorboard"] * tensorboard, *filter(None, [tracker])]
    if resume is not None and (flags.keys() - {"epochs"} or name or overwrite or seeds):
        raise InputError(
            "--resume takes everything but --epochs from the run; leave out the other flags"
        )
    together = _find_together(device, alone=bool(seeds))
    first, run = together is None or together.is_first, None
    with _telling_others(together):
        if resume is not None:
            run, planned = _plan_resume(task, resume, runs_dir, flags.get("epochs"), first)
        else:
            preset, config_file = flags.pop("preset", None), flags.pop("config_file", None)
            config = build_config(task, preset, config_file, flags, runs_dir)
            if first:
                names = (name and f"{name}-", True) if seeds else (name, overwrite)
                check_place(runs_dir, task, *names)
            planned = plan(config)
    training = load_training(planned, _needs_tensorflow_first(device))
    if together is not None and not first:
        training.assist(planned, together, run)
    elif seeds:
        from tfproj.search.seeds import train_seeds  # noqa: PLC0415 (loads TensorFlow)

        runs = train_seeds(planned, seeds, runs_dir, name, overwrite, trackers)
        finish_seeds(runs, no_evaluate, report, as_json, tracker)
    elif run is not None:
        with _exported_again(run):
            try:
                training.resume(run, trackers, planned, together=together)
            except training.Finished:
                if no_evaluate or run.metrics_file.exists():
                    raise
                click.echo(f"{run.path}: all epochs are there, and not yet measured", err=True)
            finish(run, no_evaluate, report, as_json, tracker)
    else:
        planned_run = (planned.config, runs_dir, name, overwrite, trackers, planned)
        finish(
            training.train(*planned_run, together=together), no_evaluate, report, as_json, tracker
        )


def _plan_resume(
    task: str, resume: str, runs_dir: str, epochs: int | None, first: bool
) -> tuple[Run, Plan]:
    run = find_run(None if resume == NEWEST else resume, runs_dir, task, trained=False)
    if run.config().task != task:
        raise InputError(f"{run.path}: this run is for {run.config().task}, not {task}")
    if first:
        require_unlocked(run.path)
    return run, plan_resume(run, epochs)


def _find_together(device: str | None, alone: bool) -> Together | None:
    """The devices of --device and the workers of TF_CONFIG, before TensorFlow is in use."""
    if not _needs_tensorflow_first(device):
        return None
    _load_tensorflow()
    from tfproj.training import together as devices  # noqa: PLC0415 (loads TensorFlow)

    if alone:
        require_alone("--seeds trains")
        backend.use_device(device)
        return None
    return devices.find_together(device)


def _needs_tensorflow_first(device: str | None) -> bool:
    return device is not None or backend.cluster() is not None


def _load_tensorflow() -> None:
    click.echo("loading TensorFlow ...", err=True)  # which takes seconds
    backend.setup()


def require_alone(what: str) -> None:
    """InputError where ``TF_CONFIG`` makes this process a worker of several."""
    if backend.cluster() is not None:
        raise InputError(f"{what} on one worker; unset TF_CONFIG")


@contextlib.contextmanager
def _telling_others(together: Together | None) -> Iterator[None]:
    """Let the other workers know why this one can't train; they would wait for it."""
    try:
        yield
    except InputError as error:
        if together is not None:
            from tfproj.training import together as devices  # noqa: PLC0415 (loads TensorFlow)

            devices.agree(together, None, error=str(error))
        raise


@contextlib.contextmanager
def _exported_again(run: Run) -> Iterator[None]:
    """Put the new weights in the place of an export that the training makes stale."""
    old = None
    with contextlib.suppress(InputError):
        old = read_model(run.onnx_file, run.onnx_file.name)
    yield
    if old and not run.onnx_file.is_file():  # last: it may fail
        opset = old.metadata.get("graph", {}).get("opset")
        half, free = "half" in old.metadata, old.spec.dynamic_size
        by = old.metadata.get("graph", {}).get("converter", CONVERTERS[0]).split()[0]
        same = {"half": half, "dynamic_size": free, "layout": old.spec.layout, "converter": by}
        options = Options(opset=opset, **same)
        export_onnx(run, None, options)
        click.echo(f"exported again, with the new weights: {run.onnx_file}", err=True)


def build_config(
    task: str,
    preset: str | None,
    config_file: str | None,
    flags: dict,
    runs_dir: str = DEFAULT_ROOT,
) -> configs.TrainConfig:
    """Preset, then file, then flags."""
    values = presets.read_config_file(config_file) if config_file else {}
    if values.pop("task", task) != task:
        raise InputError(f"{config_file}: this configuration is not for {task}")
    of_file = values.pop("preset", None)
    preset = preset or of_file
    values |= flags
    init = values.get("init")
    if (
        isinstance(init, str)
        and not init.endswith(".onnx")
        and not pretrained.means_pretrained(init, runs_dir, task)
    ):
        values["init"] = str(find_run(init, runs_dir, task, others=pretrained.names()).path)
    return presets.make_config(task, preset, **values)


def finish(
    run: Run, no_evaluate: bool, report: bool, as_json: bool, tracker: str | None = None
) -> None:
    """Evaluate on the held-out splits, write the report, print."""
    metrics = _evaluate(run, no_evaluate, report, tracker)
    if as_json:
        print_json({"run": str(run.path), "epochs": len(run.history()), "metrics": metrics})
    else:
        click.echo(format_metrics(metrics) if metrics else str(run.path))
        click.echo(f"next: tfproj export {shlex.quote(str(run.path))} --onnx", err=True)


def _evaluate(
    run: Run, no_evaluate: bool, report: bool, tracker: str | None
) -> dict[str, Any] | None:
    from tfproj.evaluation.evaluate import evaluate  # noqa: PLC0415 (loads TensorFlow)

    metrics = None
    if not no_evaluate:
        metrics = evaluate(run, [split for split in run.counts() if split != "train"])
    if report:
        write_report(run)
    if tracker:
        from tfproj.training.tracking import tell_result  # noqa: PLC0415 (loads TensorFlow)

        tell_result(run, metrics)
    return metrics


def finish_seeds(
    runs: list[Run], no_evaluate: bool, report: bool, as_json: bool, tracker: str | None = None
) -> None:
    """As :func:`finish`, of runs that differ in their seed alone: mean and deviation."""
    metrics = [_evaluate(run, no_evaluate, report, tracker) for run in runs]
    splits = [
        found["splits"] if found else {"val": {run.config().monitored: run.kept_value()}}
        for run, found in zip(runs, metrics, strict=True)
    ]
    spread = over_seeds(splits)
    if as_json:
        seeds = [run.config().seed for run in runs]
        print_json({"runs": [str(run.path) for run in runs], "seeds": seeds, "metrics": spread})
        return
    columns = ("mean", "deviation", "least", "most")
    for split, measures in spread.items():
        rows = [[key, *(number(found[c]) for c in columns)] for key, found in measures.items()]
        click.echo(table(rows, [f"{split}, {len(runs)} seeds", *columns]))


def load_training(planned: Plan, loaded: bool = False) -> ModuleType:
    """What trains; first, before TensorFlow is loaded, what was chosen, and notes on the data."""
    if planned.choice:
        click.echo(planned.choice, err=True)
    say_notes(planned.dataset)
    say_warnings(planned.dataset)
    click.echo(explain_size(planned), err=True)
    if balanced := explain(planned.config, planned.weights, planned.repeats):
        click.echo(balanced, err=True)
    for warning in planned.warnings.values():
        click.echo(f"warning: {warning}", err=True)
    if not loaded:
        _load_tensorflow()
    from tfproj.training import train as training  # noqa: PLC0415 (loads TensorFlow)

    return training
