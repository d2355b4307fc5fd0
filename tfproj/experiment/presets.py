"""Presets, and how a preset, a file and flags make a configuration."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfproj.core.spec import TASKS
from tfproj.errors import InputError, missing_extra, unknown_name
from tfproj.models.encoder_names import LITE0, LITE0_OPTIONS
from tfproj.runs.config import TrainConfig, check_type, reject_unknown_keys

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

ENCODER = "encoder"  # shorthand for a model with that encoder

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
        # Longer; random erasing keeps it from memorising the images.
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
        # For photographs: the features of an encoder trained on ImageNet, and a linear layer that
        # is fitted to them. From choice.FINE_TUNED images on the encoder learns, too, slowly; its
        # norms stay, as do the edges and textures of its first blocks.
        "photo": {
            "model": "encoder",
            "model_options": {
                "encoder": "lite0",
                "batch_norm": True,
                "dropout": 0.2,
                "frozen": 4,
                "frozen_norms": True,
            },
            "image_size": (288, 288),
            "resize": "crop",
            "probe": True,
            "epochs": 9,
            "batch_size": 16,
            "optimizer": "adamw",
            "learning_rate": 1e-3,
            "encoder_rate": 0.1,
            "schedule": "cosine",
            "warmup_epochs": 0.5,
            "weight_decay": 1e-2,
            "label_smoothing": 0.1,
            "ema": 0.999,
            "augment": "photo",
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
        # Under 30,000 parameters: for microcontrollers, in int8 by TensorFlow Lite.
        "micro": {
            "model": "resnet",
            "model_options": {"batch_norm": True, "widths": [8, 16, 30]},
            "val_fraction": 0.05,
            "epochs": 24,
            "batch_size": 128,
            **MUON,
            "weight_decay": 1e-2,
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
        # epochs; parts of another house keep it from memorising the few there are.
        "default": {
            "model_options": {"batch_norm": True},
            "epochs": 30,
            **MUON,
            "dice": 1.5,
            "ema": 0.999,
            "augment": "photo_mix",
        },
        # For photographs: an encoder trained on ImageNet, whose edges and textures stay, under the
        # decoder of "best". It learns in fewer epochs than random weights do; silenced blocks and
        # channels keep it from memorising few images.
        "photo": {
            "model": "encoder_unet",
            "model_options": {
                "encoder": "lite0",
                "batch_norm": True,
                "dropout": 0.2,
                "drop_path": 0.2,
                "frozen": 4,
            },
            "epochs": 14,
            **MUON,
            "encoder_rate": 0.2,
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
        # shows to every place. 271 houses are soon memorised: parts of another house and
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

    Without a preset it is open: :func:`tfproj.experiment.plan.plan` chooses one by the data, as
    :mod:`tfproj.experiment.choice` says, and ``default`` stands for it until then. With ``init``
    it is ``finetune``, whose model is left open, for the plan to take from the source.

    Args:
        encoder: shorthand for a model with that encoder, see :data:`tfproj.models.registry.MODELS`;
            the preset is then ``photo``.

    Raises:
        InputError: an unknown task, preset or key, or a value out of range.
    """
    if task not in TASKS:
        raise unknown_name("unknown task", task, TASKS)
    reject_unknown_keys(values, also=(ENCODER,))
    given = {key: value for key, value in values.items() if value is not None}
    check_type("init", "str | None", given.get("init"))
    if preset is None and given.get("init"):
        preset = "finetune"
    elif preset is None and ENCODER in given:
        preset = "photo"
    if preset is not None and (not isinstance(preset, str) or preset not in PRESETS[task]):
        raise unknown_name(f"unknown preset for {task}", preset, PRESETS[task])
    recipe = _recipe(task, preset or "default", given)
    settled = {key: value for key, value in given.items() if key != ENCODER}
    return TrainConfig(
        **{**recipe, **settled, "task": task, "preset": preset or "default"},
        given=None if preset else given,
    )


def _recipe(task: str, preset: str, given: dict[str, Any]) -> dict[str, Any]:
    """The values of a preset, without the model's where another one is asked for."""
    recipe = {**TASK_DEFAULTS[task], **PRESETS[task][preset]}
    if given.get("init"):
        if ENCODER in given:
            raise InputError("encoder and init: the source has its own network; leave out one")
        recipe |= {"model": "", "model_options": {}}  # the source's: plan looks it up
    if given.get("model", recipe["model"]) != recipe["model"]:
        recipe["model_options"] = {}  # a preset's options are for the preset's model
    if ENCODER in given:
        check_type(ENCODER, "str", given[ENCODER])
        photo = PRESETS[task]["photo"]
        own = {**photo["model_options"], ENCODER: given[ENCODER]}
        if given[ENCODER] != LITE0:
            own = {key: value for key, value in own.items() if key not in LITE0_OPTIONS}
        own |= given.get("model_options", {})
        if given.setdefault("model", photo["model"]) != photo["model"]:
            raise InputError(f"model {given['model']!r} has no encoder; leave out one of the two")
        given["model_options"] = own
    recipe["augment"] = None  # of this preset, as far as the classes allow: plan looks at them
    return recipe


def read_config_file(path: str | Path) -> dict[str, Any]:
    """Keys and values of a YAML (or JSON) configuration file, keys checked.

    Raises:
        InputError: missing, not a mapping, or an unknown key (with the closest known one).
    """
    values = read_yaml(path, lambda yaml, text: yaml.load(text, _yaml_loader(yaml)))
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise InputError(f"{path}: expected 'key: value' lines")
    values = {key.replace("-", "_"): value for key, value in values.items()}
    reject_unknown_keys(values, f"{path}: ", also=(ENCODER,))
    return values


def read_yaml(path: str | Path, parse: Callable[[Any, str], Any]) -> Any:
    """What ``parse(yaml, text)`` makes of a file; InputError: it is missing or no YAML."""
    try:
        import yaml  # noqa: PLC0415 (comes with the extra "train")
    except ImportError:
        raise missing_extra("PyYAML", "train") from None
    try:
        return parse(yaml, Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: not valid YAML ({reason})") from None


def _yaml_loader(yaml):
    """The safe loader, to which 5e-3 is a number, too; YAML 1.1 wants a point, JSON has none."""

    class Loader(yaml.SafeLoader):
        pass

    number = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, [*"-+.0123456789"])
    return Loader
