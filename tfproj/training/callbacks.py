"""Keras callbacks: what is saved after each epoch, when to stop, what the user sees."""

from __future__ import annotations

import math
import sys
import time

import keras
from tqdm import tqdm

from tfproj.core.files import replacing, write_csv
from tfproj.core.words import duration, plural
from tfproj.errors import TfprojError
from tfproj.models.checkpoint import save_model
from tfproj.runs.config import TrainConfig
from tfproj.runs.history import best_epoch, out_of_patience, tied_epochs
from tfproj.runs.run import Run
from tfproj.training.metrics import COUNTED, Counts
from tfproj.training.multi_label import LabelAveragePrecision
from tfproj.training.validation_weights import ValidationWeights


class Diverged(TfprojError):
    """The loss became NaN or infinite."""


class Interrupted(TfprojError):
    """Stopped by Ctrl-C or SIGTERM; the run can be resumed."""


class Checkpoints(keras.callbacks.Callback):
    """After each epoch: history line, ``best.keras``, ``last.keras``; stops when patience ends.

    Best value and patience are derived from the history each time, so a resumed run has them as
    the uninterrupted one does. ``last.keras`` is written last: the epoch counts once it is there.

    Args:
        run: where to write.
        config: says by which measure, which epoch is kept, and how patient to be.
        history: rows of the epochs that an earlier part of the run finished.
        kept: what ``best.keras`` holds.
    """

    def __init__(self, run: Run, config: TrainConfig, history: list[dict], kept: ValidationWeights):
        super().__init__()
        self._run, self._config, self._kept = run, config, kept
        self.history = list(history)

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        if not all(math.isfinite(value) for value in logs.values()):
            raise Diverged(_nan_message(f"epoch {epoch + 1}"))
        row = {"epoch": epoch + 1, **{k: float(v) for k, v in shown(logs).items()}}
        row["learning_rate"] = float(self.model.optimizer.learning_rate)
        row["seconds"] = round(time.monotonic() - self._start, 3)
        self.history.append(row)
        monitored = self._config.monitored
        kept = self._config.keep == "last" or best_epoch(self.history, monitored) == epoch + 1
        self._run.retire(new_weights=kept)
        with replacing(self._run.last_weights) as temporary:
            save_model(self.model, temporary)
            if kept:
                with replacing(self._run.best_weights) as best, self._kept.swapped_in():
                    save_model(self.model, best)
            write_csv(self._run.history_file, self.history)
        if out_of_patience(self.history, monitored, self._config.patience):
            self.model.stop_training = True


def shown(logs: dict) -> dict:
    """Without the measures of training steps that are not counted there."""
    return {name: value for name, value in logs.items() if name not in COUNTED}


def _nan_message(where: str) -> str:
    return (
        f"the loss is not a number in {where}; try a lower --learning-rate or --precision float32"
    )


class Validation(keras.callbacks.Callback):
    """Validate the weights that would be kept, and count what needs all of the split."""

    def __init__(self, kept: ValidationWeights):
        super().__init__()
        self._kept = kept

    def on_test_begin(self, logs=None):
        self._kept.swap_in()
        self._count(True)

    def on_test_end(self, logs=None):
        self._count(False)
        self._kept.swap_out()

    def _count(self, on: bool) -> None:
        # The model's metric, not the one compile was given: Keras hands on the same objects.
        for metric in self.model.metrics:
            for part in getattr(metric, "metrics", [metric]):
                if isinstance(part, (Counts, LabelAveragePrecision)):
                    part.switch(on)


class Reseed(keras.callbacks.Callback):
    """Make the draws of dropout and its like a function of (seed, epoch), as the batches are.

    Keras does not restore the state of its seed generators with the weights.
    """

    DRAWS = 1 << 20  # more than the steps of any epoch

    def __init__(self, seed: int):
        super().__init__()
        self._seed = seed

    def on_epoch_begin(self, epoch, logs=None):
        states = [v for v in self.model.variables if v.name == "seed_generator_state"]
        for index, state in enumerate(states):
            state.assign([(self._seed + index) % 2**32, epoch * self.DRAWS % 2**32])


class Progress(keras.callbacks.Callback):
    """Progress on stderr: a bar within the epoch on a terminal, one line after each, with ETA.

    Also stops the run as soon as the loss is NaN, which it looks at whenever it draws.
    """

    INTERVAL = 0.5  # seconds between looks at the loss: reading it waits for the device

    def __init__(self, epochs: int, done: int):
        super().__init__()
        self._epochs, self._done = epochs, done

    def on_train_begin(self, logs=None):
        self._begin = self._looked = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        self._bar = tqdm(
            total=self.params["steps"], desc=f"epoch {epoch + 1}/{self._epochs}", unit="step",
            file=sys.stderr, leave=False, disable=None, mininterval=self.INTERVAL,
        )  # fmt: skip

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        if now - self._looked >= self.INTERVAL:
            self._looked = now
            loss = float(logs["loss"])
            if not math.isfinite(loss):
                raise Diverged(_nan_message(f"step {batch + 1} of an epoch"))
            self._bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
            self._bar.update(batch + 1 - self._bar.n)

    def on_epoch_end(self, epoch, logs=None):
        self._bar.close()
        elapsed = time.monotonic() - self._begin
        left = (self._epochs - epoch - 1) * elapsed / (epoch + 1 - self._done)
        values = "  ".join(f"{name} {value:.4f}" for name, value in shown(logs).items())
        print(
            f"epoch {epoch + 1}/{self._epochs}  {values}  {duration(elapsed)}"
            + (f", {duration(left)} left" if epoch + 1 < self._epochs else ""),
            file=sys.stderr,
        )

    def on_train_end(self, logs=None):
        self._bar.close()


def say_trained(run: Run, config: TrainConfig, done: int, seconds: float) -> None:
    """Which epoch is kept, in one line."""
    history, monitored = run.history(), config.monitored
    best, tied = best_epoch(history, monitored), tied_epochs(history, monitored)
    kept = ", kept is the last" if config.keep == "last" else ""
    if len(tied) > 1:
        kept = f" and, of {len(tied)} epochs with the same, loss{kept}"
    print(
        f"trained {plural(len(history) - done, 'epoch')} in {duration(seconds)}; best epoch {best} "
        f"by {monitored}{kept}: {run.path}",
        file=sys.stderr,
    )
