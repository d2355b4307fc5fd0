"""Which networks of keras.applications become files of ours, how far apart, and what int8 gains.

    python benchmarks/applications.py
    python benchmarks/applications.py MobileNetV2 VGG16
    python benchmarks/applications.py --all --json figures.json
    python benchmarks/applications.py --quick

Weights and images are drawn from seeds, and the statistics of batch norm are those of the images.
Each network is exported by ``tfproj.export_model`` in a process of its own, with ten classes and
without images. Then the file is quantised, and both forms run on one batch in turn. Drawn weights
have no accuracy that 8 bits could lose.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
import onnx

from tfproj import Predictor, backend, export_model
from tfproj.core import image
from tfproj.core.spec import ModelSpec
from tfproj.errors import first_line

# One of each family, small ones first.
NAMES = (
    *("MobileNet", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0"),
    *("ResNet50", "ResNet50V2", "DenseNet121", "VGG16", "Xception", "InceptionV3"),
    *("ConvNeXtTiny", "NASNetMobile", "InceptionResNetV2"),
)
# What the network's own ``preprocess_input`` does, and what it does by itself.
PREPROCESSING = {
    **dict.fromkeys(("EfficientNet", "MobileNetV3", "ConvNeXt"), "none"),
    **dict.fromkeys(("ResNet50V2", "ResNet101V2", "ResNet152V2"), "signed"),
    **dict.fromkeys(("DenseNet",), "imagenet"),
    **dict.fromkeys(("ResNet", "VGG"), "caffe"),
    **dict.fromkeys(("MobileNet", "NASNet", "Xception", "Inception"), "signed"),
}
IMAGES, BATCH, CLASSES = 48, 16, 10


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("names", nargs="*", help="of networks, such as MobileNetV2")
    parser.add_argument("--all", action="store_true", help="every network there is")
    parser.add_argument("--side", type=common.positive, default=96, help="of images, in pixels")
    options = parser.parse_args()
    if options.worker is not None:
        common.serve(lambda: lambda: measure(*options.worker))
        return
    names = options.names or (all_names() if options.all else NAMES[:1] if options.quick else NAMES)
    rows = []
    for name in names:
        common.progress(name)
        with common.workers({name: (name, 32 if options.quick else options.side)}) as started:
            try:
                found = started[name].ask()
                rows.append(
                    common.row("largest difference", name, "", [found.pop("apart")], **found)
                )
            except common.Unavailable as error:
                rows.append(common.note("largest difference", name, str(error)))
    common.finish(options, rows)


def all_names() -> list[str]:
    backend.setup()
    import keras

    return sorted(name for name in vars(keras.applications) if name[0].isupper())


def preprocessing(name: str) -> str:
    return next(kind for start, kind in PREPROCESSING.items() if name.startswith(start))


def measure(name: str, side: int) -> dict[str, Any]:
    """The row of one network."""
    backend.setup()
    from tfproj.export.samples import generated

    begin = time.perf_counter()
    classes = [f"class {number}" for number in range(CLASSES)]
    with tempfile.TemporaryDirectory() as folder:
        spec = ModelSpec("classify", name, classes, (), side, side, 3)
        files = generated(spec, IMAGES, Path(folder)).files
        pixels = np.stack([image.load(f, spec.size, 3) for f in files])
        model = drawn(name, pixels)
        path = Path(folder) / "model.onnx"
        wanted = preprocessing(name)
        given = None if wanted == "none" else wanted  # then it must be found in the network
        facts = export_model(model, path, classes=classes, preprocessing=given)
        converted = time.perf_counter() - begin
        return {
            "apart": facts["verification"]["max_difference"],
            "million parameters": facts["parameters"] / 1e6,
            **quantized(path, pixels, Path(folder)),
            "seconds": converted,
        }


def drawn(name: str, pixels: np.ndarray) -> Any:
    """The network with drawn weights, whose batch norms know the images."""
    import keras

    from tfproj.export.keras_model import scaled

    keras.utils.set_random_seed(0)
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=pixels.shape[1:], classes=CLASSES)
    rng = np.random.default_rng(0)
    norms = [n for n in model.layers if isinstance(n, keras.layers.BatchNormalization)]
    for weight in model.trainable_weights:
        if len(weight.shape) == 1:  # biases, which begin as zeros, and factors of norms
            weight.assign(weight + rng.uniform(-0.2, 0.2, weight.shape))
    for norm in norms:
        norm.momentum = 0.0
    model(scaled(pixels, preprocessing(name)), training=bool(norms))
    return model


def quantized(path: Path, pixels: np.ndarray, folder: Path) -> dict[str, Any]:
    """How many times as fast, and as large, the file is in 8 bits."""
    from tfproj.export.metadata import attach
    from tfproj.export.quantize import speed_ratio
    from tfproj.export.quantizer import Quantizer

    plain = Predictor(path)
    try:
        proto = Quantizer(onnx.load(path), pixels, folder).build("MinMax", ())
        data = attach(proto, plain.metadata)
        ratio = speed_ratio(path.read_bytes(), data, pixels[:BATCH])
    except Exception as error:  # onnxruntime's tools raise many kinds
        return {"int8 speed": f"failed: {first_line(error)}", "int8 size": ""}
    return {"int8 speed": ratio, "int8 size": len(data) / path.stat().st_size}


if __name__ == "__main__":
    common.start(main)
