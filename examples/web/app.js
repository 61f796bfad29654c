// The page: files in, labels out. ?model=URL&image=URL load at once, &run=1 presses the button as well; what comes of it
// is then JSON in document.body.dataset.result. document.body.dataset.state: loading, idle, busy, done or error.

import { classify, open } from "./classifier.js";
import { inWords, saidBy } from "./contract.js";
import { decode } from "./pixels.js";

const SHOWN = 5;
const element = (id) => document.getElementById(id);
const chosen = { model: null, photo: null }; // {value, name} each

// Steps run one after the other: a session takes one picture at a time, and the last one chosen is the last one shown.
let queue = Promise.resolve();

function inTurn(what, step) {
  queue = queue.then(async () => {
    setState("busy", what);
    await new Promise((resolve) => setTimeout(resolve)); // the message is painted before the work begins
    try {
      await step();
    } catch (error) {
      console.warn(error);
      setState("error", "", { error: error.message });
    }
  });
}

function setState(state, message, result = null) {
  document.body.dataset.state = state;
  element("status").textContent = message;
  element("error").hidden = state !== "error";
  element("error").textContent = state === "error" ? result.error : "";
  element("no-model").hidden = chosen.model !== null;
  element("run").disabled = state === "busy" || !chosen.model || !chosen.photo;
  if (state === "error") showLabels([]);
  if (result === null) delete document.body.dataset.result;
  else document.body.dataset.result = JSON.stringify(result);
}

async function takeModel(blob, name) {
  await chosen.model?.value.session.release();
  chosen.model = null;
  element("model-name").textContent = name;
  element("said").replaceChildren();
  showLabels([]);
  const value = await open(new Uint8Array(await blob.arrayBuffer()));
  chosen.model = { value, name };
  showSaid(value);
}

async function takePhoto(blob, name) {
  chosen.photo = null;
  element("photo-name").textContent = name;
  element("pictures").hidden = true;
  showLabels([]);
  let value;
  try {
    value = await decode(blob);
  } catch (error) {
    throw new Error(`${name} is no picture that this browser can read`, { cause: error });
  }
  chosen.photo = { value, name };
  showPhoto(blob, value, name);
}

function wait() {
  const missing = [[chosen.model, "a model"], [chosen.photo, "a photo"]].filter(([value]) => !value);
  const words = missing.map(([, word]) => word).join(" and ");
  setState("idle", missing.length ? `Choose ${words}, or drop files anywhere on this page.` : "Ready to run.");
}

async function run() {
  if (!chosen.model || !chosen.photo) throw new Error("choose a model and a photo first");
  const model = chosen.model.value;
  const found = await classify(model, chosen.photo.value);
  const top = found.probabilities
    .map((probability, index) => ({ label: model.contract.labels[index], probability }))
    .sort((a, b) => b.probability - a.probability)
    .slice(0, SHOWN);
  showSeen(model.input, found.pixels);
  showLabels(top);
  element("timing").textContent = timing(found);
  const { probabilities, milliseconds, isResampled } = found;
  setState("done", `${chosen.photo.name} with ${chosen.model.name}`, {
    model: chosen.model.name, image: chosen.photo.name, top, probabilities, milliseconds, isResampled,
  });
}

function timing({ milliseconds, isResampled }) {
  const [prepare, compute] = [milliseconds.prepare, milliseconds.run].map((each) => each.toFixed(1));
  const how = isResampled ? "Photo resampled and cropped" : "Photo taken without resampling";
  return `${how}: ${prepare} ms. Model: ${compute} ms (WebAssembly, one thread).`;
}

function showLabels(top) {
  element("timing").textContent = "";
  element("labels").replaceChildren(...top.map(({ label, probability }) => {
    const item = document.createElement("li");
    item.style.setProperty("--share", `${100 * probability}%`);
    item.append(span(label), " ", span(`${(100 * probability).toFixed(1)} %`, "share"));
    return item;
  }));
}

function span(text, name = "") {
  const made = document.createElement("span");
  made.textContent = text;
  made.className = name;
  return made;
}

function showSaid({ metadata, contract, input, output, size }) {
  const rows = saidBy(metadata);
  rows.push(["Preprocessing", preprocessing(contract, input)]);
  rows.push(["Input", `${input.name}, ${input.shape.join(" × ")} (${input.layout})`]);
  rows.push(["Output", `${output.name}${output.hasSoftmax ? "" : ", softmax done by this page"}`]);
  rows.push(["Size", `${(size / 1e6).toFixed(2)} MB`]);
  element("said").replaceChildren(...rows.flatMap(([title, text]) => {
    const [term, detail] = ["dt", "dd"].map((tag) => document.createElement(tag));
    term.textContent = title;
    detail.textContent = text;
    return [term, detail];
  }));
}

function preprocessing({ preprocessing: how, isAssumed }, { height, width }) {
  const isOwnSize = how.crop === null || (how.crop[0] === height && how.crop[1] === width);
  const scaled = isOwnSize ? "" : `, all scaled to ${height} × ${width}`;
  return `${isAssumed ? "not said by the file; taken to be: " : ""}${inWords(how)}${scaled}`;
}

function showPhoto(blob, { width, height }, name) {
  const preview = element("preview");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(blob);
  preview.alt = `The photo ${name}, ${height} × ${width}`;
  preview.classList.toggle("is-large", width >= 256);
}

function showSeen({ width, height }, pixels) {
  const canvas = Object.assign(element("seen"), { width, height });
  const image = new ImageData(width, height);
  for (let at = 0; at < width * height; at++) {
    image.data.set([pixels[3 * at], pixels[3 * at + 1], pixels[3 * at + 2], 255], 4 * at);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.classList.toggle("is-large", width >= 256);
  element("pictures").hidden = false;
}

/** Files that a person picked or dropped: [take, file] pairs. With a model and a photo at hand it runs. */
function takeFiles(pairs) {
  if (!pairs.length) return;
  inTurn(`Reading ${pairs.map(([, file]) => file.name).join(", ")} …`, async () => {
    for (const [take, file] of pairs) await take(file, file.name);
    await (chosen.model && chosen.photo ? run() : wait());
  });
}

function listen() {
  for (const [id, take] of [["model", takeModel], ["photo", takePhoto], ["camera", takePhoto]]) {
    element(id).addEventListener("change", ({ target }) => {
      takeFiles([...target.files].map((file) => [take, file]));
      target.value = ""; // so that the same file can be chosen again
    });
  }
  element("run").addEventListener("click", () => inTurn("Running …", run));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("is-dropping");
  });
  addEventListener("dragleave", () => document.body.classList.remove("is-dropping"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("is-dropping");
    const isModel = (file) => file.name.toLowerCase().endsWith(".onnx");
    takeFiles([...event.dataTransfer.files].map((file) => [isModel(file) ? takeModel : takePhoto, file]));
  });
}

async function fetched(url) {
  const response = await fetch(url).catch((error) => {
    throw new Error(`${url} cannot be fetched (this page fetches from its own server only)`, { cause: error });
  });
  if (!response.ok) throw new Error(`${url} cannot be fetched: ${response.status} ${response.statusText}`);
  return response.blob();
}

/** What the address of the page asks for. Without run=1 model and photo are loaded, and the button waits. */
function start() {
  const asked = new URLSearchParams(location.search);
  const wanted = [["model", takeModel], ["image", takePhoto]].filter(([key]) => asked.has(key));
  const runs = asked.get("run") === "1";
  if (!wanted.length && !runs) return;
  inTurn("Loading …", async () => {
    for (const [key, take] of wanted) await take(await fetched(asked.get(key)), asked.get(key).split("/").at(-1));
    await (runs ? run() : wait());
  });
}

listen();
wait();
start();
