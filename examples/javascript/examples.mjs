// node examples.mjs docs/port-examples.json
//
// Compares the modules of ../../export/browser with the examples for ports. One JSON object per line on stdout; exit code
// 1 where an answer is not reproduced.
import { readFile } from "node:fs/promises";
import { floats, fromBase64 } from "../../export/browser/answers.mjs";
import { prepare } from "../../export/browser/image.mjs";
import { maskOfSize } from "../../export/browser/mask.mjs";
import { decodePng } from "../../export/browser/png.mjs";

const { images, masks, calibration } = JSON.parse(await readFile(process.argv[2], "utf8"));
let failed = false;

for (const { name, png_base64, pixels_base64, ...record } of images) {
  const pixels = prepare(await decodePng(fromBase64(png_base64)), record);
  say(name, Buffer.from(pixels).toString("base64") === pixels_base64);
}
const answer = floats(masks.probabilities_base64);
for (const { size, rows } of masks.masks) {
  const mask = maskOfSize(answer, masks.shape, size);
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
