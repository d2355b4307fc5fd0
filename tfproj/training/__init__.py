"""From a plan to weights in a run directory, with Keras."""

from tfproj import backend

# Before any module here imports TensorFlow, which reads it once.
backend.set_environment()
