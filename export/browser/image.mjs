// From a decoded picture to the pixels that the model sees; the steps are 4 to 6 of
// docs/onnx-contract.md, "From an image file to `image`".

const BITS = 22; // of the fixed-point coefficients, as in Pillow: 32 - 8 - 2
const PAD = 114; // grey around a letterboxed picture

/**
 * A picture { data, height, width }, RGBA and upright, as the model's record wants it: uint8
 * (height, width, channels).
 */
export function prepare(picture, { height, width, channels, resize = "stretch" }) {
  const policies = { stretch: resized, crop: cropped, letterbox: letterboxed, tiles: oneWindow };
  const policy = policies[resize];
  if (!policy) throw new Error(`an unknown resize: ${resize}`);
  const converted = convert(picture, channels);
  return policy(converted, picture.height, picture.width, channels, height, width);
}

/** Transparency on white, then luma (ITU-R 601) or RGB. */
function convert({ data }, channels) {
  const pixels = data.length / 4;
  const out = new Uint8Array(pixels * channels);
  for (let i = 0; i < pixels; i++) {
    const alpha = data[4 * i + 3];
    const r = onWhite(data[4 * i], alpha), g = onWhite(data[4 * i + 1], alpha);
    const b = onWhite(data[4 * i + 2], alpha);
    if (channels === 3) {
      out[3 * i] = r;
      out[3 * i + 1] = g;
      out[3 * i + 2] = b;
    } else out[i] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
  }
  return out;
}

/** One channel over white, in the 15-bit arithmetic of Pillow's alpha_composite. */
function onWhite(value, alpha) {
  if (alpha === 255) return value; // as the formula has it
  if (alpha === 0) return 255;
  const sum = value * alpha * 128 + 255 * (255 - alpha) * 128;
  const rounded = sum + (0x80 << 7);
  return ((rounded >> 8) + rounded) >> 8 >> 7;
}

/** The largest centred part of the new proportions, resized. */
function cropped(data, height, width, channels, newHeight, newWidth) {
  let [rows, columns] = [height, width];
  if (width * newHeight > height * newWidth) columns = divided(height * newWidth, newHeight);
  else rows = divided(width * newHeight, newWidth);
  const part = new Uint8Array(rows * columns * channels);
  const top = (height - rows) >> 1, left = (width - columns) >> 1;
  for (let y = 0; y < rows; y++) {
    const start = ((top + y) * width + left) * channels;
    part.set(data.subarray(start, start + columns * channels), y * columns * channels);
  }
  return resized(part, rows, columns, channels, newHeight, newWidth);
}

/** Where a letterboxed picture stands in the model's input. */
export function innerBox(height, width, newHeight, newWidth) {
  let [rows, columns] = [newHeight, newWidth];
  if (width * newHeight > height * newWidth) rows = divided(height * newWidth, width);
  else columns = divided(width * newHeight, height);
  return { top: (newHeight - rows) >> 1, left: (newWidth - columns) >> 1, rows, columns };
}

/** The whole picture, resized to fit, centred on grey. */
function letterboxed(data, height, width, channels, newHeight, newWidth) {
  const { top, left, rows, columns } = innerBox(height, width, newHeight, newWidth);
  const inner = resized(data, height, width, channels, rows, columns);
  const out = new Uint8Array(newHeight * newWidth * channels).fill(PAD);
  for (let y = 0; y < rows; y++) {
    const row = inner.subarray(y * columns * channels, (y + 1) * columns * channels);
    out.set(row, ((top + y) * newWidth + left) * channels);
  }
  return out;
}

/** The picture as it is. Larger ones are cut into windows, whose answers are blended: not here. */
function oneWindow(data, height, width, channels, newHeight, newWidth) {
  if (height === newHeight && width === newWidth) return data;
  throw new Error(`a model for tiles: pictures of ${newWidth} x ${newHeight} px only in this example`);
}

/** a / b to the nearest whole number, half up, at least 1. */
function divided(a, b) {
  return Math.max(1, Math.floor((2 * a + b) / (2 * b)));
}

/** Bilinear with a filter that widens when shrinking; the width first, then the height, 8 bits between. */
function resized(data, height, width, channels, newHeight, newWidth) {
  if (newWidth !== width) {
    data = resample(data, height, width, channels, newWidth);
  }
  if (newHeight === height) return data;
  // Rows of the transposed picture are columns.
  const turned = transpose(data, height, newWidth, channels);
  return transpose(resample(turned, newWidth, height, channels, newHeight), newWidth, newHeight, channels);
}

/** Resample each of `rows` rows from `size` to `newSize` pixels. */
function resample(data, rows, size, channels, newSize) {
  const out = new Uint8Array(rows * newSize * channels);
  const taps = Array.from({ length: newSize }, (_, x) => coefficients(x, size, newSize));
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < newSize; x++) {
      const { first, weights } = taps[x];
      for (let c = 0; c < channels; c++) {
        let sum = 1 << (BITS - 1);
        for (let k = 0; k < weights.length; k++) {
          sum += data[(y * size + first + k) * channels + c] * weights[k];
        }
        out[(y * newSize + x) * channels + c] = Math.min(255, Math.max(0, sum >> BITS));
      }
    }
  }
  return out;
}

/** First source pixel and fixed-point weights for output pixel x. */
function coefficients(x, size, newSize) {
  const { first, weights, total } = triangle(x, size, newSize);
  return { first, weights: weights.map((w) => Math.trunc(0.5 + (w / total) * (1 << BITS))) };
}

/** First source pixel and weights for output pixel x, and what the weights add up to. */
export function triangle(x, size, newSize) {
  const scale = size / newSize;
  const support = Math.max(1, scale);
  const centre = (x + 0.5) * scale;
  const first = Math.max(0, Math.trunc(centre - support + 0.5));
  const end = Math.min(size, Math.trunc(centre + support + 0.5));
  const weights = [];
  for (let i = first; i < end; i++) {
    weights.push(Math.max(0, 1 - Math.abs((i - centre + 0.5) / support)));
  }
  return { first, weights, total: weights.reduce((a, b) => a + b, 0) };
}

function transpose(data, rows, columns, channels) {
  const out = new Uint8Array(data.length);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      for (let c = 0; c < channels; c++) {
        out[(x * rows + y) * channels + c] = data[(y * columns + x) * channels + c];
      }
    }
  }
  return out;
}
