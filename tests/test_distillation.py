"""A training that learns the answers of other models, too."""

import dataclasses

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from tfproj import Predictor, backend
from tfproj.errors import InputError
from tfproj.experiment.plan import plan, plan_resume
from tfproj.experiment.presets import make_config
from tfproj.experiment.teachers import Teacher, find_teachers


def pupil(teacher, **values):
    options = {"data": "digits", "model": "cnn", "epochs": 2, "augment": "none", "limit": 400}
    options["model_options"] = {"filters": 8, "dense": 16}
    return make_config("classify", **{**options, "teacher": str(teacher), **values})


@pytest.fixture(scope="module")
def teacher(toy_classifier, tmp_path_factory):
    """The exported file of a run on digits."""
    from tfproj.export.job import Options
    from tfproj.export.onnx_file import export_onnx

    path = tmp_path_factory.mktemp("teacher") / "digits.onnx"
    export_onnx(toy_classifier, path, Options())
    return path


def test_the_loss_is_that_of_the_paper():
    backend.setup()
    from tfproj.training.distillation import DistillationLoss

    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 4, (5, 3)), rng.normal(size=(5, 3, 4)).astype(np.float32)
    answers = softmax(rng.normal(size=(5, 3, 4)), axis=-1)
    packed = np.concatenate([labels[..., None], answers], -1).astype(np.float32)
    divergence = (answers * (np.log(answers) - log_softmax(scores / 3, axis=-1))).sum(-1)
    entropy = -np.take_along_axis(log_softmax(scores, -1), labels[..., None], -1)[..., 0]
    loss = DistillationLoss(4, weight=0.7, temperature=3.0)
    wanted = (0.3 * entropy + 0.7 * 9 * divergence).mean()
    assert float(loss(packed, scores)) == pytest.approx(wanted, rel=1e-5)
    assert float(loss(labels, scores)) == pytest.approx(entropy.mean(), rel=1e-5)


def test_several_teachers_are_averaged_in_the_order_of_the_classes(teacher):
    backend.setup()
    from tfproj.training.distillation import Teachers

    order = (*range(1, 10), 0)
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype(np.uint8)
    two = [Teacher("a", teacher, tuple(range(10))), Teacher("b", teacher, order)]
    packed = Teachers(two, 2.0).pack(images, np.array([4, 5, 6], np.int32))
    answers = softmax(Predictor(teacher).run(images)[0] / 2, axis=-1)
    np.testing.assert_array_equal(packed[:, 0], [4, 5, 6])
    np.testing.assert_allclose(packed[:, 1:], (answers + answers[:, order]) / 2, atol=1e-6)


def test_a_pupil_learns_what_its_teacher_says(teacher, tmp_path):
    from tfproj.training.train import train

    # By the teacher alone: its classes change places, and so does what the pupil calls them.
    backend.setup()
    values = {"teacher_weight": 1.0, "temperature": 1.0, "learning_rate": 5e-3, "batch_size": 16}
    planned = plan(pupil(teacher, **values, epochs=8, keep="last"))
    shifted = dataclasses.replace(planned.teachers[0], order=(*range(1, 10), 0))
    run = train(
        planned.config, tmp_path, "x", planned=dataclasses.replace(planned, teachers=(shifted,))
    )
    from tfproj.models.checkpoint import load_model
    from tfproj.training.cache import make_cache

    images, _ = make_cache(planned, "train").batch(np.arange(200))
    answers = np.asarray(load_model(run)(images)).argmax(1)
    said = Predictor(teacher).run(images)[0].argmax(1)
    assert np.mean((answers + 1) % 10 == said) > 0.4 > 0.3 > np.mean(answers == said)


def test_it_is_resumed_to_the_bit_and_recorded(teacher, tmp_path):
    from tfproj.core.files import write_json
    from tfproj.training.train import resume, train

    config = pupil(teacher, precision="float32", schedule="cosine")
    whole = train(config, tmp_path, "whole")
    assert whole.environment()["teachers"][0]["file"] == "digits.onnx"
    short = train(dataclasses.replace(config, schedule="constant", epochs=1), tmp_path, "short")
    write_json(short.config_file, dataclasses.replace(short.config(), epochs=2).to_dict())
    constant = train(dataclasses.replace(config, schedule="constant"), tmp_path, "constant")
    resume(short)
    for row, other in zip(constant.history(), short.history(), strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    write_json(whole.environment_file, {**whole.environment(), "teachers": [{"sha256": "0"}]})
    with pytest.raises(InputError, match="not the teacher that this run was started with"):
        plan_resume(whole)


@pytest.mark.parametrize("augment", ["none", "flip"])
def test_teachers_are_asked_once_where_the_views_are_few(teacher, augment, monkeypatch):
    backend.setup()
    from tfproj.training.cache import make_cache
    from tfproj.training.distillation import Teachers
    from tfproj.training.pipeline import train_batches

    planned = plan(pupil(teacher, augment=augment))
    cache, answer, asked = make_cache(planned, "train"), Teachers._answer, []

    def counted(self, images):
        asked.append(len(images))
        return answer(self, images)

    monkeypatch.setattr(Teachers, "_answer", counted)
    teachers = Teachers(planned.teachers, 2.0)
    for images, packed in train_batches(cache, 32, range(3), 0, augment, None, teachers):
        wanted = answer(teachers, images.numpy())
        np.testing.assert_allclose(packed[:, 1:], wanted, atol=1e-6)
    assert sum(asked) == len(cache) * (2 if augment == "flip" else 1)


def test_what_no_teacher_can_be(teacher, toy_classifier):
    spec = toy_classifier.spec()
    for changed, message in (
        ({"height": 16}, "its size is"),
        ({"classes": (*"abcdefghij",)}, "knows other classes"),
        ({"task": "segment"}, "its task is classify"),
    ):
        with pytest.raises(InputError, match=message):
            find_teachers(str(teacher), dataclasses.replace(spec, **changed))
    with pytest.raises(InputError, match="no such file"):
        find_teachers(f"{teacher},missing.onnx", spec)
    with pytest.raises(InputError, match="teacher_weight is 0"):
        pupil(teacher, teacher_weight=0.0)
