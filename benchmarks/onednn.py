"""What does oneDNN give a training where stock TensorFlow would leave it out?

    python benchmarks/onednn.py --rounds 5
    python benchmarks/onednn.py --quick

TensorFlow's wheels for x86 hold Intel's oneDNN kernels and use them by themselves only on CPUs with
AVX512_VNNI or newer; ``tfproj.backend.setup`` asks for them everywhere. Here is a compiled training
step of the networks of the presets on one batch, in float32, in a process with
``TF_ENABLE_ONEDNN_OPTS=1`` and in one with 0. (On a CPU with AVX512_VNNI it shows what would be
lost without oneDNN.)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import common
import numpy as np
import subjects

# name -> (whose input and classes, preset, batch)
NETS = {
    "segment default": ("unet", "default", 8),
    "segment best": ("unet", "best", 8),
    "classify default": ("cnn", "default", 128),
    "classify original": ("cnn", "original", 128),
}
QUICK_SIZE = {"unet": (32, 32), "cnn": (8, 8)}
WITH, WITHOUT = "with oneDNN", "without"


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--only", choices=tuple(NETS), help="only this one; quick: the first")
    options = parser.parse_args()
    if options.worker:
        common.serve(partial(training_step, *options.worker))
        return
    rows: list[common.Row] = []
    only = options.only or (next(iter(NETS)) if options.quick else None)
    for net in [only] if only else NETS:
        rows += measure(net, options.rounds or (1 if options.quick else 5), options.quick)
    common.finish(options, rows)


def measure(net: str, rounds: int, quick: bool) -> list[common.Row]:
    batch = 2 if quick else NETS[net][2]
    case = f"{net}, float32, batch {batch}"
    common.progress(case)
    settings = {WITH: (net, batch, quick, "1"), WITHOUT: (net, batch, quick, "0")}
    with common.workers(settings) as workers:
        asked = {
            name: partial(worker.ask, 0.0 if quick else 4.0) for name, worker in workers.items()
        }
        found, notes = common.interleave(asked, rounds)
    rows = [
        common.row(case, name, "steps/s", found[name], found.get(WITHOUT), WITHOUT)
        for name in found
    ]
    return rows + [common.note(case, name, text) for name, text in notes.items()]


def training_step(net: str, batch: int, quick: bool, onednn: str) -> Callable[[float], float]:
    """The worker's side: a function that gives steps per second over so many seconds."""
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = onednn  # read when TensorFlow is imported
    from tfproj import backend

    backend.setup()
    import tensorflow as tf

    from tfproj.experiment.presets import PRESETS
    from tfproj.training.cache import make_cache
    from tfproj.training.compiling import compiled_model

    of, preset, _ = NETS[net]
    recipe = dict(PRESETS[subjects.NETS[of]["task"]][preset])
    model_name = recipe.pop("model", None)
    planned = subjects.make_plan(
        of, batch, QUICK_SIZE[of] if quick else None, model_name,
        **{**recipe, "batch_size": batch},
    )  # fmt: skip
    model, _ = compiled_model(planned, "float32")
    fixed = tuple(map(tf.constant, make_cache(planned, "train").batch(np.arange(batch))))
    model.train_step(fixed)  # eagerly, which makes the variables
    step = tf.function(lambda: model.train_step(fixed)["loss"])
    step()

    def rate(enough: float) -> float:
        calls = common.durations(lambda: step().numpy(), enough)
        return len(calls) / sum(calls)

    return rate


if __name__ == "__main__":
    common.start(main)
