"""How near to what this machine can do is each layer of a training step?

    python benchmarks/roofline.py              # the UNet, in the precision that a training takes
    python benchmarks/roofline.py cnn --precision float32
    python benchmarks/roofline.py --quick

Every convolution of the nets in ``benchmarks/training.py`` alone, on its own shapes and batch:
the pass forward, and forward and backward together (to its kernel and, but for the first layer, to
its input). The roof of a layer is the longer of two times: its arithmetic at the rate of the
fastest of some matrix products, and its arrays, read and written once in each pass, at the rate of
a copy (Williams, Waterman and Patterson, "Roofline", 2009). The last row is what the bare step
takes beyond all of these: activations, pooling, sums, the loss, the optimizer. Its roof is that of
one copy of every array that lies between two layers, in each of the three passes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import common
import subjects

from tfproj import backend
from tfproj.core.hardware import available_cpus

BATCH = {"unet": 8, "cnn": 128}
QUICK_SIZE = {"unet": (32, 32), "cnn": (28, 28)}
WEIGHTED = ("Conv2D", "Conv2DTranspose", "Dense")
REST = "all that is between them"
COPIED = 2**28  # bytes of the copy that is timed
SIDES = (512, 1024, 2048, 3072)  # of matrices; which of them is fastest differs between CPUs


@dataclass
class Roof:
    """What the machine can do: multiplications and additions, and bytes, a second."""

    flops: float
    bytes: float

    def seconds(self, flops: float, moved: float) -> float:
        return max(flops / self.flops, moved / self.bytes)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("net", nargs="?", choices=tuple(BATCH), default="unet")
    parser.add_argument("--precision", choices=("float32", "mixed_bfloat16"), help="default: ours")
    options = parser.parse_args()
    backend.setup()
    precision = options.precision or backend.resolve_precision("auto")
    rows = measure(options.net, precision, options.rounds or 3, options.quick)
    common.finish(options, rows, threads=available_cpus(), precision=precision)


def measure(net: str, precision: str, rounds: int, quick: bool) -> list[common.Row]:
    """A row for each layer, for the rest, and for the machine."""
    from tfproj.training.compiling import compiled_model

    batch = 2 if quick else BATCH[net]
    size = QUICK_SIZE[net] if quick else None
    planned = subjects.make_plan(net, batch, size, batch_size=batch)
    model, _ = compiled_model(planned, precision)
    layers = [layer for layer in model.layers if type(layer).__name__ in WEIGHTED]
    enough = 0.02 if quick else 0.5
    calls = {f"{layer.name}{way}": call for layer in layers
             for way, call in _passes(layer, batch, layer is layers[0])}  # fmt: skip
    calls |= {"step": _step(model, planned, net, batch, size)}
    kind = layers[1].compute_dtype
    calls |= {"copy": _copy(kind, quick)}
    sides = [side // 16 for side in SIDES] if quick else SIDES
    calls |= {f"product of {side}": _product(kind, side) for side in sides}
    found, _ = common.interleave(
        {name: partial(_fastest, call, enough) for name, call in calls.items()}, rounds
    )
    rate = max(2 * side**3 / min(found[f"product of {side}"]) for side in sides)
    roof = Roof(rate, 2 * _copied(quick) / min(found["copy"]))
    case = f"{net}, batch {batch}, {precision}"
    rows = [_row(case, layer, batch, found, roof, layer is layers[0]) for layer in layers]
    rows.append(_rest(case, model, layers, batch, found, roof))
    machine = f"{case}: the machine"
    rows.append(common.row(machine, "matrix product", "GFLOP/s", [roof.flops / 1e9]))
    rows.append(common.row(machine, "copy", "GB/s", [roof.bytes / 1e9]))
    return rows


def _fastest(call: Callable[[], Any], enough: float) -> float:
    return min(common.durations(call, enough, 3))


def _row(case: str, layer, batch: int, found: dict, roof: Roof, first: bool) -> common.Row:
    """Both passes of a layer beside their roof."""
    arrays = _bytes(layer.input, layer) + _bytes(layer.output, layer)
    flops = batch * _flops(layer)
    passes = 2 if first else 3
    least = roof.seconds(flops, batch * arrays) * passes
    both = found[f"{layer.name}, both"]
    more = {"forward, ms": 1e3 * statistics.median(found[f"{layer.name}, forward"]),
            "GFLOP/s": passes * flops / statistics.median(both) / 1e9,
            "roof, ms": 1e3 * least, "of roof": f"{least / statistics.median(both):.0%}",
            "limited by": "memory" if arrays * batch / roof.bytes > flops / roof.flops
            else "arithmetic"}  # fmt: skip
    shape = f"{layer.name}, {layer.input.shape[-1]} to {layer.output.shape[-1]}"
    return common.row(case, shape, "ms", [1e3 * seconds for seconds in both], **more)


def _rest(case: str, model, layers: list, batch: int, found: dict, roof: Roof) -> common.Row:
    inside = [sum(found[f"{layer.name}, both"][i] for layer in layers)
              for i in range(len(found["step"]))]  # fmt: skip
    left = [1e3 * (step - sum_) for step, sum_ in zip(found["step"], inside, strict=True)]
    others = [layer for layer in model.layers if layer not in layers and layer.output is not None]
    arrays = batch * sum(2 * _bytes(layer.output, layer) for layer in others)
    least = 3e3 * arrays / roof.bytes
    step = 1e3 * statistics.median(found["step"])
    return common.row(
        case, REST, "ms", left,
        **{"roof, ms": least, "of roof": f"{least / statistics.median(left):.0%}",
           "limited by": f"memory; the step takes {step:.1f} ms"},
    )  # fmt: skip


def _bytes(tensor, layer) -> int:
    return math.prod(tensor.shape[1:]) * (2 if layer.compute_dtype == "bfloat16" else 4)


def _flops(layer) -> int:
    """Of one image forward."""
    places = layer.input if type(layer).__name__ == "Conv2DTranspose" else layer.output
    return 2 * math.prod(layer.kernel.shape) * math.prod(places.shape[1:-1])


def _passes(layer, batch: int, first: bool) -> Iterator[tuple[str, Callable[[], Any]]]:
    import tensorflow as tf

    kind = layer.compute_dtype
    images = tf.Variable(tf.random.normal((batch, *layer.input.shape[1:]), dtype="float32"))
    images = tf.cast(images, kind)
    upstream = tf.cast(tf.random.normal((batch, *layer.output.shape[1:])), kind)

    @tf.function
    def forward():
        return layer(images)

    @tf.function
    def both():
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            kernel = layer.kernel.value
            tape.watch([kernel] if first else [kernel, images])
            answer = layer(images)
        return tape.gradient(answer, [kernel] if first else [kernel, images], upstream)

    yield ", forward", forward
    yield ", both", both


def _step(model, planned, net: str, batch: int, size) -> Callable[[], Any]:
    import tensorflow as tf

    fixed = tuple(map(tf.constant, (f(net, batch, size) for f in
                                    (subjects.pixels, subjects.targets))))  # fmt: skip
    model.train_step(fixed)  # eagerly, which makes the variables
    return tf.function(lambda: model.train_step(fixed))


def _product(kind: str, side: int) -> Callable[[], Any]:
    import tensorflow as tf

    matrix = tf.cast(tf.random.normal((side, side)), kind)
    return lambda: tf.matmul(matrix, matrix)


def _copy(kind: str, quick: bool) -> Callable[[], Any]:
    import tensorflow as tf

    array = tf.zeros(_copied(quick) // (2 if kind == "bfloat16" else 4), kind)
    return lambda: tf.add(array, array)


def _copied(quick: bool) -> int:
    return COPIED // 256 if quick else COPIED


if __name__ == "__main__":
    common.start(main)
