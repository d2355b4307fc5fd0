"""An exported file to answers: numpy, onnxruntime and Pillow, nothing that trains."""
