// node predict.mjs MODEL.onnx [IMAGE.png ...]
//
// Replays the golden vectors of a model exported by tfproj, then predicts PNG images. One JSON
// object per line on stdout; exit code 1 where a golden answer is not reproduced. examples.mjs
// compares these modules with docs/port-examples.json.
import { readFile } from "node:fs/promises";
import * as ort from "onnxruntime-node";
import { load } from "./image.mjs";
import { maskOfSize } from "./mask.mjs";
import { readMetadata } from "./metadata.mjs";

const [model, ...images] = process.argv.slice(2);
if (!model) {
  console.error("usage: node predict.mjs MODEL.onnx [IMAGE.png ...]");
  process.exit(2);
}
const file = await readFile(model);
const record = readMetadata(file);
// int8 sums that are right on CPUs without VNNI, too. One with VNNI may be faster without it; see
// docs/onnx-contract.md, "int8".
const extra = { session: { x64quantprecision: "1" } };
const session = await ort.InferenceSession.create(file, { extra });

let failed = false;
for (const vector of record.golden.vectors) {
  const { answer } = await run(Buffer.from(vector.image_base64, "base64"));
  const difference = compare(answer, vector);
  const good = difference <= record.golden.tolerance;
  failed ||= !good;
  console.log(JSON.stringify({ golden: vector.name, difference, good }));
}
for (const path of images) {
  console.log(JSON.stringify({ image: path, ...summary(await run(await readFile(path))) }));
}
process.exit(failed ? 1 : 0);

/** Probabilities (classes) or (height, width, classes) of one PNG file, and the picture's size. */
async function run(bytes) {
  const { pixels, size } = load(bytes, record);
  const shape = [1, record.height, record.width, record.channels];
  const image = new ort.Tensor("uint8", pixels, shape);
  const { probabilities } = await session.run({ image }, ["probabilities"]);
  return { answer: probabilities.data, size };
}

/** Largest difference to a golden vector, which may hold every stride-th row and column only. */
function compare(answer, { shape, stride = 1, probabilities_base64 }) {
  const bytes = Buffer.from(probabilities_base64, "base64");
  const count = bytes.length / 4;
  const classes = shape.at(-1);
  let worst = 0;
  for (let i = 0; i < count; i++) {
    let at = i;
    if (shape.length === 3) {
      const row = Math.floor(i / (shape[1] * classes)) * stride;
      const column = (Math.floor(i / classes) % shape[1]) * stride;
      at = (row * record.width + column) * classes + (i % classes);
    }
    const difference = Math.abs(answer[at] - bytes.readFloatLE(4 * i));
    worst = difference <= worst ? worst : difference; // NaN becomes the worst
  }
  return worst;
}

/** The most probable class, or the share of each class among the picture's pixels. */
function summary({ answer, size }) {
  const classes = record.classes;
  if (record.task === "classify") {
    const best = answer.reduce((a, p, c) => (p > answer[a] ? c : a), 0);
    return { label: classes[best], probability: answer[best] };
  }
  const mask = maskOfSize(answer, [record.height, record.width, classes.length], size);
  const counts = new Array(classes.length).fill(0);
  for (const c of mask) counts[c]++;
  return { shares: Object.fromEntries(classes.map((name, c) => [name, counts[c] / mask.length])) };
}
