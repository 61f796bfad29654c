package mobilevit

import java.io.File
import java.util.zip.ZipFile
import kotlin.math.abs
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import kotlin.math.round

/** Pixels as Android's Bitmap.getPixels gives them: 0xAARRGGBB, row by row. */
class Pixels(val argb: IntArray, val width: Int, val height: Int)

/**
 * The photo resized so that it just covers the given size, then its centre.
 *
 * Bitmap.createScaledBitmap looks at four pixels only, whatever the scale, and gives other numbers than the network was
 * trained on. This is a triangle filter as wide as the scale, as Pillow's bilinear filter is.
 */
fun crop(photo: Pixels, coveredWidth: Int, coveredHeight: Int, width: Int, height: Int): Pixels {
    val heightDecides = coveredHeight.toLong() * photo.width >= coveredWidth.toLong() * photo.height
    val proportions = photo.width / photo.height.toDouble()
    val fullWidth = if (heightDecides) round(coveredHeight * proportions).toInt() else coveredWidth
    val fullHeight = if (heightDecides) coveredHeight else round(coveredWidth / proportions).toInt()
    val columns = taps(photo.width, fullWidth, (fullWidth - width) / 2, width)
    val rows = taps(photo.height, fullHeight, (fullHeight - height) / 2, height)
    val narrow = IntArray(width * photo.height)
    for (y in 0 until photo.height) {
        for (x in 0 until width) narrow[y * width + x] = columns[x].sum { photo.argb[y * photo.width + it] }
    }
    val cut = IntArray(width * height) { rows[it / width].sum { y -> narrow[y * width + it % width] } }
    return Pixels(cut, width, height)
}

/** The pixels as the file takes them: NHWC, RGB, from Contract.LOW to Contract.HIGH. */
fun tensor(pixels: Pixels) = FloatArray(3 * pixels.argb.size) {
    val level = pixels.argb[it / 3] shr (16 - 8 * (it % 3)) and 255
    level / 255f * (Contract.HIGH - Contract.LOW) + Contract.LOW
}

/** The labels inside a .tflite file, behind the network, in the order of the outputs. */
fun labels(model: File): List<String> = ZipFile(model).use { archive ->
    archive.getInputStream(archive.getEntry(Contract.LABEL_FILE)).bufferedReader().readLines()
}

/** The pixels of a row or column that one pixel of the result is made of. */
private class Taps(val first: Int, val weights: DoubleArray) {
    fun sum(pixel: (Int) -> Int): Int {
        var (red, green, blue) = Triple(0.5, 0.5, 0.5)
        for ((place, weight) in weights.withIndex()) {
            val color = pixel(first + place)
            red += weight * (color shr 16 and 255)
            green += weight * (color shr 8 and 255)
            blue += weight * (color and 255)
        }
        return (255 shl 24) or (red.toInt() shl 16) or (green.toInt() shl 8) or blue.toInt()
    }
}

private fun taps(from: Int, to: Int, skipped: Int, kept: Int) = Array(kept) {
    val step = from / to.toDouble()
    val support = max(step, 1.0)
    val centre = (skipped + it + 0.5) * step
    val first = max(0, floor(centre - support + 0.5).toInt())
    val last = min(from, floor(centre + support + 0.5).toInt())
    val weights = DoubleArray(last - first) { place -> max(0.0, 1 - abs((first + place + 0.5 - centre) / support)) }
    Taps(first, weights.sum().let { sum -> DoubleArray(weights.size) { place -> weights[place] / sum } })
}
