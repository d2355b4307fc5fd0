"""From a configuration to what will be trained on what: all that needs no TensorFlow.

So a mistake shows before it is loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tfproj.core.files import read_object
from tfproj.core.spec import ModelSpec
from tfproj.data import DATASETS, DataOptions, Dataset, load_dataset
from tfproj.data.check import quick_check
from tfproj.data.dataset import MAX_NATURAL_SIDE, median_size
from tfproj.errors import InputError
from tfproj.experiment.balance import balance, imbalance_doubt, require_same
from tfproj.experiment.choice import choose
from tfproj.experiment.crops import crops_per_epoch, with_void
from tfproj.experiment.initial_weights import Source, find_source, with_source
from tfproj.experiment.mirroring import choose_augment
from tfproj.experiment.presets import PRESETS
from tfproj.experiment.same_data import held_out_by, require_same_data
from tfproj.experiment.teachers import Teacher, find_teachers
from tfproj.experiment.validation import validation_warnings
from tfproj.models.registry import check_model, check_size, input_multiple, nearest_size
from tfproj.runs.config import TrainConfig
from tfproj.runs.run import Run


@dataclass(frozen=True)
class Plan:
    """A checked configuration: what will be trained on what.

    Attributes:
        config: with the model that is trained.
        dataset: what it is trained on.
        spec: of the model.
        source: where the weights come from, for a new run with ``init``.
        warnings: code -> sentence: what will make the result doubtful.
        own_data: whether the data are those of the training.
        choice: which preset was taken and why, where none was given.
        teachers: whose answers it learns, too.
        weights, repeats: see :func:`tfproj.experiment.balance.balance`.
    """

    config: TrainConfig
    dataset: Dataset
    spec: ModelSpec
    source: Source | None = None
    warnings: Mapping[str, str] = field(default_factory=dict)
    own_data: bool = True
    choice: str = ""
    teachers: tuple[Teacher, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    repeats: np.ndarray | None = field(default=None, compare=False)

    @property
    def examples(self) -> int:
        """How many an epoch has: training images, or crops of them."""
        return crops_per_epoch(self.dataset.splits["train"], self.config.crop)


def plan(config: TrainConfig) -> Plan:
    """Find the data and the initial weights, settle the model, check that they fit.

    Raises:
        InputError: anything that would make the training fail or be meaningless.
    """
    if not config.init:
        return _for_training(_fitted(config))
    source = find_source(config.init, config.task)
    planned = _for_training(_fitted(with_source(config, source)))
    dataset = _with_leak(planned.dataset, source)
    return dataclasses.replace(planned, dataset=dataset, source=source)


def _for_training(planned: Plan) -> Plan:
    """With what a training alone needs: an evaluation goes without."""
    teachers = find_teachers(planned.config.teacher, planned.spec)
    config, weights, repeats = balance(planned.config, planned.dataset)
    planned = dataclasses.replace(planned, config=config, teachers=teachers)
    return dataclasses.replace(planned, weights=weights, repeats=repeats)


def _with_leak(dataset: Dataset, source: Source) -> Dataset:
    """With a note where images that validated the source are trained on."""
    run, train = Run(source.file.parent), dataset.splits["train"]
    if source.file.suffix == ".onnx" or not run.splits_file.is_file():
        return dataset
    # Images that are no files are called by numbers, which those of any data set have.
    facts = run.environment() if run.environment_file.is_file() else {}
    origin = facts.get("data", {}).get("origin")
    names = train.names if train.files is not None or origin == dataset.origin else ()
    count = len(set(read_object(run.splits_file).get("val", ())).intersection(names))
    if not count:
        return dataset
    note = f"{count} training images are called as images that {source.name} was validated on"
    return dataclasses.replace(dataset, notes=(*dataset.notes, note))


def _fitted(config: TrainConfig, *known: tuple[str, ...] | None) -> Plan:
    """The plan for a configuration that names its model; ``known``: of :func:`data_options`."""
    options = data_options(config, *known)
    dataset = load_dataset(config.data, config.task, options)
    config, choice = choose(config, dataset)
    if data_options(config, *known) != options:  # the chosen preset splits them otherwise
        dataset = load_dataset(config.data, config.task, data_options(config, *known))
    if "encoder" in config.model_options and dataset.channels == 1:
        note = "grey images: repeated as red, green and blue for the encoder"
        dataset = dataclasses.replace(dataset, notes=(*dataset.notes, note))
    config, dataset, doubt = choose_augment(config, dataset)
    resize = "tiles" if config.crop else config.resize or "stretch"
    config = dataclasses.replace(config, resize=resize)
    check_model(config.model, config.task, config.model_options)
    size = config.crop or config.image_size
    size = size or nearest_size(config.model, dataset.size, config.model_options)
    check_size(config.model, size, config.model_options)
    spec = ModelSpec(
        task=config.task,
        model=config.model,
        classes=dataset.classes,
        colors=dataset.colors,
        height=size[0],
        width=size[1],
        channels=config.channels or dataset.channels,
        data=dataset.name,
        resize=resize,
        multi_label=config.multi_label,
    )
    dataset = dataclasses.replace(dataset, findings=quick_check(dataset))
    if config.crop or (config.task == "segment" and resize == "letterbox"):
        dataset = with_void(dataset)
    warnings = validation_warnings(dataset) | ({"mirrored": doubt} if doubt else {})
    warnings |= imbalance_doubt(config, dataset)
    return Plan(config, dataset, spec, warnings=warnings, choice=choice)


def explain_size(planned: Plan) -> str:
    """One line on the size of the network's input, and why it is that."""
    spec, config = planned.spec, planned.config
    height, width = median_size(planned.dataset.splits["train"])
    images = f"the training images have {height:g} x {width:g} (median)"
    taken = f"input {spec.height} x {spec.width} px (height x width, resize: {spec.resize})"
    if config.crop:
        return f"{taken}: crops at the images' own scale, {planned.examples:,} an epoch; {images}"
    if config.image_size:
        own = PRESETS[config.task].get(config.preset, {}).get("image_size") == config.image_size
        return f"{taken}, as {f'preset {config.preset} has it' if own else 'asked for'}; {images}"
    reasons = [images]
    if max(height, width) > MAX_NATURAL_SIDE >= max(planned.dataset.size):
        reasons.append(f"at most {MAX_NATURAL_SIDE} a side unless --image-size says otherwise")
    multiple = input_multiple(spec.model, config.model_options)
    if multiple > 1:
        reasons.append(f"{spec.model} takes the nearest multiples of {multiple}")
    return f"{taken}: {'; '.join(reasons)}"


def plan_again(run: Run, epochs: int | None = None) -> Plan:
    """The plan of an existing run, with its classes, on the data it was started with.

    The data are looked for where the configuration says, then where they were found then.

    Args:
        epochs: to extend it to, more than it has.

    Raises:
        InputError: files missing, or the data are gone or not what they were.
    """
    run.require(run.config_file, run.spec_file, run.splits_file, run.environment_file)
    config, recorded = run.config(), run.spec()
    known = recorded.classes, held_out_by(run)
    if config.resize is None:  # a run of before there was a choice
        config = dataclasses.replace(config, resize=recorded.resize)
    if epochs is not None:
        if epochs <= config.epochs:
            raise InputError(f"{run.path}: is of {config.epochs} epochs; --epochs must be more")
        config = dataclasses.replace(config, epochs=epochs)
    try:
        planned = _fitted(config, *known)
    except InputError:
        origin = run.environment().get("data", {}).get("origin", "")
        if not Path(origin).is_dir():
            raise
        named = config.data in DATASETS or config.data.startswith("tfds:")
        there = {"data_dir" if named else "data": origin}
        planned = _fitted(dataclasses.replace(config, **there), *known)
    for name in ("task", "model", "size", "channels", "resize"):
        if getattr(recorded, name) != getattr(planned.spec, name):
            raise InputError(
                f"{run.spec_file}: {name} {getattr(recorded, name)!r} does not fit "
                f"{run.config_file.name} and the data, which give {getattr(planned.spec, name)!r}"
            )
    require_same_data(run, planned.dataset)
    return planned


def plan_resume(run: Run, epochs: int | None = None) -> Plan:
    """As :func:`plan_again`, to train on; InputError also for other teachers or class weights."""
    planned = _for_training(plan_again(run, epochs))
    require_same(run, planned.weights)
    begun = run.environment().get("teachers", [])
    for teacher, known in zip(planned.teachers, begun, strict=True):
        if teacher.describe()["sha256"] != known["sha256"]:
            raise InputError(f"{teacher.file}: not the teacher that this run was started with")
    return planned


def plan_evaluation(run: Run, splits: Sequence[str] | None = None, data: str | None = None) -> Plan:
    """The plan of a trained run, whose ``splits`` are to be measured (None: all).

    Args:
        data: a data set to take instead of the run's own, or where that lies now.

    Raises:
        InputError: files missing, no such split, or the data changed since training.
    """
    run.require(run.best_weights)
    if data is not None:
        planned = _plan_on(run, data)
    else:
        try:
            planned = plan_again(run)
        except InputError as error:
            hint = "other data: --data DIR; an export without any: --no-data"
            raise InputError(f"{error} ({hint})") from None
    for name in splits or ():
        if name not in planned.dataset.splits:
            known = ", ".join(planned.dataset.splits)
            raise InputError(f"{run.path}: no split {name!r}; available: {known}")
    return planned


def _plan_on(run: Run, data: str) -> Plan:
    """The plan of a run on data that it need not have been trained on."""
    run.require(run.config_file, run.spec_file, run.splits_file)
    spec, begun = run.spec(), read_object(run.splits_file)
    config = dataclasses.replace(run.config(), data=data, data_dir=None)
    if run.config().data == "facades" and not (Path(data) / "classes.csv").exists():
        config = dataclasses.replace(run.config(), data_dir=data)  # in a layout of its own
    layout = None  # other data may have another, which is then recognised
    with contextlib.suppress(InputError):  # the options may fit the run's own data alone
        options = data_options(config, spec.classes, held_out_by(run))
        dataset = load_dataset(config.data, config.task, options)
        layout = config.format
        if dataset.fingerprint() == begun["fingerprint"]:
            quick_check(dataset)
            return Plan(config, dataset, spec)
    config = dataclasses.replace(config, limit=None, group_modulus=None, format=layout)
    dataset = load_dataset(config.data, config.task, data_options(config, spec.classes))
    quick_check(dataset)
    return Plan(config, _with_overlap(dataset, set(begun["val"])), spec, own_data=False)


def _with_overlap(dataset: Dataset, held_out: set[str]) -> Dataset:
    """With a note on other data: what of its validation split a run may have trained on."""
    note = "not the data that the run was trained on"
    now = dataset.splits["val"].names if "val" in dataset.splits else []
    if held_out.intersection(now):
        seen = sum(name not in held_out for name in now)
        note += f"; of the {len(now)} images of 'val', {seen} were not held out then"
    return dataclasses.replace(dataset, notes=(*dataset.notes, note))


def plan_without_data(run: Run) -> Plan:
    """The plan of a trained run whose data are not to be had: there are no splits."""
    run.require(run.best_weights, run.config_file, run.spec_file)
    spec = run.spec()
    none = Dataset(spec.data, spec.task, spec.classes, {}, spec.size, spec.channels, origin="")
    return Plan(run.config(), none, spec, own_data=False)


def data_options(
    config: TrainConfig,
    classes: tuple[str, ...] | None = None,
    held_out: tuple[str, ...] | None = None,
) -> DataOptions:
    """The part of a configuration that finds and splits the data, and what its run knows."""
    return DataOptions(
        data_dir=config.data_dir,
        group_modulus=config.group_modulus,
        val_fraction=config.val_fraction,
        limit=config.limit,
        classes=classes,
        held_out=held_out,
        format=config.format,
        multi_label=config.multi_label,
    )
