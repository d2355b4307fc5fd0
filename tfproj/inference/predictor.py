"""Run an exported model without TensorFlow: numpy, onnxruntime and Pillow."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from tfproj.core.hardware import available_cpus
from tfproj.core.spec import ModelSpec
from tfproj.errors import InputError
from tfproj.inference import answers, calibration, decoding, extras, results
from tfproj.inference.model_file import MAX_MODEL_BYTES, read_model
from tfproj.inference.results import Classification, MultiLabel, Segmentation
from tfproj.inference.session import providers_of
from tfproj.pretrained import pretrained_file

if TYPE_CHECKING:
    from typing import TypeGuard

    from tfproj.core.image import ImageLike
    from tfproj.core.tiling import Tiling
    from tfproj.inference.results import Prediction, Result
    from tfproj.inference.selftest import SelfTest
    from tfproj.inference.tiles import Tiler

__all__ = ["Classification", "MultiLabel", "Predictor", "Segmentation"]

_UINT8 = np.dtype(np.uint8)


class Predictor:
    """One ONNX file, ready to predict. Safe to share between threads.

    It can be pickled, copied, used in a forked child, and with ``asyncio.to_thread``.

    Args:
        model: path of an ONNX file that ``tfproj export`` wrote, or its bytes. The file may be
            anyone's: it is refused where it holds what the exporter never writes.
        threads: for the model's arithmetic; None: the CPUs this process may use.
        providers: of onnxruntime, in order of preference; None: the CPU. What is not available or
            can't run the model is an error, never replaced by another.
            ``OpenVINOExecutionProvider`` needs ``pip install 'tfproj[openvino]'``.
        device: in the place of providers, "cpu" or "cuda": NVIDIA's GPUs, by onnxruntime-gpu.
        unknown_below: classification: an image whose calibrated probability is below it, 0..1, is
            labelled "unknown"; "auto": by the file's score of unknown images; None: off.
        max_bytes: larger files are refused.
        flip: average the scores with those of the mirrored image: a little better, half as fast.
        explain: classification: results have :meth:`Classification.heat` and ``overlay``.
        bgr: arrays of 3 or 4 channels are in OpenCV's order; files and PIL images tell theirs.
        tiles: segmentation: take large images in overlapping windows, and keep the mask alone.
            True: at the trained scale; a number: the model's pixels for one of the image.
        on_tile: called with (windows done, windows in all) of an image.

    Attributes:
        spec: task, classes and input of the model.
        metadata: all that the file says of itself, plain JSON types.
        digest: length and CRC-32 of the file.
        unknown_above: score of unknown images above which one is labelled "unknown"; None: off.
        temperature: scores are divided by it for calibrated probabilities; 1 where the file has
            none.
        thresholds: of a model of several labels an image, float64 (classes,): from which
            probability on an image has the label; else None. You may set others.

    Raises:
        InputError: not an ONNX model of tfproj, an unavailable provider, or it lacks what is asked.
    """

    def __init__(
        self,
        model: str | os.PathLike | bytes,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        unknown_below: float | str | None = None,
        max_bytes: int = MAX_MODEL_BYTES,
        flip: bool = False,
        bgr: bool = False,
        tiles: bool | float = False,
        on_tile: Callable[[int, int], None] | None = None,
        explain: bool = False,
        device: str | None = None,
    ):
        name = "model" if isinstance(model, (bytes, bytearray)) else str(model)
        file = read_model(model, name, max_bytes)
        self.spec: ModelSpec = file.spec
        self.metadata: dict[str, Any] = file.metadata
        found = calibration.calibration_value(file.metadata, "temperature", 0.001, 1000, name)
        self.temperature = found or 1.0
        self.unknown_below, self.unknown_above = extras.thresholds(unknown_below, file, name)
        self.thresholds = calibration.label_thresholds(file.metadata, file.spec, name)
        self.flip, self.bgr, self.explain = flip, bgr, explain
        self._more = extras.wanted(explain, self.unknown_above, file, name)
        # Tells files apart; nothing to do with trust.
        self.digest = f"{len(file.data)}-{zlib.crc32(file.data):08x}"
        self._shape = *self.spec.size, self.spec.channels
        self._workers = min(threads or available_cpus(), decoding.MAX_DECODERS)
        size = None if self.spec.dynamic_size else self.spec.size
        providers = providers_of(device, providers)
        self._session = answers.ProcessSession(file.data, name, threads, providers, size)
        self._tiler: Tiler | None = None
        if tiles is not False or self.spec.resize == "tiles":
            from tfproj.inference import tiles as tiling  # noqa: PLC0415 (needs Pillow)

            self._tiler = tiling.Tiler(self._run, file, tiles, bgr, on_tile, name)

    @property
    def tiling(self) -> Tiling | None:
        """How images are taken in tiles: windows, scale; None: each as a whole."""
        return self._tiler.tiling if self._tiler else None

    @classmethod
    def pretrained(cls, name: str, **options: Any) -> Predictor:
        """A model that comes with the package: ``facades``, ``fashion_mnist-int8`` ...

        Args:
            name: see :func:`tfproj.pretrained.names`.
            options: of :class:`Predictor`.

        Raises:
            InputError: there is none of this name.
        """
        return cls(pretrained_file(name), **options)

    def predict(
        self, images: ImageLike | Iterable[ImageLike], batch_size: int = 8
    ) -> list[Prediction]:
        """Predict one or several images.

        Args:
            images: paths, encoded bytes, files open for reading bytes, PIL images, or uint8 arrays
                (H, W), (H, W, 1|3|4) of any size; one or an iterable of them. An array
                (N, H, W, C) is N images.
            batch_size: images that go through the model at once.

        Returns:
            One result for each image, in order: :class:`Classification`, or :class:`MultiLabel` of
            a model for several labels, or :class:`Segmentation` of a segmenter.

        Raises:
            InputError: an image that can't be read; nothing is returned then.
            TfprojError: the model failed.
        """
        return list(self.stream(images, batch_size))

    def predict_one(self, image: ImageLike) -> Prediction:
        """Predict one image; arguments, result and errors as of :meth:`predict`."""
        (result,) = self.predict([image])
        return result

    @overload
    def stream(
        self,
        images: ImageLike | Iterable[ImageLike],
        batch_size: int = 8,
        errors: Literal["raise"] = "raise",
    ) -> Iterator[Prediction]: ...

    @overload
    def stream(
        self,
        images: ImageLike | Iterable[ImageLike],
        batch_size: int = 8,
        *,
        errors: Literal["return"],
    ) -> Iterator[Result]: ...

    def stream(
        self, images: ImageLike | Iterable[ImageLike], batch_size: int = 8, errors: str = "raise"
    ) -> Iterator[Result]:
        """Like :meth:`predict`, one result after the other with flat memory.

        The next images are decoded while the model works on the present ones.

        Args:
            images, batch_size: as for :meth:`predict`; an iterable of any length. Of one that is no
                list, tuple or array, up to four batches are taken before the first result comes,
                and what it gave may be changed or closed once the next image is asked for.
            errors: what an image that can't be read does: "raise" its InputError once the results
                before it are out, or "return" it in the place of a result.

        Yields:
            One result for each image, in order.

        Raises:
            InputError: an argument that makes no sense; an image that can't be read.
            TfprojError: the model failed.
        """
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it must be at least 1")
        if errors not in ("raise", "return"):
            raise InputError(f"errors is {errors!r}; it must be 'raise' or 'return'")
        images = decoding.several(images)
        if self._tiler:
            return self._tiler.stream(images, batch_size, errors == "raise")
        if isinstance(images, (np.ndarray, list, tuple)) and self._all_fit(images):
            return self._slices(images, batch_size)
        return self._stream(images, batch_size, errors == "raise")

    def load(self, source: ImageLike) -> tuple[np.ndarray, tuple[int, int]]:
        """One image as the model sees it.

        Args:
            source: any of those that :meth:`predict` takes.

        Returns:
            (pixels, size): uint8 (height, width, channels) for :meth:`run`, and the (height,
            width) that the image had.

        Raises:
            InputError: the image can't be read.
        """
        if self.bgr and isinstance(source, np.ndarray):
            source = decoding.reversed_colours(source)
        if self._fits(source):
            return source.reshape(self._shape), self._shape[:2]
        from tfproj.core import image  # noqa: PLC0415 (arrays need no Pillow)

        spec = self.spec
        return image.load_with_size(source, spec.size, spec.channels, resize=spec.resize)

    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The bare model.

        Args:
            pixels: uint8 (B, height, width, channels) at the model's input size.

        Returns:
            (scores, probabilities), float32 (B, classes) or (B, height, width, classes).

        Raises:
            TfprojError: onnxruntime can't run it, or not within the memory limit.
        """
        scores, probabilities = answers.run(self._session, self.spec, pixels)
        return scores, probabilities

    def selftest(self) -> SelfTest:
        """Predict the images that the file carries and compare with its answers.

        Returns:
            How many images there are (``vectors``), the largest difference in a probability
            (``max_difference``), and the largest that the file allows (``tolerance``).

        Raises:
            InputError: the file has none.
            TfprojError: a difference above the file's tolerance.
        """
        from tfproj.inference.selftest import replay  # noqa: PLC0415 (few ask for it)

        return replay(self.metadata, lambda data: self.run(self.load(data)[0][None])[1][0])

    def _fits(self, source: Any) -> TypeGuard[np.ndarray]:
        """Whether ``source`` is an array that needs no preparation."""
        if type(source) is not np.ndarray or source.dtype != _UINT8:
            return False
        shape = self._shape
        return source.shape == shape or (shape[2] == 1 and source.shape == shape[:2])

    def _all_fit(self, images: Sequence | np.ndarray) -> bool:
        if isinstance(images, np.ndarray):
            images = images[:1]  # the others are of the same shape
        return len(images) > 0 and all(map(self._fits, images))

    def _slices(self, images: Sequence | np.ndarray, batch_size: int) -> Iterator[Prediction]:
        """Results for arrays that need no preparation; an array of images is not copied."""
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            if not isinstance(batch, np.ndarray):
                batch = np.concatenate([pixels.ravel() for pixels in batch])
            batch = batch.reshape(-1, *self._shape)
            if self.bgr:
                batch = decoding.reversed_colours(batch)
            yield from self._results(batch, [self._shape[:2]] * len(batch))

    def _stream(self, images: Iterable[ImageLike], batch_size: int, strict: bool) -> Iterator:
        """Whole batches of readable images, and errors at their places between them."""
        ahead = decoding.decode_ahead(images, self.load, self._fits, self._workers, 3 * batch_size)
        for batch in decoding.batches(ahead, batch_size, strict):
            yield from decoding.answered(batch, self._results, strict)

    def _run(self, pixels: np.ndarray) -> answers.Answers:
        run = partial(answers.run, self._session, self.spec, more=self._more)
        return answers.run_checked(run if self._more else self.run, self.spec, pixels, self.flip)

    def _results(self, pixels: np.ndarray, sizes: list) -> list[Prediction]:
        scores, probabilities, *more = self._run(pixels)
        spec = self.spec
        if spec.task == "segment":
            rows = zip(probabilities, scores, sizes, strict=True)
            return [results.segmentation(spec, p, s, size) for p, s, size in rows]
        shared = self.temperature, self.unknown_below
        pairs = zip(probabilities, scores, strict=True)
        if self.thresholds is not None:
            return [MultiLabel(spec.classes, p, s, self.thresholds) for p, s in pairs]
        found = [Classification(spec.classes, p, s, *shared) for p, s in pairs]
        outputs = zip(self._more, more, strict=True)
        return extras.added(found, outputs, sizes, self.unknown_above, spec)
