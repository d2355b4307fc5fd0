"""The configuration of a training run and the presets that fill it in. No TensorFlow here."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfproj.errors import InputError, missing_extra, unknown_name
from tfproj.spec import TASKS

AUGMENTATIONS = (
    "none",
    "flip",
    "flip_erase",
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

    def to_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self)))


# Values shared by every run of a task, whatever the preset.
TASK_DEFAULTS: dict[str, dict[str, Any]] = {
    "classify": {"data": "fashion_mnist", "model": "cnn"},
    "segment": {"data": "facades", "model": "unet", "batch_size": 8},
}

# What brings a small network furthest in few epochs: nine points of mean AP and two of accuracy
# over AdamW (docs/recipes.md).
MUON = {
    "optimizer": "muon",
    "learning_rate": 5e-3,
    "schedule": "cosine",
    "warmup_epochs": 1.0,
    "weight_decay": 5e-2,
}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "classify": {
        # The course work: two plain convolutions, cross entropy, Adam.
        "original": {
            "epochs": 15,
            "batch_size": 128,
            "learning_rate": 1e-3,
        },
        # Deeper, but with most of its work at low resolution; batch norm and Muon let the rate be
        # high; smoothing keeps it from overconfidence. Flips only: where all images are centred
        # alike, a network that must not mind shifts learns more slowly. Batches of 256 would train
        # 1.17 times as many images a second, but give an epoch half as many steps.
        "default": {
            "model": "resnet",
            "model_options": {"batch_norm": True},
            "val_fraction": 0.05,
            "epochs": 10,
            "batch_size": 128,
            **MUON,
            "label_smoothing": 0.05,
            "augment": "flip",
        },
        # Deeper: 17 convolutions, seven narrow ones where the image still has its full size.
        # Longer; what it would learn by heart is erased at random.
        "best": {
            "model": "resnet",
            "model_options": {
                "batch_norm": True,
                "widths": [16, 48, 96],
                "blocks": 2,
                "stem_blocks": 3,
            },
            "val_fraction": 0.05,
            "epochs": 140,
            "batch_size": 128,
            **MUON,
            "label_smoothing": 0.05,
            "ema": 0.999,
            "augment": "shift_flip_erase",
        },
        # Under 100,000 parameters, for where every kilobyte counts.
        "tiny": {
            "model": "resnet",
            "model_options": {"batch_norm": True, "widths": [16, 32, 56]},
            "val_fraction": 0.05,
            "epochs": 24,
            "batch_size": 128,
            **MUON,
            "weight_decay": 2e-2,
            "label_smoothing": 0.02,
            "augment": "shift_flip",
        },
        # From existing weights (--init), on few images: the rate that made them. A smaller one was
        # worse on 100 digits and on 100 facades.
        "finetune": {
            "epochs": 20,
            **MUON,
            "label_smoothing": 0.05,
            "ema": 0.999,
            "augment": "shift_flip",
        },
    },
    "segment": {
        # The course work: Adam 1e-4 whose decay of 1e-4 is PyTorch's, coupled to the gradient;
        # a ReLU on the scores, and PyTorch's initial weights.
        "original": {
            "model_options": {"final_relu": True, "initializer": "torch"},
            "epochs": 20,
            "learning_rate": 1e-4,
            "weight_decay": 1e-4,
        },
        # The same layer table with batch norm, which folds away on export. Muon gets there in fewer
        # epochs; parts of another house keep it from knowing the few there are by heart.
        "default": {
            "model_options": {"batch_norm": True},
            "epochs": 30,
            **MUON,
            "dice": 1.5,
            "ema": 0.999,
            "augment": "photo_mix",
        },
        # From existing weights (--init), on few images: the rate that made them.
        "finetune": {
            "epochs": 20,
            **MUON,
            "augment": "photo",
        },
        # Starts at half the resolution, so it can be wider and see more of the house in less time;
        # multiples of 16 filters keep batch norm fast. Windows stand in lines, which strip pooling
        # shows to every place. 271 houses are soon known by heart: parts of another house and
        # silenced channels keep it from that.
        "best": {
            "model_options": {
                "batch_norm": True,
                "widths": [32, 64, 96, 128, 160],
                "stem_stride": 2,
                "strip_pooling": True,
                "dropout": 0.2,
            },
            "epochs": 56,
            **MUON,
            "dice": 1.5,
            "ema": 0.999,
            "augment": "photo_mix",
        },  # fmt: skip
    },
}


def make_config(task: str, preset: str | None = None, **values: Any) -> TrainConfig:
    """A preset with single values changed; ``None`` means "as the preset has it".

    The preset is ``default``, or ``finetune`` with ``init``, whose model is then the source's.

    Raises:
        InputError: an unknown task, preset or key, or a value out of range.
    """
    if task not in TASKS:
        raise unknown_name("task", task, TASKS)
    if preset is None:
        preset = "finetune" if values.get("init") else "default"
    if not isinstance(preset, str) or preset not in PRESETS[task]:
        raise unknown_name(f"preset for {task}", preset, PRESETS[task])
    _reject_unknown_keys(values)
    given = {key: value for key, value in values.items() if value is not None}
    _check_type("init", "str | None", given.get("init"))
    recipe = {**TASK_DEFAULTS[task], **PRESETS[task][preset]}
    if given.get("init"):
        recipe |= _of_source(given["init"], task)
    if given.get("model", recipe["model"]) != recipe["model"]:
        recipe["model_options"] = {}  # a preset's options are for the preset's model
    return TrainConfig(**{**recipe, **given, "task": task, "preset": preset})


def _of_source(init: str, task: str) -> dict[str, Any]:
    """Model, options and channels of what a training starts from."""
    from tfproj.transfer import find_source

    source = find_source(init, task)
    model = {"model": source.spec.model, "model_options": source.options}
    return {**model, "channels": source.spec.channels}


def read_config_file(path: str | Path) -> dict[str, Any]:
    """Keys and values of a YAML (or JSON) configuration file, keys checked.

    Raises:
        InputError: missing, not a mapping, or an unknown key (with the closest known one).
    """
    try:
        import yaml
    except ImportError:
        raise missing_extra("PyYAML", "train") from None
    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), _yaml_loader(yaml))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: not valid YAML ({reason})") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(f"{path}: expected 'key: value' lines")
    values = {key.replace("-", "_"): value for key, value in values.items()}
    _reject_unknown_keys(values, f"{path}: ")
    return values


def _yaml_loader(yaml):
    """The safe loader, to which 5e-3 is a number, too; YAML 1.1 wants a point, JSON has none."""

    class Loader(yaml.SafeLoader):
        pass

    number = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, [*"-+.0123456789"])
    return Loader


def config_from_dict(record: Mapping[str, Any]) -> TrainConfig:
    """The reverse of :meth:`TrainConfig.to_dict`.

    Raises:
        InputError: unknown or missing keys, or values out of range.
    """
    if not isinstance(record, Mapping):
        raise InputError("a configuration must hold keys and values")
    _reject_unknown_keys(record)
    if "task" not in record:
        raise InputError("configuration without 'task'")
    return TrainConfig(**record)


def _reject_unknown_keys(values: Mapping[str, Any], where: str = "") -> None:
    known = [f.name for f in dataclasses.fields(TrainConfig)]
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise InputError(f"{where}unknown key {key!r}; {hint}")


def _validate(config: TrainConfig) -> None:
    """Types and ranges, so that a wrong value is named before any work starts."""
    for f in dataclasses.fields(config):
        _check_type(f.name, str(f.type), getattr(config, f.name))
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


def _check_type(name: str, annotation: str, value: Any) -> None:
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
