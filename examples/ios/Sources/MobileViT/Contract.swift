/// Names inside the shipped files. tests/examples/test_apps.py holds each of them to exported ones.
public enum Contract {
    public static let input = "image"
    /// Key of the metadata, and in its JSON the names of `Preprocessing`.
    public static let preprocessing = "mvit_deploy.preprocessing"
    // A classifier with labels
    public static let label = "classLabel"
    public static let probabilities = "classLabel_probs"
    // A segmenter
    public static let map = "logits"
    // A detector with --nms: what it takes beside the picture
    public static let iouThreshold = "iouThreshold"
    public static let confidenceThreshold = "confidenceThreshold"
}
