"""The optimiser and learning-rate schedule of a configuration."""

from __future__ import annotations

import keras

from tfproj.models.encoders import PREFIX
from tfproj.runs.config import TrainConfig


class SlowEncoder:
    """The encoder's part of a step: ``encoder_rate`` times the learning rate, and no decay.

    What it learned on ImageNet is to be changed little, and not towards zero.
    """

    def __init__(self, *args, encoder_rate: float = 1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.encoder_rate = encoder_rate

    def update_step(self, gradient, variable, learning_rate):
        rate = self.encoder_rate if self._of_encoder(variable) else 1.0
        super().update_step(gradient, variable, learning_rate * rate)

    def _use_weight_decay(self, variable):
        return not self._of_encoder(variable) and super()._use_weight_decay(variable)

    def get_config(self):
        return {**super().get_config(), "encoder_rate": self.encoder_rate}

    def _of_encoder(self, variable) -> bool:
        # TensorFlow's variable, which does not know the layer it belongs to.
        own = self._trainable_variables[self._get_variable_index(variable)]
        return own.path.startswith(PREFIX)


@keras.saving.register_keras_serializable("tfproj")
class AdamW(SlowEncoder, keras.optimizers.AdamW):
    """Keras' own, with the encoder apart."""


@keras.saving.register_keras_serializable("tfproj")
class SGD(SlowEncoder, keras.optimizers.SGD):
    """Keras' own, with the encoder apart."""


@keras.saving.register_keras_serializable("tfproj")
class CoupledAdam(SlowEncoder, keras.optimizers.Adam):
    """Adam whose weight decay is an L2 term in the gradient, as PyTorch's ``Adam`` has it.

    Keras' own ``weight_decay`` is decoupled (AdamW): it shrinks the weights outside the moments.
    """

    def __init__(self, learning_rate=1e-3, l2: float = 0.0, name="coupled_adam", **kwargs):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.l2 = l2

    def update_step(self, gradient, variable, learning_rate):
        # An L2 term: the encoder has it, too.
        gradient = gradient + self.l2 * keras.ops.cast(variable, gradient.dtype)
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "l2": self.l2}


@keras.saving.register_keras_serializable("tfproj")
class ConvMuon(SlowEncoder, keras.optimizers.Muon):
    """Muon for convolutions, too: a kernel (h, w, in, out) counts as a matrix (h * w * in, out).

    The momentum of a matrix is made orthogonal before it is added (Jordan et al., "Muon", 2024),
    with the step size of Liu et al., "Muon is Scalable for LLM Training" (2025). Keras' own does
    so for two-dimensional weights only. Biases and norms take AdamW's step, and so do depthwise
    kernels, whose channels do not mix: they are no matrices.
    """

    def __init__(self, learning_rate=1e-3, weight_decay=0.0, name="conv_muon", **kwargs):
        kwargs.setdefault("adam_weight_decay", weight_decay)
        super().__init__(learning_rate, weight_decay=weight_decay, name=name, **kwargs)

    def _should_use_adamw(self, variable):
        return len(variable.shape) not in (2, 4) or variable.shape[-1] == 1

    def _muon_update_step(self, gradient, variable, lr, m):
        self.assign_add(m, gradient + m * (self.momentum - 1))
        update = gradient + self.momentum * m if self.nesterov else m
        matrix = keras.ops.reshape(update, (-1, variable.shape[-1]))
        matrix = self.lr_adjust(self.zeropower_via_newtonschulz5(matrix, self.ns_steps))
        self.assign_sub(variable, lr * keras.ops.reshape(matrix, variable.shape))

    def zeropower_via_newtonschulz5(self, x, steps: int):
        """Keras' iteration X <- (a + b A + c A^2) X with A = X X^T, on the small side only.

        Every factor is a polynomial in the first A, so A and the product of the factors can be
        carried on without X, which is long and thin here: half of the arithmetic or less, the same
        result but for rounding.
        """
        x = x / (keras.ops.norm(x) + 1e-7)
        tall = x.shape[0] > x.shape[1]
        transposed = keras.ops.transpose(x)
        square = keras.ops.matmul(transposed, x) if tall else keras.ops.matmul(x, transposed)
        product = identity = keras.ops.eye(square.shape[0], dtype=x.dtype)
        for _ in range(steps):
            squared = keras.ops.matmul(square, square)
            factor = self.muon_a * identity + self.muon_b * square + self.muon_c * squared
            product = keras.ops.matmul(factor, product)
            square = keras.ops.matmul(keras.ops.matmul(factor, square), factor)
        return keras.ops.matmul(x, product) if tall else keras.ops.matmul(product, x)


def make_optimizer(config: TrainConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Adam (decay coupled), AdamW, Muon or SGD (decay decoupled, on kernels only)."""
    rate = make_schedule(config, steps_per_epoch)
    options = {
        "encoder_rate": config.encoder_rate,
        "use_ema": config.ema > 0,
        "ema_momentum": ema_momentum(config, steps_per_epoch),
    }
    if config.optimizer == "adam":
        return CoupledAdam(rate, l2=config.weight_decay, **options)
    decoupled = {"adamw": AdamW, "muon": ConvMuon, "sgd": nesterov_sgd}
    optimizer = decoupled[config.optimizer](rate, weight_decay=config.weight_decay, **options)
    # Shrinking a bias or a norm's scale only biases the network.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def nesterov_sgd(learning_rate, **kwargs) -> SGD:
    """SGD with Nesterov's momentum of 0.9, as residual networks are mostly trained.

    The decay is decoupled, outside of the momentum: one of 5e-3 shrinks the weights as fast as
    5e-4 in the gradient would (PyTorch's ``SGD``), which the momentum multiplies by ten.
    """
    return SGD(learning_rate, momentum=0.9, nesterov=True, **kwargs)


def ema_momentum(config: TrainConfig, steps_per_epoch: int) -> float:
    """The configured momentum, or less where it would look back further than a tenth of the steps.

    The average starts at the random weights: one of 0.999 still holds most of them after a hundred
    steps, and a short training would keep a model that has learned nothing.
    """
    steps = max(1, config.stepping_epochs * steps_per_epoch)
    return min(config.ema, max(0.0, 1 - 10 / steps))


def make_schedule(config: TrainConfig, steps_per_epoch: int):
    """A constant, or a linear warm-up followed by a cosine to zero at the last step."""
    if config.schedule == "constant":
        return config.learning_rate
    steps = max(1, config.stepping_epochs * steps_per_epoch)
    warmup = min(round(config.warmup_epochs * steps_per_epoch), steps - 1)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else config.learning_rate,
        decay_steps=steps - warmup,
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
