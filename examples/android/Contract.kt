package mobilevit

/** What the shipped file says of itself. tests/examples/test_apps.py holds each value to an exported one. */
object Contract {
    const val MODEL = "mobilevit_xxs_fp32.tflite"
    const val SIGNATURE = "serving_default"
    const val INPUT = "image"
    const val OUTPUT = "probabilities"
    const val LABEL_FILE = "labels.txt"
    const val HEIGHT = 256
    const val WIDTH = 256
    const val COVERED_HEIGHT = 288
    const val COVERED_WIDTH = 288
    const val LOW = 0f
    const val HIGH = 1f
}
