"""Networks of ``keras.applications`` as encoders, by name."""

from __future__ import annotations


def features(inputs, name: str, last: int) -> dict:
    raise NotImplementedError


def load(model, name: str, weights: str | None) -> None:
    raise NotImplementedError
