"""Image files with their true answers, taken from a run's data, on which a model is compared."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tfproj.core import image
from tfproj.core.spec import ModelSpec
from tfproj.data import Split
from tfproj.data.dataset import array_split
from tfproj.evaluation import metrics
from tfproj.evaluation.labels import average_precision
from tfproj.evaluation.pixels import PixelScores
from tfproj.experiment.plan import Plan
from tfproj.export.golden import GOLDEN_SEED, golden_images
from tfproj.training.cache import make_cache

# What a file with fewer bits may lose on validation data: 0.3 points of accuracy, 0.005 of mean
# average precision. Where nobody knows the truth, a class may change for one image or pixel in 100.
DECIDING = {
    "unknown": ("agreement", 0.01),
    "classify": ("accuracy", 0.003),
    "segment": ("mean_average_precision_softmax", 0.005),
    "multi_label": ("mean_average_precision", 0.005),
}


@dataclass(frozen=True)
class Loss:
    """How much of the metric that decides a file with fewer bits loses."""

    metric: str
    before: float
    after: float
    allowed: float

    @property
    def value(self) -> float:
        return self.before - self.after

    @property
    def acceptable(self) -> bool:
        """Also False where one of the values is not a number."""
        return self.value <= self.allowed

    def __str__(self) -> str:
        name = self.metric.replace("_", " ")
        return (
            f"{self.value:.4f} of {name} ({self.before:.4f} -> {self.after:.4f}, "
            f"allowed {self.allowed:g})"
        )


@dataclass(frozen=True)
class Samples:
    """Image files and what is true of them.

    Attributes:
        split: which they are from; "generated": drawn, without data.
        files: images as a user would give them.
        targets: int32 (N,) or uint8 (N, classes) labels, or uint8 (N, H, W) masks at the model's
            size; None where nobody knows.
        classes: number of classes.
        agreement: the targets are not the truth, but what a model answers.
        multi_label: as of the model.
    """

    split: str
    files: list[Path]
    targets: np.ndarray | None
    classes: int
    agreement: bool = False
    multi_label: bool = False

    @property
    def kind(self) -> str:
        """One of ``tfproj.core.spec.KINDS``, where the targets are known."""
        return ("classify", "multi_label", "segment")[self.targets.ndim - 1]

    def measure(self, scores: np.ndarray) -> dict[str, float]:
        """``accuracy``, or ``mean_average_precision``, of pixels ``_raw`` and ``_softmax``.

        Args:
            scores: float32 (N, classes) or (N, H, W, classes), before softmax.
        """
        if self.targets is None:
            return {}
        if self.agreement:
            return {"agreement": float(np.mean(self.answers(scores) == self.targets))}
        if self.kind == "multi_label":
            each = map(average_precision, scores.T, self.targets.T)
            return {"mean_average_precision": metrics.mean([*each])}
        if self.kind == "classify":
            return {"accuracy": float(np.mean(scores.argmax(-1) == self.targets))}
        pixels = PixelScores(self.classes)
        pixels.add(scores, self.targets)
        found = pixels.average_precisions()
        return {f"mean_average_precision_{kind}": metrics.mean(v) for kind, v in found.items()}

    def answers(self, scores: np.ndarray) -> np.ndarray:
        """What scores say, in the form of the targets: classes, or labels bool (N, classes)."""
        return scores > 0 if self.multi_label else scores.argmax(-1)

    def loss(self, before: dict[str, float], after: dict[str, float]) -> Loss:
        """Between two results of :meth:`measure`."""
        metric, allowed = DECIDING["unknown" if self.agreement else self.kind]
        return Loss(metric, before[metric], after[metric], allowed)


def draw(planned: Plan, count: int, folder: Path) -> Samples:
    """Up to ``count`` examples, spread evenly over the validation split, else the training split.

    Args:
        folder: where images go that are no files yet; it must outlive the result.
    """
    split = "val" if "val" in planned.dataset.splits else "train"
    part = planned.dataset.splits[split]
    if planned.config.crop:
        pixels, masks = _crops(planned, split, count)
        crops = array_split(pixels, np.zeros(len(pixels)))
        files = [_file(crops, index, folder) for index in range(len(crops))]
        return Samples(split, files, masks, len(planned.spec.classes))
    indices = np.unique(np.linspace(0, len(part) - 1, min(count, len(part))).round().astype(int))
    files = [_file(part, int(i), folder) for i in indices]
    if part.labels is not None or part.read_mask is None:
        targets = None if part.labels is None else part.labels[indices]
    else:
        spec, masks = planned.spec, (part.read_mask(int(i)) for i in indices)
        targets = np.stack([image.resize_mask(mask, spec.size, spec.resize) for mask in masks])
    spec = planned.spec
    return Samples(split, files, targets, len(spec.classes), multi_label=spec.multi_label)


def _crops(planned: Plan, split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(images, masks) of up to ``count`` crops as training or validation takes them."""
    cache = make_cache(planned, split)
    chosen = np.linspace(0, len(cache) - 1, min(count, len(cache))).round().astype(int)
    return cache.batch(np.unique(chosen))


def generated(spec: ModelSpec, count: int, folder: Path) -> Samples:
    """``count`` images drawn from seeds, the golden ones first; arguments as for :func:`draw`."""
    pictures: dict[bytes, None] = {}
    for seed in itertools.count(GOLDEN_SEED):
        pictures |= dict.fromkeys(golden_images(spec, seed).values())
        if len(pictures) >= count:
            break
    files = [folder / f"{index:06d}.png" for index in range(count)]
    for file, data in zip(files, pictures, strict=False):
        file.write_bytes(data)
    return Samples("generated", files, None, len(spec.classes))


def _file(part: Split, index: int, folder: Path) -> Path:
    """The example's own file; what is held in memory is written as PNG."""
    if part.files is not None:
        return Path(part.files[index]).absolute()
    source = part.read_image(index)
    path = folder / f"{index:06d}.png"
    if isinstance(source, bytes):
        path.write_bytes(source)  # encoded by whatever the data set was stored in
    elif isinstance(source, np.ndarray):
        Image.fromarray(source[..., 0] if source.shape[-1:] == (1,) else source).save(path)
    else:
        image.open_image(source).save(path)
    return path


def calibration_images(planned: Plan, count: int) -> np.ndarray:
    """Training images in which every class has its share: uint8 (N, H, W, C)."""
    split = planned.dataset.splits["train"]
    rng = np.random.default_rng(planned.config.seed)
    if planned.config.crop:
        return _crops(planned, "train", count)[0]  # which are drawn by classes
    if split.labels is not None and split.labels.ndim == 1:
        chosen = balanced_labels(split.labels, count, rng)
    elif split.labels is not None:
        pool = rng.permutation(len(split))[: 4 * count]
        chosen = pool[balanced_shares(split.labels[pool].astype(float), count)]
    elif split.read_mask is None:
        chosen = rng.permutation(len(split))[:count]
    else:
        pool = rng.permutation(len(split))[: 4 * count]
        shares = np.stack(
            [_shares(split.read_mask(int(i)), len(planned.spec.classes)) for i in pool]
        )
        chosen = pool[balanced_shares(shares, count)]
    spec = planned.spec
    sources = (split.read_image(int(i)) for i in chosen)
    return np.stack([image.load(s, spec.size, spec.channels, resize=spec.resize) for s in sources])


def _shares(mask: np.ndarray, classes: int) -> np.ndarray:
    return np.bincount(mask.ravel(), minlength=classes)[:classes] / mask.size


def balanced_labels(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of up to ``count`` examples, equally many of each class where there are enough."""
    order = rng.permutation(len(labels))
    rank = np.empty(len(labels), int)  # how many of the same class come before it
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members))
    return order[np.argsort(rank[order], kind="stable")][:count]


def balanced_shares(shares: np.ndarray, count: int) -> np.ndarray:
    """Indices of ``count`` images, each time the one richest in the class with least so far.

    Args:
        shares: float (N, classes), of each image's pixels.
    """
    # In units of the class's average, so that a rare class counts as much as a common one.
    relative = shares / np.maximum(shares.mean(axis=0), 1e-9)
    chosen: list[int] = []
    total = np.zeros(shares.shape[1])
    present = shares.any(axis=0)
    for _ in range(min(count, len(shares))):
        wanted = int(np.argmin(np.where(present, total, np.inf)))
        candidates = relative[:, wanted].copy()
        candidates[chosen] = -1
        chosen.append(int(candidates.argmax()))
        total += relative[chosen[-1]]
    return np.array(chosen)
