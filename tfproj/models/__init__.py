"""Networks as Keras functional models, and their weights."""
