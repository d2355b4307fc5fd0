// From the probabilities at the network's size to a mask at the photograph's: "From the outputs to
// an answer" in docs/onnx-contract.md. Float32 arithmetic is rounded after each operation, as there.
import { triangle } from "./image.mjs";

/** Float32Array of shape [h, w, classes] -> Uint8Array (height * width) of class indices. */
export function maskOfSize(probabilities, [h, w, classes], [height, width]) {
  const mask = new Uint8Array(height * width);
  const best = new Float32Array(height * width).fill(-1);
  for (let c = 0; c < classes; c++) {
    let plane = Float32Array.from({ length: h * w }, (_, i) => probabilities[i * classes + c]);
    // Directions that shrink come first, and each time the width.
    const steps = [[width < w, 1], [height < h, 0], [width > w, 1], [height > h, 0]];
    let size = [h, w];
    for (const [needed, axis] of steps) {
      if (needed) [plane, size] = resized(plane, size, axis, [height, width][axis]);
    }
    for (let i = 0; i < plane.length; i++) {
      if (plane[i] <= best[i]) continue; // of equal ones the first stays
      best[i] = plane[i];
      mask[i] = c;
    }
  }
  return mask;
}

/** A plane (rows, columns) with axis 0 or 1 resized to `m` pixels, and its new shape. */
function resized(plane, [rows, columns], axis, m) {
  const n = axis ? columns : rows;
  const one = m < n ? shrunk : between;
  const shape = axis ? [rows, m] : [m, columns];
  const out = new Float32Array(shape[0] * shape[1]);
  for (let x = 0; x < m; x++) {
    const pick = one(x, n, m);
    for (let k = 0; k < (axis ? rows : columns); k++) {
      const value = pick(axis ? (i) => plane[k * columns + i] : (i) => plane[i * columns + k]);
      out[axis ? k * m + x : x * columns + k] = value;
    }
  }
  return [out, shape];
}

/** Output pixel x of m from n that are more: by a filter as wide as the scale, in doubles. */
function shrunk(x, n, m) {
  const { first, weights, total } = triangle(x, n, m);
  return (p) => weights.reduce((sum, weight, k) => sum + (weight / total) * p(first + k), 0);
}

/** Output pixel x of m from n that are fewer: linear between two of them. */
function between(x, n, m) {
  const place = Math.min(Math.max((x + 0.5) * (n / m) - 0.5, 0), n - 1);
  const low = Math.floor(place);
  const share = Math.fround(place - low);
  const high = Math.min(low + 1, n - 1);
  return (p) => p(low) + Math.fround(Math.fround(p(high) - p(low)) * share);
}
