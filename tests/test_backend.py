import pytest

from tfproj import backend


@pytest.mark.parametrize(
    ("machine", "given", "expected"),
    [("x86_64", None, "1"), ("AMD64", None, "1"), ("x86_64", "0", "0"), ("aarch64", None, None)],
)
def test_onednn_is_asked_for_on_x86_unless_the_user_says_otherwise(
    monkeypatch, machine, given, expected
):
    environ = {} if given is None else {"TF_ENABLE_ONEDNN_OPTS": given}
    monkeypatch.setattr(backend.os, "environ", environ)
    monkeypatch.setattr(backend.platform, "machine", lambda: machine)
    backend.set_environment()
    assert environ.get("TF_ENABLE_ONEDNN_OPTS") == expected
    assert environ["KERAS_BACKEND"] == "tensorflow"
