// From a PNG file to the pixels that the model sees; the steps are those of docs/onnx-contract.md.
// Not refused is what the contract refuses: 16 bits of which 8 keep next to nothing, and tRNS in
// 16-bit colour.
import { PNG } from "pngjs";

const BITS = 22; // of the fixed-point coefficients, as in Pillow: 32 - 8 - 2
const DEPTH = 24; // where a PNG file has its bits per sample
const KIND = 25; // and its colour type
const EXIF = 0x65584966; // "eXIf"
const ORIENTATION = 0x0112; // EXIF tag
const PAD = 114; // grey around a letterboxed picture

/**
 * PNG bytes -> uint8 pixels (height, width, channels) as the model's record wants them, and the
 * picture's own size [height, width].
 */
export function load(bytes, { height, width, channels, resize = "stretch" }) {
  const policy = { stretch: resized, crop: cropped, letterbox: letterboxed }[resize];
  if (!policy) throw new Error(`an unknown resize: ${resize}`);
  const picture = upright(decode(bytes), orientation(bytes));
  const converted = convert(picture, channels);
  const pixels = policy(converted, picture.height, picture.width, channels, height, width);
  return { pixels, size: [picture.height, picture.width] };
}

/** RGBA of 8 bits; pngjs expands palettes and grey. Of 16 bits, grey is rounded, colour cut off. */
function decode(bytes) {
  // pngjs spreads 1, 2 and 4 bits over 0..255, as Pillow does, but rounds 16 in another way.
  const png = PNG.sync.read(bytes, { skipRescale: bytes[DEPTH] === 16 });
  let data = png.data;
  if (png.depth === 16) {
    const grey = bytes[KIND] === 0; // with tRNS, too
    data = data.map(grey ? (v) => Math.floor((v + 128) / 257) : (v) => v >> 8);
  }
  return { width: png.width, height: png.height, data: Uint8Array.from(data) };
}

/** EXIF's orientation in a PNG file's chunk eXIf, 1 where it says none. */
function orientation(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) {
    if (view.getUint32(at + 4) !== EXIF) continue;
    const exif = new DataView(bytes.buffer, bytes.byteOffset + at + 8, view.getUint32(at));
    const little = exif.getUint8(0) === 0x49; // "I"
    const directory = exif.getUint32(4, little);
    for (let i = 0; i < exif.getUint16(directory, little); i++) {
      const entry = directory + 2 + 12 * i;
      if (exif.getUint16(entry, little) === ORIENTATION) return exif.getUint16(entry + 8, little);
    }
  }
  return 1;
}

/** The picture turned as EXIF says; a number other than 2 to 8 turns nothing. */
function upright({ data, height, width }, turn) {
  if (turn >= 5 && turn <= 8) {
    data = transpose(data, height, width, 4);
    [height, width] = [width, height];
  }
  const rows = [3, 4, 7, 8].includes(turn), columns = [2, 3, 6, 7].includes(turn);
  const out = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (rows ? height - 1 - y : y) * width + (columns ? width - 1 - x : x);
      out.set(data.subarray(4 * from, 4 * from + 4), 4 * (y * width + x));
    }
  }
  return { data: out, height, width };
}

/** Transparency on white, then luma (ITU-R 601) or RGB. */
function convert({ data }, channels) {
  const pixels = data.length / 4;
  const out = new Uint8Array(pixels * channels);
  for (let i = 0; i < pixels; i++) {
    const alpha = data[4 * i + 3];
    const [r, g, b] = [0, 1, 2].map((c) => onWhite(data[4 * i + c], alpha));
    if (channels === 3) out.set([r, g, b], 3 * i);
    else out[i] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
  }
  return out;
}

/** One channel over white, in the 15-bit arithmetic of Pillow's alpha_composite. */
function onWhite(value, alpha) {
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

/** The whole picture, resized to fit, centred on grey. */
function letterboxed(data, height, width, channels, newHeight, newWidth) {
  let [rows, columns] = [newHeight, newWidth];
  if (width * newHeight > height * newWidth) rows = divided(height * newWidth, width);
  else columns = divided(width * newHeight, height);
  const inner = resized(data, height, width, channels, rows, columns);
  const out = new Uint8Array(newHeight * newWidth * channels).fill(PAD);
  const top = (newHeight - rows) >> 1, left = (newWidth - columns) >> 1;
  for (let y = 0; y < rows; y++) {
    const row = inner.subarray(y * columns * channels, (y + 1) * columns * channels);
    out.set(row, ((top + y) * newWidth + left) * channels);
  }
  return out;
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
