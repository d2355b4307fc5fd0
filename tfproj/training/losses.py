"""The loss by labels."""

from __future__ import annotations

import keras

from tfproj.data.masks import IGNORE
from tfproj.models.replicas import over_replicas


@keras.saving.register_keras_serializable("tfproj")
class SoftmaxLoss(keras.losses.Loss):
    """Cross entropy with class indices; on request smoothed, and with a Dice loss.

    With Z = sum(exp(scores)), it is log Z - sum(target * scores) + dice * D. The target is
    1 - smoothing at the class plus smoothing / classes everywhere (Szegedy et al., "Rethinking the
    Inception Architecture for Computer Vision", 2016).

    D is the mean over the classes of 1 - (2 I + 1) / (P + N + 1), a soft Dice loss (Milletari et
    al., "V-Net", 2016): N pixels of the batch are of the class, P is the sum of its probabilities
    over all pixels and I over those N. It counts a rare class as much as a frequent one.

    With class weights the cross entropy of a pixel (or image) of class c is multiplied by
    the weight of c. They have a mean of 1 over what is trained on, so that the mean is the weighted
    mean sum(w_i loss_i) / sum(w_i). The Dice loss is added without.

    Args:
        classes: number of classes.
        smoothing: share of the target spread evenly, 0..1.
        dice: weight of the Dice loss, >= 0; it is added to the loss of every pixel.
        void: pixels of the class 255 are left out of all sums and means.
        class_weights: one number for each class, or None.
    """

    def __init__(
        self, classes, smoothing=0.0, dice=0.0, void=False, class_weights=None,
        name="softmax_loss", **kwargs,
    ):  # fmt: skip
        super().__init__(name=name, **kwargs)
        self.classes, self.smoothing, self.dice, self.void = classes, smoothing, dice, void
        self.class_weights = class_weights

    def call(self, y_true, y_pred):
        """Class indices (B, ...) and scores (B, ..., classes) -> losses (B, ...)."""
        one_hot = keras.ops.one_hot(keras.ops.cast(y_true, "int32"), self.classes)
        target = one_hot * (1 - self.smoothing) + self.smoothing / self.classes
        log_z = keras.ops.logsumexp(y_pred, axis=-1)
        loss = self.weighted(log_z - keras.ops.sum(target * y_pred, axis=-1), y_true)
        if self.dice:
            probabilities = keras.ops.exp(y_pred - log_z[..., None])
            if self.void:
                probabilities = keras.ops.where(y_true[..., None] != IGNORE, probabilities, 0.0)
            loss = loss + self.dice * keras.ops.mean(_dice_losses(one_hot, probabilities))
        return self.counted(loss, y_true)

    def weighted(self, losses, labels):
        """Losses (B, ...) times the weights of their classes."""
        if self.class_weights is None:
            return losses
        index = keras.ops.cast(labels, "int32")
        index = keras.ops.minimum(index, self.classes - 1)  # void, which is not counted anyway
        return losses * keras.ops.take(keras.ops.array(self.class_weights, losses.dtype), index)

    def counted(self, losses, labels):
        """Losses (B, ...), 0 where void, and scaled so that the mean is that of the others.

        Where nothing is void they are the same to the bit; where all is, they are 0.
        """
        if not self.void:
            return losses
        counts = keras.ops.cast(labels != IGNORE, losses.dtype)
        total, found = (
            over_replicas(keras.ops.sum(each)) for each in (keras.ops.ones_like(counts), counts)
        )
        scale = total / keras.ops.maximum(found, 1)
        return keras.ops.where(labels != IGNORE, losses, 0.0) * scale

    def get_config(self):
        own = ("classes", "smoothing", "dice", "void", "class_weights")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def _dice_losses(one_hot, probabilities):
    """(..., classes) each -> (classes,)."""
    pixels = tuple(range(len(one_hot.shape) - 1))
    inside = over_replicas(keras.ops.sum(probabilities * one_hot, axis=pixels))
    total = over_replicas(keras.ops.sum(probabilities + one_hot, axis=pixels))
    return 1 - (2 * inside + 1) / (total + 1)
