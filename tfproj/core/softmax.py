"""Probabilities from logits, on numpy arrays."""

from __future__ import annotations

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities float32 over the last axis of float ``logits``."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    exponent = np.exp(shifted, dtype=np.float32)
    return exponent / exponent.sum(axis=-1, keepdims=True)
