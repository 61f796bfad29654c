"""What examples/android takes from Android, LiteRT, MediaPipe and JUnit, as their documentation declares it, for a
compiler that has none of them; and a main function that prepares a photo outside Android.

Sources: developer.android.com/reference; google-ai-edge/LiteRT litert/kotlin/src/main/kotlin (Model.kt,
TensorBuffer.kt); ai.google.dev/edge/api/mediapipe/java; junit.org/junit4/javadoc
"""

STUBS = {
    "android.content": """
abstract class Context { abstract val assets: android.content.res.AssetManager; abstract val cacheDir: java.io.File }
""",
    "android.content.res": """
class AssetManager { fun open(fileName: String): java.io.InputStream = TODO() }
""",
    "android.graphics": """
class Bitmap {
    enum class Config { ARGB_8888 }
    val width: Int = TODO()
    val height: Int = TODO()
    fun getPixels(pixels: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int) {}
    companion object {
        @JvmStatic fun createBitmap(colors: IntArray, width: Int, height: Int, config: Config): Bitmap = TODO()
    }
}
object BitmapFactory { fun decodeByteArray(data: ByteArray, offset: Int, length: Int): Bitmap = TODO() }
""",
    "com.google.ai.edge.litert": """
enum class Accelerator { NONE, CPU, GPU, NPU }
abstract class JniHandle : AutoCloseable { override fun close() {} }
class TensorBuffer : JniHandle() {
    fun writeFloat(data: FloatArray) {}
    fun readFloat(): FloatArray = TODO()
}
class Environment
class CompiledModel : JniHandle() {
    class Options(vararg accelerators: Accelerator)
    fun createInputBuffer(inputName: String, signature: String? = null): TensorBuffer = TODO()
    fun createOutputBuffer(outputName: String, signature: String? = null): TensorBuffer = TODO()
    fun run(inputs: List<TensorBuffer>, outputs: List<TensorBuffer>, signature: String) {}
    fun run(inputs: Map<String, TensorBuffer>, outputs: Map<String, TensorBuffer>, signature: String? = null) {}
    companion object {
        fun create(
            assets: android.content.res.AssetManager, assetName: String, options: Options, env: Environment? = null
        ): CompiledModel = TODO()
        fun create(filePath: String, options: Options, env: Environment? = null): CompiledModel = TODO()
    }
}
""",
    "com.google.mediapipe.framework.image": """
abstract class MPImage : AutoCloseable
class BitmapImageBuilder(bitmap: android.graphics.Bitmap) { fun build(): MPImage = TODO() }
""",
    "com.google.mediapipe.tasks.core": """
abstract class BaseOptions {
    abstract class Builder {
        abstract fun setModelAssetPath(value: String): Builder
        fun build(): BaseOptions = TODO()
    }
    companion object { @JvmStatic fun builder(): Builder = TODO() }
}
""",
    "com.google.mediapipe.tasks.vision.imageclassifier": """
abstract class Category { abstract fun score(): Float; abstract fun categoryName(): String }
abstract class Classifications { abstract fun categories(): List<Category> }
abstract class ClassificationResult { abstract fun classifications(): List<Classifications> }
abstract class ImageClassifierResult { abstract fun classificationResult(): ClassificationResult }
class ImageClassifier : AutoCloseable {
    abstract class ImageClassifierOptions {
        abstract class Builder {
            abstract fun setBaseOptions(value: com.google.mediapipe.tasks.core.BaseOptions): Builder
            fun build(): ImageClassifierOptions = TODO()
        }
        companion object { @JvmStatic fun builder(): Builder = TODO() }
    }
    fun classify(image: com.google.mediapipe.framework.image.MPImage): ImageClassifierResult = TODO()
    override fun close() {}
    companion object {
        @JvmStatic fun createFromOptions(
            context: android.content.Context, options: ImageClassifierOptions
        ): ImageClassifier = TODO()
    }
}
""",
    "androidx.test.ext.junit.runners": "class AndroidJUnit4 : org.junit.runner.Runner()",
    "androidx.test.platform.app": """
abstract class Instrumentation {
    abstract val context: android.content.Context
    abstract val targetContext: android.content.Context
}
object InstrumentationRegistry { @JvmStatic fun getInstrumentation(): Instrumentation = TODO() }
""",
    "org.json": """
class JSONArray {
    fun length(): Int = TODO()
    fun getInt(index: Int): Int = TODO()
    fun getDouble(index: Int): Double = TODO()
    fun getString(index: Int): String = TODO()
    fun getJSONObject(index: Int): JSONObject = TODO()
}
class JSONObject(json: String) {
    fun getInt(name: String): Int = TODO()
    fun getDouble(name: String): Double = TODO()
    fun getString(name: String): String = TODO()
    fun getJSONArray(name: String): JSONArray = TODO()
    fun getJSONObject(name: String): JSONObject = TODO()
}
""",
    "org.junit": """
annotation class Test
object Assert {
    @JvmStatic fun assertEquals(expected: Any?, actual: Any?) {}
    @JvmStatic fun assertEquals(expected: Float, actual: Float, delta: Float) {}
    @JvmStatic fun assertTrue(message: String, condition: Boolean) {}
}
""",
    "org.junit.runner": """
abstract class Runner
annotation class RunWith(val value: kotlin.reflect.KClass<out Runner>)
""",
}

MAIN = """
package mobilevit

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import javax.imageio.ImageIO

/** PHOTO MODEL: the tensor to stdout, the labels to stderr. */
fun main(arguments: Array<String>) {
    val image = ImageIO.read(File(arguments[0]))
    val argb = image.getRGB(0, 0, image.width, image.height, null, 0, image.width)
    val photo = Pixels(argb, image.width, image.height)
    val cut = crop(photo, Contract.COVERED_WIDTH, Contract.COVERED_HEIGHT, Contract.WIDTH, Contract.HEIGHT)
    val values = tensor(cut)
    val bytes = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN)
    values.forEach { bytes.putFloat(it) }
    System.out.write(bytes.array())
    System.out.flush()
    labels(File(arguments[1])).forEach { System.err.println(it) }
}
"""
