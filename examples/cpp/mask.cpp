#include "mask.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

namespace {

using Plane = std::vector<float>;
using Line = std::function<float(int)>;  // one row, or column, of a plane

// Output pixel x of m, from a line of n.
float shrunk(const Triangle& taps, const Line& p) {
  double sum = 0;
  for (std::size_t k = 0; k < taps.weights.size(); k++)
    sum += taps.weights[k] / taps.total * p(taps.first + static_cast<int>(k));
  return static_cast<float>(sum);
}

float between(int x, int n, int m, const Line& p) {
  const double place =
      std::clamp((x + 0.5) * (static_cast<double>(n) / m) - 0.5, 0.0, static_cast<double>(n - 1));
  const int low = static_cast<int>(place);
  const float share = static_cast<float>(place - low);
  const float step = p(std::min(low + 1, n - 1)) - p(low);
  return p(low) + step * share;
}

// A plane (rows, columns) with its rows (axis 1) or columns (axis 0) resized to m pixels.
Plane resized(const Plane& plane, int rows, int columns, int axis, int m) {
  const int n = axis ? columns : rows, lines = axis ? rows : columns;
  Plane out(std::size_t{1} * lines * m);
  for (int x = 0; x < m; x++) {
    const Triangle taps = m < n ? triangle(x, n, m) : Triangle{};
    for (int k = 0; k < lines; k++) {
      const Line p = [&](int i) { return plane[axis ? k * columns + i : i * columns + k]; };
      const float value = m < n ? shrunk(taps, p) : between(x, n, m, p);
      out[axis ? std::size_t{1} * k * m + x : std::size_t{1} * x * columns + k] = value;
    }
  }
  return out;
}

}  // namespace

Bytes mask_of_size(const float* probabilities, int h, int w, int classes, int height, int width) {
  Bytes mask(std::size_t{1} * height * width);
  Plane best(mask.size(), -1);
  for (int c = 0; c < classes; c++) {
    Plane plane(std::size_t{1} * h * w);
    for (std::size_t i = 0; i < plane.size(); i++) plane[i] = probabilities[i * classes + c];
    int rows = h, columns = w;
    const auto across = [&] { plane = resized(plane, rows, columns, 1, width), columns = width; };
    const auto down = [&] { plane = resized(plane, rows, columns, 0, height), rows = height; };
    // Directions that shrink come first, and each time the width.
    if (width < w) across();
    if (height < h) down();
    if (width > w) across();
    if (height > h) down();
    for (std::size_t i = 0; i < mask.size(); i++) {
      if (plane[i] <= best[i]) continue;  // of equal ones the first stays
      best[i] = plane[i];
      mask[i] = static_cast<std::uint8_t>(c);
    }
  }
  return mask;
}
