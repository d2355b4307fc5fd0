// The metadata of an ONNX file. onnxruntime's JavaScript does not expose it, so it is read from the file:
// a ModelProto whose field 14 (metadata_props) repeats a message of key (1) and value (2).
// Wire format: https://protobuf.dev/programming-guides/encoding/

/** Yields [field number, value] of a message; value is a Uint8Array for length-delimited fields. */
function* fields(buffer) {
  let at = 0;
  const varint = () => {
    let value = 0, scale = 1, byte;
    do {
      byte = buffer[at++];
      if (byte === undefined || scale > 2 ** 63) throw new Error("not an ONNX file");
      value += (byte & 127) * scale;
      scale *= 128;
    } while (byte & 128);
    return value;
  };
  while (at < buffer.length) {
    const key = varint();
    const wire = key % 8, number = Math.floor(key / 8);
    let value;
    if (wire === 0) {
      value = varint();
    } else {
      const size = wire === 2 ? varint() : { 1: 8, 5: 4 }[wire];
      if (size === undefined || at + size > buffer.length) throw new Error("not an ONNX file");
      value = buffer.subarray(at, (at += size));
    }
    yield [number, value];
  }
}

/** The JSON object that tfproj stored in the file (a Uint8Array). */
export function readMetadata(file) {
  for (const [number, entry] of fields(file)) {
    if (number !== 14) continue;
    const pair = Object.fromEntries(fields(entry));
    if (text(pair[1]) !== "tfproj") continue;
    const record = JSON.parse(text(pair[2]));
    if (![1, 2, 3].includes(record.schema)) throw new Error(`a file of schema ${record.schema}`);
    return record;
  }
  throw new Error("an ONNX file, but not one that tfproj exported");
}

function text(bytes) {
  return new TextDecoder().decode(bytes);
}
