"""What the predictor answers for one image."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tfproj.core.probabilities import BAND_PIXELS, mask_of_size
from tfproj.core.spec import ModelSpec, palette
from tfproj.errors import InputError, unknown_name

if TYPE_CHECKING:
    from PIL import Image

    from tfproj.core.image import ImageLike

UNKNOWN = "unknown"


class _Ranked:
    """Classes by their probability."""

    classes: tuple[str, ...]
    probabilities: np.ndarray

    @property
    def probability(self) -> float:
        """Probability of the most probable class, 0..1, as the model gives it."""
        return float(self.probabilities.max())

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The ``count`` most probable (name, probability 0..1), highest first; all if fewer."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.classes[i], float(self.probabilities[i])) for i in order]


# Not frozen: that makes a result six times as slow to build, 1.5 us where a small model takes 30.
# Not compared: arrays have no one truth value.
@dataclass(eq=False)
class Classification(_Ranked):
    """The answer for one image.

    Attributes:
        classes: all names, in the model's order.
        probabilities: float32 (classes,), 0..1, sums to 1.
        scores: float32 (classes,), before softmax: logits, of any size and sign.
        temperature: above 0; the scores are divided by it for :attr:`confidence`.
        unknown_below: least confidence for a label, 0..1; None: every image gets one.
        unknown_score: how far the image is from those of the training, about 1 for one of them;
            None: not asked for.
        unknown_above: largest such score for a label; None: every image gets one.
        activation: float32 (h, w, classes), what each place adds to each score, which is their
            mean; None: not asked for.
        geometry: (height, width) of the image and of the network's input, and how the one became
            the other; as ``activation``.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray = field(repr=False)
    scores: np.ndarray = field(repr=False)
    temperature: float = 1.0
    unknown_below: float | None = None
    unknown_score: float | None = None
    unknown_above: float | None = None
    activation: np.ndarray | None = field(default=None, repr=False)
    geometry: tuple[tuple[int, int], tuple[int, int], str] | None = field(default=None, repr=False)

    @property
    def index(self) -> int:
        """Index of the most probable class, 0..classes-1; -1 where the image is unknown."""
        return -1 if self.is_unknown else int(self.probabilities.argmax())

    @property
    def label(self) -> str:
        """Name of the most probable class; ``unknown`` where :attr:`is_unknown`."""
        return UNKNOWN if self.is_unknown else self.classes[self.index]

    @property
    def confidence(self) -> float:
        """Calibrated probability of the most probable class, 0..1.

        max softmax(scores / temperature), in float64.
        Guo et al., "On Calibration of Modern Neural Networks", 2017, section 4.2.
        """
        scores = self.scores.astype(np.float64) / self.temperature
        return float(1 / np.exp(scores - scores.max()).sum())

    @property
    def is_unknown(self) -> bool:
        """Whether a threshold says that the image is of no class; never without a threshold."""
        if self.unknown_above is not None and self.unknown_score is not None:
            return not self.unknown_score <= self.unknown_above  # what is no number is unknown
        return self.unknown_below is not None and self.confidence < self.unknown_below

    def heat(self, label: str | None = None) -> np.ndarray:
        """Where the network found what speaks for a class: class activation maps.

        Args:
            label: of the classes; None: the most probable.

        Returns:
            float32 (height, width) of the image that was given: 0 where least speaks for the
            class, 1 where most does, NaN where the network saw nothing.

        Raises:
            InputError: the predictor was not told to ``explain``, or there is no such class.
        """
        from tfproj.core.heat import heat_map  # noqa: PLC0415 (arrays need no Pillow)

        if self.activation is None or self.geometry is None:
            raise InputError("no class activation maps: they come with Predictor(explain=True)")
        if label is not None and label not in self.classes:
            raise unknown_name("unknown class", label, self.classes)
        best = int(self.probabilities.argmax())
        index = best if label is None else self.classes.index(label)
        return heat_map(self.activation[..., index], *self.geometry)

    def overlay(self, source: ImageLike, label: str | None = None) -> Image.Image:
        """The colours of :meth:`heat` over the image: blue is 0, yellow 1; darkened is not seen.

        Takes ``label`` as :meth:`heat` does; else as :meth:`Segmentation.overlay`.
        """
        from tfproj.core.heat import heated  # noqa: PLC0415 (arrays need no Pillow)

        heat = self.heat(label)
        return heated(_picture(source, heat.shape), heat)


@dataclass(eq=False)
class MultiLabel(_Ranked):
    """The answer for one image of a model that gives several labels, or none.

    Attributes:
        classes: all names, in the model's order.
        probabilities: float32 (classes,), 0..1, each by itself: they do not sum to 1.
        scores: float32 (classes,), before the sigmoid.
        thresholds: float64 (classes,), 0..1: from it on an image has the label.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray = field(repr=False)
    scores: np.ndarray = field(repr=False)
    thresholds: np.ndarray = field(repr=False)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes that reach their threshold, the most probable first; often none."""
        given = self.probabilities >= self.thresholds
        order = np.argsort(-self.probabilities, kind="stable")
        return tuple(self.classes[i] for i in order if given[i])

    @property
    def index(self) -> int:
        """Index of the most probable class, 0..classes-1, even if it is below its threshold."""
        return int(self.probabilities.argmax())

    @property
    def label(self) -> str:
        """Name of the most probable class, even if it is below its threshold."""
        return self.classes[self.index]


@dataclass(eq=False)
class Segmentation:
    """The answer for one image.

    Attributes:
        classes, colors: names and ``#RRGGBB`` in the model's order.
        probabilities: float32 (H, W, classes) at the model's input size, 0..1, sum to 1 over the
            classes; of a letterboxed image, the part that shows it.
        scores: float32 (H, W, classes) at the model's input size, before softmax: logits, or log
            probabilities (at most 0) where the network ends in a log-softmax, as the UNet does.
        size: (height, width) of the image that was given, in pixels, after EXIF orientation.
    """

    classes: tuple[str, ...]
    colors: tuple[str, ...]
    probabilities: np.ndarray = field(repr=False)
    scores: np.ndarray = field(repr=False)
    size: tuple[int, int]

    @cached_property
    def mask(self) -> np.ndarray:
        """uint8 (height, width) class indices, 0..classes-1, at the size of the image given.

        The probabilities are resized smoothly, and the most probable class of each pixel is taken;
        of equal ones the first. See :func:`tfproj.core.probabilities.mask_of_size`.
        """
        return mask_of_size(self.probabilities, self.size)

    def shares(self) -> dict[str, float]:
        """Share of the mask's pixels that each class takes, by name: 0..1, they sum to 1."""
        # A row at a time: bincount takes 8 bytes for each of what it counts.
        counts = np.zeros(len(self.classes), np.int64)
        for row in self.mask:
            counts += np.bincount(row, minlength=len(counts))
        return {
            name: float(count / counts.sum())
            for name, count in zip(self.classes, counts, strict=True)
        }

    def mask_image(self) -> Image.Image:
        """The mask as a palette image, mode ``P``, of the size of the image that was given.

        Pixel values are class indices, 0..classes-1, shown in class colours.
        """
        return self._picture(self.mask)

    def _picture(self, mask: np.ndarray) -> Image.Image:
        from PIL import Image  # noqa: PLC0415 (arrays need no Pillow)

        picture = Image.fromarray(mask)
        picture.putpalette(palette(self.colors))
        return picture

    def overlay(self, source: ImageLike, alpha: float = 0.5) -> Image.Image:
        """The mask's colours over the image they were predicted for.

        Args:
            source: the same image, as given to ``predict``.
            alpha: weight of the colours, 0..1.

        Returns:
            Mode ``RGB``, 8 bits, of the size of the image that was given.

        Raises:
            InputError: the image can't be read or is of another size.
        """
        from PIL import Image  # noqa: PLC0415 (arrays need no Pillow)

        below = _picture(source, self.size)
        if below is source:
            below = below.copy()
        height, width = self.size
        rows = max(1, BAND_PIXELS // width)
        for top in range(0, height, rows):  # a large image is in memory only once
            box = (0, top, width, min(top + rows, height))
            above = self._picture(self.mask[top : box[3]]).convert("RGB")
            below.paste(Image.blend(below.crop(box), above, alpha), box)
        return below


def _picture(source: ImageLike, size: tuple[int, ...]) -> Image.Image:
    """An image in colour; InputError unless it is of (height, width) ``size``."""
    from tfproj.core import image  # noqa: PLC0415 (arrays need no Pillow)

    found = image.convert(image.open_image(source), 3)
    if found.size != size[::-1]:
        raise InputError(f"overlay: the image is {found.size[::-1]}, the prediction's {size}")
    return found


def segmentation(
    spec: ModelSpec, probabilities: np.ndarray, scores: np.ndarray, size: tuple[int, int]
) -> Segmentation:
    """The answer for an image of (height, width) ``size``, without what stands beside it."""
    if spec.resize == "letterbox":
        from tfproj.core.resizing import inner_box  # noqa: PLC0415 (arrays need no Pillow)

        box = inner_box(size, spec.size, spec.resize)
        probabilities, scores = probabilities[box], scores[box]
    return Segmentation(spec.classes, spec.colors, probabilities, scores, size)


Prediction = Classification | MultiLabel | Segmentation
Result = Prediction | InputError  # the error takes the place of an image that can't be read
