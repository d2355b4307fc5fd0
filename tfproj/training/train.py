"""Train a model into a run directory.

``tfproj train classify`` and ``tfproj train segment`` are thin covers of :func:`train` and
:func:`resume`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shlex
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from tfproj import backend
from tfproj.core.files import write_json, write_text
from tfproj.data.dataset import median_size
from tfproj.errors import InputError, missing_extra
from tfproj.experiment import initial_weights
from tfproj.experiment.plan import Plan, plan, plan_resume
from tfproj.experiment.same_data import describe_splits
from tfproj.models.encoders import load_imagenet
from tfproj.runs import DEFAULT_ROOT, environment
from tfproj.runs.config import TrainConfig
from tfproj.runs.history import has_ended
from tfproj.runs.lock import locked
from tfproj.runs.run import PRUNED, Run, check_place, create_run
from tfproj.training import callbacks, pipeline
from tfproj.training.augment import for_statistics
from tfproj.training.cache import Cache, make_cache, unreadable_named
from tfproj.training.compiling import compiled_model
from tfproj.training.distillation import Teachers
from tfproj.training.doubts import CollapseAlarm, look_back
from tfproj.training.probe import fit_last_layer
from tfproj.training.resuming import extend, restore
from tfproj.training.strategy import fit
from tfproj.training.together import Together, agree
from tfproj.training.tracking import tracked
from tfproj.training.transfer import initialise
from tfproj.training.validation_weights import ValidationWeights, norms

# For the first statistics of batch norm; more would not change what a training makes of them.
STATISTICS_IMAGES = 128


class Finished(InputError):
    """The run that is to be resumed has all of its epochs."""


def train(
    config: TrainConfig,
    root: str | Path = DEFAULT_ROOT,
    name: str | None = None,
    overwrite: bool = False,
    trackers: Collection[str] = (),
    planned: Plan | None = None,
    listeners: Sequence[keras.callbacks.Callback] = (),
    together: Together | None = None,
) -> Run:
    """Train from the start.

    Args:
        config: what to train.
        root, name, overwrite: see :func:`tfproj.runs.run.create_run`.
        trackers: ``tensorboard`` writes events into the run, ``mlflow`` tells MLflow's store.
        planned: the result of :func:`plan` where it was already made.
        listeners: further callbacks, called after an epoch was saved.
        together: of ``find_together``; this is the first worker, the others call :func:`assist`.

    Returns:
        The run directory with weights, history and environment; not yet evaluated.

    Raises:
        InputError: see :func:`plan`; or the run exists, or is in training.
        TfprojError: interrupted (the run can be resumed), or the loss became NaN.
    """
    planned = planned or plan(config)
    config = planned.config
    _require(trackers)
    replaces = check_place(root, config.task, name, overwrite)
    backend.setup()
    precision = backend.resolve_precision(config.precision)
    if together:
        agree(together, planned, precision)
    facts = environment.describe(precision)
    facts["seed"] = config.seed
    facts["device"] = backend.device_name()
    facts["devices"] = together.share.parts if together else 1
    dataset = planned.dataset
    facts["data"] = {"origin": dataset.origin, "license": dataset.license}
    facts["data"]["median_size"] = median_size(dataset.splits["train"])
    if planned.teachers:
        facts["teachers"] = [teacher.describe() for teacher in planned.teachers]
    if planned.weights:
        facts["class_weights"] = planned.weights
    if planned.source:
        facts["init"] = initial_weights.describe(planned.source)
        file = planned.source.file.resolve()
        if replaces and (Path(root) / config.task / name).resolve() in file.parents:
            raise InputError(f"--init {config.init}: can't be replaced; choose another --name")
    # Whatever can fail does so before the directory is made or an earlier run replaced.
    with _prepared(planned, precision, together) as prepared:
        if replaces:
            for cache in prepared.caches.values():
                cache.fill()
        run = create_run(root, config.task, name, stem(planned), overwrite)
        with locked(run.path):
            _describe(run, planned, facts)
            _fit(run, planned, prepared, [], trackers, listeners)
    return run


def stem(planned: Plan) -> str:
    """What a run is called, but for its number, where no name is given."""
    data = Path(planned.dataset.name)
    return f"{(data.name or data.resolve().name).replace(':', '-')}-{planned.config.preset}"


def _describe(run: Run, planned: Plan, facts: dict[str, Any]) -> None:
    again = ["tfproj", "train", planned.config.task, "--config", str(run.config_file)]
    write_text(run.spec_file, planned.spec.to_json() + "\n")
    write_json(run.splits_file, describe_splits(planned.dataset))
    write_json(run.environment_file, {**facts, "repeat": shlex.join(again)})
    run.add_warnings(planned.warnings)
    write_json(run.config_file, planned.config.to_dict())  # last: its presence makes it a run


def resume(
    run: Run,
    trackers: Collection[str] = (),
    planned: Plan | None = None,
    listeners: Sequence[keras.callbacks.Callback] = (),
    together: Together | None = None,
) -> Run:
    """Continue an interrupted run from its last whole epoch, as if it had never stopped.

    Where the plan has more epochs than the run, it is extended: a cosine schedule goes on as one of
    so many epochs has it at that point, a constant one as it is.

    Raises:
        Finished: nothing left to do.
        InputError: files missing, the data are not what they were, or another process trains it.
    """
    planned = planned or plan_resume(run)
    _require(trackers)
    backend.setup()
    init, task = planned.config.init, planned.config.task
    if init and not run.last_weights.exists():
        planned = replace(planned, source=initial_weights.find_source(init, task))
    precision = run.environment()["precision"]
    if together:
        agree(together, planned, precision)
    with locked(run.path) as killed, _prepared(planned, precision, together) as prepared:
        if PRUNED in run.warnings():
            run.drop_warning(PRUNED)
        if planned.config.epochs != run.config().epochs:
            extend(run, planned.config.epochs)
        # By its weights: the history may have an epoch more, whose weights came too late.
        history = restore(run, prepared.model, prepared.steps, planned.config.probe)
        if not has_ended(planned.config, history):
            _fit(run, planned, prepared, history, trackers, listeners)
        elif killed:  # while it was looked at, or before
            look_back(run, planned, prepared.model, prepared.caches)
        else:
            raise Finished(f"{run.path}: finished after {len(history)} epochs; nothing to resume")
    return run


def assist(planned: Plan, together: Together, run: Run | None = None) -> None:
    """Train as another worker than the first, which has the run; writes nothing.

    Args:
        run: the one that is resumed.

    Raises:
        InputError: the workers differ, or an image can't be read.
        TfprojError: another worker has ended.
    """
    backend.setup()
    known = run.environment()["precision"] if run else planned.config.precision
    precision = backend.resolve_precision(known)
    agree(together, planned, precision)
    with _prepared(planned, precision, together) as prepared, unreadable_named(prepared.caches):
        fit(together, planned, prepared, [], 0)
    print(f"worker {together.worker}: done; worker 0 has the run", file=sys.stderr)


def _require(trackers: Collection[str]) -> None:
    for name in trackers:
        if importlib.util.find_spec(name) is None:
            raise missing_extra(name, name)


@dataclass(frozen=True)
class _Prepared:
    """The compiled model, steps per epoch, the decoded examples by split, teachers, devices."""

    model: keras.Model
    steps: int
    caches: dict[str, Cache]
    teachers: Teachers | None = None
    together: Together | None = None


@contextlib.contextmanager
def _prepared(planned: Plan, precision: str, together: Together | None) -> Iterator[_Prepared]:
    """A model with random weights or those of the source, and its data, within the block.

    Another worker than the first gets its weights from that one, and validates nothing.
    """
    config, caches = planned.config, {}
    first = together is None or together.is_first
    keras.utils.set_random_seed(config.seed)
    try:
        model, steps = compiled_model(planned, precision)
        caches |= {name: make_cache(planned, name) for name in ("train", "val")[: 1 + first]}
        if planned.source and first:
            some = pipeline.epoch_order(config.seed, 0, len(caches["train"]))[:STATISTICS_IMAGES]
            images, _ = caches["train"].batch(some)
            initialise(model, planned.spec, config.model_options, planned.source, images)
        elif first and (encoder := config.model_options.get("encoder")):
            load_imagenet(model, encoder, config.encoder_weights)
        teachers = Teachers(t, config.temperature) if (t := planned.teachers) else None
        yield _Prepared(model, steps, caches, teachers, together)
    finally:
        keras.config.set_dtype_policy("float32")
        for cache in caches.values():
            cache.close()


def _fit(
    run: Run, planned: Plan, prepared: _Prepared, history: list[dict],
    trackers: Collection[str], more: Sequence,
) -> None:  # fmt: skip
    """Train from the end of ``history`` on, whose weights the model has."""
    config, caches, done = planned.config, prepared.caches, len(history)
    begin = time.monotonic()
    try:
        with tracked(run, "mlflow" in trackers) as told, unreadable_named(caches):
            own = _callbacks(run, planned, prepared, history, "tensorboard" in trackers)
            listeners = [*own, *told, *more]
            if config.probe and not done:
                fit_last_layer(prepared.model, planned, caches, listeners)
            _fit_epochs(planned, prepared, max(done, int(config.probe)), listeners)
    except KeyboardInterrupt:
        raise callbacks.Interrupted(
            f"interrupted after {len(run.history())} of {config.epochs} epochs; continue with: "
            f"tfproj train {config.task} --resume {shlex.quote(str(run.path))}"
        ) from None
    callbacks.say_trained(run, config, done, time.monotonic() - begin)
    look_back(run, planned, prepared.model, caches)


def _fit_epochs(planned: Plan, prepared: _Prepared, done: int, listeners: list) -> None:
    config, caches = planned.config, prepared.caches
    if prepared.together:
        fit(prepared.together, planned, prepared, listeners, done)
    if prepared.together or done == config.epochs:
        return
    prepared.model.fit(
        pipeline.train_batches(
            caches["train"], config.batch_size, range(done, config.epochs), config.seed,
            config.augment, planned.spec.mirrored, prepared.teachers,
        ),
        epochs=config.epochs,
        initial_epoch=done,
        steps_per_epoch=prepared.steps,
        shuffle=False,  # the pipeline shuffles
        validation_data=pipeline.eval_batches(caches["val"], config.eval_batch_size),
        callbacks=listeners,
        verbose=0,
    )  # fmt: skip


def _callbacks(
    run: Run, planned: Plan, prepared: _Prepared, history: list[dict], tensorboard: bool
) -> list[keras.callbacks.Callback]:
    config, seen = planned.config, ()
    if norms(prepared.model):
        augment = for_statistics(config.augment)
        train = prepared.caches["train"]
        seen = pipeline.first_batches(train, config.batch_size, config.seed, augment)
    kept = ValidationWeights(prepared.model, seen)
    listeners = [
        callbacks.Reseed(config.seed),
        callbacks.Validation(kept),
        callbacks.Checkpoints(run, config, history, kept),
        callbacks.Progress(config.epochs, len(history)),
    ]
    if not config.multi_label:
        listeners.append(CollapseAlarm(run, planned, prepared.caches, kept))
    if tensorboard:
        listeners.append(keras.callbacks.TensorBoard(run.path / "tensorboard"))
    return listeners
