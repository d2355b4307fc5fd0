"""Large images in tiles: memory over the model's own, speed, and whether the tiles' borders show.

    python benchmarks/tiles.py                                   # up to 8,000 x 8,000 px
    python benchmarks/tiles.py --facades data/mini_facade/train  # also the borders
    python benchmarks/tiles.py --quick

Memory is the peak of a process of its own (VmHWM) that writes the mask and the overlay of one JPEG
file by the pretrained ``facades-default``, less the peak after some batches of images of the
model's size.

Borders: photographs of facades side by side are one large image, cut in tiles. The mean IoU is
taken of pixels by their distance to the nearest border of a tile, once with tiles side by side, and
once as the predictor takes them. The model knows the photographs; what counts is the difference to
"dense": tiles every 64 px, whose answers are averaged, at the same pixels.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
from PIL import Image

from tfproj import Predictor
from tfproj.core.tiling import Axis, Tiling, tiled_mask
from tfproj.evaluation import metrics
from tfproj.inference.image_files import Settings, stream_files

MODEL = "facades-default"
SIDES = (1000, 2000, 4000, 8000)
QUICK_SIDES = (300, 600)
GOAL = ("at most", 400.0)  # MB
BATCH = 8
NEAR = (4, 8, 16, 32, 64)  # pixels
SIDE = 256  # of the photographs of facades
ROW = 4  # photographs


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--facades", type=Path, metavar="DIR", help="photographs and masks, 256 px")
    options = parser.parse_args()
    if options.worker:
        common.serve(lambda: predict)
        return
    sides, rounds = (QUICK_SIDES, 1) if options.quick else (SIDES, 3)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for side in sides:
            draw(Path(folder) / f"{side}.jpg", side)
        rows += measure(Path(folder), sides, options.rounds or rounds)
    if options.facades:
        rows += borders(options.facades)
    common.finish(options, rows, model=MODEL, batch=BATCH)


def draw(path: Path, side: int) -> None:
    """A JPEG file of smooth noise with edges."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
    part = np.asarray(small.resize((500, 500), Image.Resampling.BICUBIC))
    part = part + rng.integers(0, 24, (500, 500, 1), np.uint8)
    times = -(-side // 500)
    Image.fromarray(np.tile(part, (times, times, 1))[:side, :side]).save(path, quality=90)


def measure(folder: Path, sides: tuple[int, ...], rounds: int) -> list[common.Row]:
    def once(side: int) -> dict[str, float]:
        with common.workers({"it": ("predict",)}) as workers:
            return workers["it"].ask(str(folder / f"{side}.jpg"))

    contenders: dict[Any, Callable] = {side: lambda side=side: once(side) for side in sides}
    found, notes = common.interleave(contenders, rounds, warmup=0)
    rows = [common.note("memory", f"{side:,} px", text) for side, text in notes.items()]
    for side, answers in found.items():
        more = {"seconds": float(np.median([answer["seconds"] for answer in answers]))}
        more["tiles"] = answers[0]["tiles"]
        values = [answer["MB"] for answer in answers]
        goal = GOAL if side == 8000 else None
        rows.append(
            common.row("memory", f"{side:,} x {side:,} px", "MB", values, goal=goal, **more)
        )
    return rows


def predict(path: str) -> dict[str, float]:
    """The worker's side: MB of 2**20 bytes over the model's own, seconds, and tiles."""
    tiles = []
    seen = lambda done, total: tiles.append(total)  # noqa: E731 (short)
    predictor = Predictor.pretrained(MODEL, tiles=1.0, on_tile=seen)
    for _ in range(5):  # after which onnxruntime's arena does not grow
        predictor.run(np.zeros((BATCH, *predictor.spec.size, 3), np.uint8))
    own, begin = _peak(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        list(stream_files(predictor, [Path(path)], Settings(Path(folder), BATCH, overlay=True)))
    return {"MB": _peak() - own, "seconds": time.perf_counter() - begin, "tiles": tiles[-1]}


def _peak() -> float:
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**10


# --- borders -------------------------------------------------------------------------------------


class Regular(Tiling):
    """Tiles every ``step`` pixels, of equal weight."""

    step = SIDE

    def axis(self, n: int, window: int) -> Axis:
        starts = list(range(0, n - window + 1, self.step))
        total = np.zeros(n)
        for start in starts:
            total[start : start + window] += 1
        weights = np.stack([1 / total[start : start + window] for start in starts])
        ready = np.diff([*starts, n]).tolist()
        return Axis(window, starts, weights.astype(np.float32), n, ready)


class Dense(Regular):
    """Borders everywhere, so that none is seen."""

    step = 64


def mosaic(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Photographs side by side, and their masks; no border of one is a border of a tile."""
    files = sorted(folder.glob("*.jpg"))
    chosen = np.random.default_rng(0).choice(len(files), ROW * ROW, replace=False)
    pictures = [np.asarray(Image.open(files[i]).convert("RGB")) for i in chosen]
    masks = [np.asarray(Image.open(files[i].with_suffix(".png"))) for i in chosen]
    cut = slice(SIDE // 3, SIDE // 3 + SIDE * (ROW - 1))
    return _side_by_side(pictures)[cut, cut], _side_by_side(masks)[cut, cut]


def _side_by_side(parts: list[np.ndarray]) -> np.ndarray:
    lines = [np.concatenate(parts[i : i + ROW], axis=1) for i in range(0, len(parts), ROW)]
    return np.concatenate(lines)


def borders(folder: Path) -> list[common.Row]:
    rows = []
    for name, values in near_borders(folder).items():
        for low, high, iou, dense in values:
            line = common.row(name, f"{low} to {high} px", "mean IoU", [iou])
            rows.append({**line, "difference to dense": iou - dense})
    return rows


def near_borders(folder: Path) -> dict[str, list[tuple[int, int, float, float]]]:
    """(from, to, mean IoU of pixels so far from a border, that of dense tiles there), by tiling."""
    picture, truth = mosaic(folder)
    predictor = Predictor.pretrained(MODEL, tiles=1.0)
    classes = len(predictor.spec.classes)

    def mask(way: Tiling) -> np.ndarray:
        answer = lambda windows: predictor.run(windows)[1]  # noqa: E731 (short)
        return tiled_mask(Image.fromarray(picture), way, classes, answer)

    def iou(found: np.ndarray, place: np.ndarray) -> float:
        confusion = metrics.confusion_matrix(truth[place], found[place], classes)
        return metrics.mean(metrics.intersection_over_union(confusion))

    ways = {"side by side": Regular(predictor.spec.size), "overlapping": predictor.tiling}
    dense, found = mask(Dense(predictor.spec.size)), {}
    for name, way in ways.items():
        own, distance = mask(way), _distance(way, len(truth))
        bands = list(zip((0, *NEAR), NEAR, strict=False))
        places = [(distance >= low) & (distance < high) for low, high in bands]
        values = [(iou(own, place), iou(dense, place)) for place in places]
        found[name] = [(*band, *pair) for band, pair in zip(bands, values, strict=True)]
    return found


def _distance(tiling: Tiling, n: int) -> np.ndarray:
    """Of every pixel of a square to the nearest border of a tile within it."""
    axis = tiling.axis(n, SIDE)
    edges = np.array([e for start in axis.starts for e in (start, start + SIDE) if 0 < e < n])
    line = np.abs(np.arange(n)[:, None] + 0.5 - edges).min(axis=1)
    return np.minimum(line[:, None], line)


if __name__ == "__main__":
    common.start(main)
