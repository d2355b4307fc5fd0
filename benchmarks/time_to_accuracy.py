"""How long until Fashion-MNIST's test accuracy reaches 94 %?

    python benchmarks/time_to_accuracy.py
    python benchmarks/time_to_accuracy.py --target 0.93 --seeds 3 --max-seconds 3600
    python benchmarks/time_to_accuracy.py --quick

Three recipes in processes of their own, one after the other for each seed: ``tfproj train classify
--epochs 6 --warmup-epochs 0.3``, so the preset ``default`` in fewer epochs; one in the style of
fastai (residual network, AdamW with one cycle, batch norm, crops, flips and random erasing) and a
plain one (residual network, Adam at a constant rate, no augmentation), both in PyTorch,
channels_last and, like ours, in bfloat16 where the CPU computes in it.

Stated are the seconds of training and the images seen at the end of the first epoch after which
the whole test split is classified that well. Start-up and the measuring itself do not count, for
anyone. A recipe ends at the target, with its schedule, or after ``--max-seconds`` of training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import common
import numpy as np

from tfproj.core.hardware import available_cpus, cpu_has_bfloat16
from tfproj.data import DataOptions, load_dataset
from tfproj.errors import InputError

RECIPES = ("tfproj", "fastai style", "plain PyTorch")
EPOCHS = {"tfproj": 6, "fastai style": 20, "plain PyTorch": 60}
BATCH = {"fastai style": 256, "plain PyTorch": 128}
GOAL = ("at least", 2.0)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--target", type=float, default=0.94, help="share of right test images")
    parser.add_argument("--seeds", type=common.positive, default=1)
    parser.add_argument("--max-seconds", type=float, default=7200, help="of each training")
    parser.add_argument("--data-dir", help="where the data set lies, if not in a usual place")
    options = parser.parse_args()
    if options.worker:
        common.serve(partial(answers, *options.worker))
        return
    if not 0 < options.target < 1:
        parser.error(f"--target {options.target}: must lie between 0 and 1")
    load_dataset("fashion_mnist", "classify", DataOptions(data_dir=options.data_dir))
    rows = measure(options)
    common.finish(options, rows, target=options.target, max_seconds=options.max_seconds)


def measure(options) -> list[common.Row]:
    runs: dict[str, list[dict[str, Any]]] = {recipe: [] for recipe in RECIPES}
    notes: dict[str, str] = {}
    facts = {"target": options.target, "max_seconds": options.max_seconds,
             "data_dir": options.data_dir, "quick": options.quick}  # fmt: skip
    for seed in range(options.seeds):
        for recipe in RECIPES:
            common.progress(f"{recipe}, seed {seed}")
            try:
                with common.workers({"it": (recipe, facts, seed)}) as workers:
                    runs[recipe].append(workers["it"].ask())
            except common.Unavailable as error:
                notes[recipe] = str(error)
    return [line for recipe in RECIPES for line in _rows(recipe, runs, notes, options.target)]


def _rows(recipe: str, runs: dict, notes: dict[str, str], target: float) -> Iterator[common.Row]:
    case = f"test accuracy {target:.1%}"
    if recipe in notes:
        yield common.note(case, recipe, notes[recipe])
        return
    mine, best = runs[recipe], max(run["best"] for run in runs[recipe])
    reached = [run for run in mine if run["reached"]]
    if len(reached) < len(mine):
        last = max(run["seconds"] for run in mine)
        text = f"{len(reached)} of {len(mine)} reached it; best {best:.2%} within {last:,.0f} s"
        yield common.note(case, recipe, text) | {"runs": mine}
        return
    ours = [run["seconds"] for run in runs[RECIPES[0]] if run["reached"]]
    seconds = [run["seconds"] for run in mine]
    goal = GOAL if recipe != RECIPES[0] else None
    comparable = goal is not None and len(ours) == len(seconds)
    more = {"images seen": max(run["images"] for run in mine), "best": f"{best:.2%}"}
    yield common.row(
        case, recipe, "s", seconds, ours if comparable else None, RECIPES[0],
        goal if comparable else None, **more,
    ) | {"runs": mine}  # fmt: skip


# --- the workers' side ---------------------------------------------------------------------------


def answers(recipe: str, facts: dict[str, Any], seed: int) -> Callable[[], dict[str, Any]]:
    make = {"tfproj": _tfproj, "fastai style": _torch, "plain PyTorch": _torch}[recipe]
    return lambda: _until(make(recipe, facts, seed), facts)


def _until(epochs: Iterator[tuple[float, int, float]], facts: dict[str, Any]) -> dict[str, Any]:
    """Follow (seconds of an epoch, its images, test accuracy after it) to the end."""
    history, elapsed, images = [], 0.0, 0
    for seconds, count, accuracy in epochs:
        elapsed, images = elapsed + seconds, images + count
        history.append({"seconds": elapsed, "images": images, "accuracy": accuracy})
        common.progress(f"  {elapsed:,.0f} s, {images:,} images: {accuracy:.2%}")
        if accuracy >= facts["target"] or elapsed > facts["max_seconds"]:
            break
    if not history:
        raise InputError("not one epoch")
    best = max(epoch["accuracy"] for epoch in history)
    return {**history[-1], "best": best, "reached": best >= facts["target"], "history": history}


def _tfproj(recipe: str, facts: dict[str, Any], seed: int) -> Iterator[tuple[float, int, float]]:
    from tfproj import backend

    backend.setup()
    import keras

    from tfproj.experiment.plan import plan
    from tfproj.experiment.presets import make_config
    from tfproj.training import pipeline
    from tfproj.training.cache import make_cache
    from tfproj.training.compiling import compiled_model

    short = {"limit": 512, "epochs": 1, "precision": "float32"} if facts["quick"] else {}
    values = {"epochs": EPOCHS[recipe], "warmup_epochs": 0.3, **short}
    config = make_config("classify", seed=seed, data_dir=facts["data_dir"], **values)
    planned = plan(config)
    config = planned.config  # with what the plan has settled
    keras.utils.set_random_seed(seed)
    model, steps = compiled_model(planned, backend.resolve_precision(config.precision))
    train, test = make_cache(planned, "train"), make_cache(planned, "test")
    # One fit for each epoch, on the part of the batches that belongs to it: the same steps.
    for epoch in range(config.epochs):
        begin = time.perf_counter()
        model.fit(
            pipeline.train_batches(
                train, config.batch_size, range(epoch, epoch + 1), seed, config.augment
            ),
            steps_per_epoch=steps,
            shuffle=False,
            verbose=0,
        )
        elapsed = time.perf_counter() - begin
        right = model.evaluate(pipeline.eval_batches(test, 512), verbose=0, return_dict=True)
        yield elapsed, steps * min(config.batch_size, len(train)), right["accuracy"]


def _torch(recipe: str, facts: dict[str, Any], seed: int) -> Iterator[tuple[float, int, float]]:
    import torch
    import torch_nets
    from torch.nn import functional as F

    torch.set_num_threads(available_cpus())
    torch.manual_seed(seed)
    limit = 512 if facts["quick"] else None
    images, labels = _arrays(facts["data_dir"], "train", limit)
    test, truth = _arrays(facts["data_dir"], "test", limit)
    images, labels = torch.from_numpy(images), torch.from_numpy(labels)
    epochs = 1 if facts["quick"] else EPOCHS[recipe]
    batch, fastai = BATCH[recipe], recipe == "fastai style"
    if fastai:
        model = torch_nets.ResNet((16, 32, 64, 128, 256))
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2, weight_decay=1e-2, eps=1e-5)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 1e-2, epochs * -(-len(images) // batch), pct_start=0.25
        )
    else:
        model = torch_nets.ResNet((32, 64, 128))
        optimizer, schedule = torch.optim.Adam(model.parameters(), 1e-3), None
    model = model.to(memory_format=torch.channels_last)
    autocast = partial(torch.autocast, "cpu", torch.bfloat16, enabled=cpu_has_bfloat16())
    for _ in range(epochs):
        begin = time.perf_counter()
        model.train()
        for chosen in torch.randperm(len(images)).split(batch):
            x = torch_nets.prepare(images[chosen])
            x = torch_nets.augment(x) if fastai else x
            optimizer.zero_grad()
            with autocast():
                scores = model(x)
            F.cross_entropy(scores.float(), labels[chosen]).backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
        elapsed = time.perf_counter() - begin
        model.eval()
        with torch.inference_mode(), autocast():
            parts = [model(torch_nets.prepare(part)) for part in torch.from_numpy(test).split(512)]
        right = (torch.cat(parts).argmax(1).numpy() == truth).mean()
        yield elapsed, len(images), float(right)


def _arrays(data_dir: str | None, split: str, limit: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 28, 28, 1) and labels int64 (N,), all of the official split."""
    from tfproj.data.sources.fashion_mnist import fashion_mnist

    found = fashion_mnist(DataOptions(data_dir=data_dir)).splits[split]
    count = min(len(found), limit or len(found))
    images = np.stack([np.asarray(found.read_image(index)) for index in range(count)])
    return images.reshape(count, 28, 28, 1), found.labels[:count].astype(np.int64)


if __name__ == "__main__":
    common.start(main)
