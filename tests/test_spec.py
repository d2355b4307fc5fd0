import dataclasses
import json

import pytest

from tfproj.core.spec import ModelSpec, default_colors, rgb
from tfproj.errors import InputError

pytestmark = pytest.mark.light

SPEC = ModelSpec("segment", "unet", ("wall", "window"), ("#102030", "#FFFFFF"), 32, 48, 3, "toy")


def changed(**values):
    return {**SPEC.to_dict(), **values}


def test_survives_json():
    assert ModelSpec.from_dict(json.loads(SPEC.to_json())) == SPEC
    assert ModelSpec.from_dict(dataclasses.replace(SPEC, dynamic_size=True).to_dict()).dynamic_size


def test_reads_records_of_other_minor_versions():
    record = changed(later="addition")
    del record["dynamic_size"]
    assert ModelSpec.from_dict(record) == SPEC


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", 4),
        ("schema", True),
        ("resize", "crop"),
        ("task", "detect"),
        ("classes", ["one"]),
        ("classes", ["same", "same"]),
        ("classes", [1, 2]),
        ("classes", "ab"),
        ("colors", ["#102030"]),
        ("colors", ["#102030", "white"]),
        ("height", "32"),
        ("height", True),
        ("width", 0),
        ("channels", 2),
        ("dynamic_size", 1),
        ("model", None),
    ],
)
def test_refuses_a_damaged_record(key, value):
    with pytest.raises(InputError):
        ModelSpec.from_dict(changed(**{key: value}))


@pytest.mark.parametrize("record", [None, [], {}, {"schema": 1}])
def test_refuses_what_is_no_record(record):
    with pytest.raises(InputError):
        ModelSpec.from_dict(record)


def test_colours_are_made_up_where_there_are_none():
    colors = ModelSpec("classify", "cnn", tuple("abcdefghijkl"), (), 8, 8, 1).colors
    assert colors == default_colors(12)
    assert len(set(colors)) == 12
    assert rgb(colors[1]) == (0xE6, 0x9F, 0x00)
