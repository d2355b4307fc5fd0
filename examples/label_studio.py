"""Predictions of a model of tfproj as tasks that Label Studio imports, to be corrected there.

    pip install tfproj label-studio-sdk
    python examples/label_studio.py model.onnx photos/ > tasks.json

Label Studio serves the folder itself (LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED, with the folder
above as LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT). The labelling configuration has an Image called
"image" and a Choices or BrushLabels called "label".
"""

import json
import sys
from pathlib import Path
from urllib.parse import quote

import numpy as np
from label_studio_sdk.converter.brush import mask2rle

from tfproj import Predictor, Segmentation
from tfproj.errors import InputError
from tfproj.inference.image_files import find_images


def regions(result):
    """A result as Label Studio's regions."""
    if not isinstance(result, Segmentation):
        names = getattr(result, "labels", [result.label])  # all of a model for several
        yield {"type": "choices", "value": {"choices": [*names]}}
        return
    height, width = result.size
    for index, name in enumerate(result.classes):
        if index and (result.mask == index).any():  # the first class is the background
            rle = mask2rle(255 * (result.mask == index).astype(np.uint8))
            value = {"format": "rle", "rle": rle, "brushlabels": [name]}
            yield {"type": "brushlabels", "original_width": width, "original_height": height,
                   "value": value}  # fmt: skip


def main(model: str, folder: str) -> None:
    predictor, root = Predictor(model), Path(folder).resolve()
    files = find_images([str(root)])
    tasks = []
    for file, result in zip(files, predictor.stream(files, errors="return"), strict=True):
        if isinstance(result, InputError):
            print(f"left out: {result}", file=sys.stderr)
            continue
        named = [{"from_name": "label", "to_name": "image", **one} for one in regions(result)]
        image = f"/data/local-files/?d={quote(file.relative_to(root.parent).as_posix())}"
        prediction = {"model_version": predictor.digest, "result": named}
        tasks.append({"data": {"image": image}, "predictions": [prediction]})
    print(json.dumps(tasks))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except InputError as error:
        sys.exit(f"error: {error}")
