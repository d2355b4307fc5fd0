"""The configuration of a training run: its fields, their types and ranges."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tfproj.core.spec import TASKS
from tfproj.errors import InputError, unknown_name

AUGMENTATIONS = (
    "none",
    "flip",
    "shift_flip",
    "shift_flip_erase",
    "photo",
    "photo_wide",
    "photo_mix",
)
KEEP = ("best", "last")
OPTIMIZERS = ("adam", "adamw", "muon", "sgd")
PRECISIONS = ("auto", "float32", "mixed_bfloat16")
SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the outcome of a run; saved with it as ``config.json``."""

    task: str  # "classify" or "segment"
    preset: str = "default"  # where the values below came from, before flags
    data: str = ""  # name in DATASETS, "tfds:NAME", or a directory
    data_dir: str | None = None  # where the named data set lies, if not in a usual place
    group_modulus: int | None = None  # files N and N + modulus belong to one group
    val_fraction: float = 0.1  # share of the training groups held out where no val split exists
    limit: int | None = None  # so many training examples at most, see DataOptions
    model: str = ""  # name in MODELS
    model_options: Mapping[str, Any] = field(default_factory=dict)  # given to the model's builder
    image_size: tuple[int, int] | None = None  # (height, width); None: near the data set's own
    channels: int | None = None  # 1 grey, 3 RGB; None: the data set's own
    epochs: int = 10
    batch_size: int = 32
    optimizer: str = "adam"
    learning_rate: float = 1e-3  # the peak, where a schedule changes it
    schedule: str = "constant"  # "cosine": linear warm-up to the peak, then cosine to zero
    warmup_epochs: float = 0.0
    weight_decay: float = 0.0  # "adam": L2 term added to the gradient; else: decoupled
    label_smoothing: float = 0.0
    dice: float = 0.0  # weight of the soft Dice loss, for segment
    ema: float = 0.0  # momentum of the average of the weights that is kept; see optim.ema_momentum
    augment: str = "none"  # name in AUGMENTATIONS
    keep: str = "best"  # weights of the epoch with the best validation value, or of the "last"
    patience: int | None = None  # stop after so many epochs without a better validation value
    init: str | None = None  # run, pretrained model or ONNX file whose weights it starts from
    precision: str = "auto"  # "mixed_bfloat16" where the hardware has it, else "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.image_size, list):
            object.__setattr__(self, "image_size", tuple(self.image_size))
        _validate(self)

    @property
    def eval_batch_size(self) -> int:
        """A larger batch where there is no backward pass to hold."""
        return 2 * self.batch_size if self.task == "classify" else self.batch_size

    def to_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self)))


def config_from_dict(record: Mapping[str, Any]) -> TrainConfig:
    """The reverse of :meth:`TrainConfig.to_dict`.

    Raises:
        InputError: unknown or missing keys, or values out of range.
    """
    if not isinstance(record, Mapping):
        raise InputError("a configuration must hold keys and values")
    reject_unknown_keys(record)
    if "task" not in record:
        raise InputError("configuration without 'task'")
    return TrainConfig(**record)


def reject_unknown_keys(values: Mapping[str, Any], where: str = "") -> None:
    """InputError for a key that no configuration has; says the closest."""
    known = [f.name for f in dataclasses.fields(TrainConfig)]
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise InputError(f"{where}unknown key {key!r}; {hint}")


def _validate(config: TrainConfig) -> None:
    """Types and ranges, so that a wrong value is named before any work starts."""
    for f in dataclasses.fields(config):
        check_type(f.name, str(f.type), getattr(config, f.name))
    for name, choices in (
        ("augment", AUGMENTATIONS),
        ("keep", KEEP),
        ("optimizer", OPTIMIZERS),
        ("precision", PRECISIONS),
        ("schedule", SCHEDULES),
        ("task", TASKS),
    ):
        if getattr(config, name) not in choices:
            raise unknown_name(name, getattr(config, name), choices)
    for f in dataclasses.fields(config):
        if str(f.type) == "float" and not math.isfinite(getattr(config, f.name)):
            raise InputError(f"{f.name} is {getattr(config, f.name)}; it must be finite")
    positive = ("epochs", "batch_size", "learning_rate", "limit", "patience", "group_modulus")
    for name in positive:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise InputError(f"{name} is {value}; it must be above 0")
    for name in ("weight_decay", "warmup_epochs", "dice", "seed"):
        if not getattr(config, name) >= 0:
            raise InputError(f"{name} is {getattr(config, name)}; it must be at least 0")
    if config.seed >= 2**32:
        raise InputError(f"seed is {config.seed}; it must be below 2^32")
    if not 0 < config.val_fraction < 1:
        raise InputError(f"val_fraction is {config.val_fraction}; it must lie between 0 and 1")
    for name in ("label_smoothing", "ema"):
        if not 0 <= getattr(config, name) < 1:
            raise InputError(f"{name} is {getattr(config, name)}; it must be in [0, 1)")
    if config.augment == "photo_mix" and config.task != "segment":
        raise InputError("augment 'photo_mix' pastes images together, which is for segment only")
    if config.dice and config.task != "segment":
        raise InputError("dice is a loss of areas, which is for segment only")
    if config.channels not in (None, 1, 3):
        raise InputError(f"channels is {config.channels}; it must be 1 (grey) or 3 (RGB)")
    if config.image_size is not None and (
        len(config.image_size) != 2 or not all(8 <= side <= 4096 for side in config.image_size)
    ):
        raise InputError(f"image_size is {config.image_size}; two sides of 8 to 4096 px expected")


def check_type(name: str, annotation: str, value: Any) -> None:
    """InputError unless ``value`` is of the type that ``annotation`` names."""
    if value is None and annotation.endswith("| None"):
        return
    kind = annotation.removesuffix(" | None")
    good = {
        "str": isinstance(value, str),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, (int, float)) and not isinstance(value, bool),
        "tuple[int, int]": isinstance(value, tuple) and all(type(side) is int for side in value),
        "Mapping[str, Any]": isinstance(value, Mapping),
    }[kind]
    if not good:
        wanted = {"str": "text", "int": "a whole number", "float": "a number"}.get(kind, kind)
        raise InputError(f"{name} is {value!r}; it must be {wanted}")
