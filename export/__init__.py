"""From a run directory to one ONNX file that says all about itself."""
