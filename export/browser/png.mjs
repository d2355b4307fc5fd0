// PNG files to RGBA of 8 bits: steps 1 to 3 of docs/onnx-contract.md, "From an image file to
// `image`". A browser's own decoder rounds 16 bits, and transparent colours, in another way.
// Not refused is what the contract refuses: 16 bits of which 8 keep next to nothing.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const SAMPLES = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }; // by colour type
const ORIENTATION = 0x0112; // EXIF tag
const MOST_PIXELS = 89478485; // the limit of the package
// Adam7: first row and column, and steps, of each pass.
const PASSES = [[0, 0, 8, 8], [0, 4, 8, 8], [4, 0, 8, 4], [0, 2, 4, 4], [2, 0, 4, 2], [0, 1, 2, 2], [1, 0, 2, 1]];

/** Whether bytes begin as a PNG file. */
export function isPng(bytes) {
  return SIGNATURE.every((value, i) => bytes[i] === value);
}

/** A promise of { data, height, width }: RGBA in a Uint8Array, as EXIF turns it. */
export async function decodePng(bytes) {
  const { head, packed, palette, clear, orientation } = chunks(bytes);
  const raw = await inflated(packed);
  return upright(colours(samples(raw, head), head, palette, clear), orientation);
}

function chunks(bytes) {
  if (!isPng(bytes)) throw new Error("not a PNG file");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = { packed: [], orientation: 1 };
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const body = bytes.subarray(at + 8, at + 8 + length);
    if (body.length < length) break;
    if (kind === "IHDR") found.head = header(body);
    else if (kind === "PLTE") found.palette = body;
    else if (kind === "tRNS") found.clear = body;
    else if (kind === "eXIf") found.orientation = orientationOf(body);
    else if (kind === "IDAT") found.packed.push(body);
    else if (kind === "IEND") return found;
    at += 12 + length;
  }
  throw new Error("the PNG file ends too early");
}

function header(body) {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const [width, height] = [view.getUint32(0), view.getUint32(4)];
  const [bits, colour, , , interlaced] = body.subarray(8, 13);
  if (!(colour in SAMPLES) || !width || !height) throw new Error("a damaged PNG file");
  if (width * height > MOST_PIXELS) throw new Error(`more than ${MOST_PIXELS} pixels`);
  return { width, height, bits, colour, interlaced, channels: SAMPLES[colour] };
}

function orientationOf(body) {
  const exif = new DataView(body.buffer, body.byteOffset, body.byteLength);
  try {
    const little = exif.getUint8(0) === 0x49; // "I"
    const directory = exif.getUint32(4, little);
    for (let i = 0; i < exif.getUint16(directory, little); i++) {
      const entry = directory + 2 + 12 * i;
      if (exif.getUint16(entry, little) === ORIENTATION) return exif.getUint16(entry + 8, little);
    }
  } catch {
    // A damaged block says nothing about the pixels.
  }
  return 1;
}

async function inflated(parts) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Unfiltered samples as they are stored: Uint16Array (height * width * channels). */
function samples(raw, head) {
  const { width, height, bits, channels, interlaced } = head;
  const out = new Uint16Array(width * height * channels);
  let at = 0;
  for (const [top, left, down, across] of interlaced ? PASSES : [[0, 0, 1, 1]]) {
    const columns = Math.ceil((width - left) / across), rows = Math.ceil((height - top) / down);
    if (columns <= 0 || rows <= 0) continue;
    const stride = Math.ceil((columns * channels * bits) / 8);
    const step = Math.max(1, (channels * bits) >> 3); // bytes from a pixel to the next
    let above = new Uint8Array(stride);
    for (let y = 0; y < rows; y++, at += stride + 1) {
      if (at + stride + 1 > raw.length) throw new Error("the PNG file ends too early");
      const row = raw.subarray(at + 1, at + 1 + stride);
      unfilter(raw[at], row, above, step);
      above = row;
      for (let x = 0; x < columns; x++) {
        const to = ((top + y * down) * width + left + x * across) * channels;
        for (let c = 0; c < channels; c++) out[to + c] = sample(row, x * channels + c, bits);
      }
    }
  }
  return out;
}

function sample(row, index, bits) {
  if (bits === 8) return row[index];
  if (bits === 16) return (row[2 * index] << 8) | row[2 * index + 1];
  const shift = 8 - bits - ((index * bits) & 7);
  return (row[(index * bits) >> 3] >> shift) & ((1 << bits) - 1);
}

function unfilter(kind, row, above, step) {
  for (let i = 0; i < row.length; i++) {
    const left = i < step ? 0 : row[i - step], up = above[i];
    const corner = i < step ? 0 : above[i - step];
    if (kind === 1) row[i] += left;
    else if (kind === 2) row[i] += up;
    else if (kind === 3) row[i] += (left + up) >> 1;
    else if (kind === 4) row[i] += paeth(left, up, corner);
    else if (kind !== 0) throw new Error("a damaged PNG file");
  }
}

function paeth(left, up, corner) {
  const guess = left + up - corner;
  const [a, b, c] = [left, up, corner].map((value) => Math.abs(guess - value));
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

/** Samples to RGBA of 8 bits. */
function colours(values, head, palette, clear) {
  const { width, height, bits, colour, channels } = head;
  const data = new Uint8Array(width * height * 4);
  const coloured = colour === 2 || colour === 6, transparent = colour >= 4;
  // Grey of 16 bits is rounded, other samples of 16 bits are cut off.
  const most = 2 ** bits - 1;
  const scaled =
    bits < 8 ? (v) => (v * 255) / most
    : bits === 8 ? (v) => v
    : colour === 0 ? (v) => Math.floor((v + 128) / 257)
    : (v) => v >> 8;
  if (clear && colour === 2 && bits === 16) throw new Error("a transparent colour of 16 bits");
  const key = clear && colour < 3 ? words(clear) : null;
  for (let i = 0; i < width * height; i++) {
    const pixel = values.subarray(i * channels, (i + 1) * channels);
    if (colour === 3) {
      if (!palette || 3 * pixel[0] + 3 > palette.length) throw new Error("a damaged palette");
      data.set(palette.subarray(3 * pixel[0], 3 * pixel[0] + 3), 4 * i);
      data[4 * i + 3] = clear && pixel[0] < clear.length ? clear[pixel[0]] : 255;
      continue;
    }
    for (let c = 0; c < 3; c++) data[4 * i + c] = scaled(pixel[coloured ? c : 0]);
    const hidden = key && key.every((value, c) => value === pixel[c]);
    data[4 * i + 3] = hidden ? 0 : transparent ? scaled(pixel[channels - 1]) : 255;
  }
  return { data, height, width };
}

function words(bytes) {
  return Array.from({ length: bytes.length >> 1 }, (_, i) => (bytes[2 * i] << 8) | bytes[2 * i + 1]);
}

/** The picture turned as EXIF says; a number other than 2 to 8 turns nothing. */
function upright({ data, height, width }, turn) {
  if (!(turn >= 2 && turn <= 8)) return { data, height, width };
  const swapped = turn >= 5;
  const [rows, columns] = swapped ? [width, height] : [height, width];
  const down = [3, 4, 7, 8].includes(turn), across = [2, 3, 6, 7].includes(turn);
  const out = new Uint8Array(data.length);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const [r, c] = [down ? rows - 1 - y : y, across ? columns - 1 - x : x];
      const from = 4 * (swapped ? c * width + r : r * width + c);
      out.set(data.subarray(from, from + 4), 4 * (y * columns + x));
    }
  }
  return { data: out, height: rows, width: columns };
}
