// From a PNG file to the pixels that the model sees; the steps are those of docs/onnx-contract.md.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

using Bytes = std::vector<std::uint8_t>;

struct Picture {
  int height, width, channels;
  Bytes pixels;  // rows from top to bottom, in each from left to right, channels together
};

// PNG bytes as an upright picture of 1 (grey) or 3 (RGB) channels.
// Not refused is what the contract refuses: 16 bits of which 8 keep next to nothing, and tRNS in
// 16-bit colour. Throws std::runtime_error for bytes that are no whole PNG.
Picture decode(const Bytes& file, int channels);

// The picture at (height, width), by the file's `resize`: "stretch", "crop" or "letterbox".
Picture resized(const Picture& picture, int height, int width, const std::string& policy);

// Where a letterboxed picture stands in the model's input.
struct Box {
  int top, left, rows, columns;
};
Box inner_box(int picture_height, int picture_width, int height, int width);

// Weights of the filter that shrinks: those of output pixel x, from source pixel `first` on.
struct Triangle {
  int first;
  std::vector<double> weights;
  double total;
};
Triangle triangle(int x, int size, int new_size);
