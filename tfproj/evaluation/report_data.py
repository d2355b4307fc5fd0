"""What the report shows of the model and the data, saved while both are at hand.

``evaluate`` calls :func:`save` at its end; ``report`` then needs neither TensorFlow nor the data
set, which may be gone by then. ``report_data/`` in the run directory holds::

    model.json      layer table, number of epochs the run had, names of the shown convolutions
    filters.npz     kernels of the first two convolutions and their activations on one example
    examples.json   the split shown and one entry for each chosen example
    examples/       their pictures, and for some models where the answer comes from
    curves.json     segmentation: points of the precision-recall curve of each class

One split is shown in pictures: ``test`` where it was evaluated, else ``val``, else ``train``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from tfproj.core import image
from tfproj.core.files import replacing_directory, write_json
from tfproj.core.heat import heat_map, heated
from tfproj.core.spec import ModelSpec
from tfproj.core.thumbnails import encode, thumbnail
from tfproj.data.dataset import Split
from tfproj.data.masks import mask_picture
from tfproj.evaluation.examples import choose_classified, choose_labelled, choose_segmented
from tfproj.evaluation.tiled import photograph_scores, predict_scores
from tfproj.experiment.tiling import tiling_of
from tfproj.models.features import class_activations
from tfproj.models.summary import summarize, to_dict
from tfproj.runs.run import Run

EXAMPLE_BYTES = 2_500_000  # of all pictures: the page, where some stand twice, stays below 8 MB
MAP_SIDE = 64  # px; activations are shrunk to this for the page
SECOND_FILTERS = 9  # how many filters of the second convolution the original report shows


def save(run: Run, model, split: Split, name: str, rows: list[dict], facts: dict) -> None:
    """Write ``report_data/``, replacing an earlier one as a whole.

    Args:
        run: where to write.
        model: the evaluated ``keras.Model``.
        split, name: the shown split.
        rows: its lines of ``predictions.csv``.
        facts: for segmentation ``confusions`` int (N, classes, classes) and
            ``precision_recall``; empty for classification.
    """
    spec = run.spec()
    with replacing_directory(run.report_data) as folder:
        (folder / "examples").mkdir()
        if spec.kind == "classify":
            chosen = choose_classified(rows, spec.classes)
            entries = _save_thumbnails(folder, split, rows, chosen, spec, activations(model))
            sample = _typical(rows)
        elif spec.multi_label:
            chosen = choose_labelled(rows)
            entries = _save_thumbnails(folder, split, rows, chosen, spec)
            sample = chosen[len(chosen) // 2]
        else:
            chosen = choose_segmented(rows, facts["confusions"], spec.classes)
            options = run.config().model_options
            entries = _save_masks(folder, model, split, rows, chosen, spec, options)
            sample = next(i for i, roles in chosen.items() if "median" in roles)
            write_json(folder / "curves.json", facts.get("precision_recall", {}))
        source = split.read_image(sample)
        pixels = image.load(source, spec.size, spec.channels, resize=spec.resize)
        layers = _save_filters(folder / "filters.npz", model, pixels)
        write_json(folder / "examples.json", {"split": name, "examples": entries})
        write_json(folder / "model.json", _describe_model(run, model, layers, rows[sample]["name"]))


def _describe_model(run: Run, model, layers: list[str], example: str) -> dict[str, Any]:
    return {
        "epochs": len(run.history()),
        "table": to_dict(summarize(model)),
        "convolutions": layers,
        "example": example,
    }


def _typical(rows: list[dict]) -> int:
    """The right answer of middling certainty; any example where there is none."""
    right = [i for i, row in enumerate(rows) if row["label"] == row["prediction"]]
    right.sort(key=lambda i: rows[i]["probability"])
    return right[len(right) // 2] if right else 0


def _save_thumbnails(
    folder: Path,
    split: Split,
    rows: list[dict],
    chosen: Iterable[int],
    spec: ModelSpec,
    places: Callable[[np.ndarray], np.ndarray] | None = None,
) -> list[dict]:
    """Pictures of the examples in order of importance, until the room is used up.

    Args:
        places: see :func:`activations`; None where the model has none.
    """
    side = 96 if len(spec.classes) <= 50 else 64
    entries, room = [], EXAMPLE_BYTES
    for index in chosen:
        whole = image.open_image(split.read_image(index), split.label_of(index))
        picture = thumbnail(image.convert(whole, spec.channels), side)
        pictures = {"file": picture}
        if places is not None:
            pixels = image.to_array(whole, spec.size, spec.channels, spec.resize)
            of_class = places(pixels)[..., spec.classes.index(rows[index]["prediction"])]
            heat = heat_map(of_class, picture.size[::-1], spec.size, spec.resize)
            pictures["heat"] = heated(picture, heat)
        encoded = {kind: encode(p) for kind, p in pictures.items()}
        room -= sum(len(data) for data, _ in encoded.values())
        if room < 0:
            break
        files = {k: f"examples/{len(entries):04d}_{k}{end}" for k, (_, end) in encoded.items()}
        files["file"] = files["file"].replace("_file", "")
        for kind, (data, _) in encoded.items():
            (folder / files[kind]).write_bytes(data)
        entries.append({"index": index, **files, "size": list(picture.size), **rows[index]})
    return entries


def activations(model) -> Callable[[np.ndarray], np.ndarray] | None:
    """From uint8 (H, W, C) to class activation maps float32 (h, w, classes), where it has them."""
    places = class_activations(model)
    if places is None:
        return None
    inner = keras.Model(model.input, places)
    return lambda pixels: np.asarray(inner(pixels[None], training=False))[0]


def _save_masks(
    folder: Path, model, split: Split, rows: list[dict], chosen: dict[int, list[str]],
    spec: ModelSpec, options: Mapping[str, Any],
) -> list[dict]:  # fmt: skip
    """Input, truth and prediction of each chosen image, in the image's own proportions."""
    entries, tiling = [], tiling_of(spec, options)
    for number, (index, roles) in enumerate(chosen.items()):
        picture = image.open_image(split.read_image(index), split.label_of(index))
        truth = split.read_mask(index)
        if spec.resize == "tiles":
            whole = image.convert(picture, spec.channels)
            scores = photograph_scores(model, whole, tiling, len(spec.classes))
        else:
            pixels = image.to_array(picture, spec.size, spec.channels, spec.resize)
            scores = predict_scores(model, pixels[None])[0]
            truth = image.resize_mask(truth, spec.size)
        shown = thumbnail(image.convert(picture, spec.channels), 256)
        data, suffix = encode(shown)
        stem = f"examples/{number:04d}"
        (folder / f"{stem}{suffix}").write_bytes(data)
        for kind, mask in (("truth", truth), ("prediction", scores.argmax(-1))):
            _save_mask(folder / f"{stem}_{kind}.png", mask, shown.size[::-1], spec)
        entry = {"index": index, "roles": roles, "file": f"{stem}{suffix}"}
        entries.append({**entry, "size": list(shown.size), **rows[index]})
    return entries


def _save_mask(path: Path, mask: np.ndarray, size: tuple[int, int], spec: ModelSpec) -> None:
    """Write class indices (H, W) as a palette PNG of (height, width) ``size``."""
    picture = mask_picture(image.resize_mask(mask.astype(np.uint8), size), spec.colors)
    picture.save(path, optimize=True)


def _save_filters(path: Path, model, pixels: np.ndarray) -> list[str]:
    """Write kernels and activations; returns the names of the convolutions shown.

    Arrays: ``kernel1`` float32 (h, w, channels, filters), ``maps1`` float32 (filters, H, W) and
    the same with 2, whose filters are the first nine; ``example`` uint8 (H, W, C).
    """
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)][:2]
    arrays = {"example": pixels}
    if convolutions:
        outputs = [_activation(model, layer.name).output for layer in convolutions]
        values = keras.Model(model.input, outputs)(pixels[None], training=False)
        values = values if isinstance(values, (list, tuple)) else [values]  # of one, Keras' way
        for number, (layer, value) in enumerate(zip(convolutions, values, strict=True), 1):
            kept = None if number == 1 else SECOND_FILTERS
            arrays[f"kernel{number}"] = np.asarray(layer.kernel, np.float32)[..., :kept]
            maps = np.moveaxis(np.asarray(value[0], np.float32), -1, 0)[:kept]
            arrays[f"maps{number}"] = np.stack([_shrunk(m) for m in maps])
    np.savez_compressed(path, **arrays)
    return [layer.name for layer in convolutions]


def _activation(model, name: str):
    """The ReLU that follows a convolution, where the model names one; else the convolution."""
    names = {layer.name for layer in model.layers}
    return model.get_layer(f"{name}_relu" if f"{name}_relu" in names else name)


def _shrunk(values: np.ndarray) -> np.ndarray:
    """float32 (H, W) with sides of at most ``MAP_SIDE``, by area."""
    factor = max(1, max(values.shape) / MAP_SIDE)
    size = (round(values.shape[1] / factor) or 1, round(values.shape[0] / factor) or 1)
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BOX))
