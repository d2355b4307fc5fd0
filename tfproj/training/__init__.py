"""From a plan to weights in a run directory, with Keras."""
