"""The real path at toy size: train, interrupt, resume, evaluate."""

import dataclasses
import json
import tempfile

import numpy as np
import pytest
from PIL import Image

from tfproj import backend

backend.setup()

import keras  # noqa: E402

from tfproj.cli.evaluate import format_metrics  # noqa: E402
from tfproj.cli.main import main  # noqa: E402
from tfproj.cli.train import load_training  # noqa: E402
from tfproj.data import DataOptions  # noqa: E402
from tfproj.errors import InputError, TfprojError  # noqa: E402
from tfproj.evaluation.evaluate import evaluate  # noqa: E402
from tfproj.evaluation.report_data import predict_scores  # noqa: E402
from tfproj.experiment.plan import explain_size, plan, plan_again  # noqa: E402
from tfproj.experiment.presets import make_config  # noqa: E402
from tfproj.models.checkpoint import load_model, save_model  # noqa: E402
from tfproj.report.load import read_run  # noqa: E402
from tfproj.runs.lock import LOCK_FILE  # noqa: E402
from tfproj.runs.run import Run  # noqa: E402
from tfproj.training import callbacks, optimizers  # noqa: E402
from tfproj.training.cache import Cache, make_cache  # noqa: E402
from tfproj.training.compiling import steps_per_call  # noqa: E402
from tfproj.training.train import resume, train  # noqa: E402
from tfproj.training.validation_weights import ValidationWeights  # noqa: E402

# float32: bfloat16 would do, but bit equality is promised for float32 on the CPU.
TOY = {
    "classify": {
        "data": "digits", "epochs": 4, "limit": 200, "batch_size": 32,
        "model": "cnn", "model_options": {"batch_norm": True, "dropout": 0.3},
    },
    "segment": {
        "data": "synthetic_facades", "epochs": 4, "limit": 12, "batch_size": 4,
        "image_size": (32, 32), "augment": "photo",
    },
}  # fmt: skip
CROPS = {
    "image_size": None, "crop": (32, 24), "model": "unet", "model_options": {"widths": [4, 8]},
    "ema": 0.9, "limit": 3,
}  # fmt: skip


def toy(task, **changes):
    return make_config(task, **{**TOY[task], "precision": "float32", **changes})


def stop_before(monkeypatch, epoch):
    """Press Ctrl-C at the beginning of an epoch (counted from 0)."""
    original = callbacks.Reseed.on_epoch_begin

    def on_epoch_begin(self, number, logs=None):
        if number == epoch:
            raise KeyboardInterrupt
        original(self, number, logs)

    monkeypatch.setattr(callbacks.Reseed, "on_epoch_begin", on_epoch_begin)


def without_times(run):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.history()]


def stored_variables(file):
    model = keras.saving.load_model(file, compile=True)
    values = [v.numpy() for v in [*model.weights, *model.optimizer.variables]]
    assert len(values) > 10
    return values


@pytest.mark.parametrize(
    ("task", "changes"), [("classify", {}), ("segment", {}), ("segment", CROPS)]
)
def test_resumed_equals_uninterrupted_to_the_last_bit(
    tmp_path, mask_folder, task, changes, monkeypatch
):
    if "crop" in changes:
        changes = {**changes, "data": str(mask_folder({"train": 4, "val": 2}, size=(60, 90)))}
    config = toy(task, **changes)
    whole = train(config, tmp_path, "whole")
    with monkeypatch.context() as patch, pytest.raises(TfprojError, match="after 2 of 4 epochs"):
        stop_before(patch, 2)
        train(config, tmp_path, "parts")
    parts = Run(tmp_path / task / "parts")
    assert len(parts.history()) == 2
    resume(parts)
    assert without_times(parts) == without_times(whole)
    for name in ("last.keras", "best.keras"):
        values = (stored_variables(run.path / name) for run in (parts, whole))
        for one, other in zip(*values, strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_same_seed_gives_the_same_run_and_another_does_not(tmp_path):
    runs = [train(toy("classify", epochs=1, seed=s), tmp_path) for s in (0, 0, 1)]
    histories = [without_times(run) for run in runs]
    assert histories[0] == histories[1] != histories[2]


@pytest.mark.parametrize("epoch", [3, 4])
def test_killed_between_the_files_of_an_epoch_that_epoch_is_repeated(epoch, tmp_path, monkeypatch):
    whole = train(toy("classify"), tmp_path, "whole")
    with monkeypatch.context() as patch, pytest.raises(TfprojError):
        stop_before(patch, epoch - 1)
        train(toy("classify"), tmp_path, "killed")
    killed = Run(tmp_path / "classify" / "killed")
    # After history.csv, before last.keras.
    lines = whole.history_file.read_text().splitlines()[: epoch + 1]
    killed.history_file.write_text("\n".join(lines) + "\n")
    (killed.path / LOCK_FILE).write_text('{"pid": 1, "started": 0, "host": "gone"}')
    assert whole.ended() and not killed.ended()
    resume(killed)
    assert killed.ended() and without_times(killed) == without_times(whole)
    values = (stored_variables(run.last_weights) for run in (killed, whole))
    for one, other in zip(*values, strict=True):
        np.testing.assert_array_equal(one, other)


def test_interrupted_in_the_first_epoch(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(TfprojError, match="after 0 of 1"):
        stop_before(patch, 0)
        train(toy("classify", epochs=1), tmp_path, "early")
    run = resume(Run(tmp_path / "classify" / "early"))
    assert len(run.history()) == 1


@pytest.mark.parametrize(("steps", "small"), [(1, 1), (7, 7), (96, 16), (101, 1), (445, 5)])
def test_a_call_of_many_steps_ends_with_the_epoch(steps, small):
    assert steps_per_call(steps, 128 * 28 * 28) == small
    assert steps_per_call(steps, 16 * 512 * 512) == 1


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_validation_in_calls_of_many_steps_counts_every_example(tmp_path, task):
    # A call takes all steps of the epoch, which is more than there are validation batches.
    whole = {"classify": {"limit": None, "batch_size": 16}, "segment": {"limit": 60}}[task]
    config = toy(task, epochs=1, augment="none", **whole)
    run = train(config, tmp_path)
    found = evaluate(run, ["val"])["splits"]["val"]
    accuracy = found["accuracy" if task == "classify" else "pixel_accuracy"]
    assert run.history()[0]["val_accuracy"] == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.parametrize(
    ("photographs", "asked", "words"),
    [
        ((600, 300), None, "input 256 x 128 px (height x width, resize: stretch): the training "
         "images have 600 x 300 (median); at most 256 a side unless --image-size says otherwise; "
         "unet takes the nearest multiples of 8"),
        ((30, 47), None, "input 32 x 48 px (height x width, resize: stretch): the training "
         "images have 30 x 47 (median); unet takes the nearest multiples of 8"),
        ((600, 300), (64, 64), "input 64 x 64 px (height x width, resize: stretch), as asked for; "
         "the training images have 600 x 300 (median)"),
    ],
)  # fmt: skip
def test_the_size_of_the_input_is_said_with_its_reason(mask_folder, photographs, asked, words):
    folder = mask_folder({"train": 3, "val": 2}, size=photographs)
    config = make_config("segment", "default", data=str(folder), image_size=asked)
    assert explain_size(plan(config)) == words


def test_train_says_the_preset_and_the_size_of_the_input_first(capsys):
    load_training(plan(toy("classify", augment="none")))
    assert capsys.readouterr().err == (
        "preset default: the model is given\n"
        "input 8 x 8 px (height x width, resize: stretch): the training images have 8 x 8 "
        "(median)\n"
        "loading TensorFlow ...\n"
    )


def test_a_finished_run_has_nothing_to_resume(tmp_path):
    run = train(toy("classify", epochs=1), tmp_path)
    with pytest.raises(InputError, match="nothing to resume"):
        resume(run)


def test_a_history_without_the_monitored_column_is_not_resumed(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(TfprojError):
        stop_before(patch, 1)
        train(toy("segment", epochs=2), tmp_path, "old")
    run = Run(tmp_path / "segment" / "old")
    text = run.history_file.read_text()
    run.history_file.write_text(text.replace("val_mean_ap", "val_iou"))
    with pytest.raises(InputError, match="history.csv: damaged .no column 'val_mean_ap'."):
        resume(run)


def test_patience_survives_an_interruption(tmp_path, monkeypatch):
    # A rate of almost zero: the first epoch stays the best.
    config = toy("classify", epochs=9, learning_rate=1e-12, schedule="constant", patience=3,
                 augment="none", model_options={})  # fmt: skip
    whole = train(config, tmp_path, "whole")
    assert len(whole.history()) == 4
    with monkeypatch.context() as patch, pytest.raises(TfprojError):
        stop_before(patch, 2)
        train(config, tmp_path, "parts")
    parts = resume(Run(tmp_path / "classify" / "parts"))
    assert without_times(parts) == without_times(whole)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_kept_epoch_is_the_chosen_one(tmp_path, keep, monkeypatch):
    # A rate too small to change what is recognised.
    config = toy("classify", epochs=2, learning_rate=1e-7, schedule="constant", keep=keep,
                 augment="none", model_options={})  # fmt: skip
    monkeypatch.setattr(callbacks, "best_epoch", lambda history, column: 1)
    run = train(config, tmp_path)
    best, last = (keras.saving.load_model(f) for f in (run.best_weights, run.last_weights))
    equal = all(np.array_equal(a, b) for a, b in zip(best.weights, last.weights, strict=True))
    assert equal == (keep == "last")
    assert read_run(run).kept_epoch == 2  # of equal accuracy, and less loss


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    config = toy("classify", learning_rate=1e30, schedule="constant", optimizer="adam")
    with pytest.raises(TfprojError, match="not a number .* lower --learning-rate"):
        train(config, tmp_path)


def test_changed_data_can_not_be_resumed_or_evaluated(tmp_path):
    run = train(toy("classify", epochs=1), tmp_path)
    config = json.loads(run.config_file.read_text())
    run.config_file.write_text(json.dumps({**config, "limit": 100, "epochs": 2}))
    with pytest.raises(InputError, match="not the one this run"):
        resume(run)
    with pytest.raises(InputError, match="not the one this run"):
        evaluate(run)


def test_data_are_found_again_where_they_were(tmp_path, monkeypatch):
    """As when TFPROJ_DATA is set for the training only."""
    from tfproj.data import write_folder
    from tfproj.data.registry import load_dataset

    folder = tmp_path / "sets" / "mini_facade"
    drawn = load_dataset("synthetic_facades", options=DataOptions(limit=12))
    write_folder.write_folder(dataclasses.replace(drawn, splits={"train": drawn.splits["train"]}),
                         tmp_path / "drawn")  # fmt: skip
    (folder / "train").mkdir(parents=True)
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        for path in (tmp_path / "drawn" / "train" / kind).iterdir():
            with Image.open(path) as picture:
                picture.save(folder / "train" / f"{path.stem}.{suffix}")
    monkeypatch.setenv("TFPROJ_DATA", str(tmp_path / "sets"))
    config = toy("segment", data="facades", epochs=1, limit=None)
    run = train(config, tmp_path / "runs")
    monkeypatch.delenv("TFPROJ_DATA")
    monkeypatch.chdir(tmp_path)
    assert plan_again(run).dataset.origin == str(folder)
    # So they are where both the run and the shell named the folder from another place.
    monkeypatch.chdir(tmp_path / "sets")
    run = train(dataclasses.replace(config, data_dir="mini_facade"), tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    assert plan_again(run).dataset.origin == str(folder)
    for path in list((folder / "train").iterdir())[:1]:
        path.with_suffix(".jpg").unlink()
        path.with_suffix(".png").unlink()
    with pytest.raises(InputError):
        plan_again(run)


def test_a_directory_is_found_again_from_another_one(class_folder, tmp_path, monkeypatch):
    root = class_folder({"": {"cat": 4, "dog": 4}})
    monkeypatch.chdir(root.parent)
    run = train(toy("classify", data=root.name, epochs=1, limit=None), tmp_path / "runs")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert plan_again(run).dataset.origin == str(root)


def test_a_run_is_replaced_only_by_one_that_can_begin(tmp_path):
    first = train(toy("classify", epochs=1), tmp_path, "mine")
    before = first.best_weights.read_bytes()
    other = train(toy("classify", epochs=1, model_options={"filters": 8}), tmp_path, "other")
    unfit = toy("classify", init=str(other.path), model_options={"filters": 4})
    with pytest.raises(InputError, match="does not fit"):
        train(unfit, tmp_path, "mine", overwrite=True)
    with pytest.raises(InputError, match="choose another --name"):
        train(toy("classify", init=str(first.path)), tmp_path, "mine", overwrite=True)
    assert first.best_weights.read_bytes() == before
    with pytest.raises(InputError, match="does not fit"):
        train(unfit, tmp_path, "new")
    assert not (tmp_path / "classify" / "new").exists()
    assert keras.config.dtype_policy().name == "float32"


def test_an_unreadable_image_is_named(tmp_path, monkeypatch):
    from tfproj.data.sources import synthetic

    def broken(split_id, index):
        raise InputError(f"facade_{index:05d}.png: damaged image")

    config = toy("segment", epochs=1)
    original = synthetic._example

    def sometimes(split_id, index):
        return broken(split_id, index) if index % 100 == 57 else original(split_id, index)

    monkeypatch.setattr(synthetic, "_example", sometimes)
    config = toy("segment", epochs=1, limit=400, batch_size=8)
    with pytest.raises(InputError, match=r"facade_\d+57\.png: damaged image"):
        train(config, tmp_path)
    monkeypatch.setattr(synthetic, "_example", original)
    old = train(toy("segment", epochs=1), tmp_path, "mine").best_weights
    monkeypatch.setattr(synthetic, "_example", sometimes)
    with pytest.raises(InputError, match=r"facade_\d+57\.png: damaged image"):
        train(config, tmp_path, "mine", overwrite=True)
    assert old.exists()


def test_the_size_of_photographs_is_one_that_the_network_takes(mask_folder):
    root = str(mask_folder({"train": 8}, size=(80, 120)))
    for preset, size in (("default", (80, 120)), ("best", (96, 128)), ("original", (80, 120))):
        assert plan(make_config("segment", preset, data=root)).spec.size == size
    with pytest.raises(InputError, match="multiples of 32; 80 x 120 is not"):
        plan(make_config("segment", "best", data=root, image_size=(80, 120)))


def test_a_run_says_how_to_repeat_it(tmp_path):
    run = train(toy("classify", epochs=1), tmp_path)
    environment = run.environment()
    assert environment["repeat"] == f"tfproj train classify --config {run.config_file}"
    assert environment["precision"] == "float32"
    assert run.config() == plan(toy("classify", epochs=1)).config
    splits = json.loads(run.splits_file.read_text())
    assert splits["counts"]["train"] == 200
    assert len(splits["val"]) == splits["counts"]["val"] > 0


def test_mixed_precision_trains_and_loads_as_float32(tmp_path):
    run = train(toy("segment", epochs=1, precision="mixed_bfloat16"), tmp_path)
    assert run.environment()["precision"] == "mixed_bfloat16"
    assert keras.config.dtype_policy().name == "float32"
    model = load_model(run)
    assert {layer.compute_dtype for layer in model.layers} <= {"float32", "uint8"}
    assert evaluate(run, ["val"])["splits"]["val"]["examples"] > 0


def test_a_finished_training_holds_no_images(tmp_path, monkeypatch):
    made = []
    original = Cache.__init__
    monkeypatch.setattr(
        Cache,
        "__init__",
        lambda self, *a, **k: made.append(self) or original(self, *a, **k),
    )
    train(toy("classify", epochs=1), tmp_path)
    assert len(made) == 2
    assert all(cache.images is None for cache in made)


def test_tensorboard_events(tmp_path):
    run = train(toy("classify", epochs=1), tmp_path, trackers=["tensorboard"])
    assert list((run.path / "tensorboard").rglob("events*"))


def test_tensorboard_is_asked_for_before_the_run_begins(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'tfproj\[tensorboard\]'"):
        train(toy("classify"), tmp_path, trackers=["tensorboard"])
    assert not list(tmp_path.iterdir())


def test_coupled_decay_is_an_l2_term_in_the_gradient():
    from tfproj.training.optimizers import CoupledAdam

    variable, plain = (keras.Variable([1.0, -2.0, 0.5]) for _ in range(2))
    gradient = np.array([0.3, 0.0, -0.1], np.float32)
    decayed, expected = CoupledAdam(1e-2, l2=0.1), keras.optimizers.Adam(1e-2)
    for _ in range(3):
        expected.apply([keras.ops.convert_to_tensor(gradient) + 0.1 * plain], [plain])
        decayed.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    np.testing.assert_allclose(variable.numpy(), plain.numpy(), rtol=1e-6)


def test_cosine_schedule_warms_up_and_ends_at_zero():
    from tfproj.training.optimizers import make_schedule

    config = toy("classify", epochs=4, learning_rate=0.5, schedule="cosine", warmup_epochs=1)
    schedule = make_schedule(config, 10)
    rates = [float(schedule(step)) for step in range(41)]
    assert rates[0] == 0
    assert max(rates) == rates[10] == 0.5
    assert rates[40] == pytest.approx(0, abs=1e-7)
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))


def test_dice_counts_every_class_of_the_batch_alike():
    from tfproj.training.compiling import make_loss

    rng = np.random.default_rng(0)
    scores, masks = rng.normal(size=(2, 4, 4, 3)).astype(np.float32), np.zeros((2, 4, 4), np.uint8)
    masks[0, 0, 0] = 1  # class 2 is in no image
    plain, with_dice = (
        float(make_loss(toy("segment", dice=weight), 3)(masks, scores)) for weight in (0.0, 0.5)
    )
    p = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    expected = [
        1 - (2 * p[masks == c, c].sum() + 1) / (p[..., c].sum() + (masks == c).sum() + 1)
        for c in range(3)
    ]
    assert with_dice - plain == pytest.approx(0.5 * np.mean(expected), rel=1e-4)


@pytest.mark.parametrize("shape", [(1152, 128), (9, 32), (10, 10)])
def test_muon_is_that_of_keras(shape):
    from tfproj.training.optimizers import ConvMuon

    spectrum = np.logspace(0, -6, min(shape))  # momenta have few large singular values
    left, right = (np.linalg.qr(np.random.default_rng(side).normal(size=(side, min(shape))))[0]
                   for side in shape)  # fmt: skip
    matrix = keras.ops.convert_to_tensor((left * spectrum) @ right.T, "float32")
    theirs, ours = (optimizer().zeropower_via_newtonschulz5(matrix, 5)
                    for optimizer in (keras.optimizers.Muon, ConvMuon))  # fmt: skip
    assert np.linalg.norm(ours - theirs) < 3e-3 * np.linalg.norm(theirs)


def test_muon_moves_a_convolution_by_an_orthogonal_matrix():
    from tfproj.training.optimizers import ConvMuon

    rng = np.random.default_rng(0)
    kernel, bias = (keras.Variable(np.zeros(s, np.float32)) for s in ((3, 3, 4, 8), (8,)))
    optimizer = ConvMuon(1.0, momentum=0.0, rms_rate=None)
    optimizer.build([kernel, bias])
    gradients = [rng.normal(size=v.shape).astype(np.float32) for v in (kernel, bias)]
    optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], [kernel, bias])
    singular = np.linalg.svd(kernel.numpy().reshape(36, 8), compute_uv=False)
    assert (np.abs(singular - 1) < 0.35).all()  # five Newton-Schulz steps come that close
    # Downhill, and AdamW's first step for the bias: the rate against the gradient's sign.
    assert (kernel.numpy() * gradients[0]).sum() < 0
    np.testing.assert_allclose(bias.numpy(), -np.sign(gradients[1]), rtol=1e-3)


def test_sgd_has_nesterov_momentum_and_shrinks_kernels_only():
    rate, decay, momentum = 0.1, 0.5, 0.9
    values = {"learning_rate": rate, "schedule": "constant", "weight_decay": decay}
    config = toy("classify", optimizer="sgd", **values)
    optimizer = optimizers.make_optimizer(config, steps_per_epoch=10)
    kernel = keras.Variable(np.ones((2, 2), np.float32), name="kernel")
    bias = keras.Variable(np.ones(2, np.float32), name="bias")
    optimizer.build([kernel, bias])
    expected, velocity = np.array([1.0, 1.0]), np.zeros(2)  # of a kernel's weight, of a bias
    for gradient in (1.0, -0.5):
        gradients = [np.full(v.shape, gradient, np.float32) for v in (kernel, bias)]
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients])
        expected *= 1 - rate * np.array([decay, 0])
        velocity = momentum * velocity + gradient  # Sutskever et al., 2013, as PyTorch has it
        expected -= rate * (gradient + momentum * velocity)
    np.testing.assert_allclose(kernel.numpy(), expected[0], rtol=1e-5)
    np.testing.assert_allclose(bias.numpy(), expected[1], rtol=1e-5)


def test_a_short_training_averages_over_its_end_only():
    config = toy("classify", epochs=10, ema=0.999)
    assert optimizers.ema_momentum(config, steps_per_epoch=2000) == 0.999
    assert optimizers.ema_momentum(config, steps_per_epoch=10) == pytest.approx(0.9)
    assert optimizers.ema_momentum(config, steps_per_epoch=1) == 0
    assert optimizers.ema_momentum(toy("classify"), steps_per_epoch=1) == 0


def test_best_weights_are_the_moving_average(tmp_path):
    run = train(toy("classify", epochs=1, batch_size=8, ema=0.9), tmp_path)
    last = keras.saving.load_model(run.last_weights)
    averages = [v.numpy() for v in last.optimizer._model_variables_moving_average]
    latest = [v.numpy() for v in last.trainable_variables]
    best = [v.numpy() for v in load_model(run).trainable_variables]
    for average, value in zip(averages, best, strict=True):
        np.testing.assert_array_equal(average, value)
    assert any((a != b).any() for a, b in zip(latest, best, strict=True))
    val = evaluate(run, ["val"])["splits"]["val"]
    assert val["accuracy"] == pytest.approx(run.history()[-1]["val_accuracy"], abs=1e-6)


@pytest.mark.parametrize("average", [True, False])
def test_kept_weights_get_batch_norm_statistics_of_their_own(average):
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, use_bias=False),
         keras.layers.BatchNormalization(), keras.layers.Flatten(), keras.layers.Dense(2)]
    )  # fmt: skip
    optimizer = keras.optimizers.SGD(0.5, use_ema=average, ema_momentum=0.9)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = rng.normal(size=(32, 8, 8, 1)).astype(np.float32)
    model.fit(images, rng.integers(0, 2, 32), batch_size=8, epochs=2, verbose=0)
    latest = model.get_weights()
    kept = ValidationWeights(model, np.split(images, 4))
    conv, norm = model.layers[:2]
    kernel = optimizer._model_variables_moving_average[0].numpy() if average else latest[0]
    for _ in range(2):  # once computed, once remembered
        with kept.swapped_in():
            np.testing.assert_array_equal(conv.kernel.numpy(), kernel)
            seen = np.asarray(conv(images)).reshape(-1, 4)
            np.testing.assert_allclose(norm.moving_mean.numpy(), seen.mean(0), atol=1e-5)
            # The mean of the batches' variances is a little less than that of all.
            np.testing.assert_allclose(norm.moving_variance.numpy(), seen.var(0), rtol=0.05)
        for before, after in zip(latest, model.get_weights(), strict=True):
            np.testing.assert_array_equal(before, after)
    assert norm.momentum == 0.99
    # The moving ones of an average never fit it; those of the latest weights do, in time.
    optimizer.iterations.assign(1200)
    with kept.swapped_in():
        own = np.array_equal(norm.moving_mean.numpy(), latest[3])
    assert own != average


def test_statistics_arrive_where_an_epoch_is_one_step(tmp_path):
    config = toy("classify", limit=60, batch_size=128, epochs=20, augment="none",
                 model_options={"batch_norm": True})  # fmt: skip
    run = train(config, tmp_path)
    last = run.history()[-1]
    assert last["accuracy"] > 0.9 and last["val_accuracy"] > 0.6
    best, latest = (keras.saving.load_model(f) for f in (run.best_weights, run.last_weights))
    own, estimated = (
        [v.numpy() for v in model.variables if "moving" in v.path] for model in (latest, best)
    )
    assert own and not any(map(np.array_equal, own, estimated))  # the training goes on with its own


def test_flip_averages_the_scores_of_the_mirror_image(tmp_path):
    from tfproj.evaluation.prediction import predict_split

    run = train(toy("segment", epochs=1), tmp_path)
    model, planned = load_model(run), plan_again(run)
    scores, masks = next(predict_split(model, planned, "val", flip=True))
    images = np.stack([np.asarray(model_input) for model_input in _images(planned, "val")])
    batch = images[: len(masks)]
    mirrored = model.predict_on_batch(batch[:, :, ::-1])[:, :, ::-1]
    expected = (model.predict_on_batch(batch) + mirrored) / 2
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    both = evaluate(run, ["val"], flip=True)
    plain = evaluate(run, ["val"])
    assert plain == both and plain["splits"]["val"] != plain["mirrored"]["val"]
    assert json.loads(run.metrics_file.read_text()) == plain
    assert "averaged with the mirror image (--flip):" in format_metrics(plain)
    with run.best_weights.open("ab") as file:  # of other weights nothing is kept
        file.write(b"x")
    assert evaluate(run, ["val"])["mirrored"] == {}


def test_flip_gives_left_the_score_of_a_mirrored_right():
    class Halves:
        def predict_on_batch(self, images):
            return images.mean((1, 3)).reshape(-1, 2, 2).mean(2)

    images = np.array([[[[9], [9], [0], [1]]]], np.uint8)
    scores = predict_scores(Halves(), images, mirrored=(1, 0))
    np.testing.assert_array_equal(scores, Halves().predict_on_batch(images))


def _images(planned, split):

    cache = make_cache(planned, split)
    return cache.batch(np.arange(len(cache)))[0]


def test_label_smoothing_spreads_the_target():
    from tfproj.training.compiling import make_loss

    scores = np.array([[2.0, 0.0, -1.0]], np.float32)
    log_p = scores - np.log(np.exp(scores).sum())
    target = np.array([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3])
    loss = make_loss(toy("classify", label_smoothing=0.1), 3)
    value = float(loss(np.array([0]), scores))
    assert value == pytest.approx(-(target * log_p).sum(), rel=1e-5)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_a_finished_run_is_extended(tmp_path, schedule, capsys):
    config = toy("classify", epochs=2, schedule=schedule, warmup_epochs=0.0)
    run = train(config, tmp_path, "a")
    config = run.config()  # with what the plan has settled
    with pytest.raises(InputError, match="is of 2 epochs; --epochs must be more"):
        plan_again(run, 2)
    command = ["train", "classify", "--resume", str(run.path), "--epochs", "4", "--no-evaluate"]
    assert main(command) == 0
    said = "is now that of a cosine of 4 epochs" if schedule == "cosine" else "stays"
    assert f"extended from 2 to 4 epochs; the rate {said}\n" in capsys.readouterr().err
    assert run.config() == dataclasses.replace(config, epochs=4)
    assert json.loads((run.path / "config-2-epochs.json").read_text()) == config.to_dict()
    repeat = run.environment()["repeat"]
    assert repeat.endswith("config-2-epochs.json && tfproj train classify --resume --epochs 4")
    # From there on the rate is that of a run of four epochs from the start.
    rates = [row["learning_rate"] for row in run.history()]
    whole = train(dataclasses.replace(config, epochs=4), tmp_path, "whole")
    assert rates[2:] == [row["learning_rate"] for row in whole.history()][2:]
    with pytest.raises(InputError, match="finished after 4 epochs; nothing to resume"):
        resume(run)


def test_patience_that_has_ended_is_no_run_to_extend(tmp_path):
    run = train(toy("classify", epochs=6, patience=1, learning_rate=1e-9), tmp_path)
    assert len(run.history()) < 6
    with pytest.raises(InputError, match="stopped by its patience of 1 epochs"):
        resume(run, planned=plan_again(run, 8))
    assert run.config().epochs == 6


def test_training_on_what_validated_the_source_is_said(class_folder, tmp_path):
    root = class_folder({"": {"cat": 12, "dog": 12}})
    config = make_config("classify", "original", data=str(root), epochs=1)
    source = train(config, tmp_path / "runs", "source")
    again = make_config("classify", data=str(root), init=str(source.path))
    assert plan(again).dataset.notes == ()
    held_out = json.loads(source.splits_file.read_text())["val"]
    (root / "val").mkdir()
    for name in ("cat", "dog"):
        (root / "val" / name).mkdir()
        (root / name / "0.png").rename(root / "val" / name / "0.png")
    (root / "train").mkdir()
    for name in ("cat", "dog"):
        (root / name).rename(root / "train" / name)
    left = [name for name in held_out if not name.endswith("/0.png")]
    note = f"{len(left)} training images are called as images that {source.path} was validated on"
    assert left and plan(again).dataset.notes == (note,)


def test_what_keras_leaves_as_it_fails_to_save_goes(tmp_path, monkeypatch):
    class Model:
        def save(self, path):
            tempfile.mkdtemp()
            raise OSError(28, "No space left on device")

    (tmp_path / "t").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    with pytest.raises(OSError):
        save_model(Model(), tmp_path / "a.keras")
    assert not list((tmp_path / "t").iterdir()) and tempfile.tempdir == str(tmp_path / "t")
