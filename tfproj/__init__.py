"""Train small vision models with Keras, prove their ONNX export, run them without TensorFlow.

Importing this package imports nothing heavy: numpy and onnxruntime come with the first use
of :class:`Predictor`, TensorFlow only with training, evaluation and export.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tfproj._version import __version__

if TYPE_CHECKING:
    from tfproj.bulk.task import predict_paths
    from tfproj.export.any_model import export_model
    from tfproj.inference.predictor import Predictor
    from tfproj.inference.results import Classification, MultiLabel, Segmentation

# From 1.29 on, onnxruntime reports what it runs to its makers and keeps an identifier in the home
# directory, from its import on, unless this is set; an answer that is already there is kept.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "Classification",
    "MultiLabel",
    "Predictor",
    "Segmentation",
    "__version__",
    "export_model",
    "predict_paths",
]


if not TYPE_CHECKING:  # or a checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name in {*__all__} - {"__version__", "export_model", "predict_paths"}:
            # Here, so that importing the package loads nothing.
            from tfproj.inference import predictor  # noqa: PLC0415

            return getattr(predictor, name)
        if name == "export_model":
            from tfproj.export import any_model  # noqa: PLC0415 (as above)

            return any_model.export_model
        if name == "predict_paths":
            from tfproj.bulk import task  # noqa: PLC0415 (as above)

            return task.predict_paths
        raise AttributeError(f"module 'tfproj' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
