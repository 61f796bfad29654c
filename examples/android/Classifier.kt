package mobilevit

import android.content.Context
import android.graphics.Bitmap
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier
import java.io.File

/** A class and its probability. */
data class Guess(val label: String, val probability: Float)

/** The photo, upright, cut to what the network takes. */
fun crop(photo: Bitmap): Bitmap {
    val argb = IntArray(photo.width * photo.height)
    photo.getPixels(argb, 0, photo.width, 0, 0, photo.width, photo.height)
    val pixels = Pixels(argb, photo.width, photo.height)
    val cut = crop(pixels, Contract.COVERED_WIDTH, Contract.COVERED_HEIGHT, Contract.WIDTH, Contract.HEIGHT)
    return Bitmap.createBitmap(cut.argb, cut.width, cut.height, Bitmap.Config.ARGB_8888)
}

/** With LiteRT alone. The model is a file, not an asset, since its labels are read from it too. */
class LiteRtClassifier(model: File, accelerator: Accelerator = Accelerator.CPU) : AutoCloseable {
    private val names = labels(model)
    private val network = CompiledModel.create(model.path, CompiledModel.Options(accelerator))
    private val input = network.createInputBuffer(Contract.INPUT, Contract.SIGNATURE)
    private val output = network.createOutputBuffer(Contract.OUTPUT, Contract.SIGNATURE)

    /** Every class, the most probable first. cut: as crop gives it. */
    fun classify(cut: Bitmap): List<Guess> {
        val argb = IntArray(cut.width * cut.height)
        cut.getPixels(argb, 0, cut.width, 0, 0, cut.width, cut.height)
        input.writeFloat(tensor(Pixels(argb, cut.width, cut.height)))
        network.run(mapOf(Contract.INPUT to input), mapOf(Contract.OUTPUT to output), Contract.SIGNATURE)
        val chances = output.readFloat()
        check(chances.size == names.size) { "${chances.size} outputs for ${names.size} labels" }
        return names.zip(chances.asList(), ::Guess).sortedByDescending { it.probability }
    }

    override fun close() = listOf(input, output, network).forEach { it.close() }
}

/** With MediaPipe, which reads range and labels from the file; it squeezes what is not cut. */
class MediaPipeClassifier(context: Context) : AutoCloseable {
    private val task = ImageClassifier.createFromOptions(
        context,
        ImageClassifier.ImageClassifierOptions.builder()
            .setBaseOptions(BaseOptions.builder().setModelAssetPath(Contract.MODEL).build())
            .build(),
    )

    fun classify(cut: Bitmap): List<Guess> =
        task.classify(BitmapImageBuilder(cut).build()).classificationResult().classifications().first().categories()
            .map { Guess(it.categoryName(), it.score()) }

    override fun close() = task.close()
}
