package mobilevit

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith

/** On a device. Assets of the app: the model; of the test: what examples/fixtures/make.py made of it. */
@RunWith(AndroidJUnit4::class)
class FixtureTest {
    private val app = InstrumentationRegistry.getInstrumentation().targetContext
    private val fixture = JSONObject(asset("fixture.json").decodeToString())
    private val tolerance = fixture.getJSONObject("tolerance")
    private val model = File(app.cacheDir, Contract.MODEL).also { file ->
        app.assets.open(Contract.MODEL).use { file.writeBytes(it.readBytes()) }
    }

    @Test
    fun theContractIsThatOfTheFile() {
        val input = fixture.getJSONObject("input")
        val covers = fixture.getJSONObject("preprocessing").getJSONArray("covers")
        val range = input.getJSONArray("range")
        assertEquals(fixture.getJSONObject("file").getString("name"), Contract.MODEL)
        assertEquals(input.getString("name"), Contract.INPUT)
        assertEquals(input.getString("dtype"), "float32")
        assertEquals(input.getString("layout"), "NHWC")
        assertEquals(input.getString("color_order"), "RGB")
        assertEquals(fixture.getJSONObject("pixels").getInt("height"), Contract.HEIGHT)
        assertEquals(fixture.getJSONObject("pixels").getInt("width"), Contract.WIDTH)
        assertEquals(covers.getInt(0), Contract.COVERED_HEIGHT)
        assertEquals(covers.getInt(1), Contract.COVERED_WIDTH)
        assertEquals(range.getDouble(0).toFloat(), Contract.LOW)
        assertEquals(range.getDouble(1).toFloat(), Contract.HIGH)
        assertEquals(fixture.getJSONArray("outputs").getJSONObject(0).getString("name"), Contract.OUTPUT)
        val names = fixture.getJSONArray("labels")
        assertEquals(List(names.length()) { names.getString(it) }, labels(model))
    }

    @Test
    fun theCropIsTheExpectedOne() {
        val found = levels(crop(picture("photo")))
        val expected = levels(picture("pixels"))
        assertEquals(expected.size, found.size)
        val apart = found.indices.sumOf { abs(found[it] - expected[it]) } / found.size.toDouble()
        assertTrue("$apart levels apart", apart <= tolerance.getDouble("pixels_mean"))
    }

    @Test
    fun theExpectedPixelsGiveTheExpectedTensor() {
        val name = fixture.getJSONObject("tensor").getString("name")
        val bytes = ByteBuffer.wrap(asset(name)).order(ByteOrder.LITTLE_ENDIAN)
        val found = tensor(pixels(picture("pixels")))
        assertEquals(bytes.remaining(), 4 * found.size)
        found.forEach { assertEquals(bytes.getFloat(), it, tolerance.getDouble("tensor").toFloat()) }
    }

    @Test
    fun theExpectedPixelsGiveTheExpectedClasses() {
        LiteRtClassifier(model).use { compare(it.classify(picture("pixels"))) }
        MediaPipeClassifier(app).use { compare(it.classify(picture("pixels"))) }
    }

    private fun compare(found: List<Guess>) {
        val expected = fixture.getJSONArray("expected")
        for (place in 0 until expected.length()) {
            val guess = expected.getJSONObject(place)
            val same = found.single { it.label == guess.getString("label") }
            val apart = tolerance.getDouble("probability").toFloat()
            assertEquals(guess.getDouble("probability").toFloat(), same.probability, apart)
        }
    }

    private fun asset(name: String) =
        InstrumentationRegistry.getInstrumentation().context.assets.open(name).use { it.readBytes() }

    private fun picture(part: String): Bitmap {
        val bytes = asset(fixture.getJSONObject(part).getString("name"))
        return BitmapFactory.decodeByteArray(bytes, 0, bytes.size)
    }

    private fun pixels(picture: Bitmap): Pixels {
        val argb = IntArray(picture.width * picture.height)
        picture.getPixels(argb, 0, picture.width, 0, 0, picture.width, picture.height)
        return Pixels(argb, picture.width, picture.height)
    }

    private fun levels(picture: Bitmap) =
        pixels(picture).argb.flatMap { listOf(it shr 16 and 255, it shr 8 and 255, it and 255) }
}
