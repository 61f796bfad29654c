// What a classifier's metadata promise, checked. Nothing about a model is known here that its file does not say.

const PREFIX = "mvit_deploy.";
export const RESAMPLINGS = ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"];

// How files from before the key mvit_deploy.preprocessing were made and judged; the page says when it takes this.
const BEFORE_IT_WAS_WRITTEN = {
  resize: 288, crop: [256, 256], resampling: "bilinear", color_order: "RGB", half_pixel: "down", rounding: "nearest",
};
const DEFAULTS = { half_pixel: "down", rounding: "down" };

export class ContractError extends Error {}

/**
 * Labels, colour order, value range and preprocessing of a classifier, from the metadata (a Map) of its file.
 *
 * preprocessing: {resize, crop, resampling, half_pixel, rounding}; sizes are [height, width], resize may also be the
 * short side or null, crop null. isAssumed: the file does not say its preprocessing.
 * Throws: ContractError for other tasks and for what is missing or senseless.
 */
export function readContract(metadata) {
  const of = (key) => metadata.get(PREFIX + key);
  if (of("task") === undefined) {
    throw new ContractError("the file does not say what it is: it has no mvit_deploy.task in its metadata");
  }
  if (of("task") !== "classification") {
    throw new ContractError(`this page shows classifiers; the file's task is ${of("task")}`);
  }
  const said = parse(metadata, "preprocessing");
  return {
    labels: labels(parse(metadata, "labels")),
    colorOrder: choice(of("color_order"), ["RGB", "BGR"], "colour order"),
    range: range(parse(metadata, "value_range")),
    preprocessing: preprocessing(said ?? BEFORE_IT_WAS_WRITTEN),
    isAssumed: said === undefined,
  };
}

function parse(metadata, key) {
  const text = metadata.get(PREFIX + key);
  try {
    return text === undefined ? undefined : JSON.parse(text);
  } catch (error) {
    throw new ContractError(`the file's ${PREFIX}${key} is no JSON`, { cause: error });
  }
}

function labels(said) {
  if (said === undefined) {
    throw new ContractError("the file has no labels: export it with --labels FILE, one label a line");
  }
  if (!Array.isArray(said) || said.length === 0 || !said.every((label) => typeof label === "string")) {
    throw new ContractError("the file's labels are no list of names");
  }
  return said;
}

function choice(word, known, name) {
  if (!known.includes(word)) throw new ContractError(`the file says no ${name} that is known: ${word}`);
  return word;
}

function range(said) {
  if (!Array.isArray(said) || said.length !== 2 || !said.every(Number.isFinite) || said[0] >= said[1]) {
    throw new ContractError(`the file says no value range: ${JSON.stringify(said)}`);
  }
  return said;
}

/** Unknown keys are an error: ignored, they would change the pixels silently. */
function preprocessing(said) {
  if (said === null || typeof said !== "object") throw new ContractError("the file's preprocessing is no object");
  const known = Object.keys(BEFORE_IT_WAS_WRITTEN);
  const strange = Object.keys(said).filter((key) => !known.includes(key));
  if (strange.length) throw new ContractError(`this page does not know the file's preprocessing: ${strange}`);
  const how = { ...DEFAULTS, ...said };
  if (!(how.resize === null || isSide(how.resize) || isSize(how.resize)) || !(how.crop === null || isSize(how.crop))) {
    throw new ContractError("the file's preprocessing has a size that is none");
  }
  choice(how.resampling, RESAMPLINGS, "resampling");
  choice(how.half_pixel, ["down", "even"], "side for half a pixel");
  choice(how.rounding, ["down", "nearest"], "rounding");
  return how;
}

function isSide(value) {
  return Number.isInteger(value) && value > 0;
}

function isSize(value) {
  return Array.isArray(value) && value.length === 2 && value.every(isSide);
}

/** Preprocessing in words, for people. */
export function inWords(how) {
  const size = ([height, width]) => `${height} × ${width}`;
  const resized = how.resize === null ? "not resized"
    : isSide(how.resize) ? `short side to ${how.resize}` : `resized to ${size(how.resize)}`;
  const cropped = how.crop === null ? "" : `, centre ${size(how.crop)}`;
  return `${resized}${cropped}, ${how.resampling}`;
}

/** [title, value] of what the file says, for people: first what is known by name, then the rest as it is. */
export function saidBy(metadata) {
  const rest = new Map(metadata);
  rest.delete(`${PREFIX}preprocessing`); // in words with the input's size, which is not in the metadata
  const rows = [];
  for (const [key, title] of TITLES) {
    if (!rest.has(PREFIX + key)) continue;
    rows.push([title, WORDS[key] ? WORDS[key](parse(metadata, key)) : rest.get(PREFIX + key)]);
    rest.delete(PREFIX + key);
  }
  return [...rows, ...rest];
}

const TITLES = new Map([
  ["task", "Task"], ["mode", "Mode"], ["variant", "Variant"], ["precision", "Precision"], ["labels", "Labels"],
  ["color_order", "Colour order"], ["value_range", "Value range"],
  ["normalization", "Normalized inside by"], ["author", "Author"], ["license", "Licence"], ["version", "Version"],
  ["weights_sha256", "Weights (sha256)"], ["opset", "Operators"],
]);
const WORDS = {
  labels: (said) => `${labels(said).length}`,
  value_range: (said) => range(said).join(" to "),
};
