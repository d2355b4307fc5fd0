"""Models to files, and weights of a run back into a model. Only arrays are read, never code."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

from tfproj.core.leftovers import scratch
from tfproj.errors import InputError, first_line
from tfproj.models.registry import build_model
from tfproj.runs.run import Run


def load_model(run: Run):
    """The Keras model of a run in float32 with its best weights.

    It is rebuilt from the run's configuration and only the weights are read, so no code that a
    ``.keras`` file may carry is ever run.
    """
    model = build_model(run.spec(), run.config().model_options)
    load_weights(model, run.best_weights)
    return model


def save_model(model, path: Path) -> None:
    """Write a ``.keras`` file. Keras' own temporary files are removed, whatever happens."""
    with scratch() as folder:
        usual, tempfile.tempdir = tempfile.tempdir, str(folder)
        try:
            model.save(path)
        finally:
            tempfile.tempdir = usual


def load_weights(model, path: Path) -> None:
    """Read the weights of a ``.keras`` file into a model of the same layers.

    Only arrays are read: no code that such a file may carry is ever run. Where the model is
    compiled and its optimiser built, the optimiser's state is read as well.

    Raises:
        InputError: not such a file, damaged, or of another model.
    """
    try:
        with warnings.catch_warnings():
            # Keras warns of weights that do not fit before it fails; the failure says it all.
            warnings.simplefilter("ignore")
            model.load_weights(path)
    except Exception as error:  # Keras, h5py and zipfile raise many kinds for a damaged file
        raise InputError(f"{path}: cannot be loaded ({first_line(error)})") from None
