"""Models by name. The registry is light; a builder imports Keras when it is called."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tfproj.core.spec import ModelSpec
from tfproj.errors import InputError, unknown_name
from tfproj.models.encoder_names import check_encoder


@dataclass(frozen=True)
class ModelEntry:
    """One entry of the registry.

    Attributes:
        task: ``classify`` or ``segment``.
        summary: one line for ``tfproj models``.
        build: (spec, **options) -> ``keras.Model`` from uint8 images (B, H, W, C) to scores
            float32 (B, classes) or (B, H, W, classes).
        multiple: (options) -> input sides must be multiples of this many pixels.
        options: names of the builder's options.
        least: pixels that the input's sides must have.
        reach: (options) -> pixels around an answer that it depends on, beyond its own ``multiple``;
            None: the whole image, or not known.
    """

    task: str
    summary: str
    build: Callable[..., Any]
    multiple: Callable[[Mapping[str, Any]], int]
    options: tuple[str, ...]
    least: int = 1
    reach: Callable[[Mapping[str, Any]], int | None] = lambda options: None


def _builder(name: str) -> Callable[..., Any]:
    """The function ``name`` of the module ``tfproj.models.name``, imported when it is called."""

    def build(spec: ModelSpec, **options: Any):
        module = importlib.import_module(f"tfproj.models.{name}")
        return getattr(module, name)(spec, **options)

    return build


def _unet_reach(options: Mapping[str, Any]) -> int | None:
    """Of the UNet: a 3x3 convolution reaches one pixel further, at its own resolution."""
    if options.get("strip_pooling"):  # means of whole lines
        return None
    stem, levels = options.get("stem_stride", 1), len(options.get("widths") or range(4)) - 1
    # Two convolutions down, two up, and what doubles the sides, whose pixel lies within one of the
    # level below. At the bottom two convolutions.
    inner = sum(5 * stem * 2**level for level in range(levels)) + 2 * stem * 2**levels
    # A stem that strides reaches half its stride, not one pixel; at the end it has one
    # convolution, and its pixels lie within one of that resolution.
    return inner if stem == 1 else inner - 2 * stem + math.ceil(stem / 2) + stem - 1


ENCODER_OPTIONS = (
    *("encoder", "width", "batch_norm", "dropout"),
    *("drop_path", "frozen", "frozen_norms"),
)
MODELS: dict[str, ModelEntry] = {
    "cnn": ModelEntry(
        "classify",
        "two 3x3 convolutions of 32 filters with max pooling, two dense layers",
        _builder("cnn"),
        multiple=lambda options: 1,
        options=("filters", "dense", "batch_norm", "dropout"),
        least=4,
    ),
    "resnet": ModelEntry(
        "classify",
        "residual network: a stem, then stages at half the resolution each",
        _builder("resnet"),
        multiple=lambda options: 1,
        options=("widths", "blocks", "stem_blocks", "batch_norm", "dropout"),
    ),
    "unet": ModelEntry(
        "segment",
        "14 convolutions, 3 poolings, 3 transposed convolutions, additive skips",
        _builder("unet"),
        multiple=lambda options: (
            options.get("stem_stride", 1) * 2 ** (len(options.get("widths") or range(4)) - 1)
        ),
        options=(
            *("batch_norm", "final_relu", "initializer", "widths"),
            *("stem_stride", "dropout", "strip_pooling"),
        ),
        reach=_unet_reach,
    ),
    "encoder": ModelEntry(
        "classify",
        "for photographs: an encoder trained on ImageNet, averaged, and a dense layer",
        _builder("encoder"),
        multiple=lambda options: 32,
        options=ENCODER_OPTIONS,
        least=32,
    ),
    "encoder_unet": ModelEntry(
        "segment",
        "for photographs: an encoder trained on ImageNet, and a decoder with strip pooling",
        _builder("encoder_unet"),
        multiple=lambda options: 2 ** (len(options.get("widths") or range(3)) + 1),
        options=("widths", *ENCODER_OPTIONS),
        least=32,
    ),
}


# (whether a value of the option is good, what is), by option.
OPTION_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        ("batch_norm", "final_relu", "strip_pooling", "frozen_norms"),
        (lambda value: isinstance(value, bool), "true or false"),
    ),
    **dict.fromkeys(
        ("filters", "dense", "stem_stride"),
        (lambda value: type(value) is int and value >= 1, "a whole number of at least 1"),
    ),
    **dict.fromkeys(
        ("blocks", "stem_blocks"),
        (lambda value: type(value) is int and value >= 0, "a whole number of at least 0"),
    ),
    **dict.fromkeys(
        ("dropout", "drop_path"),
        (lambda value: type(value) in (int, float) and 0 <= value < 1, "in [0, 1)"),
    ),
    "encoder": (lambda value: isinstance(value, str) and value != "", "the name of an encoder"),
    "frozen": (lambda value: value in (0, 2, 4, 8, 16, 32), "0 or a stride: 2, 4, 8, 16 or 32"),
    "width": (lambda value: type(value) in (int, float) and 0 < value <= 4, "above 0, at most 4"),
    "initializer": (lambda value: value in ("keras", "torch"), "keras or torch"),
    "widths": (
        lambda value: (
            value is None
            or (isinstance(value, (list, tuple)) and len(value) >= 2)
            and all(type(width) is int and width >= 1 for width in value)
        ),
        "a list of two or more whole numbers of at least 1",
    ),
}


def check_model(name: str, task: str, options: Mapping[str, Any]) -> None:
    """InputError unless the model exists, is for the task, and can have the options."""
    if name not in MODELS:
        raise unknown_name("unknown model", name, MODELS)
    entry = MODELS[name]
    if entry.task != task:
        raise InputError(f"model {name!r} is for {entry.task}, not {task}")
    for key, value in options.items():
        if key not in entry.options:
            raise unknown_name(f"unknown option of model {name!r}", key, entry.options)
        good, words = OPTION_VALUES[key]
        if not good(value):
            raise InputError(f"{key} of model {name!r} is {value!r}; it must be {words}")
    check_encoder(options)


def check_size(name: str, size: tuple[int, int], options: Mapping[str, Any]) -> None:
    """InputError unless the model takes images of (height, width)."""
    entry, multiple = MODELS[name], input_multiple(name, options)
    if any(side % multiple for side in size):
        near = nearest_size(name, tuple(max(side, entry.least) for side in size), options)
        raise InputError(
            f"model {name!r} needs sides that are multiples of {multiple}; "
            f"{size[0]} x {size[1]} is not, {near[0]} x {near[1]} is"
        )
    if min(size) < entry.least:
        raise InputError(
            f"model {name!r} needs sides of at least {entry.least}; {size[0]} x {size[1]} is less"
        )


def nearest_size(name: str, size: tuple[int, int], options: Mapping[str, Any]) -> tuple[int, int]:
    """The (height, width) nearest to ``size`` that are multiples of what the model needs."""
    multiple = input_multiple(name, options)
    return tuple(multiple * max(1, int(side / multiple + 0.5)) for side in size)


def input_multiple(name: str, options: Mapping[str, Any]) -> int:
    """What the input's sides must be a multiple of, in pixels."""
    return MODELS[name].multiple(options)


def input_reach(name: str, options: Mapping[str, Any]) -> int | None:
    """Pixels around an answer that it depends on; see :class:`ModelEntry`."""
    return MODELS[name].reach(options)


def scaling(name: str, options: Mapping[str, Any]) -> str:
    """What a network does to the pixels first, in the words of an exported file."""
    if "encoder" not in MODELS[name].options:
        return "rescale by 1/255"
    encoder = options.get("encoder", "lite0")
    known = {"lite0": "(pixel - 127) / 128"}
    return known.get(encoder, f"scale as keras.applications does for {encoder}")


def build_model(spec: ModelSpec, options: Mapping[str, Any] | None = None):
    """The Keras model for a spec; see :class:`ModelEntry` for what it takes and gives."""
    options = dict(options or {})
    check_model(spec.model, spec.task, options)
    check_size(spec.model, spec.size, options)
    return MODELS[spec.model].build(spec, **options)
