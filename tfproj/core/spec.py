"""What a model needs to be used: one small record that travels with the weights.

A run directory holds it as ``spec.json``; an exported ONNX file holds it in its metadata
under the key :data:`METADATA_KEY`. No TensorFlow here.
"""

from __future__ import annotations

import colorsys
import dataclasses
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfproj.errors import InputError

METADATA_KEY = "tfproj"
SCHEMA = 1
# Of a file whose images are not stretched: a reader of schema 1 would do so all the same.
SCHEMA_OF_RESIZE = 2
# Of a file with several labels an image: a reader of 1 or 2 would name the most probable alone.
SCHEMA_OF_LABELS = 3
# Of a file that takes float32 (N, C, H, W): one of 1 to 3 would hand it bytes (N, H, W, C).
SCHEMA_OF_LAYOUT = 4
LAYOUTS = ("NHWC", "NCHW")
TASKS = ("classify", "segment")
KINDS = (*TASKS, "multi_label")  # of answers: "multi_label" is a way to classify
RESIZES = ("stretch", "letterbox", "crop", "tiles")  # see tfproj.core.resizing
OF_CLASSIFIERS, OF_SEGMENTERS = ("crop",), ("tiles",)  # all may stretch, or be letterboxed
PAD = 114  # grey around a letterboxed picture, in each channel

# Names of the tensors of every exported graph.
INPUT_NAME = "image"
SCORES_NAME = "scores"
PROBABILITIES_NAME = "probabilities"
UNKNOWN_NAME = "unknown_score"
ACTIVATION_NAME = "activation"
# In the order of the graph. Only classifiers have the last two, and not all of them.
OUTPUT_NAMES = (SCORES_NAME, PROBABILITIES_NAME, UNKNOWN_NAME, ACTIVATION_NAME)
UNKNOWN_THRESHOLD = "unknown_score_threshold"  # of UNKNOWN_NAME, in the metadata's "calibration"

# That servers take at once: of 256 x 256 images with five classes, 250 MB at most.
MAX_BATCH_SIZE = {"classify": 64, "segment": 16}

# What tfproj.core.image does before the graph and what the graph does itself. docs/onnx-contract.md
# spells each step out for a port to another language; both change together.
_PREPROCESSING = {
    "order": ["decode", "exif_orientation", "sixteen_bit", "alpha", "channels", "resize"],
    "exif_orientation": "applied",
    "sixteen_bit": "(value + 128) / 257, rounded down",
    "alpha": "composited on white",
    "channels": {"1": "(19595 R + 38470 G + 7471 B + 32768) >> 16", "3": "R, G, B"},
    "input_range": [0, 255],
}
_RESIZE = {
    "kernel": "bilinear",
    "antialias": True,
    "arithmetic": "Pillow: width then height, 22-bit fixed point, 8 bits in between",
}

# Colours for masks whose data set names none: distinct for the common forms of colour blindness
# (Okabe and Ito, "Color Universal Design", 2008), black first as the usual background.
DEFAULT_COLORS = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)


MAX_NAME = 200  # characters of a class name
# Unicode's controls, halves of surrogate pairs, separators of lines and paragraphs.
_NOT_TEXT = ("Cc", "Cs", "Zl", "Zp")
# Make a terminal show the text around them in another order. Marks (200E, 200F) and joiners, which
# Arabic, Persian and Hindi are written with, do no harm.
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def is_class_name(name: str) -> bool:
    """Whether a class may be called so: 1 to 200 characters that fit into a line of text."""
    return 0 < len(name) <= MAX_NAME and all(map(is_text, name))


def is_text(character: str) -> bool:
    """Whether a character may stand in a line on a terminal, and change nothing but its place."""
    return unicodedata.category(character) not in _NOT_TEXT and character not in _REORDERING


_OPPOSITE = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class ModelSpec:
    """Task, classes and input of one model.

    Attributes:
        task: ``classify`` or ``segment``.
        model: name in ``tfproj.models.registry.MODELS``.
        classes: names, in the order of the model's outputs.
        colors: one ``#RRGGBB`` per class, for masks and plots.
        height, width: input size in pixels.
        channels: 1 (grey) or 3 (RGB).
        data: name of the data set it was trained on.
        dynamic_size: an exported file takes any height and width that are multiples of what its
            metadata says; ``height`` and ``width`` are the size it was trained at.
        resize: how images of other sizes come to the input, one of ``RESIZES``. Segmenters stretch
            them or, trained on parts at the photographs' own scale, take them in ``tiles``.
        multi_label: of ``classify``: an image has any number of classes, each by its sigmoid.
        layout: of an exported file: ``NHWC``, uint8, or ``NCHW``, float32 with 0..255.
    """

    task: str
    model: str
    classes: tuple[str, ...]
    colors: tuple[str, ...]
    height: int
    width: int
    channels: int
    data: str = ""
    dynamic_size: bool = False
    resize: str = "stretch"
    multi_label: bool = False
    layout: str = "NHWC"

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "colors", tuple(self.colors) or default_colors(len(self.classes)))
        if self.task not in TASKS:
            raise InputError(f"task {self.task!r}; expected one of {', '.join(TASKS)}")
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise InputError("a model needs at least two classes, each named once")
        if len(self.colors) != len(self.classes):
            raise InputError(f"{len(self.colors)} colours for {len(self.classes)} classes")
        if not all(re.fullmatch("#[0-9A-Fa-f]{6}", color) for color in self.colors):
            raise InputError("colours must be written as #RRGGBB")
        if self.channels not in (1, 3) or min(self.height, self.width) < 1:
            raise InputError(f"input {self.height} x {self.width} x {self.channels} is not usable")
        if self.layout not in LAYOUTS:
            raise InputError(f"layout {self.layout!r:.40}; expected one of {', '.join(LAYOUTS)}")
        check_resize(self.resize, self.task)
        check_multi_label(self.multi_label, self.task)

    @property
    def kind(self) -> str:
        """What its answers are, one of ``KINDS``."""
        return kind_of_task(self.task, self.multi_label)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    @property
    def mirrored(self) -> tuple[int, ...]:
        """For each class, that of its mirror image: left and right change places."""
        return mirrored(self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the schema version."""
        schema = SCHEMA if self.resize == "stretch" else SCHEMA_OF_RESIZE
        record = {"schema": schema, **dataclasses.asdict(self)}
        if self.multi_label:
            record["schema"] = SCHEMA_OF_LABELS
        if self.layout != LAYOUTS[0]:
            record["schema"] = SCHEMA_OF_LAYOUT
        # As files always were.
        if record["schema"] < SCHEMA_OF_LAYOUT:
            del record["layout"]
        if record["schema"] < SCHEMA_OF_LABELS:
            del record["multi_label"]
        return {**record, "classes": list(self.classes), "colors": list(self.colors)}

    @classmethod
    def from_dict(cls, record: Any) -> ModelSpec:
        """The reverse of :meth:`to_dict`; keys of later minor additions are ignored.

        A record without ``dynamic_size`` is of a file with one size; one of schema 1 without
        ``resize`` is of one that stretches.

        Raises:
            InputError: not a record of these schemas.
        """
        found = record.get("schema") if isinstance(record, dict) else None
        if type(found) is not int or not SCHEMA <= found <= SCHEMA_OF_LAYOUT:
            known = f"{SCHEMA} to {SCHEMA_OF_LAYOUT}"
            raise InputError(f"model metadata of schema {found!r:.20}; this version reads {known}")
        fields = {f.name: str(f.type) for f in dataclasses.fields(cls)}
        kinds: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "bool": (bool,)}
        values = {key: record[key] for key in fields if key in record}
        values.setdefault("dynamic_size", False)
        if found == SCHEMA:
            values.setdefault("resize", "stretch")
        if found < SCHEMA_OF_LABELS:
            values["multi_label"] = False
        if found < SCHEMA_OF_LAYOUT:
            values["layout"] = LAYOUTS[0]
        for name, kind in fields.items():
            wanted = kinds.get(kind, (list, tuple))
            # JSON's true is no size, though Python's True is an int.
            if name not in values or type(values[name]) not in wanted:
                raise InputError(f"metadata: {name!r} is missing or not of the right type")
        for name in ("classes", "colors"):
            if not all(isinstance(item, str) for item in values[name]):
                raise InputError(f"metadata: {name!r} must hold strings")
        return cls(**values)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)


def check_resize(resize: str, task: str) -> None:
    """InputError for an unknown policy, or one that a model of this task can't have."""
    if resize not in RESIZES:
        raise InputError(f"resize {resize!r:.40}; expected one of {', '.join(RESIZES)}")
    if task == "classify" and resize in OF_SEGMENTERS:
        raise InputError(f"resize {resize!r} is for segment only: a class is of the whole image")
    if task == "segment" and resize in OF_CLASSIFIERS:
        raise InputError(
            f"resize {resize!r} is for classify only: what is cut off would have no mask; leave "
            "--resize out, or take 'letterbox'"
        )


def kind_of_task(task: str, multi_label: bool) -> str:
    """One of ``KINDS``."""
    return "multi_label" if multi_label else task


def check_multi_label(multi_label: bool, task: str) -> None:
    """InputError where a model of this task can't have several labels an image."""
    if multi_label and task != "classify":
        raise InputError("multi_label is for classify only: a mask has several classes anyway")


def preprocessing(spec: ModelSpec, scaling: str = "rescale by 1/255") -> dict[str, Any]:
    """What :mod:`tfproj.core.image` does before the graph, and what the graph does, as data.

    Args:
        scaling: what the graph does to the pixels, see :func:`tfproj.models.registry.scaling`.
    """
    policy = {"policy": spec.resize, "keep_aspect": spec.resize != "stretch"}
    pad = {"pad": PAD} if spec.resize == "letterbox" else {}
    last = "sigmoid of each class" if spec.multi_label else "softmax over classes"
    in_graph = {"in_graph": [scaling, last]}
    return {**_PREPROCESSING, **in_graph, "resize": {**_RESIZE, **policy, **pad}}


def mirrored(classes: Sequence[str]) -> tuple[int, ...]:
    """For each class, the index of that whose name has left for right, or its own."""
    names = [name.lower() for name in classes]
    others = [re.sub("left|right", lambda m: _OPPOSITE[m[0]], name) for name in names]
    return tuple(names.index(o) if o in names else i for i, o in enumerate(others))


def default_colors(count: int) -> tuple[str, ...]:
    """``count`` distinct ``#RRGGBB``: the named ones first, then steps of the golden angle."""
    colors = list(DEFAULT_COLORS[:count])
    for index in range(len(colors), count):
        # The golden ratio spreads hues evenly for any number of classes.
        rgb = colorsys.hsv_to_rgb(index * 0.61803398875 % 1, 0.65, 0.9 - 0.3 * (index % 2))
        colors.append("#" + "".join(f"{round(255 * c):02X}" for c in rgb))
    return tuple(colors)


def palette(colors: Sequence[str]) -> list[int]:
    """``#RRGGBB`` of each class as the flat list that Pillow's ``putpalette`` takes."""
    return [value for color in colors for value in rgb(color)]


def rgb(color: str) -> tuple[int, int, int]:
    """``#RRGGBB`` as three integers 0..255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
