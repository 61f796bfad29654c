// A classifier of mvit-deploy on onnxruntime-web. Its files lie beside this page; nothing is fetched from elsewhere.

import { ContractError, readContract } from "./contract.js";
import { readMetadata } from "./onnx_metadata.js";
import { prepare, toTensor } from "./pixels.js";

const RUNTIME = "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";

let runtime;

async function loadRuntime() {
  if (runtime === undefined) {
    try {
      runtime = await import(RUNTIME);
    } catch (error) {
      throw new Error("onnxruntime-web does not lie beside this page: run npm install in its folder", { cause: error });
    }
    runtime.env.wasm.numThreads = 1; // more need headers that python -m http.server does not send
    runtime.env.logLevel = "error";
  }
  return runtime;
}

/** A model of the bytes (Uint8Array) of an .onnx file. Throws: NotAModelError, ContractError, or the runtime's error. */
export async function open(bytes) {
  const metadata = readMetadata(bytes);
  const contract = readContract(metadata);
  const ort = await loadRuntime();
  let session;
  try {
    session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  } catch (error) {
    throw new Error(`onnxruntime-web cannot open the file: ${error.message ?? error}`, { cause: error });
  }
  try {
    const input = inputOf(session), output = outputOf(session, contract.labels);
    return { metadata, contract, session, input, output, size: bytes.length };
  } catch (error) {
    await session.release();
    throw error;
  }
}

/** {name, shape, layout, height, width} of the one image that the file takes. */
function inputOf(session) {
  const [first, ...others] = session.inputMetadata;
  const shape = first?.isTensor ? first.shape : [];
  const layout = shape[1] === 3 ? "NCHW" : "NHWC";
  const [height, width] = layout === "NCHW" ? shape.slice(2) : shape.slice(1, 3);
  const isOneImage = shape[0] === 1 || typeof shape[0] === "string" || shape[0] === -1;
  const isColor = shape.length === 4 && shape[layout === "NCHW" ? 1 : 3] === 3;
  if (others.length || first?.type !== "float32" || !isOneImage || !isColor || !(height > 0) || !(width > 0)) {
    throw new ContractError(
      `the file does not take one colour picture of a fixed size in float32: ${JSON.stringify(session.inputMetadata)}`,
    );
  }
  return { name: first.name, shape: [1, ...shape.slice(1)], layout, height, width };
}

/** {name, hasSoftmax} of the output that classes are read from. */
function outputOf(session, labels) {
  const found = ["probabilities", "logits"].flatMap((name) => session.outputMetadata.filter((o) => o.name === name))[0];
  if (found === undefined) {
    throw new ContractError(`the file gives neither probabilities nor logits: ${session.outputNames.join(", ")}`);
  }
  const count = found.shape[1];
  if (found.type !== "float32" || found.shape.length !== 2 || count !== labels.length) {
    throw new ContractError(`the file has ${labels.length} labels for ${found.name} of shape ${found.shape.join(" × ")}`);
  }
  return { name: found.name, hasSoftmax: found.name === "probabilities" };
}

/**
 * What a model sees in a picture (pixels.decode): {probabilities, pixels, isResampled, milliseconds: {prepare, run}}.
 *
 * Throws: ContractError for a picture of another size where the file says that pictures are not resized.
 */
export async function classify(model, picture) {
  const { contract, input, output } = model;
  const how = contract.preprocessing;
  const isOfSize = picture.height === input.height && picture.width === input.width;
  if (how.resize === null && how.crop === null && !isOfSize) {
    throw new ContractError(
      `the file takes pictures of ${input.height} × ${input.width} as they are (height × width); ` +
        `this one has ${picture.height} × ${picture.width}`,
    );
  }
  const start = performance.now();
  const { pixels, isResampled } = prepare(picture, how, [input.height, input.width]);
  const tensor = toTensor(pixels, { layout: input.layout, colorOrder: contract.colorOrder, range: contract.range });
  const prepared = performance.now();
  const values = await run(model, tensor);
  const milliseconds = { prepare: prepared - start, run: performance.now() - prepared };
  const probabilities = output.hasSoftmax ? checked(values) : softmax(values);
  return { probabilities, pixels, isResampled, milliseconds };
}

async function run({ session, input, output }, values) {
  const { Tensor } = await loadRuntime();
  const found = await session.run({ [input.name]: new Tensor("float32", values, input.shape) }, [output.name]);
  const numbers = Array.from(found[output.name].data);
  if (!numbers.every(Number.isFinite)) throw new Error("the model gives numbers that are not finite");
  return numbers;
}

function checked(probabilities) {
  const sum = probabilities.reduce((total, each) => total + each, 0);
  if (Math.abs(sum - 1) > 0.01 || probabilities.some((each) => each < 0)) {
    throw new Error(`the file's probabilities are none: their sum is ${sum}`);
  }
  return probabilities;
}

function softmax(logits) {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const sum = powers.reduce((total, each) => total + each, 0);
  return powers.map((power) => power / sum);
}
