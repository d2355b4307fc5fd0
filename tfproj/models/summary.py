"""A table of a model's layers with the memory statistics of the original report."""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras

FLOAT_BYTES = 4
MB = 2**20

# What the table lists, under the names that the report uses. Activations that follow a
# convolution, additions and renamings are left out, as there; what ends in the scores is listed.
LISTED = {
    "Conv2D": "Conv2d",
    "Conv2DTranspose": "ConvTranspose2d",
    "DepthwiseConv2D": "DepthwiseConv2d",
    "MaxPooling2D": "MaxPool2d",
    "BatchNormalization": "BatchNorm2d",
    "GlobalAveragePooling2D": "AvgPool2d",
    "Dense": "Linear",
}
LISTED_BY_NAME = {"scores_relu": "ReLU", "scores_log_softmax": "LogSoftmax"}


@dataclass(frozen=True)
class Row:
    """One layer: its kind and number, its name, output (channels, height, width), parameters."""

    kind: str
    layer: str
    shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class Summary:
    """Rows and totals; sizes in MB of 2**20 bytes.

    ``activations_mb`` counts the listed outputs twice (forward and backward) for one image, and
    ``total_mb`` adds the input and the parameters, all as 32-bit floats.
    """

    rows: tuple[Row, ...]
    trainable: int
    non_trainable: int
    input_mb: float
    activations_mb: float
    parameters_mb: float

    @property
    def parameters(self) -> int:
        return self.trainable + self.non_trainable

    @property
    def total_mb(self) -> float:
        return self.input_mb + self.activations_mb + self.parameters_mb


def summarize(model: keras.Model) -> Summary:
    """Compute the table from a built model."""
    rows: list[Row] = []
    for layer in model.layers:
        # The package's own layers are listed as what they are derived from.
        kinds = (LISTED.get(base.__name__) for base in type(layer).__mro__)
        kind = LISTED_BY_NAME.get(layer.name) or next(filter(None, kinds), None)
        if kind:
            height_width_channels = layer.output.shape[1:]
            shape = (height_width_channels[-1], *height_width_channels[:-1])
            rows.append(Row(f"{kind}-{len(rows) + 1}", layer.name, shape, layer.count_params()))
    # Weights, not variables: a dropout's random state is no parameter.
    trainable = sum(math.prod(v.shape) for v in model.trainable_weights)
    fixed = sum(math.prod(v.shape) for v in model.non_trainable_weights)
    return Summary(
        rows=tuple(rows),
        trainable=trainable,
        non_trainable=fixed,
        input_mb=math.prod(model.input_shape[1:]) * FLOAT_BYTES / MB,
        activations_mb=2 * sum(math.prod(row.shape) for row in rows) * FLOAT_BYTES / MB,
        parameters_mb=(trainable + fixed) * FLOAT_BYTES / MB,
    )


def format_summary(summary: Summary) -> str:
    """The table as text, in the order and with the figures of the original report."""
    width = max(14, *(len(row.layer) + 2 for row in summary.rows))
    lines = [f"{'Layer':<20}{'Name':<{width}}{'Output (C, H, W)':<20}{'Parameters':>12}"]
    for row in summary.rows:
        shape = ", ".join(map(str, row.shape))
        lines.append(f"{row.kind:<20}{row.layer:<{width}}{shape:<20}{row.parameters:>12,}")
    lines += [
        "",
        f"Total params {summary.parameters:,}",
        f"Trainable params {summary.trainable:,}",
        f"Non-trainable params {summary.non_trainable:,}",
        f"Input size (MB) {summary.input_mb:.2f}",
        f"Forward/backward pass size (MB) {summary.activations_mb:.2f}",
        f"Params size (MB) {summary.parameters_mb:.2f}",
        f"Estimated Total Size (MB) {summary.total_mb:.2f}",
    ]
    return "\n".join(lines)


def to_dict(summary: Summary) -> dict:
    """Plain JSON types."""
    return {
        "rows": [
            {"kind": r.kind, "layer": r.layer, "shape": list(r.shape), "parameters": r.parameters}
            for r in summary.rows
        ],
        "parameters": summary.parameters,
        "trainable": summary.trainable,
        "non_trainable": summary.non_trainable,
        "input_mb": summary.input_mb,
        "activations_mb": summary.activations_mb,
        "parameters_mb": summary.parameters_mb,
        "total_mb": summary.total_mb,
    }
