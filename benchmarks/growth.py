"""Does time or memory per image grow with the number of images?

    python benchmarks/growth.py            # 200, 2,000 and 20,000 images
    python benchmarks/growth.py --images 1000 --only "data check"
    python benchmarks/growth.py --quick

1, 10 and 100 times as many JPEG files, in processes of their own: two epochs of training with a
tiny model, the decoded images once kept in memory and once on disk (as for data larger than
memory), prediction of the whole folder, and ``data check`` of as many different pictures of 8 px.
The second epoch counts. "private MB" is memory of the process alone at its highest; pages of the
cache file, which the system can drop at any time, are not in it. Decoded images that are kept in
memory are part of it, and are also stated.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
import subjects
from PIL import Image

from tfproj import Predictor
from tfproj.core.hardware import available_cpus

FACTORS = (1, 10, 100)
SIDE = 64
CHECK, DIFFERENT = "data check", "different"
WAYS = {
    "training, cache in memory": ("train", "memory"),
    "training, cache on disk": ("train", "disk"),
    "prediction of a folder": ("predict",),
    CHECK: ("check",),
}


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--images", type=int, help="of the smallest folder (default 200)")
    parser.add_argument("--only", choices=WAYS, help="one of what is measured")
    options = parser.parse_args()
    if options.worker:
        common.serve(lambda: answers(*options.worker))
        return
    images = options.images or (8 if options.quick else 200)
    if images < 2:
        parser.error("--images must be at least 2")
    with tempfile.TemporaryDirectory() as folder:
        counts = [images * factor for factor in FACTORS[: 2 if options.quick else 3]]
        model = make_model(Path(folder))
        ways = [options.only] if options.only else list(WAYS)[1 if options.quick else 0 :]
        for count in counts:
            if ways != [CHECK]:
                make_folder(Path(folder) / str(count), count)
            if CHECK in ways:
                make_different(Path(folder) / DIFFERENT / str(count), count)
        rounds = options.rounds or (1 if options.quick else 3)
        rows = measure(Path(folder), counts, model, ways, rounds)
    common.finish(options, rows, images=counts, side=SIDE)


def make_model(folder: Path) -> Path:
    """The CNN with random weights, exported."""
    path = folder / "model.onnx"
    with common.workers({"export": ("export", str(path))}) as workers:
        workers["export"].ask("export")
    return path


def make_folder(folder: Path, count: int) -> None:
    """Two classes of drawn photographs; most are links to a few, as only decoding matters."""
    classes = [folder / name for name in ("a", "b")]
    for place in classes:
        place.mkdir(parents=True)
    originals = subjects.jpeg_files(classes[0], min(count // 2, 16), SIDE)
    for index in range(len(originals), count):
        os.link(originals[index % len(originals)], classes[index % 2] / f"{index:06d}.jpg")


def make_different(folder: Path, count: int) -> None:
    """Two classes of pictures of which no two are equal; a check decodes no copies."""
    rng = np.random.default_rng(0)
    for index in range(count):
        place = folder / "ab"[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{index:06d}.png", compress_level=1)


def measure(
    folder: Path, counts: list[int], model: Path, ways: list[str], rounds: int
) -> list[common.Row]:
    def once(count: int, way: str) -> dict[str, float]:
        # A process each time: what one has taken from the system it may keep.
        place = folder / (DIFFERENT if way == CHECK else "") / str(count)
        with common.workers({"it": (way, str(place), str(model))}) as workers:
            return workers["it"].ask(*WAYS[way])

    contenders: dict[Any, Callable] = {
        (way, count): lambda way=way, count=count: once(count, way)
        for way in ways
        for count in counts
    }
    found, notes = common.interleave(contenders, rounds, warmup=0)
    rows = [common.note(way, f"{count:,} images", text) for (way, count), text in notes.items()]
    for (way, count), answers_ in found.items():
        times = [answer["ms"] for answer in answers_]
        first = [answer["ms"] for answer in found.get((way, counts[0]), answers_)]
        more = {
            "private MB": max(answer["private"] for answer in answers_),
            "images MB": count * SIDE * SIDE * 3 / 2**20,
        }
        base = f"{counts[0]:,} images"
        rows.append(common.row(way, f"{count:,} images", "ms/image", times, first, base, **more))
    return rows


# --- the worker's side ---------------------------------------------------------------------------


def answers(way: str, place: str, model: str = "") -> Callable[..., Any]:
    if way == "export":
        return lambda request: _export(Path(place))
    requests = {
        "train": lambda cache: _train(place, cache),
        "predict": lambda: _predict(place, model),
        "check": lambda: _check(place),
    }
    return lambda request, *arguments: requests[request](*arguments)


def _export(path: Path) -> None:
    from tfproj import backend

    backend.setup()
    path.write_bytes(subjects.export(subjects.make_plan("cnn", 2))[0])


def _train(folder: str, where: str) -> dict[str, float]:
    """Two epochs through the package's pipeline; the first also fills the cache."""
    from tfproj import backend

    backend.setup()
    from tfproj.experiment.plan import plan
    from tfproj.experiment.presets import make_config
    from tfproj.training import cache as caching
    from tfproj.training import pipeline
    from tfproj.training.cache import make_cache
    from tfproj.training.compiling import compiled_model

    if where == "disk":
        caching.MEMORY_SHARE = 0.0
    options = {"filters": 4, "dense": 8}
    values = {"model": "cnn", "model_options": options, "batch_size": 16, "val_fraction": 0.05}
    config = make_config(
        "classify", data=folder, image_size=(SIDE, SIDE), precision="float32", augment="none",
        **values,
    )  # fmt: skip
    planned = plan(config)
    model, steps = compiled_model(planned, "float32")
    cache = make_cache(planned, "train")
    batches = pipeline.train_batches(cache, config.batch_size, range(3), 0, "none")
    iterator = iter(batches)
    with Memory() as memory:
        for _ in range(steps):
            model.train_on_batch(*next(iterator))
        begin = time.perf_counter()
        for _ in range(steps):
            model.train_on_batch(*next(iterator))
        elapsed = time.perf_counter() - begin
    return {"ms": 1000 * elapsed / (steps * config.batch_size), "private": memory.peak}


def _predict(folder: str, model: str) -> dict[str, float]:
    from tfproj.inference.image_files import find_images, stream_files

    predictor = Predictor(model, threads=available_cpus())
    files = find_images([folder])
    list(stream_files(predictor, files[:2]))
    with Memory() as memory:
        begin = time.perf_counter()
        for _ in stream_files(predictor, files):
            pass
        elapsed = time.perf_counter() - begin
    return {"ms": 1000 * elapsed / len(files), "private": memory.peak}


def _check(folder: str) -> dict[str, float]:
    from tfproj.data.check import check

    with Memory() as memory:
        begin = time.perf_counter()
        report = check(folder)
        elapsed = time.perf_counter() - begin
    count = sum(split.examples for split in report.splits.values())
    return {"ms": 1000 * elapsed / count, "private": memory.peak}


class Memory:
    """Looks at the private memory of this process ten times a second.

    Attributes:
        peak: the highest, in MB of 2**20 bytes.
    """

    def __enter__(self):
        self.peak, self._done = _private(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self.peak = max(self.peak, _private())

    def __exit__(self, *exc) -> None:
        self._done.set()
        self._thread.join()
        self.peak = max(self.peak, _private())


def _private() -> float:
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith("RssAnon"))
    return int(line.split()[1]) / 2**10


if __name__ == "__main__":
    common.start(main)
