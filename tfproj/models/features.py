"""What a trained classifier makes of an image on the way to its scores, as tensors of its model."""

from __future__ import annotations

import keras
import numpy as np

PLACES = "places"  # the layer that the class activation maps come from
# A wider tensor would make a matrix of all features larger than the network that gives them.
WIDEST = 512


def last_dense(model: keras.Model) -> keras.layers.Dense:
    """The layer that the classes are read from; its ``input`` are the penultimate features."""
    return next(layer for layer in reversed(model.layers) if isinstance(layer, keras.layers.Dense))


def stage_means(model: keras.Model):
    """The mean over space of the last features of each resolution, side by side: (B, features).

    Of every resolution that a convolution made, the last tensor counts that is no wider than that
    of the next one. So of an inverted bottleneck it is the narrow one.
    """
    stages, widest = [], WIDEST
    for layer in reversed(model.layers):
        height, width, channels = (layer.output.shape[1:] + (0, 0, 0))[:3]
        known = [stage.shape[1:3] for stage in stages]
        inside = model.input_shape[-1] < channels <= widest and height * width > 1
        padded = isinstance(layer, keras.layers.ZeroPadding2D)
        if inside and not padded and (height, width) not in known:
            stages.append(layer.output)
            widest = channels
    # Not a global pooling, which the converter would transpose the whole tensor for.
    means = [keras.layers.AveragePooling2D(stage.shape[1:3])(stage) for stage in stages]
    means = [keras.layers.Flatten()(mean) for mean in means]
    return keras.layers.Concatenate()(means) if len(means) > 1 else means[0]


def class_activations(model: keras.Model):
    """What each place adds to each class's score, (B, h, w, classes); their mean is the score.

    Class activation maps: Zhou et al., "Learning Deep Features for Discriminative Localization",
    CVPR 2016. None where the last layer reads anything else than means over space.
    """
    dense = last_dense(model)
    makers = {id(layer.output): layer for layer in model.layers}
    layer = makers[id(dense.input)]
    while isinstance(layer, keras.layers.Dropout):
        layer = makers[id(layer.input)]
    if not isinstance(layer, keras.layers.GlobalAveragePooling2D):
        return None
    kernel, bias = (np.asarray(weight) for weight in dense.get_weights())
    of_places = keras.layers.Conv2D(dense.units, 1, dtype="float32", name=PLACES)
    places = of_places(layer.input)
    of_places.set_weights([kernel[None, None], bias])
    return places
