// A photo as the tensor that a model takes, prepared as its file says.

import { resample } from "./resample.js";

/** A picture as {data, width, height}: RGBA on black, upright, its colours as stored. Throws when it is no picture. */
export async function decode(blob) {
  const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

/**
 * A picture resized and cropped to size, [height, width]: {pixels, isResampled}, pixels RGB of height x width x 3.
 *
 * A picture that already has the size is taken as it is. For a size that is not the preprocessing's own, what the picture
 * is resized to is scaled along; where it is smaller than the size the rest is black.
 */
export function prepare(picture, how, size) {
  const [height, width] = size;
  const isCut = picture.height === height && picture.width === width;
  const resized = isCut ? { height, width } : resizedSize(picture, how, size);
  const part = {
    left: half(resized.width - width, how.half_pixel), top: half(resized.height - height, how.half_pixel), width, height,
  };
  const isResampled = resized.width !== picture.width || resized.height !== picture.height;
  return { pixels: resample(picture, resized, part, how.resampling), isResampled };
}

/** What a picture is resized to: the side that decides exactly, the other one in its proportion. */
function resizedSize(picture, how, size) {
  if (how.resize === null) return { height: picture.height, width: picture.width };
  const isBox = Array.isArray(how.resize);
  const box = isBox ? how.resize : [how.resize, how.resize];
  const [height, width] = box.map((side, axis) => round((side * size[axis]) / (how.crop ?? box)[axis]));
  if (isBox) return { height, width };
  const whole = how.rounding === "nearest" ? round : Math.trunc;
  if (height * picture.width >= width * picture.height) {
    return { height, width: whole((height * picture.width) / picture.height) };
  }
  return { height: whole((width * picture.height) / picture.width), width };
}

function half(margin, halfPixel) {
  return halfPixel === "even" ? round(margin / 2) : Math.floor(margin / 2);
}

/** To the nearest whole number, of two equally near ones to the even one, as Python's round. */
function round(value) {
  const down = Math.floor(value);
  if (value - down !== 0.5) return Math.round(value);
  return down % 2 === 0 ? down : down + 1;
}

/** Float32Array of one image, in the file's layout (NCHW or NHWC), colour order and value range. */
export function toTensor(pixels, { layout, colorOrder, range: [low, high] }) {
  const levels = Float32Array.from({ length: 256 }, (_, level) =>
    Math.fround(Math.fround(Math.fround(level / 255) * Math.fround(high - low)) + Math.fround(low)));
  const plane = pixels.length / 3;
  const tensor = new Float32Array(pixels.length);
  for (let at = 0; at < plane; at++) {
    for (let channel = 0; channel < 3; channel++) {
      const value = levels[pixels[3 * at + (colorOrder === "BGR" ? 2 - channel : channel)]];
      tensor[layout === "NCHW" ? channel * plane + at : 3 * at + channel] = value;
    }
  }
  return tensor;
}
