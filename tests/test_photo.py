"""The preset that the data choose, and the first epoch of one with an encoder."""

import dataclasses

import numpy as np
import pytest
from conftest import draw
from PIL import Image

from tfproj import backend
from tfproj.errors import InputError
from tfproj.experiment.plan import plan, plan_again
from tfproj.experiment.presets import make_config
from tfproj.runs.run import Run

# Narrow and drawn, so that a test takes seconds.
TOY = {"encoder": "lite0", "width": 0.25, "batch_norm": True, "frozen": 4, "frozen_norms": True}


def of_toy(data, **values):
    """The preset ``photo`` with a narrow encoder of random weights, at 64 px."""
    options = {"model_options": TOY, "encoder_weights": "drawn", "image_size": 64}
    options["precision"] = "float32"
    return make_config("classify", "photo", data=str(data), **{**options, "seed": 1, **values})


def chosen(**values):
    planned = plan(make_config("classify", **values))
    return planned.config, planned.choice


class TestChoice:
    def test_colour_photographs_get_photo(self, class_folder):
        config, why = chosen(data=str(class_folder(size=(70, 90))))
        assert config.preset == "photo" and config.model_options["encoder"] == "lite0"
        assert (config.image_size, config.resize, config.epochs) == ((288, 288), "crop", 1)
        assert why.startswith("preset photo: colour images of 70 x 90 px (median), 64 or more")
        assert why.endswith("epochs 1")

    def test_many_photographs_are_fine_tuned(self, class_folder, monkeypatch):
        monkeypatch.setattr("tfproj.experiment.choice.FINE_TUNED", 8)
        config, _ = chosen(data=str(class_folder(size=(70, 90))))
        assert (config.preset, config.epochs, config.probe) == ("photo", 9, True)

    @pytest.mark.parametrize(
        ("size", "values", "why"),
        [
            ((60, 90), {}, "60 x 90 px (median), less than 64"),
            ((70, 90), {"channels": 1}, "grey"),
            ((70, 90), {"model": "resnet"}, "the model is given"),
            ((70, 90), {"image_size": (48, 48)}, "less than 64"),
        ],
    )
    def test_other_images_get_default(self, class_folder, size, values, why):
        config, reason = chosen(data=str(class_folder(size=size)), **values)
        assert config.preset == "default" and "encoder" not in config.model_options
        assert why in reason

    def test_a_preset_that_is_named_is_taken(self, class_folder):
        data = str(class_folder(size=(70, 90)))
        config = plan(make_config("classify", "default", data=data)).config
        assert (config.preset, config.batch_size, config.epochs) == ("default", 128, 10)

    def test_few_images_get_steps(self, class_folder):
        data = class_folder({"train": {"a": 30, "b": 30}, "val": {"a": 9, "b": 9}})
        config, why = chosen(data=str(data))
        assert (config.batch_size, config.epochs) == (4, 14)  # 15 steps, 210 in all
        assert "batch size 4; epochs 14" in why
        config, _ = chosen(data=str(data), batch_size=30, epochs=2)
        assert (config.batch_size, config.epochs) == (30, 2)

    def test_the_plan_of_a_run_is_the_same_again(self, probed):
        again = plan_again(probed)
        assert again.config == probed.config() and again.choice == ""

    def test_a_model_with_an_encoder_has_its_weights(self, class_folder):
        config, _ = chosen(data=str(class_folder(size=(70, 90))), model="encoder")
        assert config.model_options == {"encoder": "lite0", "batch_norm": True}

    def test_an_encoder_means_photo(self, class_folder):
        data = str(class_folder(size=(70, 90)))
        config = make_config("segment", encoder="lite0")
        assert (config.preset, config.model) == ("photo", "encoder_unet")
        config = make_config("segment", encoder="MobileNetV3Small")
        assert "drop_path" not in config.model_options  # an option of lite0
        with pytest.raises(InputError, match="unknown encoder .*did you mean 'mobilenet"):
            plan(make_config("classify", data=data, encoder="mobilenetv3smal"))
        config = plan(make_config("classify", "default", data=data, encoder="lite0")).config
        assert (config.preset, config.model, config.probe) == ("default", "encoder", False)


class TestRefusals:
    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"encoder": "lite0", "channels": 1}, "an encoder takes 3"),
            ({"encoder": "lite0", "model": "resnet"}, "'resnet' has no encoder"),
            ({"encoder": "lite0", "init": "facades"}, "leave out one"),
            ({"preset": "default", "encoder_weights": "a.pth"}, "encoder_weights: model 'resnet'"),
            ({"preset": "default", "encoder_rate": 0.5}, "encoder_rate: model 'resnet'"),
            ({"preset": "default", "probe": True}, "probe: model 'resnet'"),
        ],
    )
    def test_what_does_not_fit_an_encoder(self, class_folder, values, message):
        with pytest.raises(InputError, match=message):
            plan(make_config("classify", data=str(class_folder(size=(70, 90))), **values))

    def test_small_images(self, class_folder):
        data = str(class_folder(size=(30, 40)))
        with pytest.raises(InputError, match="30 x 40 px .* needs 32 px or more"):
            plan(make_config("classify", "photo", data=data))

    def test_grey_images_are_repeated_and_that_is_said_once(self, tmp_path):
        for label in "ab":
            (tmp_path / label).mkdir()
            for index in range(6):
                pixels = draw(index + 10 * (label == "b"), (70, 90))[..., 0]
                Image.fromarray(pixels).save(tmp_path / label / f"{index}.png")
        planned = plan(make_config("classify", "photo", data=str(tmp_path)))
        assert planned.spec.channels == 3
        assert sum("grey images: repeated" in note for note in planned.dataset.notes) == 1


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Class folders of 70 x 90 px: reddish, greenish and bluish noise."""
    root = tmp_path_factory.mktemp("photographs")
    for channel, label in enumerate(("rose", "leaf", "sky")):
        for index in range(16):
            folder = root / ("val" if index >= 12 else "train") / label
            folder.mkdir(parents=True, exist_ok=True)
            pixels = draw(100 * channel + index, (70, 90))
            pixels[..., channel] += 160
            Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def probed(photographs, tmp_path_factory):
    """A run of three epochs, the first of which fits the last layer alone."""
    from tfproj.training.train import train

    config = of_toy(photographs, epochs=3, monitor="macro_f1")
    return train(config, tmp_path_factory.mktemp("runs"), "probed")


class TestProbe:
    def test_the_last_layer_is_the_regression(self, photographs):
        backend.setup()
        import keras
        from sklearn.linear_model import LogisticRegression

        from tfproj.training import probe
        from tfproj.training.cache import make_cache
        from tfproj.training.compiling import compiled_model

        planned = plan(of_toy(photographs))
        keras.utils.set_random_seed(1)
        model, _ = compiled_model(planned, "float32")
        cache = make_cache(planned, "train")
        logs = probe._fit(model, planned, cache)
        images, labels = cache.batch(np.arange(len(cache)))
        features = keras.Model(model.input, model.get_layer("dense").input)
        both = np.concatenate([images, images[:, :, ::-1]])
        seen = np.concatenate([features(both[i : i + 16]).numpy() for i in range(0, 72, 16)])
        mean, scale = seen.mean(0), (seen - seen.mean(0)).std()
        expected = LogisticRegression(C=probe.FIT / len(seen), max_iter=1000)
        expected.fit((seen - mean) / scale, np.concatenate([labels, labels]))
        wanted = expected.predict_proba((seen[:36] - mean) / scale)
        np.testing.assert_allclose(keras.ops.softmax(model(images)), wanted, atol=2e-3)
        assert logs["accuracy"] == np.mean(wanted.argmax(1) == labels)

    def test_a_class_without_an_example_is_not_answered(self):
        from tfproj.training.probe import _regression

        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(40, 3)), np.repeat([0, 2], 20)
        x[20:] += 4
        kernel, bias = _regression(x, y, 3)
        scores = x @ kernel + bias
        assert np.mean(scores.argmax(1) == y) > 0.9
        assert scores[:, 1].max() < scores[:, [0, 2]].max(1).min() - 10

    def test_it_is_the_first_epoch(self, probed):
        first, *later = probed.history()
        assert first["val_accuracy"] == 1.0 and first["accuracy"] == 1.0
        assert first["val_macro_f1"] == 1.0  # a metric that is counted in validation alone
        assert [row["epoch"] for row in later] == [2, 3]
        assert later[-1]["learning_rate"] < later[0]["learning_rate"]

    def test_resuming_after_it_changes_nothing(self, photographs, probed, tmp_path):
        from tfproj.core.files import write_json
        from tfproj.training.train import resume, train

        short = train(of_toy(photographs, epochs=1), tmp_path, "short")
        config = dataclasses.replace(short.config(), epochs=3)  # as if interrupted after it
        write_json(short.config_file, config.to_dict())
        resumed = resume(Run(short.path))
        keep = ("epoch", "accuracy", "loss", "val_accuracy", "val_loss", "learning_rate")
        rows = [[{k: row[k] for k in keep} for row in run.history()] for run in (probed, resumed)]
        for row in rows:
            del row[0]["learning_rate"]  # of the first epoch, which took no step
        assert rows[0] == rows[1]
