"""The configuration of a training run: its fields, their types and ranges."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfproj.core.spec import RESIZES, TASKS, check_multi_label, check_resize, kind_of_task
from tfproj.errors import InputError, unknown_name

AUGMENTATIONS = (
    "none",
    "shift",
    "shift_erase",
    "flip",
    "shift_flip",
    "shift_flip_erase",
    "photo",
    "photo_wide",
    "photo_mix",
)
KEEP = ("best", "last")
OPTIMIZERS = ("adam", "adamw", "muon", "sgd")
# Measures that may say which epoch is best. The first is the one that is reported: the least loss
# comes long before the best average precision, as a network grows too sure of itself.
MONITORS = {
    "classify": ("accuracy", "balanced_accuracy", "macro_f1"),
    "segment": ("mean_ap", "mean_iou"),
    "multi_label": ("mean_ap",),
}
PRECISIONS = ("auto", "float32", "mixed_bfloat16")
SAMPLINGS = ("uniform", "balanced")
SCHEDULES = ("constant", "cosine")

CHOICES: dict[str, Sequence[str]] = {
    "augment": AUGMENTATIONS,
    "keep": KEEP,
    "optimizer": OPTIMIZERS,
    "precision": PRECISIONS,
    "resize": RESIZES,
    "sampling": SAMPLINGS,
    "schedule": SCHEDULES,
    "task": TASKS,
}
SIZES = ("image_size", "crop")
# (whether a value is in range, the range in words); None is a matter of the type.
RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        (
            *("epochs", "batch_size", "learning_rate", "limit", "patience", "group_modulus"),
            "temperature",
        ),
        (lambda value: value > 0, "above 0"),
    ),
    "teacher_weight": (lambda value: 0 < value <= 1, "above 0, at most 1"),
    "encoder_rate": (lambda value: 0 <= value <= 1, "from 0 to 1"),
    **dict.fromkeys(
        ("weight_decay", "warmup_epochs", "dice"), (lambda value: value >= 0, "at least 0")
    ),
    **dict.fromkeys(("label_smoothing", "ema"), (lambda value: 0 <= value < 1, "in [0, 1)")),
    "seed": (lambda value: 0 <= value < 2**32, "at least 0 and below 2^32"),
    "val_fraction": (lambda value: 0 < value < 1, "between 0 and 1"),
    "channels": (lambda value: value in (1, 3), "1 (grey) or 3 (RGB)"),
    **dict.fromkeys(
        SIZES,
        (
            lambda value: len(value) == 2 and all(8 <= side <= 4096 for side in value),
            "two sides of 8 to 4096 px",
        ),
    ),
}


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the outcome of a run; saved with it as ``config.json``."""

    task: str  # "classify" or "segment"
    preset: str = "default"  # where the values below came from, before flags
    data: str = ""  # name in DATASETS, "tfds:NAME", or a directory
    data_dir: str | None = None  # where the named data set lies, if not in a usual place
    format: str | None = None  # how that directory is laid out; None: recognised
    multi_label: bool = False  # an image has any number of the classes, for classify
    group_modulus: int | None = None  # files N and N + modulus belong to one group
    val_fraction: float = 0.1  # share of the training groups held out where no val split exists
    limit: int | None = None  # so many training examples at most, see DataOptions
    model: str = ""  # name in MODELS
    model_options: Mapping[str, Any] = field(default_factory=dict)  # given to the model's builder
    image_size: tuple[int, int] | None = None  # (height, width); None: near the data set's own
    crop: tuple[int, int] | None = None  # train on crops (height, width) at the images' own scale
    resize: str | None = None  # name in RESIZES; None: the plan chooses
    channels: int | None = None  # 1 grey, 3 RGB; None: the data set's own
    probe: bool = False  # the first epoch fits the last layer alone, on features computed once
    epochs: int = 10
    batch_size: int = 32
    optimizer: str = "adam"
    learning_rate: float = 1e-3  # the peak, where a schedule changes it
    encoder_weights: str | None = None  # file, or "drawn" at random; None: ImageNet's
    encoder_rate: float = 1.0  # the encoder's learning rate, as a factor of the above
    schedule: str = "constant"  # "cosine": linear warm-up to the peak, then cosine to zero
    warmup_epochs: float = 0.0
    weight_decay: float = 0.0  # "adam": L2 term added to the gradient; else: decoupled
    label_smoothing: float = 0.0
    dice: float = 0.0  # weight of the soft Dice loss, for segment
    # Of errors, by class name: "balanced", a file or the numbers; see experiment/balance.py.
    class_weights: str | Mapping[str, Any] | None = None
    sampling: str = "uniform"  # "balanced": an epoch draws images of rare classes more often
    teacher: str | None = None  # models whose answers are learned, separated by commas
    teacher_weight: float = 0.8  # of their answers; that of the labels is the rest
    temperature: float = 2.0  # of their answers: above 1 they are evened out
    ema: float = 0.0  # momentum of the average of the weights that is kept; see optim.ema_momentum
    augment: str | None = "none"  # name in AUGMENTATIONS; None: the preset's, see mirroring.py
    monitor: str | None = None  # validation measure that says which is best; None: the first
    keep: str = "best"  # weights of the epoch with the best validation value, or of the "last"
    patience: int | None = None  # stop after so many epochs without a better validation value
    init: str | None = None  # run, pretrained model or ONNX file whose weights it starts from
    precision: str = "auto"  # "mixed_bfloat16" where the hardware has it, else "float32"
    seed: int = 0
    # What was asked for, where the data are to choose the preset; None: it is chosen.
    given: Mapping[str, Any] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name in SIZES:
            size: Any = getattr(self, name)  # as in JSON, or one side of a square
            if isinstance(size, list):
                object.__setattr__(self, name, tuple(size))
            elif type(size) is int:
                object.__setattr__(self, name, (size, size))
        _validate(self)

    @property
    def kind(self) -> str:
        """What the model's answers are, one of ``tfproj.core.spec.KINDS``."""
        return kind_of_task(self.task, self.multi_label)

    @property
    def eval_batch_size(self) -> int:
        """A larger batch where there is no backward pass to hold."""
        return 2 * self.batch_size if self.task == "classify" else self.batch_size

    @property
    def monitored(self) -> str:
        """The column of ``history.csv`` that says which epoch is best."""
        return f"val_{self.monitor or MONITORS[self.kind][0]}"

    @property
    def stepping_epochs(self) -> int:
        """Epochs that take optimiser steps."""
        return self.epochs - self.probe

    def to_dict(self) -> dict[str, Any]:
        values = json.loads(json.dumps(dataclasses.asdict(self)))
        del values["given"]
        return values


def config_from_dict(values: Mapping[str, Any]) -> TrainConfig:
    """The reverse of :meth:`TrainConfig.to_dict`.

    Raises:
        InputError: unknown or missing keys, or values out of range.
    """
    if not isinstance(values, Mapping):
        raise InputError("a configuration must hold keys and values")
    reject_unknown_keys(values)
    if "task" not in values:
        raise InputError("configuration without 'task'")
    return TrainConfig(**values)


def reject_unknown_keys(
    values: Mapping[str, Any], where: str = "", also: Sequence[str] = ()
) -> None:
    """InputError for a key that no configuration has, nor ``also``; says the closest."""
    known = [f.name for f in dataclasses.fields(TrainConfig) if f.name != "given"] + list(also)
    for key in values:
        if key not in known:
            raise unknown_name(f"{where}unknown key", key, known)


def _validate(config: TrainConfig) -> None:
    """Types and ranges, so that a wrong value is named before any work starts."""
    for f in dataclasses.fields(config):
        name, value = f.name, getattr(config, f.name)
        check_type(name, str(f.type), value)
        if name in CHOICES and value is not None and value not in CHOICES[name]:
            raise unknown_name(f"unknown {name}", value, CHOICES[name])
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{name} is {value}; it must be finite")
        good, words = RANGES.get(name, (None, ""))
        if good and value is not None and not good(value):
            raise InputError(f"{name} is {value}; it must be {words}")
    known = MONITORS[config.kind]
    if config.monitor is not None and config.monitor not in known:
        raise unknown_name(f"unknown monitor for {config.kind}", config.monitor, known)
    if config.multi_label and (config.class_weights or config.sampling != "uniform"):
        raise InputError("class_weights and sampling are for one label an image; leave them out")
    if config.resize:
        check_resize(config.resize, config.task)
    _check_crop(config)
    check_multi_label(config.multi_label, config.task)
    if config.multi_label and config.teacher:
        raise InputError("teacher: is for one label an image; leave it or multi_label out")
    if config.augment == "photo_mix" and config.task != "segment":
        raise InputError("augment 'photo_mix' pastes images together, which is for segment only")
    if config.probe and config.task != "classify":
        raise InputError("probe fits the last layer of a classifier, which is for classify only")
    if config.dice and config.task != "segment":
        raise InputError("dice is a loss of areas, which is for segment only")


def _check_crop(config: TrainConfig) -> None:
    """InputError for a crop of a classifier, or beside what it decides."""
    if config.crop is None:
        if config.resize == "tiles":
            raise InputError("resize 'tiles' is for models trained on crops; give --crop SIZE")
        return
    if config.task != "segment":
        raise InputError(
            "crop is for segment only: a part of an image need not show its class; --resize crop "
            "cuts a classifier's images to its proportions"
        )
    if config.image_size:
        raise InputError("crop and image_size: the crop is the model's input; leave out one")
    if config.resize not in (None, "tiles"):
        raise InputError(f"crop and resize {config.resize!r}: crops keep the scale; leave out one")
    if config.sampling != "uniform":
        raise InputError("crop and sampling: half of the crops are for rare classes; leave out one")


def check_type(name: str, annotation: str, value: Any) -> None:
    """InputError unless ``value`` is of the type that ``annotation`` names."""
    if value is None and annotation.endswith("| None"):
        return
    kind = annotation.removesuffix(" | None")
    good = {
        "str": isinstance(value, str),
        "bool": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, (int, float)) and not isinstance(value, bool),
        "tuple[int, int]": isinstance(value, tuple) and all(type(side) is int for side in value),
        "Mapping[str, Any]": isinstance(value, Mapping),
        "str | Mapping[str, Any]": isinstance(value, (str, Mapping)),
    }[kind]
    if not good:
        words = {
            "str": "text",
            "bool": "true or false",
            "int": "a whole number",
            "float": "a number",
            "str | Mapping[str, Any]": "text, or a number for each class",
        }
        wanted = {**words, "tuple[int, int]": "one or two sides in whole pixels"}.get(kind, kind)
        raise InputError(f"{name} is {value!r}; it must be {wanted}")
