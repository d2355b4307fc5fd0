"""What is going to be trained on what, settled before TensorFlow is loaded."""
