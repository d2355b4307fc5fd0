"""Would another loss operator, tf.data with threads of its own or another batch train faster?

    python benchmarks/step_options.py
    python benchmarks/step_options.py unet --rounds 6
    python benchmarks/step_options.py --quick

Images a second in whole epochs as ``tfproj train`` runs them, with the augmentation of the preset
``default``, on the nets and images of ``training.py``, in bfloat16 where the CPU has it. "Fused
cross entropy" is Keras' loss, one operator of TensorFlow's, where the package's own is made of
several; both compute the same here. A larger batch is another recipe, so its accuracy may differ.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any
from unittest import mock

import common
import subjects
import training

from tfproj import backend

BASE = "as the package has it"


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("net", nargs="?", choices=tuple(training.BATCH), help="quick: cnn")
    options = parser.parse_args()
    backend.setup()
    rows: list[common.Row] = []
    for net in [options.net] if options.net else ["cnn"] if options.quick else training.BATCH:
        rows += measure(net, options)
    common.finish(options, rows)


def ways(batch: int) -> dict[str, dict[str, Any]]:
    """name -> arguments of :func:`trainer`."""
    batches = {f"batch {size}": {"batch": size} for size in (batch // 2, 2 * batch, 4 * batch)}
    return {
        BASE: {},
        "fused cross entropy": {"fused": True},
        "tf.data with 1 thread of its own": {"threads": 1},
        "tf.data with 2 threads of its own": {"threads": 2},
        **batches,
    }


def measure(net: str, options) -> list[common.Row]:
    batch = training.BATCH[net]
    count = (training.QUICK_COUNT if options.quick else training.COUNT)[net]
    precision = backend.resolve_precision("auto")
    case = f"{net}, {precision}, batch {batch}"
    common.progress(f"{case}: {count} images an epoch")
    make = partial(trainer, net, count, precision, quick=options.quick)
    contenders = {name: make(**{"batch": batch, **way}) for name, way in ways(batch).items()}
    found, _ = common.interleave(contenders, options.rounds or (1 if options.quick else 3))
    rates = {name: [count / seconds for seconds in values] for name, values in found.items()}
    return [common.row(case, name, "img/s", rates[name], rates[BASE], BASE) for name in rates]


def trainer(
    net: str, count: int, precision: str, batch: int, quick: bool,
    fused: bool = False, threads: int | None = None,
) -> Callable[[], float]:  # fmt: skip
    """A function that trains two epochs and gives the seconds of the second."""
    import keras
    import tensorflow as tf

    from tfproj.training import pipeline
    from tfproj.training.cache import make_cache
    from tfproj.training.compiling import compiled_model

    size = training.QUICK_SIZE[net] if quick else None
    planned = subjects.make_plan(net, count, size, batch_size=batch)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    from tfproj.training import optimizers

    with mock.patch.object(optimizers, "make_loss", lambda *_: loss) if fused else nullcontext():
        model, steps = compiled_model(planned, precision)
    cache = make_cache(planned, "train")
    augment = training.AUGMENT[net]

    def epoch() -> float:
        batches = pipeline.train_batches(cache, batch, range(2), 0, augment)
        if threads:
            own = tf.data.Options()
            own.threading.private_threadpool_size = threads
            batches = batches.with_options(own)
        clock = common.epoch_clock()
        model.fit(
            batches, epochs=2, steps_per_epoch=steps, shuffle=False, callbacks=[clock], verbose=0
        )
        return clock.seconds()[1]

    return epoch


if __name__ == "__main__":
    common.start(main)
