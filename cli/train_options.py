"""The flags of ``tfproj train``; ``tfproj tune`` has those that say what is trained, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from tfproj.cli.options import common, device, image_size, runs_dir, size
from tfproj.core.spec import RESIZES
from tfproj.experiment import presets
from tfproj.runs import config as configs

Decorator = Callable[[Callable], Callable]

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


def config_options(task: str) -> Decorator:
    """The flags that say what is trained."""
    names = ", ".join(presets.PRESETS[task])
    return _all_of(
        [
            click.option(
                "--preset",
                default=None,
                help=f"One of {names}. [default: photo for colour photographs, finetune with "
                "--init, else default]",
            ),
            click.option("--config", "config_file", metavar="FILE", help="YAML; flags win."),
            *(
                click.option(
                    flag,
                    *filter(None, [OTHER_NAMES.get(flag)]),
                    field,
                    type=kind,
                    default=None,
                    help=text,
                )
                for flag, (field, kind, text) in CONFIG_FLAGS.items()
            ),
            *[
                click.option(
                    "--multi-label",
                    is_flag=True,
                    default=None,
                    help="Images have any number of the classes: from a CSV, or COCO.",
                )
            ]
            * (task == "classify"),
            image_size("[default: near the images' own]"),
            size("--crop", "Train on crops of so many px at the images' own scale (segment)."),
        ]  # fmt: skip
    )


def train_options(task: str) -> Decorator:
    """All flags of a train command."""
    return _all_of(
        [
            config_options(task),
            click.option("--name", help="Name of the run. [default: DATA-PRESET-NUMBER]"),
            click.option("--overwrite", is_flag=True, help="Replace a run of the same name."),
            click.option(
                "--resume",
                is_flag=False,
                flag_value=NEWEST,
                metavar="[RUN]",
                help="Continue an interrupted run: the newest, or the one named. With --epochs it "
                "is extended: a cosine goes on as one of so many epochs has it at that point.",
            ),
            click.option(
                "--seeds",
                type=click.IntRange(min=2),
                metavar="N",
                help="Train N runs, NAME-seed0 and so on; prints mean and standard deviation.",
            ),
            click.option("--tensorboard", is_flag=True, help="Also write TensorBoard events."),
            click.option(
                "--tracker",
                type=click.Choice(["mlflow"]),
                help="Also tell MLflow, at MLFLOW_TRACKING_URI.",
            ),
            click.option("--no-evaluate", is_flag=True, help="Skip the final evaluation."),
            click.option("--report", is_flag=True, help="Also write the report."),
            device,
            runs_dir,
            common,
        ]  # fmt: skip
    )


def _all_of(options: Sequence[Decorator]) -> Decorator:
    def decorate(command: Callable) -> Callable:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
