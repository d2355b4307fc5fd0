// node examples.mjs docs/port-examples.json
//
// Compares these modules with the examples for ports. One JSON object per line on stdout; exit code
// 1 where an answer is not reproduced.
import { readFile } from "node:fs/promises";
import { load } from "./image.mjs";
import { maskOfSize } from "./mask.mjs";

const { images, masks, calibration } = JSON.parse(await readFile(process.argv[2], "utf8"));
let failed = false;

for (const { name, png_base64, pixels_base64, ...record } of images) {
  const { pixels } = load(Buffer.from(png_base64, "base64"), record);
  say(name, Buffer.from(pixels).toString("base64") === pixels_base64);
}
const bytes = Uint8Array.from(Buffer.from(masks.probabilities_base64, "base64"));
for (const { size, rows } of masks.masks) {
  const mask = maskOfSize(new Float32Array(bytes.buffer), masks.shape, size);
  say(size, mask.join("") === rows.join(""));
}
for (const { scores, temperature, probabilities } of calibration) {
  const powers = scores.map((score) => Math.exp((score - Math.max(...scores)) / temperature));
  const sum = powers.reduce((a, b) => a + b);
  say(temperature, powers.every((p, i) => Math.abs(p / sum - probabilities[i]) <= 2e-6));
}
process.exit(failed ? 1 : 0);

function say(example, good) {
  failed ||= !good;
  console.log(JSON.stringify({ example, good }));
}
