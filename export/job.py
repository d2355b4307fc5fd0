"""What is to be exported, checked before TensorFlow is loaded."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tfproj.core.spec import LAYOUTS, ModelSpec
from tfproj.errors import InputError, TfprojError, missing_extra, unknown_name
from tfproj.experiment.plan import Plan, plan_evaluation, plan_without_data
from tfproj.export.opset import choose_opset
from tfproj.export.runtimes import FORMATS, beside, require_runtime
from tfproj.export.triton import check_repository
from tfproj.export.web import check_page, package, require_whole
from tfproj.models.registry import check_size, input_multiple, input_reach, scaling
from tfproj.runs.run import Run

# Who makes the graph. The second is independent of the first, and an extra.
CONVERTERS = ("tf2onnx", "jax2onnx")
# What only ONNX files have.
OF_ONNX = (
    *("opset", "target_ort", "dynamic_size", "half", "triton", "web"),
    *("layout", "converter"),
)


@dataclass(frozen=True)
class Options:
    """What a user may say about an export.

    Attributes:
        opset: ONNX operator set; None: 17, or what ``target_ort`` reads below it.
        target_ort: oldest onnxruntime that must load the file; None: any that reads the opset.
        dynamic_size: leave height and width free.
        half: keep the weights in 16 bits; the arithmetic stays in float32.
        int8: quantise weights and activations.
        keep: write a file that was rejected as ``NAME.rejected``.
        triton: directory for a Triton model repository, which gets the file as well.
        web: folder for a page that runs the file in a browser.
        single_file: that page is one HTML file.
        data: a data set to take instead of the run's own, or where that lies now.
        no_data: verify on generated images, and leave out what only data can tell.
        image_size: (height, width) of the file's input; None: that of the training.
        converter: one of ``CONVERTERS``.
        layout: ``NHWC``, uint8, or ``NCHW``: float32 0..255, ``probabilities`` first. None: what
            the format is in, ``NCHW`` for ``openvino``.
        format: ``onnx``, ``tflite`` or ``openvino``.
    """

    opset: int | None = None
    target_ort: str | None = None
    dynamic_size: bool = False
    half: bool = False
    int8: bool = False
    keep: bool = False
    triton: str | None = None
    web: str | None = None
    single_file: bool = False
    data: str | None = None
    no_data: bool = False
    image_size: tuple[int, int] | None = None
    converter: str = CONVERTERS[0]
    layout: str | None = None
    format: str = "onnx"

    @property
    def file_layout(self) -> str:
        """One of ``LAYOUTS``."""
        return self.layout or LAYOUTS[self.format == "openvino"]


@dataclass(frozen=True)
class Job:
    """A checked export.

    Attributes:
        run, planned: where the weights come from and what they were trained on.
        spec: of the file; ``dynamic_size``, height and width may differ from the run's.
        path: the file to write.
        opset: of the graph.
        options: as the user gave them.
        license: of the data that the run was trained on.
        digest: SHA-256 of the weights, before they are read: a training may replace them.
        model: the Keras model, from uint8 images to scores, where it is none of a run.
    """

    run: Run
    planned: Plan
    spec: ModelSpec
    path: Path
    opset: int
    options: Options
    license: str = ""
    digest: str = ""
    model: Any = None

    @property
    def title(self) -> str:
        """What the model is called."""
        return self.run.name

    @property
    def name(self) -> str:
        """What a model server calls the model."""
        return f"{self.title}-int8" if self.options.int8 else self.title

    @property
    def multiple(self) -> int:
        """What sides of the input must be a multiple of, in pixels."""
        return input_multiple(self.spec.model, self.planned.config.model_options)

    @property
    def reach(self) -> int | None:
        """How many pixels away a score of the network may depend on; None: not known."""
        return input_reach(self.spec.model, self.planned.config.model_options)

    @property
    def scaling(self) -> str:
        """What the graph does to the pixels first, in words."""
        return scaling(self.spec.model, self.planned.config.model_options)

    @property
    def training(self) -> dict[str, Any]:
        """Where the weights come from, as in the file's metadata."""
        config = self.planned.config
        facts = self.run.environment() if self.run.environment_file.is_file() else {}
        recorded = {
            "teachers": facts.get("teachers"),  # whose answers it learned from
            "median_size": facts.get("data", {}).get("median_size"),  # of the training images
        }
        return {
            "preset": config.preset,
            "model_options": dict(config.model_options),
            "seed": config.seed,
            "run": self.run.name,
            "data": self.spec.data,
            "license": self.license,
            "weights_sha256": self.digest,
            **{name: value for name, value in recorded.items() if value},
        }


class Rejected(TfprojError):
    """The file is not good enough to be written; ``data`` is the file, with its measurements."""

    def __init__(self, message: str, data: bytes):
        super().__init__(f"{message}; no file was written")
        self.data = data


def prepare(run: Run, output: str | Path | None, options: Options) -> Job:
    """Everything that can be wrong with a request, found without TensorFlow.

    Args:
        run: a trained run whose data set is at hand, unless ``data`` or ``no_data`` is given.
        output: file to write; None: ``model.onnx`` in the run directory, or ``model.int8.onnx``.

    Raises:
        InputError: files missing, the output can't be written, or options that contradict each
            other or the model.
    """
    if options.int8 and options.half:
        raise InputError("--int8 and --half exclude each other")
    check_format(options)
    usual = run.int8_file if options.int8 else run.onnx_file
    usual = usual.with_suffix(FORMATS[options.format][0])
    path = check_output(usual if output is None else Path(output), options.format)
    opset = choose_opset(options.opset, options.target_ort)
    planned = _plan(run, options)
    if options.dynamic_size and planned.spec.task != "segment":
        raise InputError(
            f"--dynamic-size is for segmentation; model {planned.spec.model!r} classifies images "
            "of one size"
        )
    if options.image_size is not None:
        height, width = options.image_size
        check_size(planned.spec.model, options.image_size, planned.config.model_options)
        planned = replace(planned, spec=replace(planned.spec, height=height, width=width))
    spec = replace(planned.spec, dynamic_size=options.dynamic_size, layout=options.file_layout)
    license = run.environment().get("data", {}).get("license", "")
    job = Job(run, planned, spec, path, opset, options, license, run.weights_digest())
    check_others(options, job.name)
    if options.web is not None:
        require_whole(spec, run.name)
    return job


def check_others(options: Options, name: str) -> None:
    """InputError where what is also to be written has no place, or a converter is missing."""
    if options.converter not in CONVERTERS:
        raise unknown_name("unknown converter", options.converter, CONVERTERS)
    if importlib.util.find_spec(options.converter) is None:
        extra = "train" if options.converter == CONVERTERS[0] else options.converter
        raise missing_extra(options.converter, extra)
    if options.file_layout != LAYOUTS[0]:
        for name in ("triton", "web"):
            if getattr(options, name) is not None:
                raise InputError(f"--{name} takes uint8 NHWC; leave --layout out")
    if options.triton is not None:
        check_repository(options.triton, name)
    if options.single_file and options.web is None:
        raise InputError("--single-file needs --web")
    if options.web is not None:
        check_page(options.web, options.single_file)
        package()  # the runtime is fetched before the model is converted, not after


def _plan(run: Run, options: Options) -> Plan:
    """On the run's own data, on others, or on none."""
    if not options.no_data:
        planned = plan_evaluation(run, data=options.data)
        for note in () if planned.own_data else planned.dataset.notes:
            print(f"note: {planned.dataset.name}: {note}", file=sys.stderr)
        return planned
    if options.data is not None:
        raise InputError("--data and --no-data exclude each other")
    for name, purpose in (("half", "to measure what the rounding costs"), ("int8", "to calibrate")):
        if getattr(options, name):
            raise InputError(f"--{name} needs data, {purpose}: --data DIR")
    return plan_without_data(run)


def check_format(options: Options) -> None:
    """InputError where another format than ONNX is wanted with what only that has."""
    if options.format not in FORMATS:
        raise InputError(f"format {options.format!r}; expected one of {', '.join(FORMATS)}")
    if options.format == "onnx":
        return
    others = [name for name in OF_ONNX if getattr(options, name) != getattr(Options, name)]
    if others:
        raise InputError(f"--{others[0].replace('_', '-')} is for --format onnx")
    require_runtime(options.format)


def check_output(path: Path, format: str = "onnx") -> Path:
    """The same path; InputError where that is no place for a file."""
    suffix = FORMATS[format][0]
    if path.suffix != suffix:
        raise InputError(f"{path}: the output must end in {suffix}")
    if path.is_dir():
        raise InputError(f"{path}: is a directory; name a file")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such directory")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path}: cannot be written (no permission in {path.parent})")
    for other in beside(path, format):
        if other.exists() and not path.exists():  # so it is not what an export left
            raise InputError(f"{other}: exists, and belongs to no {path.name}; name another output")
    return path
