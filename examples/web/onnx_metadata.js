// What an .onnx file says of itself, read from its bytes.
//
// onnxruntime-web tells the inputs and outputs of a session but not the file's metadata_props (issue 16547 of
// microsoft/onnxruntime). The file is one protobuf message, ModelProto (onnx/onnx.proto): field 7 is the graph, field 14
// the metadata_props, each a StringStringEntryProto with the fields key = 1 and value = 2. Every other field is skipped by
// its length, so that weights are neither read nor copied.

const VARINT = 0, FIXED64 = 1, LENGTH_DELIMITED = 2, FIXED32 = 5; // wire types; 3 and 4 are long out of use
const GRAPH = 7, METADATA_PROPS = 14, KEY = 1, VALUE = 2;

export class NotAModelError extends Error {}

/** metadata_props as a Map of strings, of the bytes (Uint8Array) of an .onnx file. Throws: NotAModelError. */
export function readMetadata(bytes) {
  const metadata = new Map();
  let hasGraph = false;
  for (const field of fields(bytes)) {
    if (field.type !== LENGTH_DELIMITED) continue;
    if (field.number === GRAPH) hasGraph = true;
    if (field.number === METADATA_PROPS) metadata.set(text(field.bytes, KEY), text(field.bytes, VALUE));
  }
  if (!hasGraph) throw new NotAModelError("this is not an .onnx file: it holds no graph");
  return metadata;
}

/** The text of a string field, the last one where it is given twice, as protobuf has it; empty where it is not there. */
function text(message, number) {
  let found = new Uint8Array();
  for (const field of fields(message)) {
    if (field.number === number && field.type === LENGTH_DELIMITED) found = field.bytes;
  }
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(found);
  } catch (error) {
    throw new NotAModelError("this is not a sound .onnx file: its metadata are no text", { cause: error });
  }
}

/** The fields of a message, one after the other: {number, type, bytes}, bytes being a view of a length-delimited one. */
function* fields(message) {
  const reader = new Reader(message);
  while (!reader.isAtEnd()) {
    const tag = reader.varint();
    const number = Math.floor(tag / 8), type = tag % 8;
    if (number < 1 || number >= 2 ** 29) throw damaged();
    yield { number, type, bytes: reader.value(type) };
  }
}

class Reader {
  #bytes;
  #at = 0;

  constructor(bytes) {
    this.#bytes = bytes;
  }

  isAtEnd() {
    return this.#at === this.#bytes.length;
  }

  /** Up to ten bytes of seven bits each, the lowest first. Beyond 2^53 not exact, which only values that we skip reach. */
  varint() {
    let value = 0;
    for (let place = 0; place < 10; place++) {
      const byte = this.#take(1)[0];
      value += (byte & 0x7f) * 2 ** (7 * place);
      if (byte < 0x80) return value;
    }
    throw damaged();
  }

  value(type) {
    if (type === VARINT) return this.varint(), null;
    if (type === FIXED64) return this.#take(8);
    if (type === LENGTH_DELIMITED) return this.#take(this.varint());
    if (type === FIXED32) return this.#take(4);
    throw damaged();
  }

  #take(length) {
    if (length > this.#bytes.length - this.#at) throw damaged();
    const taken = this.#bytes.subarray(this.#at, this.#at + length);
    this.#at += length;
    return taken;
  }
}

function damaged() {
  return new NotAModelError("this is not an .onnx file, or a damaged one");
}
