"""What does batch norm cost in training on a CPU, and does it leave the exported file?

    python benchmarks/batch_norm.py
    python benchmarks/batch_norm.py --only unet --rounds 20
    python benchmarks/batch_norm.py --quick

Seconds of a compiled training step on one batch: without norm, with Keras' layer, with
``tfproj.models.blocks.BatchNorm`` (TensorFlow's fused operator where the channels are a multiple of
16), with the fused operator everywhere, and, for the UNet, with standardised kernels in its place.
Ratios are to the network without norm. Each network is also exported and its operators looked at.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import common
import numpy as np
import subjects

from tfproj import backend
from tfproj.core.hardware import cpu_has_bfloat16
from tfproj.errors import TfprojError

# name -> (whose input and classes, model, options, batch)
NETS: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "unet": ("unet", "unet", {}, 8),
    "unet, widths of best": (
        "unet",
        "unet",
        {"widths": [32, 64, 96, 128, 160], "stem_stride": 2},
        8,
    ),
    "resnet": ("cnn", "resnet", {}, 128),
}
# name -> (model options, channels whose multiples are fused; None: as the package has it)
NORMS: dict[str, tuple[dict[str, Any], int | None]] = {
    "no norm": ({}, None),
    "keras.layers.BatchNormalization": ({"batch_norm": True}, 1 << 30),
    "tfproj BatchNorm": ({"batch_norm": True}, None),
    "fused everywhere": ({"batch_norm": True}, 1),
    "weight standardisation": ({"weight_standardization": True}, None),
}
OPERATORS = {"BatchNormalization", "Sqrt", "Rsqrt"}
QUICK_SIZE = {"unet": (32, 32), "cnn": (8, 8)}


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--only", choices=tuple(NETS), help="only this one; quick: resnet")
    options = parser.parse_args()
    backend.setup()
    precisions = ["float32", "mixed_bfloat16"][: 1 + cpu_has_bfloat16()]
    rows: list[common.Row] = []
    for net in [options.only] if options.only else ["resnet"] if options.quick else NETS:
        rows.append(check_export(net, options.quick))
        for precision in precisions:
            rows += measure(net, precision, options)
    common.finish(options, rows)


def variants(net: str) -> dict[str, tuple[dict[str, Any], int | None]]:
    kept = dict(NORMS)
    if NETS[net][1] != "unet":
        del kept["weight standardisation"]
    return kept


def plan(net: str, norm: str, quick: bool):
    of, model, options, batch = NETS[net]
    size = QUICK_SIZE[of] if quick else None
    batch = 2 if quick else batch
    values = {"model_options": {**options, **NORMS[norm][0]}, "batch_size": batch}
    return subjects.make_plan(of, batch, size, model, **values)


def measure(net: str, precision: str, options) -> list[common.Row]:
    case = f"{net}, {precision}, batch {2 if options.quick else NETS[net][3]}"
    common.progress(case)
    enough = 0.0 if options.quick else 2.0
    contenders = {}
    for norm in variants(net):
        step = training_step(net, norm, precision, options.quick)
        contenders[norm] = partial(mean_seconds, step, enough)
    found, _ = common.interleave(contenders, options.rounds or (1 if options.quick else 10))
    values = {norm: [1000 * seconds for seconds in found[norm]] for norm in found}
    plain = values["no norm"]
    return [common.row(case, norm, "ms/step", values[norm], plain, "no norm") for norm in values]


def training_step(net: str, norm: str, precision: str, quick: bool):
    """A function that takes one training step, traced with the norm of this name."""
    import tensorflow as tf

    from tfproj.models.layers import BatchNorm
    from tfproj.training.cache import make_cache
    from tfproj.training.compiling import compiled_model

    planned = plan(net, norm, quick)
    model, _ = compiled_model(planned, precision)
    arrays = make_cache(planned, "train").batch(np.arange(planned.config.batch_size))
    batch = tuple(map(tf.constant, arrays))
    model.train_step(batch)  # eagerly, which makes the variables
    own = BatchNorm.FUSED_MULTIPLE
    try:
        BatchNorm.FUSED_MULTIPLE = NORMS[norm][1] or own  # read when the step is traced
        step = tf.function(lambda: model.train_step(batch)["loss"])
        step()
    finally:
        BatchNorm.FUSED_MULTIPLE = own
    return lambda: step().numpy()


def mean_seconds(step, enough: float) -> float:
    calls = common.durations(step, enough)
    return sum(calls) / len(calls)


def check_export(net: str, quick: bool) -> common.Row:
    """Operators of norms in the exported files; TfprojError where there are any."""
    import keras
    import onnx

    keras.config.set_dtype_policy("float32")  # an export is never made under another
    for norm in variants(net):
        data, _ = subjects.export(plan(net, norm, quick))
        left = {node.op_type for node in onnx.load_from_string(data).graph.node} & OPERATORS
        if left:
            raise TfprojError(f"{net}, {norm}: {', '.join(left)} in the exported file")
    searched = f"none of {', '.join(sorted(OPERATORS))}"
    return common.note(f"{net}: exported file", "with each norm", searched)


if __name__ == "__main__":
    common.start(main)
