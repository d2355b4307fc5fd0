"""Somebody's Keras model as a verified file of ours."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tfproj import backend
from tfproj.core.files import sha256
from tfproj.core.spec import ModelSpec, check_resize, is_text
from tfproj.errors import InputError, unknown_name
from tfproj.experiment.plan import Plan
from tfproj.export import given
from tfproj.export.job import Job, Options, check_format, check_others, check_output
from tfproj.export.keras_file import vet
from tfproj.export.onnx_file import write
from tfproj.export.opset import choose_opset
from tfproj.export.runtimes import FORMATS
from tfproj.inference.model_file import read_model
from tfproj.runs.config import TrainConfig

# What is done to pixels of 0..255, in the words of an exported file.
PREPROCESSING = {
    "none": "what the network's own layers do",
    "rescale": "rescale by 1/255",
    "signed": "pixel / 127.5 - 1",
    "imagenet": "(pixel / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)",
    "caffe": "blue, green, red; minus (103.939, 116.779, 123.68)",
}
COLOUR = ("imagenet", "caffe")
INT8_IMAGES = 50  # at least: every other one calibrates, the rest decide
UNKNOWN = "whether the model was trained on these images is not known"


@dataclass(frozen=True)
class KerasJob(Job):
    """The export of a model that is no run.

    Attributes:
        preprocessing: a name in ``PREPROCESSING``.
        source: what the file says of where the model comes from.
    """

    preprocessing: str = "none"
    source: dict[str, Any] = field(default_factory=dict)

    title = property(lambda self: self.path.name.partition(".")[0])
    multiple = property(lambda self: 1)
    reach = property(lambda self: None)  # not known
    scaling = property(lambda self: PREPROCESSING[self.preprocessing])
    training = property(lambda self: self.source)


def export_model(
    model: Any,
    path: str | Path | None = None,
    *,
    classes: str | Path | Sequence[str],
    images: str | Path | None = None,
    preprocessing: str | None = None,
    image_size: tuple[int, int] | None = None,
    resize: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Write any Keras model as one ONNX file that :class:`tfproj.Predictor` takes.

    It is written only where the predictor gives Keras' answers; with ``format="tflite"`` or
    ``"openvino"``, where the runtime of that format does.

    Args:
        model: a functional or sequential model, or its ``.keras`` file. It takes images
            (B, H, W, 1 or 3), and gives a value for each class (B, classes), or for each class of
            each pixel (B, H, W, classes); for two classes one value is enough. Of a file, all
            layers must be Keras' own.
        path: the file to write; None: beside the model's.
        classes: names in the order of the outputs, or a file of them: one a line, or a JSON list.
        images: folder of images to verify and calibrate with, labelled where its folders are called
            as the classes; None: generated ones.
        preprocessing: what the model wants of pixels 0..255: ``none``, ``rescale`` (0..1),
            ``signed`` (-1..1), ``imagenet`` (its mean and deviation) or ``caffe``; None: it scales
            them by its own first layers.
        image_size: (height, width) in pixels, for a model that leaves them open.
        resize: ``stretch``, ``crop`` or ``letterbox`` images of other proportions; None: stretch.
        options: ``int8=True``, and the others of :class:`tfproj.export.job.Options`.

    Returns:
        ``path``, ``bytes``, ``parameters``, and ``verification``, ``calibration`` and
        ``quantization`` as in the file's metadata.

    Raises:
        InputError: the model can't be exported, or what is said of it does not fit.
        TfprojError: the conversion failed, or the answers differ.
    """
    folder = None if images is None else str(images)
    about = (classes, folder, preprocessing, image_size, resize or "stretch")
    return write(_job(model, path, Options(**options), *about))


def _job(
    model: Any,
    path: str | Path | None,
    options: Options,
    classes: str | Path | Sequence[str],
    images: str | None,
    preprocessing: str | None,
    size: tuple[int, int] | None,
    resize: str,
) -> KerasJob:
    """What is to be exported; arguments and errors as for :func:`export_model`."""
    file = Path(model) if isinstance(model, (str, Path)) else None
    _check(options, preprocessing)
    target = _target(file, path, options)
    opset = choose_opset(options.opset, options.target_ort)
    names, files = given.read_classes(classes), given.find(images)
    if options.int8 and len(files) < INT8_IMAGES:
        raise InputError(f"--int8 needs {INT8_IMAGES} images to calibrate and decide")
    if file is not None:
        vet(file)
    backend.setup()
    # Here, since it loads Keras: quietly, and after what was checked without.
    from tfproj.export import keras_model  # noqa: PLC0415

    core = keras_model.functional(keras_model.load(file) if file else model)
    scores, ending = keras_model.with_scores(core, len(names))
    several = ending.kind == "sigmoid" and ending.units > 1
    spec = replace(_spec(core, scores, names, size, resize), multi_label=several)
    spec = replace(spec, layout=options.file_layout)
    dataset = given.dataset(images, files, spec)
    preprocessing = _preprocessing(scores, preprocessing, spec, dataset)
    whole, scores = (keras_model.on_images(m, spec.size, preprocessing) for m in (core, scores))
    scores, kind = keras_model.finished(whole, scores, ending, given.look(dataset, spec, 8)[0])
    source = {
        **{"source": "keras", "file": file.name if file else "", "ending": kind},
        **({"images": f"{dataset.name}; {UNKNOWN}"} if files else {}),
        **({"weights_sha256": sha256(file)} if file else {}),
    }
    planned = Plan(TrainConfig(spec.task), dataset, spec, own_data=False)
    more = {"model": scores, "preprocessing": preprocessing, "source": source}
    return KerasJob(None, planned, spec, target, opset, options, **more)


def _check(options: Options, preprocessing: str | None) -> None:
    for name in ("half", "dynamic_size", "data"):
        if getattr(options, name) not in (None, False):
            raise InputError(f"--{name.replace('_', '-')} is for runs, not for a Keras model")
    check_format(options)
    if preprocessing is not None and preprocessing not in PREPROCESSING:
        raise unknown_name("unknown preprocessing", preprocessing, PREPROCESSING)


def _target(file: Path | None, output: str | Path | None, options: Options) -> Path:
    """The file to write; by itself it replaces only files of ours."""
    if file is None and output is None:
        raise InputError("name the file to write, such as 'model.onnx'")
    suffix = (".int8" if options.int8 else "") + FORMATS[options.format][0]
    usual = file.with_suffix(suffix) if file else Path()
    path = check_output(usual if output is None else Path(output), options.format)
    if output is None and path.exists():
        if options.format != "onnx":
            raise InputError(f"{path}: exists; name it, or another, with --output")
        read_model(path, f"{path} (name another with --output)")
    title = path.name.partition(".")[0]
    check_others(options, f"{title}-int8" if options.int8 else title)
    return path


def _spec(
    core: Any, scores: Any, classes: tuple[str, ...], size: tuple[int, int] | None, resize: str
) -> ModelSpec:
    """Task, classes and input; InputError for what is none of ours."""
    _, *own, channels = core.inputs[0].shape
    size, rank = size or tuple(own), len(scores.outputs[0].shape)
    if rank not in (2, 4):
        raise InputError(
            f"model {core.name!r} gives {core.outputs[0].shape}; expected (None, classes), or "
            "(None, height, width, classes) for masks"
        )
    if None in size:
        raise InputError(f"model {core.name!r} leaves the size of images open; give --image-size")
    if any(side not in (None, asked) for side, asked in zip(own, size, strict=True)):
        raise InputError(f"model {core.name!r} takes {own[0]} x {own[1]} px; not --image-size")
    task = "classify" if rank == 2 else "segment"
    check_resize(resize, task)
    if resize == "tiles":
        raise InputError("resize 'tiles' is for runs trained on crops; leave --resize out")
    name = "".join(filter(is_text, core.name))[:100]
    return ModelSpec(task, f"keras:{name}", classes, (), *size, channels, resize=resize)


def _preprocessing(scores: Any, asked: str | None, spec: ModelSpec, dataset: Any) -> str:
    """The one that was asked for, or the model's own; never a guess.

    Raises:
        InputError: neither, with what labelled images say for each.
    """
    from tfproj.export import keras_model  # noqa: PLC0415 (Keras is loaded by now)

    own = keras_model.own_scaling(scores)
    known = [p for p in PREPROCESSING if spec.channels == 3 or p not in COLOUR]
    if asked not in (None, *known):
        raise InputError(f"the model takes grey images; --preprocessing {'|'.join(known)}")
    if asked not in (None, "none") and "int" in scores.inputs[0].dtype:
        raise InputError(
            "the model takes whole numbers, and scales them; leave --preprocessing out"
        )
    found = {}
    pixels, labels = given.look(dataset, spec)
    for name in known if labels is not None else ():
        model = keras_model.on_images(scores, spec.size, name)
        answers = model.predict(pixels, batch_size=8, verbose=0).argmax(-1)
        found[name] = float(np.mean(answers == labels))
    shown = ", ".join(f"{name} {accuracy:.3f}" for name, accuracy in found.items())
    evidence = f"; accuracy on {len(pixels)} of the images: {shown}" if found else ""
    if asked is None and own is None:
        raise InputError(
            "what does the model want of pixels 0..255? --preprocessing "
            f"{'|'.join(known)}{evidence}"
        )
    chosen = asked or "none"
    if own is not None:
        words = "taken as all its scaling" if chosen == "none" else f"comes after {chosen!r}"
        print(f"note: layer {own!r} scales the pixels; {words}", file=sys.stderr)
    if found and max(found.values()) > found[chosen]:
        print(f"note: is --preprocessing {chosen} right?{evidence}", file=sys.stderr)
    return chosen
