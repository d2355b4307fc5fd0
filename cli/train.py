"""``tfproj train classify`` and ``tfproj train segment``."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable
from types import ModuleType
from typing import Any

import click

from tfproj import backend, pretrained
from tfproj.cli.evaluate import format_metrics, write_report
from tfproj.cli.options import (
    SizedCommand,
    SuggestingGroup,
    common,
    image_size,
    print_json,
    runs_dir,
    say_notes,
    say_warnings,
    size,
)
from tfproj.core.spec import RESIZES
from tfproj.errors import InputError
from tfproj.experiment import presets
from tfproj.experiment.balance import explain
from tfproj.experiment.plan import Plan, explain_size, plan, plan_resume
from tfproj.export.job import Options
from tfproj.export.onnx_file import export_onnx
from tfproj.inference.model_file import ModelFile, read_model
from tfproj.runs import DEFAULT_ROOT
from tfproj.runs import config as configs
from tfproj.runs.lock import require_unlocked
from tfproj.runs.run import Run, check_place, find_run

NEWEST = "newest"

# Flags that set a field of TrainConfig: name -> (field, click type, help).
CONFIG_FLAGS: dict[str, tuple[str, Any, str]] = {
    "--data": ("data", str, "Data set: a name (tfproj data list), tfds:NAME, or a directory."),
    "--data-dir": ("data_dir", str, "Directory of the named data set."),
    "--format": ("format", str, "How that directory is laid out. [default: recognised]"),
    "--model": ("model", str, "Model (tfproj models)."),
    "--encoder": (
        "encoder",
        str,
        "Pretrained network that the model begins with: lite0, or one of keras.applications, "
        "which is downloaded.",
    ),
    "--encoder-weights": (
        "encoder_weights",
        str,
        "File with the encoder's weights, or drawn: random ones. [default: ImageNet's]",
    ),
    "--encoder-rate": ("encoder_rate", float, "The encoder's step size, as a share of the rest's."),
    "--epochs": ("epochs", int, "Passes over the training images."),
    "--batch-size": ("batch_size", int, "Images per step."),
    "--resize": ("resize", str, f"Images of other proportions: {', '.join(RESIZES)}."),
    "--channels": ("channels", int, "1 for grey, 3 for RGB."),
    "--learning-rate": ("learning_rate", float, "Step size, or its peak under a schedule."),
    "--optimizer": ("optimizer", str, f"One of {', '.join(configs.OPTIMIZERS)}."),
    "--schedule": ("schedule", str, f"One of {', '.join(configs.SCHEDULES)}."),
    "--warmup-epochs": ("warmup_epochs", float, "Epochs until the peak of the cosine schedule."),
    "--weight-decay": ("weight_decay", float, "Coupled for adam, else decoupled."),
    "--label-smoothing": ("label_smoothing", float, "Share of the target spread over all classes."),
    "--dice": ("dice", float, "Weight of the Dice loss, which counts every class alike (segment)."),
    "--class-weights": (
        "class_weights",
        str,
        "What errors weigh: balanced, or a file with a number for each class (JSON, YAML, CSV).",
    ),
    "--sampling": ("sampling", str, "balanced: an epoch draws images of rare classes more often."),
    "--ema": (
        "ema",
        float,
        "Momentum of the moving average of the weights; lowered for short runs.",
    ),
    "--teacher": (
        "teacher",
        str,
        "Learn the answers of these, too: runs, pretrained models or ONNX files, by commas.",
    ),
    "--teacher-weight": ("teacher_weight", float, "Share of the teachers' answers in the loss."),
    "--temperature": ("temperature", float, "Above 1 the teachers' answers are evened out."),
    "--augment": ("augment", str, f"One of {', '.join(configs.AUGMENTATIONS)}."),
    "--monitor": (
        "monitor",
        str,
        "Validation measure that says which epoch is best: "
        + "; ".join(", ".join(names) for names in configs.MONITORS.values())
        + ".",
    ),
    "--keep": (
        "keep",
        str,
        "Which epoch's weights to keep: best (on the validation split) or last.",
    ),
    "--patience": (
        "patience",
        int,
        "Stop after this many epochs without improvement on the validation split.",
    ),
    "--init": (
        "init",
        str,
        "Start from the weights of a run, a pretrained model or FILE.onnx.",
    ),
    "--precision": ("precision", str, f"One of {', '.join(configs.PRECISIONS)}."),
    "--seed": ("seed", int, "Seed of initialisation, order and augmentation."),
    "--val-fraction": ("val_fraction", float, "Share held out where there is no validation split."),
    "--group-modulus": ("group_modulus", int, "Files numbered N and N + this are one group."),
    "--limit": ("limit", int, "Use at most this many training images."),
}

# What other tools call a flag.
OTHER_NAMES = {"--learning-rate": "--lr", "--init": "--weights"}


def train_options(task: str) -> Callable[[Callable], Callable]:
    """All flags of a train command."""
    names = ", ".join(presets.PRESETS[task])

    def decorate(command: Callable) -> Callable:
        options: list[Callable[[Callable], Callable]] = [
            click.option(
                "--preset",
                default=None,
                help=f"One of {names}. [default: photo for colour photographs, finetune with "
                "--init, else default]",
            ),
            click.option("--config", "config_file", metavar="FILE", help="YAML; flags win."),
            *(
                click.option(
                    flag, *filter(None, [OTHER_NAMES.get(flag)]), field,
                    type=kind, default=None, help=text,
                )
                for flag, (field, kind, text) in CONFIG_FLAGS.items()
            ),
            *[
                click.option(
                    "--multi-label", is_flag=True, default=None,
                    help="Images have any number of the classes: from a CSV, or COCO.",
                )
            ] * (task == "classify"),
            click.option("--name", help="Name of the run. [default: DATA-PRESET-NUMBER]"),
            click.option("--overwrite", is_flag=True, help="Replace a run of the same name."),
            click.option(
                "--resume", is_flag=False, flag_value=NEWEST, metavar="[RUN]",
                help="Continue an interrupted run: the newest, or the one named. With --epochs it "
                "is extended: a cosine goes on as one of so many epochs has it at that point.",
            ),
            click.option("--tensorboard", is_flag=True, help="Also write TensorBoard events."),
            click.option("--no-evaluate", is_flag=True, help="Skip the final evaluation."),
            click.option("--report", is_flag=True, help="Also write the report."),
            image_size("[default: near the images' own]"),
            size("--crop", "Train on crops of so many px at the images' own scale (segment)."),
            runs_dir,
            common,
        ]  # fmt: skip
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


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
    preset: str | None,
    config_file: str | None,
    name: str | None,
    overwrite: bool,
    resume: str | None,
    tensorboard: bool,
    no_evaluate: bool,
    report: bool,
    runs_dir: str,
    as_json: bool,
    **flags: Any,
) -> None:
    flags = {key: value for key, value in flags.items() if value is not None}
    exported = None
    if resume is not None:
        epochs = flags.pop("epochs", None)
        if flags or preset or config_file or name or overwrite:
            raise InputError(
                "--resume takes everything but --epochs from the run; leave out the other flags"
            )
        run = find_run(None if resume == NEWEST else resume, runs_dir, task, trained=False)
        if run.config().task != task:
            raise InputError(f"{run.path}: this run is for {run.config().task}, not {task}")
        require_unlocked(run.path)
        training = _load(planned := plan_resume(run, epochs))
        with contextlib.suppress(InputError):
            exported = read_model(run.onnx_file, run.onnx_file.name)
        training.resume(run, tensorboard, planned)
    else:
        config = build_config(task, preset, config_file, flags, runs_dir)
        check_place(runs_dir, task, name, overwrite)
        training = _load(planned := plan(config))
        run = training.train(config, runs_dir, name, overwrite, tensorboard, planned)
    finish(run, no_evaluate, report, as_json)
    if exported and not run.onnx_file.is_file():  # last: it may fail
        _export_again(run, exported)


def _export_again(run: Run, old: ModelFile) -> None:
    """Put the new weights in the place of an export that the training made stale."""
    opset = old.metadata.get("graph", {}).get("opset")
    half, free = "half" in old.metadata, old.spec.dynamic_size
    options = Options(opset=opset, half=half, dynamic_size=free, layout=old.spec.layout)
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


def finish(run: Run, no_evaluate: bool, report: bool, as_json: bool) -> None:
    """Evaluate on the held-out splits, write the report, print."""
    from tfproj.evaluation.evaluate import evaluate  # noqa: PLC0415 (loads TensorFlow)

    metrics = None
    if not no_evaluate:
        metrics = evaluate(run, [split for split in run.counts() if split != "train"])
    if report:
        write_report(run)
    if as_json:
        print_json({"run": str(run.path), "epochs": len(run.history()), "metrics": metrics})
    else:
        click.echo(format_metrics(metrics) if metrics else str(run.path))
        click.echo(f"next: tfproj export {shlex.quote(str(run.path))} --onnx", err=True)


def _load(planned: Plan) -> ModuleType:
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
    click.echo("loading TensorFlow ...", err=True)  # which takes seconds
    backend.setup()
    from tfproj.training import train as training  # noqa: PLC0415 (loads TensorFlow)

    return training
