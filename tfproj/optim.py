"""Loss, optimiser and learning-rate schedule of a configuration."""

from __future__ import annotations

import keras

from tfproj.config import TrainConfig


@keras.saving.register_keras_serializable("tfproj")
class CoupledAdam(keras.optimizers.Adam):
    """Adam whose weight decay is an L2 term in the gradient, as PyTorch's ``Adam`` has it.

    Keras' own ``weight_decay`` is decoupled (AdamW): it shrinks the weights outside the moments.
    """

    def __init__(self, learning_rate=1e-3, l2: float = 0.0, name="coupled_adam", **kwargs):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.l2 = l2

    def update_step(self, gradient, variable, learning_rate):
        gradient = gradient + self.l2 * keras.ops.cast(variable, gradient.dtype)
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "l2": self.l2}


def make_optimizer(config: TrainConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Adam (decay coupled) or AdamW (decay decoupled, on kernels only)."""
    rate = make_schedule(config, steps_per_epoch)
    if config.optimizer == "adam":
        return CoupledAdam(rate, l2=config.weight_decay)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    # Shrinking a bias or a norm's scale only biases the network.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def make_schedule(config: TrainConfig, steps_per_epoch: int):
    """A constant, or a linear warm-up followed by a cosine to zero at the last step."""
    if config.schedule == "constant":
        return config.learning_rate
    warmup = min(round(config.warmup_epochs * steps_per_epoch), config.epochs * steps_per_epoch - 1)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else config.learning_rate,
        decay_steps=config.epochs * steps_per_epoch - warmup,
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def make_loss(config: TrainConfig, classes: int) -> keras.losses.Loss:
    """Cross entropy of scores against class indices, meaned over examples (and pixels)."""
    if config.label_smoothing:
        return SmoothedCrossEntropy(classes, config.label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@keras.saving.register_keras_serializable("tfproj")
class SmoothedCrossEntropy(keras.losses.Loss):
    """Cross entropy with a share of the target spread evenly over all classes.

    Keras smooths one-hot targets only; ours are class indices. (Szegedy et al., "Rethinking the
    Inception Architecture for Computer Vision", 2016.)

    Args:
        classes: number of classes.
        smoothing: the share, 0..1.
    """

    def __init__(self, classes: int, smoothing: float, name="smoothed_cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.classes, self.smoothing = classes, smoothing

    def call(self, y_true, y_pred):
        """Class indices (B, ...) and scores (B, ..., classes) -> losses (B, ...)."""
        one_hot = keras.ops.one_hot(keras.ops.cast(y_true, "int32"), self.classes)
        return keras.losses.categorical_crossentropy(
            one_hot, y_pred, from_logits=True, label_smoothing=self.smoothing
        )

    def get_config(self):
        return {**super().get_config(), "classes": self.classes, "smoothing": self.smoothing}
