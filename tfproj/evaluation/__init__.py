"""What a trained run is worth, and what the report shows of it."""

from tfproj import backend

# Before any module here imports TensorFlow, which reads it once.
backend.set_environment()
