// The page that `tfproj export --web` makes: pictures and the camera through the model. PARTS, which
// the page's other scripts fill, holds the model, onnxruntime-web and its WebAssembly in base64.
import { fromBase64, selftest, summary } from "./answers.mjs";
import { prepare } from "./image.mjs";
import { readMetadata } from "./metadata.mjs";
import { decodePng, isPng } from "./png.mjs";

const MOST_PIXELS = 89478485; // the limit of the package
const SHOWN = 5; // classes
const byId = (id) => document.getElementById(id);
let record, session, stream;

/** Opens the model, tests it with its own examples, and lets pictures in. */
async function start() {
  const model = fromBase64(PARTS.model);
  record = readMetadata(model);
  document.title = byId("title").textContent = record.training?.run || "tfproj";
  const kind = record.task === "classify" ? "Pictures of" : "Pixels of";
  byId("purpose").textContent = `${kind}: ${record.classes.join(", ")}`;
  session = await opened(model);
  let vectors = 0, worst = 0;
  for await (const { golden, difference, good } of selftest(record, run)) {
    if (!good) throw new Error(`self-test failed: "${golden}" differs by ${difference}`);
    vectors += 1;
    worst = Math.max(worst, difference);
  }
  say(`Ready. Self-test: ${vectors} images, largest difference ${worst.toExponential(1)}.`);
  document.body.dataset.state = "ready";
}

/** A session of onnxruntime-web, from the parts in this page: nothing is fetched. */
async function opened(model) {
  const code = new Blob([await unpacked(PARTS.runtime)], { type: "text/javascript" });
  const ort = await import(URL.createObjectURL(code));
  ort.env.wasm.wasmBinary = await unpacked(PARTS.wasm);
  ort.env.wasm.numThreads = 1; // more need headers of a server
  const found = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  return { ort, found };
}

async function unpacked(text) {
  const packed = new Blob([fromBase64(text)]).stream();
  return new Response(packed.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

/** Probabilities (classes) or (height, width, classes) of a decoded picture. */
async function run(picture) {
  const shape = [1, record.height, record.width, record.channels];
  const image = new session.ort.Tensor("uint8", prepare(picture, record), shape);
  const { probabilities } = await session.found.run({ image }, ["probabilities"]);
  return probabilities.data;
}

/** A file (a Blob) as RGBA: PNG by ourselves, all others by the browser. */
async function decoded(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (isPng(bytes)) return decodePng(bytes);
  const bitmap = await createImageBitmap(file, {
    colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image",
  });
  return pixelsOf(bitmap);
}

function pixelsOf(bitmap) {
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new Error(`more than ${MOST_PIXELS} pixels`);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { data: context.getImageData(0, 0, width, height).data, width, height };
}

/** The answer to a file: { label, probability } or { shares, mask }, and all probabilities. */
async function predict(file) {
  const picture = await decoded(file);
  const probabilities = await run(picture);
  return { picture, probabilities, ...summary(record, probabilities, picture) };
}

async function show(file) {
  const name = file.name || "picture";
  say(`${name} ...`);
  try {
    const begin = performance.now();
    const answer = await predict(file);
    draw(answer);
    say(`${name}: ${answer.picture.width} x ${answer.picture.height} px, ${Math.round(performance.now() - begin)} ms`);
  } catch (error) {
    say(`${name}: cannot be read (${error.message})`, true);
  }
}

function draw(answer) {
  const { picture, mask } = answer;
  const canvas = byId("picture");
  canvas.hidden = false;
  [canvas.width, canvas.height] = [picture.width, picture.height];
  const pixels = new Uint8ClampedArray(picture.data);
  if (mask) blend(pixels, mask);
  canvas.getContext("2d").putImageData(new ImageData(pixels, picture.width, picture.height), 0, 0);
  const share = mask ? (name) => answer.shares[name] : (_, i) => answer.probabilities[i];
  const rows = record.classes.map((name, i) => ({ name, color: record.colors[i], share: share(name, i) }));
  if (!mask) rows.sort((a, b) => b.share - a.share).splice(Math.max(SHOWN, answer.labels?.length ?? 0));
  for (const one of rows) one.given = answer.labels?.includes(one.name);
  byId("classes").replaceChildren(...rows.map((one) => row(one)));
  byId("strength").hidden = !mask;
  byId("strength").oninput = () => draw(answer);
}

/** The colours of a mask's classes over the pixels of its picture. */
function blend(pixels, mask) {
  const strength = byId("strength").value / 100;
  const colors = record.colors.map((c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)));
  for (let i = 0; i < mask.length; i++) {
    const color = colors[mask[i]];
    for (let c = 0; c < 3; c++) pixels[4 * i + c] += strength * (color[c] - pixels[4 * i + c]);
    pixels[4 * i + 3] = 255;
  }
}

function row({ name, color, share, given }) {
  const item = document.createElement("li");
  item.classList.toggle("given", Boolean(given));
  const label = Object.assign(document.createElement("span"), { textContent: name });
  const bar = document.createElement("meter");
  bar.value = share;
  const swatch = document.createElement("i");
  if (record.task === "segment") swatch.style.background = color;
  const figure = Object.assign(document.createElement("b"), { textContent: `${(100 * share).toFixed(1)} %` });
  item.append(swatch, label, bar, figure);
  return item;
}

/** One frame of the camera after the other, until the button is pressed again. */
async function camera() {
  if (stream) return stop();
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    return say(`no camera (${error.message})`, true);
  }
  const video = Object.assign(document.createElement("video"), { srcObject: stream, muted: true });
  video.playsInline = true;
  await video.play();
  byId("camera").textContent = "Stop";
  while (stream) {
    const begin = performance.now();
    const picture = pixelsOf(await createImageBitmap(video));
    const probabilities = await run(picture);
    draw({ picture, probabilities, ...summary(record, probabilities, picture) });
    say(`camera: ${Math.round(performance.now() - begin)} ms a picture`);
    await new Promise(requestAnimationFrame);
  }
}

function stop() {
  for (const track of stream.getTracks()) track.stop();
  stream = null;
  byId("camera").textContent = "Camera";
}

function say(text, failed = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("failed", failed);
}

byId("file").onchange = async ({ target }) => {
  for (const file of target.files) await show(file);
  target.value = "";
};
byId("camera").onclick = camera;
document.ondragover = (event) => event.preventDefault();
document.ondrop = async (event) => {
  event.preventDefault();
  if (session) for (const file of event.dataTransfer.files) await show(file);
};
// For a page around this one, and for tests.
globalThis.tfproj = { predict, record: () => record };
start().catch((error) => {
  document.body.dataset.state = "failed";
  say(error.message, true);
});
