"""A Keras model as an ONNX graph, by tf2onnx."""

from __future__ import annotations

import logging

import numpy as np
import tensorflow as tf
import tf2onnx
from onnx.numpy_helper import from_array
from tf2onnx.handler import tf_op
from tf2onnx.utils import make_name

from tfproj.core.spec import INPUT_NAME, PROBABILITIES_NAME, SCORES_NAME
from tfproj.errors import TfprojError, first_line
from tfproj.export.simplify import refill


def convert(model, opset: int, multi_label: bool = False):
    """A Keras model from images to scores, or to outputs by name, as an ``onnx.ModelProto``.

    Height and width are static, the batch is free.

    Raises:
        TfprojError: tf2onnx failed, or only warned that one of its passes failed.
    """
    signature = tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8, name=INPUT_NAME)

    @tf.function(input_signature=[signature])
    def graph(image):
        found = model(image, training=False)
        found = found if isinstance(found, dict) else {SCORES_NAME: found}
        outputs = {name: tf.identity(value, name) for name, value in found.items()}
        last = tf.nn.sigmoid if multi_label else tf.nn.softmax
        return {**outputs, PROBABILITIES_NAME: last(found[SCORES_NAME], name=PROBABILITIES_NAME)}

    warnings, eager = _Warnings(), tf.config.functions_run_eagerly()
    logging.getLogger("tf2onnx").addHandler(warnings)
    try:
        # Keras calls a function of its own for a convolution in groups, which tf2onnx would find
        # in the graph and does not know; this way its operators are there themselves.
        tf.config.run_functions_eagerly(True)
        captured = graph.get_concrete_function().graph.captures
        proto, _ = tf2onnx.convert.from_function(graph, [signature], opset=opset)
    except (ValueError, RuntimeError, TypeError, NotImplementedError) as error:
        raise TfprojError(f"conversion failed: {first_line(error)}") from error
    finally:
        tf.config.run_functions_eagerly(eager)
        logging.getLogger("tf2onnx").removeHandler(warnings)
    if warnings.messages:
        raise TfprojError(f"conversion is not to be trusted, tf2onnx says: {first_line(warnings)}")
    _take_constants(proto.graph, {inside.name: value for value, inside in captured})
    return proto


def _take_constants(graph, captured: dict) -> None:
    """A layer's constants, such as the mean of Normalization, came as inputs; some unread."""
    read = {name for node in graph.node for name in node.input}
    for entry in graph.input:
        if entry.name in captured and entry.name in read:
            value = from_array(captured[entry.name].numpy(), entry.name)
            graph.initializer.append(value)
    refill(graph.input, [entry for entry in graph.input if entry.name == INPUT_NAME])


@tf_op("Erfc")
class _ComplementaryError:
    """1 - erf(x): TensorFlow's GELU has this operator, which tf2onnx 1.17 lacks."""

    @classmethod
    def version_9(cls, ctx, node, **_):
        shape, kind = ctx.get_shape(node.output[0]), ctx.get_dtype(node.output[0])
        one = ctx.make_const(make_name("one"), np.float32(1))
        ctx.remove_node(node.name)
        erf = ctx.make_node("Erf", node.input, shapes=[shape], dtypes=[kind])
        ctx.make_node("Sub", [one.output[0], erf.output[0]], outputs=node.output,
                      name=node.name, shapes=[shape], dtypes=[kind])  # fmt: skip


class _Warnings(logging.Handler):
    """Collects warnings: tf2onnx goes on after a failed pass and only logs it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

    def __str__(self) -> str:
        return "\n".join(self.messages)
