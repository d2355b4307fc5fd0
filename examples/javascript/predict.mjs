// node predict.mjs MODEL.onnx [IMAGE.png ...]
//
// Replays the golden vectors of a model exported by tfproj, then predicts PNG images. One JSON
// object per line on stdout; exit code 1 where a golden answer is not reproduced. The modules it
// shares with the page that `tfproj export --web` makes know nothing of Node.
import { readFile } from "node:fs/promises";
import * as ort from "onnxruntime-node";
import { selftest, summary } from "../../export/browser/answers.mjs";
import { prepare } from "../../export/browser/image.mjs";
import { readMetadata } from "../../export/browser/metadata.mjs";
import { decodePng } from "../../export/browser/png.mjs";

process.on("uncaughtException", (error) => {
  console.error(`error: ${error.message}`);
  process.exit(1);
});
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
const limit = record.calibration?.unknown_score_threshold;
let unknownScore; // of the last picture, where the file has a limit for it

let failed = false;
for await (const found of selftest(record, run)) {
  failed ||= !found.good;
  console.log(JSON.stringify(found));
}
for (const path of images) {
  const picture = await decodePng(await readFile(path)).catch((error) => {
    throw new Error(`${path}: ${error.message}`);
  });
  const { mask, ...answer } = summary(record, await run(picture), picture);
  const unknown = limit === undefined ? {} : { unknown: !(unknownScore <= limit), unknownScore };
  console.log(JSON.stringify({ image: path, ...answer, ...unknown }));
}
process.exit(failed ? 1 : 0);

/** Probabilities (classes) or (height, width, classes) of a decoded picture. */
async function run(picture) {
  const shape = [1, record.height, record.width, record.channels];
  const image = new ort.Tensor("uint8", prepare(picture, record), shape);
  const wanted = limit === undefined ? ["probabilities"] : ["probabilities", "unknown_score"];
  const { probabilities, unknown_score } = await session.run({ image }, wanted);
  unknownScore = unknown_score?.data[0];
  return probabilities.data;
}
