// Pillow's Image.resize, pixel for pixel: a canvas has no antialiasing that is the same in every browser.
//
// Two passes, first along rows, then along columns, each with weights in 22-bit fixed point and 8-bit results. Source:
// Pillow's documentation (Concepts, Filters) and behaviour; the tests compare every filter with Pillow itself.

const BITS = 22;

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const inside = (x, support, value) => (Math.abs(x) < support ? value() : 0);
const FILTERS = {
  box: { support: 0.5, at: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, at: (x) => inside(x, 1, () => 1 - Math.abs(x)) },
  hamming: { support: 1, at: (x) => inside(x, 1, () => sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x))) },
  bicubic: { support: 2, at: (x) => cubic(Math.abs(x)) },
  lanczos: { support: 3, at: (x) => inside(x, 3, () => sinc(x) * sinc(x / 3)) },
};

function cubic(x) {
  const a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/**
 * A part of a resized picture.
 *
 * picture: {data, width, height}, data RGBA as in ImageData. resized: {width, height} of all of it. part: {left, top,
 * width, height} in the resized picture; what lies outside of it is black. filter: Pillow's name in lower case.
 * Returns RGB, Uint8ClampedArray of height x width x 3.
 */
export function resample(picture, resized, part, filter) {
  const across = taps(picture.width, resized.width, part.left, part.width, filter);
  const down = taps(picture.height, resized.height, part.top, part.height, filter);
  const rows = rowsThatCount(down);
  const band = new Uint8ClampedArray(rows.count * part.width * 3);
  pass(picture.data, band, across, {
    lines: rows.count, from: rows.first * picture.width * 4, line: picture.width * 4, step: 4,
    toLine: part.width * 3, toStep: 3,
  });
  const result = new Uint8ClampedArray(part.height * part.width * 3);
  pass(band, result, down, {
    lines: part.width, from: -rows.first * part.width * 3, line: 3, step: part.width * 3,
    toLine: 3, toStep: part.width * 3,
  });
  return result;
}

/** For each place of the part: {first, weights} of the places that it is made of; null outside of the picture. */
function taps(from, to, start, count, filter) {
  const tap = filter === "nearest" ? nearest(from, to) : (at) => weighted(at, from, from / to, filter);
  return Array.from({ length: count }, (_, place) => {
    const at = start + place;
    return at < 0 || at >= to ? null : tap(at);
  });
}

/** Pillow adds the step up, so that where a place lies between two its rounding errors decide. */
function nearest(from, to) {
  const first = new Int32Array(to);
  for (let at = 0, place = from / to / 2; at < to; at++, place += from / to) first[at] = place;
  return (at) => ({ first: Math.min(from - 1, first[at]), weights: Int32Array.of(1 << BITS) });
}

function weighted(at, from, scale, filter) {
  const stretch = Math.max(scale, 1); // antialiasing: a filter grows with what it shrinks
  const support = FILTERS[filter].support * stretch;
  const centre = (at + 0.5) * scale;
  const first = Math.max(0, Math.trunc(centre - support + 0.5));
  const last = Math.min(from, Math.trunc(centre + support + 0.5));
  const exact = Array.from({ length: last - first }, (_, x) => FILTERS[filter].at((x + first - centre + 0.5) / stretch));
  const sum = exact.reduce((total, weight) => total + weight, 0);
  const fixed = (weight) => Math.sign(weight) * Math.floor(Math.abs(weight / sum) * 2 ** BITS + 0.5);
  return { first, weights: Int32Array.from(exact, fixed) };
}

function rowsThatCount(down) {
  const used = down.filter((tap) => tap !== null);
  if (!used.length) return { first: 0, count: 0 };
  const first = Math.min(...used.map((tap) => tap.first));
  return { first, count: Math.max(...used.map((tap) => tap.first + tap.weights.length)) - first };
}

function pass(source, target, taps, { lines, from, line, step, toLine, toStep }) {
  for (let y = 0; y < lines; y++) {
    for (let x = 0; x < taps.length; x++) {
      if (taps[x] === null) continue;
      const { first, weights } = taps[x];
      for (let channel = 0; channel < 3; channel++) {
        let sum = 1 << (BITS - 1);
        let at = from + y * line + first * step + channel;
        for (let k = 0; k < weights.length; k++, at += step) sum += source[at] * weights[k];
        target[y * toLine + x * toStep + channel] = sum >> BITS; // clamped by the array
      }
    }
  }
}
