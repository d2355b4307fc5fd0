"""Predict large images in tiles: what a model file says of them, and the answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tfproj.core import bounds, image
from tfproj.core.spec import ModelSpec
from tfproj.core.tiling import OnTile, Tiling, tiled_mask, trained_scale
from tfproj.errors import InputError
from tfproj.inference.decoding import reversed_colours
from tfproj.inference.results import Segmentation

if TYPE_CHECKING:
    from tfproj.core.image import ImageLike
    from tfproj.inference.answers import Answers
    from tfproj.inference.model_file import ModelFile

MAX_WINDOW = 1024  # px; a larger one would take much memory


class TiledSegmentation(Segmentation):
    """The answer for one image that was taken in tiles.

    As :class:`Segmentation`, but the mask alone is kept: ``probabilities`` and ``scores`` raise
    InputError.
    """

    def __init__(self, spec: ModelSpec, mask: np.ndarray):
        self.classes, self.colors = spec.classes, spec.colors
        self.size = mask.shape[:2]
        self.mask = mask

    def __getattr__(self, name: str) -> Any:
        if name in ("probabilities", "scores"):
            raise InputError(
                f"{name}: not kept of an image in tiles, where they would take gigabytes; "
                "Predictor.run gives them for one window"
            )
        raise AttributeError(name)


def find_tiling(
    spec: ModelSpec, metadata: dict[str, Any], tiles: bool | float, name: str
) -> Tiling:
    """How a model takes images in tiles.

    Args:
        spec, metadata: of the file.
        tiles: the scale; a truth value: that of the training.
        name: what error messages call the file.

    Raises:
        InputError: it is no segmenter, or the scale is unknown or makes no sense.
    """
    if spec.task != "segment":
        raise InputError(f"{name}: tiles are for segmentation; this model classifies whole images")
    entry, training = (
        found if isinstance(found := metadata.get(key), dict) else {}
        for key in ("input", "training")
    )
    given = None if isinstance(tiles, bool) else tiles
    scale = trained_scale(spec, training.get("median_size"), given)
    if scale is None:
        raise InputError(
            f"{name}: does not say how large its training images were; give the scale of tiles "
            "(--tile-scale 1, Predictor(tiles=1.0)): the model's pixels for one of the image"
        )
    multiple, reach = entry.get("multiple", 1), entry.get("reach")
    good = type(multiple) is int and multiple > 0 and not any(n % multiple for n in spec.size)
    if not good or not (reach is None or (type(reach) is int and reach >= 0)):
        raise InputError(f"{name}: metadata: input has a wrong multiple or reach")
    # With a quarter of it shared, a window of this side is exact; see Tiling.axis.
    exact = math.ceil((8 * (reach or 0) + 4) / multiple) * multiple
    if not spec.dynamic_size or reach is None or exact > MAX_WINDOW:
        return Tiling(spec.size, scale, multiple, reach)
    height, width = (max(side, exact) for side in spec.size)
    return Tiling((height, width), scale, multiple, reach, free=True)


class Tiler:
    """Images to masks, one at a time: a large one takes all the memory there may be.

    Args:
        run: from windows to (scores, probabilities).
        file: the model.
        tiles, name: see :func:`find_tiling`.
        bgr, on_tile: see :class:`tfproj.Predictor`.
    """

    def __init__(
        self,
        run: Callable[[np.ndarray], Answers],
        file: ModelFile,
        tiles: bool | float,
        bgr: bool,
        on_tile: OnTile | None,
        name: str,
    ):
        self._run, self._spec, self._bgr, self._on_tile = run, file.spec, bgr, on_tile
        self.tiling = find_tiling(file.spec, file.metadata, tiles, name)

    def stream(
        self, images: Iterable[ImageLike], batch_size: int, strict: bool
    ) -> Iterator[TiledSegmentation | InputError]:
        """Results, or errors in their place where not ``strict``; windows go in batches."""
        # As many pixels at once as with windows of the model's own size.
        batch_size = batch_size * math.prod(self._spec.size) // math.prod(self.tiling.window)
        for source in images:
            try:
                yield self._segment(source, max(1, batch_size))
            except InputError as error:
                if strict:
                    raise
                yield error

    def _segment(self, source: ImageLike, batch_size: int) -> TiledSegmentation:
        if self._bgr and isinstance(source, np.ndarray):
            source = reversed_colours(source)
        picture, label = image.open_image(source), image.label_of(source)
        with bounds.room(picture):
            picture = image.convert(picture, self._spec.channels)
        height, width = self.tiling.size((picture.height, picture.width))
        bounds.require_pixels(width, height, f"{label}, at the scale of its tiles")
        mask = tiled_mask(
            picture, self.tiling, len(self._spec.classes), lambda windows: self._run(windows)[1],
            batch_size, self._on_tile,
        )  # fmt: skip
        return TiledSegmentation(self._spec, mask)
