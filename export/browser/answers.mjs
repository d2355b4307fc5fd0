// From a model's outputs to an answer, and the model's own test. `run` takes a decoded picture and
// gives a promise of its probabilities, a Float32Array.
import { innerBox } from "./image.mjs";
import { maskOfSize } from "./mask.mjs";
import { decodePng } from "./png.mjs";

/** Yields { golden, difference, good } for each golden vector of a record. */
export async function* selftest(record, run) {
  for (const vector of record.golden.vectors) {
    const answer = await run(await decodePng(fromBase64(vector.image_base64)));
    const difference = compare(answer, vector, record.width);
    yield { golden: vector.name, difference, good: difference <= record.golden.tolerance };
  }
}

/** Largest difference to a golden vector, which may hold every stride-th row and column only. */
function compare(answer, { shape, stride = 1, probabilities_base64 }, width) {
  const expected = floats(probabilities_base64);
  const classes = shape.at(-1);
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    let at = i;
    if (shape.length === 3) {
      const row = Math.floor(i / (shape[1] * classes)) * stride;
      const column = (Math.floor(i / classes) % shape[1]) * stride;
      at = (row * width + column) * classes + (i % classes);
    }
    const difference = Math.abs(answer[at] - expected[i]);
    worst = difference <= worst ? worst : difference; // NaN becomes the worst
  }
  return worst;
}

/** The most probable class, all labels, or the share of each class among the picture's pixels. */
export function summary(record, answer, { height, width }) {
  const { classes } = record;
  if (record.task === "classify") {
    const best = answer.reduce((a, p, c) => (p > answer[a] ? c : a), 0); // the first of equal ones
    const found = { label: classes[best], probability: answer[best] };
    if (!record.multi_label) return found;
    return { labels: classes.filter((_, c) => answer[c] >= record.thresholds[c]), ...found };
  }
  let shape = [record.height, record.width, classes.length];
  if (record.resize === "letterbox") {
    const box = innerBox(height, width, record.height, record.width);
    answer = part(answer, shape, box);
    shape = [box.rows, box.columns, classes.length];
  }
  const mask = maskOfSize(answer, shape, [height, width]);
  const counts = new Array(classes.length).fill(0);
  for (const c of mask) counts[c]++;
  const shares = Object.fromEntries(classes.map((name, c) => [name, counts[c] / mask.length]));
  return { shares, mask };
}

/** Rows and columns of an array of shape [h, w, classes]. */
function part(values, [, w, classes], { top, left, rows, columns }) {
  const out = new Float32Array(rows * columns * classes);
  for (let y = 0; y < rows; y++) {
    const start = ((top + y) * w + left) * classes;
    out.set(values.subarray(start, start + columns * classes), y * columns * classes);
  }
  return out;
}

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** The little-endian float32 numbers that a text holds in base64. */
export function floats(text) {
  const { buffer } = fromBase64(text);
  const view = new DataView(buffer);
  return Float32Array.from({ length: buffer.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true));
}
