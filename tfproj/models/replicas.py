"""Sums over the replicas of a training step, each of which sees a part of the batch."""

from __future__ import annotations

import tensorflow as tf


def replicas() -> int:
    """How many share the step that is being computed; 1 outside of a strategy's step."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def over_replicas(value):
    """The sum over all replicas, in each of them; its gradient is the sum of theirs."""
    if replicas() == 1:
        return value
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)
