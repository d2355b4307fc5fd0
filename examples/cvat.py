"""CVAT annotates a task with a model of tfproj: labels of whole images, or masks.

    pip install tfproj cvat-cli
    cvat-cli task auto-annotate TASK --function-file examples/cvat.py -p model=str:model.onnx

The task's labels have the names of the model's classes; the first class of a segmenter, its
background, is left out. With --conf-threshold labels of less probability are; masks have none.
"""

import cvat_sdk.auto_annotation as cvat
from cvat_sdk.masks import encode_mask

from tfproj import Predictor, Segmentation


class Function:
    """See CVAT's documentation, "Auto-annotation API": a DetectionFunction."""

    def __init__(self, model: str):
        self._predictor = Predictor(model)
        classes = self._predictor.spec.classes
        kind = "mask" if self._predictor.spec.task == "segment" else "tag"
        labels = [cvat.label_spec(name, i, type=kind) for i, name in enumerate(classes)]
        self.spec = cvat.DetectionFunctionSpec(labels=labels[kind == "mask" :])

    def detect(self, context, image):
        """What a PIL image holds, as CVAT's annotations."""
        result = self._predictor.predict_one(image)
        if not isinstance(result, Segmentation):
            names = getattr(result, "labels", [result.label])  # all of a model for several
            least = context.conf_threshold or 0
            found = map(result.classes.index, names)
            return [cvat.tag(i) for i in found if result.probabilities[i] >= least]
        found = ((i, result.mask == i) for i in range(1, len(result.classes)))
        return [cvat.mask(i, encode_mask(area)) for i, area in found if area.any()]


create = Function
