"""What the benchmarks run on: the nets of the course work, their ONNX files, drawn images."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

# The nets of the course work, which all contenders have.
NETS: dict[str, dict[str, Any]] = {
    "unet": {"task": "segment", "size": (256, 256), "channels": 3, "classes": 5},
    "cnn": {"task": "classify", "size": (28, 28), "channels": 1, "classes": 10},
}


def pixels(
    net: str, count: int, size: tuple[int, int] | None = None, channels: int | None = None
) -> np.ndarray:
    """Noise, uint8 (count, height, width, channels): dense arithmetic takes as long on it."""
    shape = (count, *(size or NETS[net]["size"]), channels or NETS[net]["channels"])
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def targets(net: str, count: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """Labels int32 (count,) or masks uint8 (count, height, width)."""
    rng, classes = np.random.default_rng(1), NETS[net]["classes"]
    if NETS[net]["task"] == "classify":
        return rng.integers(0, classes, count, np.int32)
    return rng.integers(0, classes, (count, *(size or NETS[net]["size"])), np.uint8)


def make_plan(net: str, count: int, size: tuple[int, int] | None = None, **values: Any):
    """A :class:`tfproj.experiment.plan.Plan` over noise in memory.

    Args:
        net: which one.
        count: training examples.
        values: of the configuration.
    """
    from tfproj.core.spec import ModelSpec
    from tfproj.data import Dataset
    from tfproj.data.dataset import Split
    from tfproj.experiment.plan import Plan
    from tfproj.experiment.presets import make_config

    facts = NETS[net]
    images, answers = pixels(net, count, size), targets(net, count, size)
    names = [str(index) for index in range(count)]
    kind = (
        {"labels": answers}
        if facts["task"] == "classify"
        else {"read_mask": lambda index: answers[index]}
    )
    split = Split(names, lambda index: images[index], **kind)
    classes = tuple(f"class {index}" for index in range(facts["classes"]))
    base = {"model": net, "model_options": {}, "optimizer": "adam", "augment": "none",
            "learning_rate": 1e-3, "schedule": "constant", "weight_decay": 0.0,
            "label_smoothing": 0.0, "dice": 0.0, "ema": 0.0}  # fmt: skip
    config = make_config(facts["task"], **{**base, **values})
    size = size or facts["size"]
    dataset = Dataset(
        "noise", facts["task"], classes, {"train": split}, size, facts["channels"], "drawn"
    )
    spec = ModelSpec(facts["task"], config.model, classes, (), *size, facts["channels"], "noise")
    return Plan(config, dataset, spec)


def drawn_model(planned):
    """The planned Keras model, each time with the same random weights."""
    import keras

    from tfproj.models.registry import build_model

    keras.utils.set_random_seed(0)
    model = build_model(planned.spec, planned.config.model_options)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if variable.name == "bias":  # one of zeros would be left out of the exported file
            variable.assign(rng.normal(0, 0.1, variable.shape))
    return model


def export(planned, int8: bool = False) -> tuple[bytes, bytes | None]:
    """(the ONNX file of the planned model with random weights, the same in int8 or None).

    Through the steps of ``tfproj export`` without what it proves: there is nothing to be right.
    """
    from tfproj.export.convert import simple_graph
    from tfproj.export.job import Job, Options
    from tfproj.export.metadata import Measured, attach, describe
    from tfproj.export.opset import IR_VERSION, choose_opset
    from tfproj.export.quantizer import Quantizer
    from tfproj.runs.run import Run

    job = Job(
        Run(Path("drawn")), planned, planned.spec, Path("model.onnx"), choose_opset(), Options()
    )
    options = planned.config.model_options
    proto, _ = simple_graph(drawn_model(planned), job.spec, options, job.opset)
    proto.ir_version = IR_VERSION
    metadata = describe(job, Measured())
    data = attach(proto, metadata)
    if not int8:
        return data, None
    split = planned.dataset.splits["train"]
    images = np.stack([split.read_image(index) for index in range(min(8, len(split)))])
    with tempfile.TemporaryDirectory() as folder:
        quantized = Quantizer(proto, images, Path(folder)).build("MinMax", ())
    return data, attach(quantized, metadata)


def forward_flops(model) -> int:
    """Multiplications and additions of one image through convolutions and dense layers."""
    total = 0
    for layer in model.layers:
        kind = type(layer).__name__
        if kind not in ("Conv2D", "Conv2DTranspose", "Dense"):
            continue
        # A kernel acts at every place of the output, transposed at every place of the input.
        places = (layer.input if kind == "Conv2DTranspose" else layer.output).shape[1:-1]
        total += 2 * math.prod(layer.kernel.shape) * math.prod(places)
    return total


def jpeg_files(folder: Path, count: int, side: int) -> list[Path]:
    """Drawn facades as photographs of ``side`` x ``side`` pixels."""
    from PIL import Image

    from tfproj.data.sources.synthetic import draw

    paths = [folder / f"{index:04d}.jpg" for index in range(count)]
    pictures = [draw(np.random.default_rng(seed), side)[0] for seed in range(min(count, 16))]
    for index, path in enumerate(paths):
        Image.fromarray(pictures[index % len(pictures)]).save(path, quality=90)
    return paths
