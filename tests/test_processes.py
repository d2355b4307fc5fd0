"""A predictor across processes, copies and coroutines, and what applications hand it."""

import asyncio
import copy
import gc
import multiprocessing
import pickle
import subprocess
import sys

import numpy as np
import pytest
from tiny_models import CLASSIFY, SEGMENT, pixels, png, tiny_model

from tfproj import Predictor
from tfproj.errors import InputError
from tfproj.inference.session import OneByOne

pytestmark = pytest.mark.light

FORK = """
import os, sys
import numpy as np
from tfproj import Predictor
predictor = Predictor.pretrained("facades-default", threads=2)
image = np.full((256, 256, 3), 90, np.uint8)
expected = predictor.predict(image)[0].probabilities
child = os.fork()
found = predictor.predict(image)[0].probabilities
assert (found == expected).all()
if child == 0:
    del predictor
    sys.exit(7)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads and fork don't mix")
@pytest.mark.parametrize("attempt", range(3))
def test_a_forked_child_predicts_and_ends(attempt):
    done = subprocess.run([sys.executable, "-c", FORK], timeout=60, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr


def label_of(predictor, image):
    return predictor.predict(image)[0].label


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_predictor_goes_to_a_pool_of_processes(method):
    predictor, images = Predictor(tiny_model(), threads=1), pixels(0, CLASSIFY, 4)
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.starmap(label_of, [(predictor, image) for image in images], chunksize=1)
    assert found == [result.label for result in predictor.predict(images)]


@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))]
)
def test_copies_have_their_own_options_and_the_same_answers(clone):
    predictor, image = Predictor(tiny_model(), unknown_below=0.2), pixels(0, CLASSIFY)
    expected = predictor.predict(image)[0].probabilities
    other = clone(predictor)
    predictor.flip = True
    assert (other.flip, other.unknown_below, other.spec) == (False, 0.2, CLASSIFY)
    del predictor
    gc.collect()
    np.testing.assert_array_equal(other.predict(image)[0].probabilities, expected)


def test_coroutines_predict_in_threads():
    predictor, images = Predictor(tiny_model()), pixels(0, CLASSIFY, 6)

    async def all_at_once():
        calls = (asyncio.to_thread(predictor.predict, image) for image in images)
        return [results[0].label for results in await asyncio.gather(*calls)]

    assert asyncio.run(all_at_once()) == [r.label for r in predictor.predict(images)]


@pytest.mark.parametrize("nothing", [None, 3, object()])
def test_what_is_no_image_is_one_clear_error(nothing):
    predictor = Predictor(tiny_model())
    kind = type(nothing).__name__
    with pytest.raises(InputError, match=f"{kind} given instead of images"):
        predictor.predict(nothing)
    with pytest.raises(InputError, match=f"{kind} given; expected a path, bytes"):
        predictor.predict([nothing])


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_zero_images_give_zero_results(task):
    predictor = Predictor(tiny_model(task))
    spec = predictor.spec
    none = np.zeros((0, *spec.size, spec.channels), np.uint8)
    for images in ([], (), iter([]), none):
        assert predictor.predict(images) == []
    predictor._session._session = OneByOne(None)  # as OpenVINO's
    places = (0, *spec.size) if task == "segment" else (0,)
    for answer in predictor.run(none):
        assert answer.shape == (*places, len(spec.classes)) and answer.dtype == np.float32


def test_arrays_of_opencv_hold_blue_first():
    plain, opencv = (Predictor(tiny_model("segment"), bgr=bgr) for bgr in (False, True))
    rgb, larger = pixels(0, SEGMENT), np.kron(pixels(1, SEGMENT), np.ones((2, 2, 1), np.uint8))
    opaque = np.dstack([larger, np.full(larger.shape[:2], 255, np.uint8)])
    reversed_opaque = opaque[..., [2, 1, 0, 3]]

    def answers(predictor, images):
        return [result.probabilities for result in predictor.predict(images)]

    expected = answers(plain, [rgb, larger, opaque])
    assert not np.array_equal(answers(opencv, rgb)[0], expected[0])
    given = [rgb[..., ::-1], larger[..., ::-1], reversed_opaque]
    for images in (given, iter(given)):
        np.testing.assert_array_equal(answers(opencv, images), expected)
    for array, right in zip(given, expected, strict=True):
        np.testing.assert_array_equal(answers(opencv, array)[0], right)
    batch = pixels(2, SEGMENT, 3)
    np.testing.assert_array_equal(answers(opencv, batch[..., ::-1]), answers(plain, batch))
    # Files say themselves what they hold, and grey has no order.
    for same in (png(rgb), rgb[..., 0]):
        np.testing.assert_array_equal(answers(opencv, same), answers(plain, same))
