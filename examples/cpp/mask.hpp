// From the probabilities at the network's size to a mask at the photograph's: "From the outputs to
// an answer" in docs/onnx-contract.md. Float arithmetic is rounded after each operation, as there.
#pragma once
#include "image.hpp"

// Probabilities (h, w, classes) to height * width class indices.
Bytes mask_of_size(const float* probabilities, int h, int w, int classes, int height, int width);
