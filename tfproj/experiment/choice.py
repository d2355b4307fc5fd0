"""Which preset, and which of its values, fit the data; what a user gave is not touched."""

from __future__ import annotations

import dataclasses

from tfproj.data import Dataset
from tfproj.data.dataset import median_size
from tfproj.errors import InputError
from tfproj.experiment.crops import crops_per_epoch
from tfproj.experiment.presets import make_config
from tfproj.models.encoder_names import LITE0
from tfproj.runs.config import TrainConfig

# From this side on an encoder of photographs has something to see; what it takes at least.
PHOTO_SIDE, LEAST_SIDE = 64, 32
# Training images from which on the encoder learns, too: of 400 flowers fine-tuning made nothing
# better.
FINE_TUNED = 1000
# Fewer steps leave a network, and the statistics of its norms, half way; an epoch of one step
# counts nothing.
STEPS, STEPS_PER_EPOCH, LEAST_BATCH = 200, 10, 4
MOST_EPOCHS = 60


def choose(config: TrainConfig, dataset: Dataset) -> tuple[TrainConfig, str]:
    """The configuration with a preset that fits the data, where none is given, and why."""
    reason = ""
    if (given := config.given) is not None:
        preset, reason = _preset(config, dataset)
        config = make_config(config.task, preset, **given) if preset == "photo" else config
        fitted = _fitted(config, crops_per_epoch(dataset.splits["train"], config.crop))
        values = {key: value for key, value in fitted.items() if key not in given}
        words = [f"{key.replace('_', ' ')} {value}" for key, value in values.items()]
        reason = "; ".join([f"preset {preset}: {reason}", *words])
        config = dataclasses.replace(config, **values, given=None)
    return _for_encoder(config, dataset), reason


def _preset(config: TrainConfig, dataset: Dataset) -> tuple[str, str]:
    """(``photo`` or ``default``, why)."""
    height, width = median_size(dataset.splits["train"])
    images = f"images of {height:g} x {width:g} px (median)"
    if "model" in config.given or "model_options" in config.given:
        return "default", "the model is given"
    channels = config.channels or dataset.channels
    if channels != 3:
        return "default", "grey images"
    size = config.crop or config.image_size or (height, width)
    if min(size) < PHOTO_SIDE:
        return "default", f"{images}, less than {PHOTO_SIDE}"
    return "photo", f"colour {images}, {PHOTO_SIDE} or more"


def _fitted(config: TrainConfig, count: int) -> dict[str, int]:
    """Batch size and epochs that give enough steps, where the preset's would not."""
    if config.probe:
        return {"epochs": 1} if count < FINE_TUNED else {}
    values, batch = {}, config.batch_size
    while count // batch < STEPS_PER_EPOCH and batch > LEAST_BATCH:
        batch = values["batch_size"] = max(LEAST_BATCH, batch // 2)
    steps = max(1, count // batch)
    if steps * config.epochs < STEPS:
        values["epochs"] = min(MOST_EPOCHS, -(-STEPS // steps))
    return values


def _for_encoder(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """Three channels, as every encoder has them.

    Raises:
        InputError: a value that is for encoders where there is none, or the other way round.
    """
    if config.model in ("encoder", "encoder_unet") and not config.init:
        # Else the encoder would be the builder's own, of random weights.
        options = {"encoder": LITE0, "batch_norm": True, **config.model_options}
        config = dataclasses.replace(config, model_options=options)
    if "encoder" not in config.model_options:
        for name, plain in (("encoder_weights", None), ("encoder_rate", 1.0), ("probe", False)):
            if getattr(config, name) != plain and not config.init:
                raise InputError(f"{name}: model {config.model!r} has no encoder; see --encoder")
        return config
    if config.channels == 1:
        raise InputError("channels is 1; an encoder takes 3, and grey images are repeated for it")
    height, width = median_size(dataset.splits["train"])
    if min(height, width) < LEAST_SIDE and config.preset == "photo":
        raise InputError(
            f"images of {height:g} x {width:g} px (median): preset photo needs {LEAST_SIDE} px or "
            "more; leave it out"
        )
    return dataclasses.replace(config, channels=3)
